//! The memory of a forward pass between its kernels, kept from one pass to the next.

use crate::config::{LlamaConfig, SEGMENT};
use crate::kernels::attention::QUERY_TILE;

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
    pub(super) gate: Vec<f32>,
    pub(super) up: Vec<f32>,
    pub(super) angles: Vec<f32>,
    pub(super) sink_angles: Vec<f32>,
    pub(super) scores: Vec<f32>,
    pub(super) logits: Vec<f32>,
}

impl Scratch {
    /// Makes room for `rows` rows, and on each of `threads` threads for the scores of a tile of queries, `stride` f32
    /// a query.
    pub(super) fn reserve(
        &mut self,
        config: &LlamaConfig,
        rows: usize,
        threads: usize,
        stride: usize,
    ) {
        let queries = config.heads * config.head_dim;
        let keys = config.kv_heads * config.head_dim;
        for (buffer, length) in [
            (&mut self.residual, rows * config.hidden),
            (&mut self.packed, rows * config.hidden.max(queries)),
            (&mut self.sums, rows * config.hidden.max(queries) / SEGMENT),
            (&mut self.wide, rows * config.feed_forward),
            (&mut self.wide_sums, rows * config.feed_forward / SEGMENT),
            (&mut self.queries, rows * queries),
            (&mut self.window_queries, rows * queries),
            (&mut self.sink_queries, rows * queries),
            (&mut self.keys, rows * keys),
            (&mut self.values, rows * keys),
            (&mut self.gate, rows * config.feed_forward),
            (&mut self.up, rows * config.feed_forward),
            (&mut self.angles, rows * config.head_dim),
            (&mut self.sink_angles, rows * config.head_dim),
            (&mut self.scores, threads * QUERY_TILE * stride),
        ] {
            if buffer.len() < length {
                buffer.resize(length, 0.0);
            }
        }
    }

    /// Fills everything with NaN.
    pub(super) fn poison(&mut self) {
        for buffer in [
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
            &mut self.gate,
            &mut self.up,
            &mut self.angles,
            &mut self.sink_angles,
            &mut self.scores,
            &mut self.logits,
        ] {
            buffer.fill(f32::NAN);
        }
    }
}

/// A pointer that tasks share; each writes its own part of what it points to.
#[derive(Clone, Copy)]
pub(super) struct Shared<T>(pub(super) *mut T);

// SAFETY: every use below hands disjoint parts to different tasks.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(super) fn at(self, offset: usize) -> *mut T {
        self.0.wrapping_add(offset)
    }
}
