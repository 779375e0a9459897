//! One forward pass: rows of one or more sessions through the model.
//!
//! Prefill, decode, a batch of decoding sessions and a block to be verified are the same call with other
//! numbers of rows. Every kernel treats a row alone, so a row's bits depend on its own session only.

mod attention;
mod scratch;

use std::sync::atomic::{AtomicU64, Ordering};

use kakeya_core::KvStorage;

use crate::error::ModelError;
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::kernels::elementwise::PackedRow;
use crate::kernels::linear::{Activations, Product};
use crate::kv::{KvLayout, LayerLengths};
use crate::llama::Model;
use crate::panels::PackedMatrix;
use crate::threads::Pool;
use scratch::{Scratch, Shared};

/// Forward passes of this process, by the instruction set that ran them.
static FORWARD_PASSES: [AtomicU64; Isa::ALL.len()] = [const { AtomicU64::new(0) }; Isa::ALL.len()];

/// Forward passes that this process has run, for the evidence: how much work stands behind a claim.
#[must_use]
pub fn forward_passes() -> u64 {
    Isa::ALL.into_iter().map(forward_passes_on).sum()
}

/// Those of them whose kernels used `isa`.
#[must_use]
pub fn forward_passes_on(isa: Isa) -> u64 {
    FORWARD_PASSES[isa as usize].load(Ordering::Relaxed)
}

/// How to run the kernels. Neither changes a bit of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComputeOptions {
    /// Threads that share the work, at least 1.
    pub threads: usize,
    /// Instruction set.
    pub isa: Isa,
}

/// The rows of a sequence for which logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitRows {
    /// None: the tokens are only put in the cache.
    None,
    /// The last one.
    Last,
    /// Every one.
    All,
}

impl LogitRows {
    fn first(self, rows: usize) -> usize {
        match self {
            Self::None => rows,
            Self::Last => rows.saturating_sub(1),
            Self::All => 0,
        }
    }
}

/// One session's part of a forward pass.
pub struct SequenceInput<'a> {
    /// New tokens, each below the vocabulary's size; at most the layout's `max_chunk`.
    pub tokens: &'a [u32],
    /// The position of the first one.
    pub start: u64,
    /// Where positions lie in `storage`.
    pub layout: &'a KvLayout,
    /// The slab. Only the slots of the new positions are written.
    pub storage: &'a mut KvStorage,
    /// Raised, layer by layer, as keys and values are written.
    pub lengths: &'a mut LayerLengths,
    /// Rows whose logits are wanted.
    pub logits: LogitRows,
}

/// Threads, kernels and scratch memory for forward passes.
pub struct Compute {
    pool: Pool,
    kernels: Kernels,
    options: ComputeOptions,
    scratch: Scratch,
    /// Rows of logits of each sequence of the last pass: first row and count.
    logit_ranges: Vec<(usize, usize)>,
    vocabulary: usize,
}

impl Compute {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the processor lacks the instruction set, or a thread cannot be started.
    pub fn new(options: ComputeOptions) -> Result<Self, ModelError> {
        if !options.isa.is_supported() {
            return Err(crate::isa::IsaError::Unsupported { isa: options.isa }.into());
        }
        let pool = Pool::new(options.threads).map_err(|source| ModelError::Threads {
            threads: options.threads,
            source,
        })?;
        Ok(Self {
            pool,
            kernels: Kernels::of(options.isa),
            options,
            scratch: Scratch::default(),
            logit_ranges: Vec::new(),
            vocabulary: 0,
        })
    }

    /// What it was started with.
    #[must_use]
    pub fn options(&self) -> ComputeOptions {
        self.options
    }

    /// Delays every task by a pseudo-random moment; 0 switches it off. For the gates.
    pub fn inject_delays(&mut self, seed: u64) {
        self.pool.inject_delays(seed);
    }

    /// Fills the scratch memory with NaN. For the gates: nothing may be read that this pass did not write.
    pub fn poison_scratch(&mut self) {
        self.scratch.poison();
    }

    /// The logits that the last pass made for sequence `index`: row-major, `vocabulary` a row.
    #[must_use]
    pub fn logits(&self, index: usize) -> &[f32] {
        let (first, count) = self.logit_ranges[index];
        &self.scratch.logits[first * self.vocabulary..(first + count) * self.vocabulary]
    }

    /// Runs the new tokens of every sequence through the model: writes their keys and values, and makes the
    /// logits that are asked for.
    ///
    /// # Panics
    /// When a token is outside the vocabulary, a sequence has more tokens than its layout allows, or its
    /// slab has another shape: callers check these first, and going on would corrupt a session.
    pub fn forward(&mut self, model: &Model, batch: &mut [SequenceInput<'_>]) {
        let config = model.config();
        let rows: usize = batch.iter().map(|sequence| sequence.tokens.len()).sum();
        self.check(model, batch);
        let strides = batch.iter().map(|sequence| sequence.layout.score_stride());
        let stride = strides.max().unwrap_or(0);
        self.scratch
            .reserve(config, rows, self.pool.threads(), stride);
        self.vocabulary = config.vocabulary;
        FORWARD_PASSES[self.options.isa as usize].fetch_add(1, Ordering::Relaxed);
        self.embed(model, batch);
        for layer in 0..config.layers {
            self.attention_block(model, batch, layer, rows);
            self.feed_forward_block(model, layer, rows);
        }
        self.make_logits(model, batch, rows);
    }

    fn check(&self, model: &Model, batch: &[SequenceInput<'_>]) {
        for sequence in batch {
            let vocabulary = model.config.vocabulary;
            assert!(
                sequence
                    .tokens
                    .iter()
                    .all(|token| (*token as usize) < vocabulary),
                "a token is outside the vocabulary"
            );
            assert!(
                sequence.tokens.len() <= sequence.layout.max_chunk(),
                "a chunk is longer than the layout allows"
            );
            let elements = match &*sequence.storage {
                KvStorage::F16(all) => all.len(),
                KvStorage::F32(all) => all.len(),
            };
            let layout = sequence.layout;
            assert_eq!(
                elements,
                layout.values_at(model.config.layers - 1, model.config.kv_heads - 1)
                    + layout.slots() * layout.head_dim()
            );
        }
    }

    fn embed(&mut self, model: &Model, batch: &[SequenceInput<'_>]) {
        let (hidden, dim) = (model.config.hidden, model.config.head_dim);
        let mut row = 0;
        for sequence in batch {
            for (offset, token) in sequence.tokens.iter().enumerate() {
                let position = sequence.start + offset as u64;
                model.embedding.dequantise_row(
                    *token as usize,
                    &mut self.scratch.residual[row * hidden..][..hidden],
                );
                model
                    .rope
                    .angles(position, &mut self.scratch.angles[row * dim..][..dim]);
                let sink_position = sequence.layout.sink_query_position(position);
                model.rope.angles(
                    sink_position,
                    &mut self.scratch.sink_angles[row * dim..][..dim],
                );
                row += 1;
            }
        }
    }

    fn feed_forward_block(&mut self, model: &Model, layer: usize, rows: usize) {
        let weights = &model.layers[layer];
        let config = model.config();
        let width = config.feed_forward;
        self.normalise(&weights.feed_forward_norm, config.norm_epsilon, rows);
        let x = self.packed(rows);
        let s = &mut self.scratch;
        let product = |matrix, out: &mut Vec<f32>| Product {
            matrix,
            x,
            out: out.as_mut_ptr(),
            stride: width,
            accumulate: false,
        };
        let products = [
            product(&weights.gate, &mut s.gate),
            product(&weights.up, &mut s.up),
        ];
        self.multiply(&products);
        let s = &mut self.scratch;
        let (gate, up) = (&s.gate, &s.up);
        let (wide, sums) = (
            Shared(s.wide.as_mut_ptr()),
            Shared(s.wide_sums.as_mut_ptr()),
        );
        let swiglu = self.kernels.swiglu;
        self.pool.run(rows, &|_, row| {
            let (gate, up) = (&gate[row * width..][..width], &up[row * width..][..width]);
            // SAFETY: the instructions were checked in `new`; a task writes its own row.
            unsafe {
                swiglu(
                    gate,
                    up,
                    PackedRow {
                        values: wide.at(0),
                        sums: sums.at(0),
                        rows,
                        row,
                    },
                )
            }
        });
        let x = Activations {
            values: self.scratch.wide.as_ptr(),
            sums: self.scratch.wide_sums.as_ptr(),
            rows,
        };
        self.add_to_residual(&weights.down, x, config.hidden);
    }

    fn make_logits(&mut self, model: &Model, batch: &[SequenceInput<'_>], rows: usize) {
        let config = model.config();
        let hidden = config.hidden;
        self.logit_ranges.clear();
        let (mut wanted, mut row) = (0, 0);
        for sequence in batch {
            let count = sequence.tokens.len();
            let first = sequence.logits.first(count);
            self.logit_ranges.push((wanted, count - first));
            // Moves the wanted rows together at the front: `wanted` never passes `row + first`.
            self.scratch.residual.copy_within(
                (row + first) * hidden..(row + count) * hidden,
                wanted * hidden,
            );
            wanted += count - first;
            row += count;
        }
        debug_assert!(row == rows);
        if wanted == 0 {
            return;
        }
        if self.scratch.logits.len() < wanted * config.vocabulary {
            self.scratch.logits.resize(wanted * config.vocabulary, 0.0);
        }
        self.normalise(&model.output_norm, config.norm_epsilon, wanted);
        let x = self.packed(wanted);
        let out = self.scratch.logits.as_mut_ptr();
        self.multiply(&[Product {
            matrix: model.output(),
            x,
            out,
            stride: config.vocabulary,
            accumulate: false,
        }]);
    }

    /// Normalises the first `rows` rows of the residual stream into `packed`.
    fn normalise(&mut self, weights: &[f32], epsilon: f32, rows: usize) {
        let hidden = weights.len();
        let s = &mut self.scratch;
        let residual = &s.residual;
        let (packed, sums) = (Shared(s.packed.as_mut_ptr()), Shared(s.sums.as_mut_ptr()));
        let norm = self.kernels.norm;
        self.pool.run(rows, &|_, row| {
            let x = &residual[row * hidden..][..hidden];
            // SAFETY: the instructions were checked in `new`; a task writes its own row.
            unsafe {
                norm(
                    x,
                    weights,
                    epsilon,
                    PackedRow {
                        values: packed.at(0),
                        sums: sums.at(0),
                        rows,
                        row,
                    },
                )
            }
        });
    }

    fn packed(&self, rows: usize) -> Activations {
        Activations {
            values: self.scratch.packed.as_ptr(),
            sums: self.scratch.sums.as_ptr(),
            rows,
        }
    }

    fn add_to_residual(&mut self, matrix: &PackedMatrix, x: Activations, hidden: usize) {
        let out = self.scratch.residual.as_mut_ptr();
        self.multiply(&[Product {
            matrix,
            x,
            out,
            stride: hidden,
            accumulate: true,
        }]);
    }

    /// Runs products that share a region: their panels are split over the threads.
    fn multiply(&mut self, products: &[Product<'_>]) {
        let panels: usize = products.iter().map(|product| product.matrix.panels()).sum();
        // Some eight tasks a thread even out a busy core; pairs, because one row runs panels in pairs.
        let group = panels.div_ceil(self.pool.threads() * 8).next_multiple_of(2);
        let linear = self.kernels.linear;
        let tasks = |product: &Product<'_>| product.matrix.panels().div_ceil(group);
        self.pool
            .run(products.iter().map(tasks).sum(), &|_, mut task| {
                for product in products {
                    let count = tasks(product);
                    if task < count {
                        let first = task * group;
                        // SAFETY: the instructions were checked in `new`; the buffers were sized in `reserve`;
                        // tasks write disjoint panels.
                        unsafe {
                            linear(product, first, (first + group).min(product.matrix.panels()))
                        };
                        return;
                    }
                    task -= count;
                }
            });
    }
}
