//! The memory of a forward pass between its kernels, kept from one pass to the next.

use crate::config::{ModelConfig, SEGMENT};

/// Every buffer grows to what the largest pass so far has needed.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) residual: Vec<f32>,
    pub(super) packed: Vec<f32>,
    pub(super) sums: Vec<f32>,
    pub(super) wide: Vec<f32>,
    pub(super) wide_sums: Vec<f32>,
    pub(super) queries: Vec<f32>,
    pub(super) window_queries: Vec<f32>,
    pub(super) sink_queries: Vec<f32>,
    pub(super) keys: Vec<f32>,
    pub(super) values: Vec<f32>,
    pub(super) angles: Vec<f32>,
    pub(super) sink_angles: Vec<f32>,
    /// What a half of a block makes, where something is done to it before it is added.
    pub(super) branch: Vec<f32>,
    pub(super) attention: Vec<f32>,
    pub(super) logits: Vec<f32>,
}

/// What a pass needs room for.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub(super) rows: usize,
    /// Rows that logits are made for.
    pub(super) logits: usize,
    /// Rows of what is changed before it is added.
    pub(super) branch: usize,
    /// f32 for the tiles of attention that are at work at once.
    pub(super) attention: usize,
}

impl Room {
    /// The f32 of each buffer, in their order.
    fn lengths(&self, config: &ModelConfig) -> [usize; 15] {
        let rows = self.rows;
        let queries = config.heads * config.head_dim;
        let keys = config.kv_heads * config.head_dim;
        [
            rows * config.hidden,
            rows * config.hidden.max(queries),
            rows * config.hidden.max(queries) / SEGMENT,
            rows * config.feed_forward,
            rows * config.feed_forward / SEGMENT,
            rows * queries,
            rows * queries,
            rows * queries,
            rows * keys,
            rows * keys,
            rows * config.ropes.len() * 2 * config.head_dim,
            rows * 2 * config.head_dim,
            self.branch * config.hidden,
            self.attention,
            self.logits * config.vocabulary,
        ]
    }

    /// Bytes of all buffers.
    pub(super) fn bytes(&self, config: &ModelConfig) -> u64 {
        let lengths = self.lengths(config).map(|length| length as u64);
        lengths.iter().sum::<u64>() * size_of::<f32>() as u64
    }
}

impl Scratch {
    fn buffers(&mut self) -> [&mut Vec<f32>; 15] {
        [
            &mut self.residual,
            &mut self.packed,
            &mut self.sums,
            &mut self.wide,
            &mut self.wide_sums,
            &mut self.queries,
            &mut self.window_queries,
            &mut self.sink_queries,
            &mut self.keys,
            &mut self.values,
            &mut self.angles,
            &mut self.sink_angles,
            &mut self.branch,
            &mut self.attention,
            &mut self.logits,
        ]
    }

    pub(super) fn reserve(&mut self, config: &ModelConfig, room: Room) {
        for (buffer, length) in self.buffers().into_iter().zip(room.lengths(config)) {
            if buffer.len() < length {
                // Not `resize` alone: it would round the capacity up, and these are the largest buffers we have.
                buffer.reserve_exact(length - buffer.len());
                buffer.resize(length, 0.0);
            }
        }
    }

    /// Fills everything with NaN.
    pub(super) fn poison(&mut self) {
        for buffer in self.buffers() {
            buffer.fill(f32::NAN);
        }
    }
}

/// A pointer that tasks share; each writes its own part of what it points to.
pub(super) struct Shared<T>(pub(super) *mut T);

// Not derived: a pointer is copied whatever it points to.
impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: every use hands disjoint parts to different tasks.
unsafe impl<T> Sync for Shared<T> {}
// SAFETY: as above; a pointer that is left over from a pass is not followed.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    pub(super) fn at(self, offset: usize) -> *mut T {
        self.0.wrapping_add(offset)
    }
}
