//! One forward pass: rows of one or more sessions through the model.
//!
//! Prefill, decode, a batch of decoding sessions and a block to be verified are the same call with other
//! numbers of rows. Every kernel treats a row alone, so a row's bits depend on its own session only.

use std::sync::atomic::{AtomicU64, Ordering};

use kakeya_core::KvStorage;

use crate::config::SEGMENT;
use crate::error::ModelError;
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::kernels::attention::{Attention, KvElem, QUERY_TILE};
use crate::kernels::elementwise::{PackedRow, segment_sums};
use crate::kernels::linear::{Activations, Product};
use crate::kv::{KvLayout, LayerLengths};
use crate::llama::Model;
use crate::panels::PackedMatrix;
use crate::rope::rotate;
use crate::threads::Pool;

static FORWARD_PASSES: AtomicU64 = AtomicU64::new(0);

/// Forward passes that this process has run, for the evidence: how much work stands behind a claim.
#[must_use]
pub fn forward_passes() -> u64 {
    FORWARD_PASSES.load(Ordering::Relaxed)
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

#[derive(Default)]
struct Scratch {
    residual: Vec<f32>,
    packed: Vec<f32>,
    sums: Vec<f32>,
    wide: Vec<f32>,
    wide_sums: Vec<f32>,
    queries: Vec<f32>,
    window_queries: Vec<f32>,
    sink_queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    angles: Vec<f32>,
    sink_angles: Vec<f32>,
    scores: Vec<f32>,
    logits: Vec<f32>,
}

/// A pointer that tasks share; each writes its own part of what it points to.
#[derive(Clone, Copy)]
struct Shared<T>(*mut T);

// SAFETY: every use below hands disjoint parts to different tasks.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn at(self, offset: usize) -> *mut T {
        self.0.wrapping_add(offset)
    }
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
        let s = &mut self.scratch;
        for buffer in [
            &mut s.residual,
            &mut s.packed,
            &mut s.sums,
            &mut s.wide,
            &mut s.wide_sums,
            &mut s.queries,
            &mut s.window_queries,
            &mut s.sink_queries,
            &mut s.keys,
            &mut s.values,
            &mut s.gate,
            &mut s.up,
            &mut s.angles,
            &mut s.sink_angles,
            &mut s.scores,
            &mut s.logits,
        ] {
            buffer.fill(f32::NAN);
        }
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
        self.reserve(model, batch, rows);
        FORWARD_PASSES.fetch_add(1, Ordering::Relaxed);
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

    fn reserve(&mut self, model: &Model, batch: &[SequenceInput<'_>], rows: usize) {
        let config = model.config();
        let threads = self.pool.threads();
        let s = &mut self.scratch;
        let stride = batch
            .iter()
            .map(|sequence| sequence.layout.score_stride())
            .max()
            .unwrap_or(0);
        let queries = config.heads * config.head_dim;
        let keys = config.kv_heads * config.head_dim;
        for (buffer, length) in [
            (&mut s.residual, rows * config.hidden),
            (&mut s.packed, rows * config.hidden.max(queries)),
            (&mut s.sums, rows * config.hidden.max(queries) / SEGMENT),
            (&mut s.wide, rows * config.feed_forward),
            (&mut s.wide_sums, rows * config.feed_forward / SEGMENT),
            (&mut s.queries, rows * queries),
            (&mut s.window_queries, rows * queries),
            (&mut s.sink_queries, rows * queries),
            (&mut s.keys, rows * keys),
            (&mut s.values, rows * keys),
            (&mut s.gate, rows * config.feed_forward),
            (&mut s.up, rows * config.feed_forward),
            (&mut s.angles, rows * config.head_dim),
            (&mut s.sink_angles, rows * config.head_dim),
            (&mut s.scores, threads * QUERY_TILE * stride),
        ] {
            if buffer.len() < length {
                buffer.resize(length, 0.0);
            }
        }
        self.vocabulary = config.vocabulary;
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

    fn attention_block(
        &mut self,
        model: &Model,
        batch: &mut [SequenceInput<'_>],
        layer: usize,
        rows: usize,
    ) {
        let weights = &model.layers[layer];
        let config = model.config();
        let (queries, keys) = (
            config.heads * config.head_dim,
            config.kv_heads * config.head_dim,
        );
        self.normalise(&weights.attention_norm, config.norm_epsilon, rows);
        let x = self.packed(rows);
        let s = &mut self.scratch;
        let product = |matrix, out: &mut Vec<f32>, stride| Product {
            matrix,
            x,
            out: out.as_mut_ptr(),
            stride,
            accumulate: false,
        };
        let products = [
            product(&weights.query, &mut s.queries, queries),
            product(&weights.key, &mut s.keys, keys),
            product(&weights.value, &mut s.values, keys),
        ];
        self.multiply(&products);
        let mut first_row = 0;
        for sequence in batch.iter_mut() {
            let part = SessionRows {
                layout: sequence.layout,
                start: sequence.start,
                count: sequence.tokens.len(),
                layer,
                first_row,
                batch_rows: rows,
            };
            match &mut *sequence.storage {
                KvStorage::F16(all) => {
                    self.rotate_and_store(model, &part, Shared(all.as_mut_ptr()));
                    self.attend(model, &part, all.as_ptr(), self.kernels.attend_f16);
                }
                KvStorage::F32(all) => {
                    self.rotate_and_store(model, &part, Shared(all.as_mut_ptr()));
                    self.attend(model, &part, all.as_ptr(), self.kernels.attend_f32);
                }
            }
            sequence.lengths.keys[layer] = sequence.start + sequence.tokens.len() as u64;
            sequence.lengths.values[layer] = sequence.start + sequence.tokens.len() as u64;
            first_row += sequence.tokens.len();
        }
        let packed = Shared(self.scratch.packed.as_mut_ptr());
        let sums = Shared(self.scratch.sums.as_mut_ptr());
        self.pool.run(rows, &|_, row| {
            let row = PackedRow {
                values: packed.at(0),
                sums: sums.at(0),
                rows,
                row,
            };
            // SAFETY: attention wrote every segment of every row; a task writes its own row's sums.
            unsafe { segment_sums(queries / SEGMENT, row) }
        });
        self.add_to_residual(&weights.attention_out, self.packed(rows), config.hidden);
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

    /// Rotates queries and keys, and writes the keys and values of the new positions into the slab.
    fn rotate_and_store<E: KvElem>(
        &mut self,
        model: &Model,
        part: &SessionRows<'_>,
        storage: Shared<E>,
    ) {
        let SessionRows {
            layout,
            start,
            count,
            layer,
            first_row,
            ..
        } = *part;
        let config = model.config();
        let (dim, heads, kv_heads) = (config.head_dim, config.heads, config.kv_heads);
        let s = &mut self.scratch;
        let (angles, sink_angles, queries, keys, values) =
            (&s.angles, &s.sink_angles, &s.queries, &s.keys, &s.values);
        let window_queries = Shared(s.window_queries.as_mut_ptr());
        let sink_queries = Shared(s.sink_queries.as_mut_ptr());
        self.pool.run(count, &|_, offset| {
            let row = first_row + offset;
            let position = start + offset as u64;
            let (angles, sink_angles) = (
                &angles[row * dim..][..dim],
                &sink_angles[row * dim..][..dim],
            );
            for head in 0..heads {
                let at = (row * heads + head) * dim;
                let query = &queries[at..][..dim];
                // SAFETY: the buffers hold every row (`reserve`), and a task writes its own row.
                let (window, sink) = unsafe {
                    (
                        std::slice::from_raw_parts_mut(window_queries.at(at), dim),
                        std::slice::from_raw_parts_mut(sink_queries.at(at), dim),
                    )
                };
                rotate(query, angles, window);
                rotate(query, sink_angles, sink);
            }
            for head in 0..kv_heads {
                let at = (row * kv_heads + head) * dim;
                let mut pair = [0.0; 2];
                for d in (0..dim).step_by(2) {
                    rotate(&keys[at + d..at + d + 2], &angles[d..d + 2], &mut pair);
                    for (i, value) in pair.into_iter().enumerate() {
                        // SAFETY: the slab's size was checked against the layout; positions of one chunk
                        // have slots of their own.
                        unsafe {
                            storage
                                .at(layout.key_index(layer, head, position, d + i))
                                .write(E::store(value))
                        };
                    }
                }
                for d in 0..dim {
                    // SAFETY: as above.
                    unsafe {
                        storage
                            .at(layout.value_index(layer, head, position, d))
                            .write(E::store(values[at + d]))
                    };
                }
            }
        });
    }

    /// Attention of one session's rows over its cache.
    fn attend<E: KvElem>(
        &mut self,
        model: &Model,
        part: &SessionRows<'_>,
        storage: *const E,
        kernel: AttendKernel<E>,
    ) {
        let config = model.config();
        let (layout, group) = (part.layout, config.group());
        let queries = part.count * group;
        let tiles = queries.div_ceil(QUERY_TILE);
        let scores = Shared(self.scratch.scores.as_mut_ptr());
        let score_room = QUERY_TILE * layout.score_stride();
        let out = self.scratch.packed.as_mut_ptr();
        let heads: Vec<Attention<'_, E>> = (0..config.kv_heads)
            .map(|kv_head| Attention {
                layout,
                keys: storage.wrapping_add(layout.keys_at(part.layer, kv_head)),
                values: storage.wrapping_add(layout.values_at(part.layer, kv_head)),
                queries: self.scratch.window_queries.as_ptr(),
                sink_queries: self.scratch.sink_queries.as_ptr(),
                heads: config.heads,
                group,
                kv_head,
                first_row: part.first_row,
                start: part.start,
                batch_rows: part.batch_rows,
                out,
            })
            .collect();
        self.pool.run(tiles * config.kv_heads, &|thread, task| {
            let first = task / config.kv_heads * QUERY_TILE;
            let count = (queries - first).min(QUERY_TILE);
            // SAFETY: the instructions were checked in `new`; the buffers were sized in `reserve`, the scores
            // for each thread; tasks are disjoint queries.
            unsafe {
                kernel(
                    &heads[task % config.kv_heads],
                    first,
                    count,
                    scores.at(thread * score_room),
                )
            };
        });
    }
}

/// The entry point of the attention kernel for one element type.
type AttendKernel<E> = unsafe fn(&Attention<'_, E>, usize, usize, *mut f32);

/// Where one session's rows lie in the batch.
struct SessionRows<'a> {
    layout: &'a KvLayout,
    start: u64,
    count: usize,
    layer: usize,
    first_row: usize,
    batch_rows: usize,
}
