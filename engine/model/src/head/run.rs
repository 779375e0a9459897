//! Running a head: a row at a time, since each guess waits for the one before.

use super::{DraftHead, HEAD_EPSILON};
use crate::compute::ComputeOptions;
use crate::config::{Activation, SEGMENT};
use crate::error::ModelError;
use crate::isa::IsaError;
use crate::kernels::Kernels;
use crate::kernels::elementwise::PackedRow;
use crate::kernels::linear::{Activations, Gated, Product};
use crate::model::Model;
use crate::panels::PackedMatrix;
use crate::threads::Pool;

/// Threads and memory to run heads with.
pub struct HeadRunner {
    pool: Pool,
    kernels: Kernels,
    /// Normalised input of a product, and the sums of its segments.
    packed: Packed,
    /// Inside a block.
    wide: Packed,
    ones: Vec<f32>,
    state: Vec<f32>,
    own: Vec<f32>,
    embedding: Vec<f32>,
    logits: Vec<f32>,
}

#[derive(Default)]
struct Packed {
    values: Vec<f32>,
    sums: Vec<f32>,
}

impl Packed {
    fn reserve(&mut self, length: usize) {
        self.values.resize(length.max(self.values.len()), 0.0);
        self.sums.resize(self.values.len() / SEGMENT, 0.0);
    }

    fn row(&mut self) -> PackedRow {
        PackedRow {
            values: self.values.as_mut_ptr(),
            sums: self.sums.as_mut_ptr(),
            rows: 1,
            row: 0,
        }
    }

    fn activations(&self) -> Activations {
        Activations {
            values: self.values.as_ptr(),
            sums: self.sums.as_ptr(),
            rows: 1,
        }
    }
}

impl HeadRunner {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the processor lacks the instruction set, or a thread cannot be started.
    pub fn new(options: ComputeOptions) -> Result<Self, ModelError> {
        if !options.isa.is_supported() {
            return Err(IsaError::Unsupported { isa: options.isa }.into());
        }
        let pool = Pool::new(options.threads).map_err(|source| ModelError::Threads {
            threads: options.threads,
            source,
        })?;
        Ok(Self {
            pool,
            kernels: Kernels::of(options.isa),
            packed: Packed::default(),
            wide: Packed::default(),
            ones: Vec::new(),
            state: Vec::new(),
            own: Vec::new(),
            embedding: Vec::new(),
            logits: Vec::new(),
        })
    }

    /// Begins from the state that the model had after a token: what its last layer made, before the output norm.
    pub fn begin(&mut self, head: &DraftHead, state: &[f32]) {
        let shape = head.shape();
        let longest = shape.hidden.max(shape.width);
        self.packed.reserve(longest);
        self.wide.reserve(shape.wide);
        self.ones.resize(longest, 1.0);
        self.own.resize(shape.width, 0.0);
        self.embedding.resize(shape.hidden, 0.0);
        self.logits
            .resize(head.output.rows.next_multiple_of(crate::panels::PANEL), 0.0);
        self.state.clear();
        self.state.extend_from_slice(state);
    }

    /// Goes on with a token: guesses the state after it, and from that the token that follows.
    ///
    /// # Panics
    /// When it has not begun, or the model has no such token.
    pub fn step(&mut self, head: &DraftHead, model: &Model, token: u32) -> u32 {
        let shape = head.shape();
        model.embedding_row(token, &mut self.embedding);
        let (hidden, epsilon) = (shape.hidden, HEAD_EPSILON);
        let norm = self.kernels.norm;
        // SAFETY: the instructions were checked in `new`; `begin` made room; lengths are multiples of 32, as every head's.
        unsafe {
            norm(
                &self.state,
                &self.ones[..hidden],
                epsilon,
                self.packed.row(),
            )
        };
        self.multiply(&head.state_in, Target::Own, false);
        // SAFETY: as above.
        unsafe {
            norm(
                &self.embedding,
                &self.ones[..hidden],
                epsilon,
                self.packed.row(),
            )
        };
        self.multiply(&head.token_in, Target::Own, true);
        for block in &head.blocks {
            // SAFETY: as above.
            unsafe { norm(&self.own, &block.norm, epsilon, self.packed.row()) };
            self.gate(&block.gate, &block.up);
            std::mem::swap(&mut self.packed, &mut self.wide);
            self.multiply(&block.down, Target::Own, true);
            std::mem::swap(&mut self.packed, &mut self.wide);
        }
        // SAFETY: as above.
        unsafe { norm(&self.own, &head.norm, epsilon, self.packed.row()) };
        self.multiply(&head.state_out, Target::State, false);
        // SAFETY: as above.
        unsafe {
            norm(
                &self.state,
                &head.output_norm,
                head.output_epsilon,
                self.packed.row(),
            );
        }
        self.multiply(&head.output, Target::Logits, false);
        let logits = &self.logits[..head.output.rows];
        let best = (1..logits.len()).fold(
            0,
            |best, at| {
                if logits[at] > logits[best] { at } else { best }
            },
        );
        head.tokens[best]
    }

    fn gate(&mut self, gate: &PackedMatrix, up: &PackedMatrix) {
        let gated = Gated {
            gate,
            up,
            activation: Activation::Silu,
            x: self.packed.activations(),
            values: self.wide.values.as_mut_ptr(),
            sums: self.wide.sums.as_mut_ptr(),
        };
        let panels = gate.panels();
        let tasks = self.tasks(panels);
        let kernel = self.kernels.gated;
        self.pool.run(tasks, &|_, task| {
            // SAFETY: the instructions were checked in `new`; `begin` made room; tasks write disjoint panels.
            unsafe { kernel(&gated, task * panels / tasks, (task + 1) * panels / tasks) };
        });
    }

    fn multiply(&mut self, matrix: &PackedMatrix, to: Target, accumulate: bool) {
        let out = match to {
            Target::Own => &mut self.own,
            Target::State => &mut self.state,
            Target::Logits => &mut self.logits,
        };
        let product = Product {
            matrix,
            x: self.packed.activations(),
            out: out.as_mut_ptr(),
            stride: matrix.rows,
            accumulate,
        };
        let panels = matrix.panels();
        let tasks = self.tasks(panels);
        let kernel = self.kernels.product;
        self.pool.run(tasks, &|_, task| {
            // SAFETY: as in `gate`.
            unsafe { kernel(&product, task * panels / tasks, (task + 1) * panels / tasks) };
        });
    }

    fn tasks(&self, panels: usize) -> usize {
        (2 * self.pool.threads()).min(panels)
    }
}

/// Where a product goes.
#[derive(Clone, Copy)]
enum Target {
    Own,
    State,
    Logits,
}
