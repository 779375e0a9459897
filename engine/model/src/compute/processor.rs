//! A forward pass on the processor.
//!
//! Every kernel treats a row alone, so a row's bits depend on its own session only.

use super::plan::{Largest, Plan};
use super::profile::{Clock, Phase};
use super::scratch::{Room, Scratch, Shared};
use super::{ComputeOptions, LogitRows, PassSize, SequenceInput, count_pass};
use crate::error::ModelError;
use crate::kernels::Kernels;
use crate::kernels::elementwise::PackedRow;
use crate::kernels::linear::{Activations, Gated, Product};
use crate::kv::KvLayout;
use crate::model::Model;
use crate::panels::PackedMatrix;
use crate::threads::Pool;

/// Rows up to which a product waits for memory rather than for arithmetic.
const FEW_ROWS: usize = 4;

/// Threads, kernels and scratch memory for forward passes.
pub(super) struct Processor {
    pub(super) pool: Pool,
    pub(super) kernels: Kernels,
    options: ComputeOptions,
    pub(super) scratch: Scratch,
    /// The last pass.
    pub(super) plan: Plan,
    vocabulary: usize,
    hidden: usize,
    pub(super) clock: Clock,
}

impl Processor {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the processor lacks the instruction set, or a thread cannot be started.
    pub(super) fn new(options: ComputeOptions) -> Result<Self, ModelError> {
        options.isa.check()?;
        let pool = Pool::new(options.threads).map_err(|source| ModelError::Threads {
            threads: options.threads,
            source,
        })?;
        Ok(Self {
            pool,
            kernels: Kernels::of(options.isa),
            options,
            scratch: Scratch::default(),
            plan: Plan::default(),
            vocabulary: 0,
            hidden: 0,
            clock: Clock::default(),
        })
    }

    /// Logits of a row.
    pub(super) fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Makes room for passes up to this size, so that they allocate nothing. Larger passes make their own.
    pub(super) fn reserve(&mut self, model: &Model, layout: &KvLayout, size: PassSize) {
        let PassSize {
            sequences,
            rows,
            logits,
        } = size;
        let threads = self.pool.threads();
        let largest = Largest {
            sequences,
            rows,
            query_tile: self.kernels.query_tile,
            threads,
        };
        let attention = self.plan.reserve(model.config(), layout, largest);
        self.scratch.reserve(
            model.config(),
            Room {
                rows,
                logits,
                branch: if model.has_branches() { rows } else { 0 },
                attention,
            },
        );
    }

    /// Bytes of the scratch memory that [`Compute::reserve`] takes. Nothing is allocated.
    pub(super) fn scratch_bytes(
        options: ComputeOptions,
        model: &Model,
        layout: &KvLayout,
        size: PassSize,
    ) -> u64 {
        let PassSize {
            sequences,
            rows,
            logits,
        } = size;
        let largest = Largest {
            sequences,
            rows,
            query_tile: Kernels::of(options.isa).query_tile,
            threads: options.threads,
        };
        let room = Room {
            rows,
            logits,
            branch: if model.has_branches() { rows } else { 0 },
            attention: largest.attention(layout),
        };
        room.bytes(model.config())
    }

    /// Delays every task by a pseudo-random moment; 0 switches it off. For the gates.
    pub(super) fn inject_delays(&mut self, seed: u64) {
        self.pool.inject_delays(seed);
    }

    /// Fills the scratch memory with NaN. For the gates: nothing may be read that this pass did not write.
    pub(super) fn poison_scratch(&mut self) {
        self.scratch.poison();
    }

    /// Starts to sum the time of each phase of the passes to come, or stops. It is off at first.
    pub(super) fn profile(&mut self, on: bool) {
        self.clock.set(on);
    }

    /// Leaves passes out of the sums, or goes on with them.
    pub(super) fn pause_profile(&mut self, paused: bool) {
        self.clock.pause(paused);
    }

    /// The time spent in each phase since [`Compute::profile`] was switched on.
    pub(super) fn phase_times(&self) -> Option<[(Phase, std::time::Duration); Phase::ALL.len()]> {
        self.clock.times()
    }

    /// The logits that the last pass made for sequence `index`: row-major, `vocabulary` a row.
    pub(super) fn logits(&self, index: usize) -> &[f32] {
        let part = &self.plan.parts[index];
        &self.scratch.logits[part.first_logits * self.vocabulary..][..part.logits * self.vocabulary]
    }

    /// The states behind the logits that the last pass made for sequence `index`: what the last layer left, before the output
    /// norm. Row-major, the hidden size a row.
    pub(super) fn states(&self, index: usize) -> &[f32] {
        let part = &self.plan.parts[index];
        let hidden = self.hidden;
        &self.scratch.residual[part.first_logits * hidden..][..part.logits * hidden]
    }

    /// Runs the new tokens of every sequence through the model: writes their keys and values, and makes the
    /// logits that are asked for.
    ///
    /// # Panics
    /// When a token is outside the vocabulary, a sequence has more tokens than its layout allows, or its
    /// slab has another shape: callers check these first, and going on would corrupt a session.
    pub(super) fn forward(&mut self, model: &Model, batch: &mut [SequenceInput<'_>]) {
        let config = model.config();
        self.clock.start();
        let threads = self.pool.threads();
        self.plan
            .make(config, batch, self.kernels.query_tile, threads);
        self.make_room(model);
        self.vocabulary = config.vocabulary;
        self.hidden = config.hidden;
        count_pass(self.options.isa);
        self.embed(model, batch);
        self.clock.lap(Phase::Embed);
        for layer in 0..config.layers {
            self.attention_block(model, batch, layer);
            if self.plan.rows == 0 {
                return;
            }
            self.feed_forward_block(model, layer);
        }
        if batch
            .iter()
            .any(|sequence| sequence.logits == LogitRows::Later)
        {
            return;
        }
        self.make_logits(model);
        self.clock.lap(Phase::Logits);
    }

    /// Makes the logits of `rows`, ascending, of the only sequence of the last pass, which left them for
    /// [`LogitRows::Later`]. Row-major. What is left of the pass is gone after that.
    ///
    /// # Panics
    /// When the last pass had other sequences, or no such rows.
    pub(super) fn logits_of(&mut self, model: &Model, rows: &[usize]) -> &[f32] {
        let hidden = model.config().hidden;
        assert!(
            self.plan.parts.len() == 1 && rows.last().is_none_or(|last| *last < self.plan.rows),
            "the last pass has no such rows"
        );
        for (to, from) in rows.iter().enumerate() {
            let from = from * hidden..(from + 1) * hidden;
            self.scratch.residual.copy_within(from, to * hidden);
        }
        self.plan.rows = rows.len();
        self.plan.parts[0].logits = rows.len();
        self.make_logits(model);
        self.logits(0)
    }

    /// Makes room for what the plan says.
    pub(super) fn make_room(&mut self, model: &Model) {
        let attention = self.plan.tiles_at_once(self.pool.threads()) * self.plan.tile_scratch;
        self.scratch.reserve(
            model.config(),
            Room {
                rows: self.plan.rows,
                logits: self.plan.logits,
                branch: if model.has_branches() {
                    self.plan.rows
                } else {
                    0
                },
                attention,
            },
        );
    }

    fn embed(&mut self, model: &Model, batch: &[SequenceInput<'_>]) {
        let (hidden, dim) = (model.config.hidden, model.config.head_dim);
        let scale = model.config.embedding_scale;
        let (plan, dequantise, s) = (&self.plan, self.kernels.dequantise, &mut self.scratch);
        let residual = Shared(s.residual.as_mut_ptr());
        let (angles, sink_angles) = (
            Shared(s.angles.as_mut_ptr()),
            Shared(s.sink_angles.as_mut_ptr()),
        );
        self.pool.run(plan.rows, &|_, row| {
            let part = &plan.parts[plan.part_of[row]];
            let offset = row - part.first_row;
            let token = batch[plan.part_of[row]].tokens[offset] as usize;
            let position = part.start + offset as u64;
            // SAFETY: the buffers hold every row (`reserve`), and a task writes its own; the instructions were
            // checked in `new`, and the token in `check`.
            unsafe {
                let slice = |from: *mut f32, length| std::slice::from_raw_parts_mut(from, length);
                let embedded = slice(residual.at(row * hidden), hidden);
                dequantise(&model.embedding, token, embedded);
                if scale != 1.0 {
                    embedded.iter_mut().for_each(|value| *value *= scale);
                }
                for (index, rope) in model.ropes.iter().enumerate() {
                    let at = (row * model.ropes.len() + index) * 2 * dim;
                    rope.angles(position, slice(angles.at(at), 2 * dim));
                }
                // Layers with sinks have the first rotation.
                if let Some(position) = part.layout.sink_query_position(position) {
                    model.ropes[0].angles(position, slice(sink_angles.at(row * 2 * dim), 2 * dim));
                }
            }
        });
    }

    fn feed_forward_block(&mut self, model: &Model, layer: usize) {
        let weights = &model.layers[layer];
        let config = model.config();
        let rows = self.plan.rows;
        self.normalise(&weights.feed_forward_norm, config.norm_epsilon, rows);
        self.clock.lap(Phase::Norm);
        let gated = Gated {
            gate: &weights.gate,
            up: &weights.up,
            activation: config.activation,
            x: self.packed(rows),
            values: self.scratch.wide.as_mut_ptr(),
            sums: self.scratch.wide_sums.as_mut_ptr(),
        };
        let panels = weights.gate.panels();
        let tasks = self.tasks(panels);
        let kernel = self.kernels.gated;
        self.pool.run(tasks, &|_, task| {
            // SAFETY: the instructions were checked in `new`; the buffers were sized in `reserve`; tasks write
            // disjoint panels.
            unsafe { kernel(&gated, task * panels / tasks, (task + 1) * panels / tasks) };
        });
        self.clock.lap(Phase::GateUp);
        let x = Activations {
            values: self.scratch.wide.as_ptr(),
            sums: self.scratch.wide_sums.as_ptr(),
            rows,
        };
        let norm = weights.post_feed_forward_norm.as_deref();
        self.add_to_residual(model, &weights.down, x, None, norm);
        self.clock.lap(Phase::Down);
    }

    fn make_logits(&mut self, model: &Model) {
        let config = model.config();
        // The last layer has left the rows that are wanted, and no others.
        let wanted = self.plan.rows;
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
    pub(super) fn normalise(&mut self, weights: &[f32], epsilon: f32, rows: usize) {
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

    pub(super) fn packed(&self, rows: usize) -> Activations {
        Activations {
            values: self.scratch.packed.as_ptr(),
            sums: self.scratch.sums.as_ptr(),
            rows,
        }
    }

    /// Adds a product, its bias and norm where it has them, to the residual stream.
    pub(super) fn add_to_residual(
        &mut self,
        model: &Model,
        matrix: &PackedMatrix,
        x: Activations,
        bias: Option<&[f32]>,
        norm: Option<&[f32]>,
    ) {
        let (hidden, epsilon) = (model.config.hidden, model.config.norm_epsilon);
        let plain = bias.is_none() && norm.is_none();
        let s = &mut self.scratch;
        let out = if plain {
            &mut s.residual
        } else {
            &mut s.branch
        };
        let out = out.as_mut_ptr();
        self.multiply(&[Product {
            matrix,
            x,
            out,
            stride: hidden,
            accumulate: plain,
        }]);
        if plain {
            return;
        }
        let (branch, residual) = (Shared(out), Shared(self.scratch.residual.as_mut_ptr()));
        let norm_and_add = self.kernels.norm_and_add;
        self.pool.run(x.rows, &|_, row| {
            // SAFETY: the buffers hold every row (`reserve`), and a task takes its own; the instructions were checked
            // in `new`.
            unsafe {
                let slice = |from: *mut f32| std::slice::from_raw_parts_mut(from, hidden);
                let (result, residual) = (
                    slice(branch.at(row * hidden)),
                    slice(residual.at(row * hidden)),
                );
                if let Some(bias) = bias {
                    add(result, bias);
                }
                match norm {
                    Some(norm) => norm_and_add(result, norm, epsilon, residual),
                    None => add(residual, result),
                }
            }
        });
    }

    /// Runs products that share a region: their panels, one product's after the other's, are split over the threads.
    pub(super) fn multiply(&mut self, products: &[Product<'_>]) {
        let panels: usize = products.iter().map(|product| product.matrix.panels()).sum();
        let tasks = self.tasks(panels);
        let kernel = self.kernels.product;
        self.pool.run(tasks, &|_, task| {
            let (mut first, mut end) = (task * panels / tasks, (task + 1) * panels / tasks);
            for product in products {
                let own = product.matrix.panels();
                if first < end.min(own) {
                    // SAFETY: the instructions were checked in `new`; the buffers were sized in `reserve`; tasks
                    // write disjoint panels.
                    unsafe { kernel(product, first, end.min(own)) };
                }
                (first, end) = (first.saturating_sub(own), end.saturating_sub(own));
            }
        });
    }

    /// Tasks that the panels of a product are split in: with few rows long runs, which memory likes, and with many rows
    /// short ones, which even out what the threads do.
    fn tasks(&self, panels: usize) -> usize {
        let for_each_thread = if self.plan.rows <= FEW_ROWS { 3 } else { 12 };
        (self.pool.threads() * for_each_thread).min(panels)
    }
}

/// Adds one vector to another, element by element.
pub(super) fn add(to: &mut [f32], what: &[f32]) {
    for (to, what) in to.iter_mut().zip(what) {
        *to += what;
    }
}
