//! Where the key and value of a position lie in a slab.
//!
//! A slab holds the sinks in slots of their own, and after them a ring for the window and the chunk in
//! flight. The ring's length is a multiple of 32, so a segment of 32 positions, aligned to absolute
//! position, is an aligned run of slots wherever the session stands. Keys lie in blocks of 16 positions,
//! `[block][dim][16]`, so that lanes run over keys; values as `[slot][dim]`, so that lanes run over the head
//! dimension.

use kakeya_core::{CacheConfig, KvElement, PositionPolicy, SlabShape, Window};

use crate::config::{LlamaConfig, SEGMENT};
use crate::simd::LANES;

/// The layout of one session's slab for one model and cache policy.
#[derive(Clone, Debug, PartialEq)]
pub struct KvLayout {
    sink: u64,
    /// `None` when the window is full: every earlier position is visible.
    window: Option<u64>,
    positions: PositionPolicy,
    sink_slots: usize,
    ring: usize,
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
    max_chunk: usize,
}

impl KvLayout {
    /// Lays out a slab that holds the sinks, the window and up to `max_chunk` positions in flight.
    /// With a full window it holds the model's whole context.
    #[must_use]
    pub fn new(config: &LlamaConfig, cache: &CacheConfig, max_chunk: usize) -> Self {
        let (sink, window, ring) = match cache.window {
            Window::Full => (0, None, config.context),
            Window::Sliding(window) => (
                u64::from(cache.sink),
                Some(u64::from(window)),
                window as usize + max_chunk,
            ),
        };
        Self {
            sink,
            window,
            positions: cache.positions,
            sink_slots: (sink as usize).next_multiple_of(SEGMENT),
            ring: ring.next_multiple_of(SEGMENT),
            layers: config.layers,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            max_chunk,
        }
    }

    /// The shape of the slab to allocate.
    #[must_use]
    pub fn slab_shape(&self, element: KvElement) -> SlabShape {
        SlabShape {
            layers: self.layers,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            slots: self.slots(),
            element,
        }
    }

    /// Positions that one forward pass may add.
    #[must_use]
    pub fn max_chunk(&self) -> usize {
        self.max_chunk
    }

    /// The first window position that a query at `position` sees. Sinks come on top.
    #[must_use]
    pub fn window_start(&self, position: u64) -> u64 {
        match self.window {
            None => 0,
            Some(window) => self.sink.max((position + 1).saturating_sub(window)),
        }
    }

    /// The position that a query stands at for the sinks' sake: its own, or the end of the cache, beyond
    /// which the distance to the sinks does not grow (Xiao et al. 2023, StreamingLLM).
    #[must_use]
    pub fn sink_query_position(&self, position: u64) -> u64 {
        match (self.positions, self.window) {
            (PositionPolicy::Streaming, Some(window)) => position.min(self.sink + window - 1),
            _ => position,
        }
    }

    /// The slot of a position, sinks first.
    #[must_use]
    pub fn slot(&self, position: u64) -> usize {
        if position < self.sink {
            position as usize
        } else {
            self.ring_slot(position)
        }
    }

    pub(crate) fn ring_slot(&self, position: u64) -> usize {
        self.sink_slots + (position % self.ring as u64) as usize
    }

    pub(crate) fn sink(&self) -> u64 {
        self.sink
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.head_dim
    }

    pub(crate) fn slots(&self) -> usize {
        self.sink_slots + self.ring
    }

    /// Segments of 32 keys that the query before position `end` sees, about.
    pub(crate) fn most_segments(&self, end: u64) -> usize {
        let seen = self
            .window
            .map_or(end, |window| end.min(self.sink + window));
        seen as usize / SEGMENT
    }

    /// Columns of one query's scores: every slot, and room for the alignment at both ends.
    pub(crate) fn score_stride(&self) -> usize {
        self.slots() + 2 * SEGMENT
    }

    /// Where the keys of a layer and head begin in the slab.
    pub(crate) fn keys_at(&self, layer: usize, head: usize) -> usize {
        (layer * 2 * self.kv_heads + head) * self.slots() * self.head_dim
    }

    /// Where the values of a layer and head begin in the slab.
    pub(crate) fn values_at(&self, layer: usize, head: usize) -> usize {
        ((layer * 2 + 1) * self.kv_heads + head) * self.slots() * self.head_dim
    }

    /// The index of one element of a key, from the start of the slab.
    #[must_use]
    pub fn key_index(&self, layer: usize, head: usize, position: u64, dim: usize) -> usize {
        let slot = self.slot(position);
        self.keys_at(layer, head)
            + slot / LANES * LANES * self.head_dim
            + dim * LANES
            + slot % LANES
    }

    /// The index of one element of a value, from the start of the slab.
    #[must_use]
    pub fn value_index(&self, layer: usize, head: usize, position: u64, dim: usize) -> usize {
        self.values_at(layer, head) + self.slot(position) * self.head_dim + dim
    }
}

/// How far each layer's keys and values have been written: one past the last position, as the forward pass
/// left it. INV-1 compares these with what the session has recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerLengths {
    /// One past the last key, for each layer.
    pub keys: Vec<u64>,
    /// One past the last value, for each layer.
    pub values: Vec<u64>,
}

impl LayerLengths {
    /// Nothing written in any of the layers.
    #[must_use]
    pub fn empty(layers: usize) -> Self {
        Self {
            keys: vec![0; layers],
            values: vec![0; layers],
        }
    }

    /// Drops positions from `length` on.
    pub fn truncate(&mut self, length: u64) {
        for end in self.keys.iter_mut().chain(&mut self.values) {
            *end = (*end).min(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(sink: u32, window: Window, max_chunk: usize) -> KvLayout {
        let config = LlamaConfig {
            layers: 2,
            hidden: 64,
            heads: 2,
            kv_heads: 1,
            head_dim: 32,
            feed_forward: 64,
            vocabulary: 8,
            context: 100,
            norm_epsilon: 1e-5,
            rope_base: 1e4,
        };
        KvLayout::new(
            &config,
            &CacheConfig {
                sink,
                window,
                positions: PositionPolicy::Streaming,
            },
            max_chunk,
        )
    }

    #[test]
    fn positions_that_can_be_visible_together_never_share_a_slot() {
        for (sink, window, chunk) in [
            (4, 1024, 256),
            (2, 8, 1),
            (2, 8, 64),
            (0, 1, 1),
            (40, 64, 5),
            (32, 32, 32),
        ] {
            let layout = layout(sink, Window::Sliding(window), chunk);
            for start in [0u64, 1, 31, 32, 100, 1000, 12_345] {
                let last = start + chunk as u64 - 1;
                let mut taken = std::collections::HashMap::new();
                for position in
                    (0..u64::from(sink).min(last + 1)).chain(layout.window_start(start)..=last)
                {
                    if let Some(other) = taken.insert(layout.slot(position), position) {
                        assert_eq!(
                            other, position,
                            "sink {sink}, window {window}, chunk {chunk}, start {start}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_segment_of_positions_is_a_run_of_slots() {
        let layout = layout(4, Window::Sliding(100), 50);
        for start in (32..4096u64).step_by(SEGMENT) {
            for offset in 0..SEGMENT as u64 {
                assert_eq!(
                    layout.slot(start + offset),
                    layout.slot(start) + offset as usize
                );
            }
        }
    }

    #[test]
    fn the_distance_to_the_sinks_saturates_at_the_end_of_the_cache() {
        let layout = layout(4, Window::Sliding(16), 8);
        assert_eq!(layout.sink_query_position(19), 19);
        assert_eq!(layout.sink_query_position(20), 19);
        assert_eq!(layout.sink_query_position(1_000_000), 19);
    }

    #[test]
    fn a_full_window_sees_everything_and_has_no_sinks() {
        let layout = layout(4, Window::Full, 8);
        assert_eq!(
            (layout.window_start(99), layout.sink(), layout.slots()),
            (0, 0, 128)
        );
    }
}
