//! Where the key and value of a position lie in a slab.
//!
//! A slab holds the sinks in slots of their own, and after them a ring for the window and the chunk in
//! flight. The ring's length is a multiple of 32, so a segment of 32 positions, aligned to absolute
//! position, is an aligned run of slots wherever the session stands. Keys lie in blocks of 16 positions,
//! `[block][dim][16]`, so that lanes run over keys; values as `[slot][dim]`, so that lanes run over the head
//! dimension.

use std::ops::Range;
use std::sync::Arc;

use kakeya_core::{CacheConfig, KvElement, PositionPolicy, SlabShape, Window};

use crate::config::{ModelConfig, SEGMENT};
use crate::simd::LANES;

/// The layout of one session's slab for one model and cache policy: that of each layer, one after the other.
///
/// Cheap to copy: the layers are shared.
#[derive(Clone, Debug)]
pub struct KvLayout {
    layers: Arc<[LayerLayout]>,
    max_chunk: usize,
}

impl PartialEq for KvLayout {
    /// Those of one engine are the same one: every pass compares those of its sessions.
    fn eq(&self, other: &Self) -> bool {
        let same = Arc::ptr_eq(&self.layers, &other.layers) || self.layers == other.layers;
        same && self.max_chunk == other.max_chunk
    }
}

/// Where the keys and values of one layer lie, and which of them a query sees.
///
/// A layer that sees everything follows the session's cache policy. One with a window of its own keeps just that
/// window, at true distances, whatever the policy is.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerLayout {
    sink: u64,
    /// `None` when the window is full: every earlier position is visible.
    window: Option<u64>,
    positions: PositionPolicy,
    sink_slots: usize,
    ring: usize,
    kv_heads: usize,
    head_dim: usize,
    /// Where the layer begins in the slab, in elements.
    start: usize,
}

impl KvLayout {
    /// Lays out a slab that holds the sinks, the window and up to `max_chunk` positions in flight.
    /// With a full window it holds the model's whole context.
    #[must_use]
    pub fn new(config: &ModelConfig, cache: &CacheConfig, max_chunk: usize) -> Self {
        let mut start = 0;
        let layers = config.kinds.iter().map(|kind| {
            let (sink, window) = match (kind.window, cache.window) {
                (Some(own), _) => (0, Some(own as u64)),
                (None, Window::Full) => (0, None),
                (None, Window::Sliding(window)) => (u64::from(cache.sink), Some(u64::from(window))),
            };
            let ring = window.map_or(config.context, |window| {
                // A window longer than the context never fills.
                let kept = match cache.window {
                    Window::Full => window.min(config.context as u64),
                    Window::Sliding(_) => window,
                };
                kept as usize + max_chunk
            });
            let layer = LayerLayout {
                sink,
                window,
                positions: cache.positions,
                sink_slots: (sink as usize).next_multiple_of(SEGMENT),
                ring: ring.next_multiple_of(SEGMENT),
                kv_heads: config.kv_heads,
                head_dim: config.head_dim,
                start,
            };
            start += 2 * layer.kv_heads * layer.slots() * layer.head_dim;
            layer
        });
        Self {
            layers: layers.collect(),
            max_chunk,
        }
    }

    /// The layout of one layer.
    #[must_use]
    pub fn of(&self, layer: usize) -> &LayerLayout {
        &self.layers[layer]
    }

    /// The layouts of all layers.
    #[must_use]
    pub fn layers(&self) -> &[LayerLayout] {
        &self.layers
    }

    /// The shape of the slab to allocate.
    #[must_use]
    pub fn slab_shape(&self, element: KvElement) -> SlabShape {
        let first = &self.layers[0];
        SlabShape {
            kv_heads: first.kv_heads,
            head_dim: first.head_dim,
            slots: self.layers.iter().map(LayerLayout::slots).sum(),
            element,
        }
    }

    /// Positions that one forward pass may add.
    #[must_use]
    pub fn max_chunk(&self) -> usize {
        self.max_chunk
    }

    /// Positions of all layers together that are cached after `committed` tokens, each layer by what it keeps.
    #[must_use]
    pub fn cached_positions(&self, committed: u64) -> u64 {
        self.layers
            .iter()
            .map(|layer| layer.cached_length(committed))
            .sum()
    }

    /// The furthest that a session may be written to with the state it had after `length` tokens still in its slab: a
    /// ring holds some 256 positions more than its window. See [`LayerLayout::reach`].
    #[must_use]
    pub fn reach(&self, length: u64) -> u64 {
        let reaches = self.layers.iter().map(|layer| layer.reach(length));
        reaches.min().unwrap_or(u64::MAX)
    }

    /// The layer whose attention takes the most room.
    pub(crate) fn largest(&self) -> &LayerLayout {
        let largest = self.layers.iter().max_by_key(|layer| layer.score_stride());
        largest.expect("a model has a layer")
    }

    /// The position that a query stands at for the sinks' sake in the layers that follow the cache policy.
    pub(crate) fn sink_query_position(&self, position: u64) -> Option<u64> {
        let layer = self.layers.iter().find(|layer| layer.sink > 0)?;
        Some(layer.sink_query_position(position))
    }

    /// Elements of the slab.
    pub(crate) fn elements(&self) -> usize {
        let last = &self.layers[self.layers.len() - 1];
        last.start + 2 * last.kv_heads * last.slots() * last.head_dim
    }

    /// Segments of 32 keys that the query before position `end` sees in the layer where it sees most, about.
    pub(crate) fn most_segments(&self, end: u64) -> usize {
        let segments = self.layers.iter().map(|layer| layer.most_segments(end));
        segments.max().unwrap_or(0)
    }
}

impl LayerLayout {
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

    /// The positions that are cached after `committed` tokens, ascending: the sinks and the window.
    pub fn cached(&self, committed: u64) -> impl Iterator<Item = u64> + use<> {
        let sinks = self.sink.min(committed);
        let start = match self.window {
            None => sinks,
            Some(window) => committed.saturating_sub(window).max(sinks),
        };
        (0..sinks).chain(start..committed)
    }

    /// How many they are.
    #[must_use]
    pub fn cached_length(&self, committed: u64) -> u64 {
        self.window
            .map_or(committed, |window| committed.min(self.sink + window))
    }

    /// The furthest that the layer may be written to before the first position is overwritten that is cached after
    /// `length` tokens. What lies before it is as it was: a key and a value depend on no later token.
    #[must_use]
    pub fn reach(&self, length: u64) -> u64 {
        let first = self
            .window
            .map_or(0, |window| length.saturating_sub(window).max(self.sink));
        first + self.ring as u64
    }

    /// Where `committed` tokens have left keys and values: ranges of elements of the slab, a head's keys or values each,
    /// that begin and end with a block. What lies outside them is no part of the session.
    pub fn written(&self, committed: u64) -> impl Iterator<Item = Range<usize>> + Clone + use<> {
        let ring = committed.min(self.ring as u64) as usize;
        let length = (self.sink_slots + ring).next_multiple_of(LANES) * self.head_dim;
        let (first, stride) = (self.start, self.slots() * self.head_dim);
        (0..2 * self.kv_heads)
            .map(move |side| first + side * stride..first + side * stride + length)
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

    fn most_segments(&self, end: u64) -> usize {
        let seen = self
            .window
            .map_or(end, |window| end.min(self.sink + window));
        seen as usize / SEGMENT
    }

    /// Columns of one query's scores: every slot, and room for the alignment at both ends.
    pub(crate) fn score_stride(&self) -> usize {
        self.slots() + 2 * SEGMENT
    }

    /// Where the keys of a head begin in the slab.
    pub(crate) fn keys_at(&self, head: usize) -> usize {
        self.start + head * self.slots() * self.head_dim
    }

    /// Where the values of a head begin in the slab.
    pub(crate) fn values_at(&self, head: usize) -> usize {
        self.start + (self.kv_heads + head) * self.slots() * self.head_dim
    }

    /// The index of one element of a key, from the start of the slab.
    #[must_use]
    pub fn key_index(&self, head: usize, position: u64, dim: usize) -> usize {
        let slot = self.slot(position);
        self.keys_at(head) + slot / LANES * LANES * self.head_dim + dim * LANES + slot % LANES
    }

    /// The index of one element of a value, from the start of the slab.
    #[must_use]
    pub fn value_index(&self, head: usize, position: u64, dim: usize) -> usize {
        self.values_at(head) + self.slot(position) * self.head_dim + dim
    }
}

/// Where the scale of an element of a key lies among the scales of a slab of `int8`, by the element's index from the
/// start of the slab: as `[block][segment of 32 dimensions][16]`. That of a value is its index over 32.
#[must_use]
pub fn key_scale(element: usize) -> usize {
    element / (LANES * SEGMENT) * LANES + element % LANES
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

    fn whole(sink: u32, window: Window, max_chunk: usize, own: Option<usize>) -> KvLayout {
        let mut config = ModelConfig::uniform(2, 2, 1, 32);
        config.kinds[1].window = own;
        let cache = CacheConfig {
            sink,
            window,
            positions: PositionPolicy::Streaming,
        };
        KvLayout::new(&config, &cache, max_chunk)
    }

    fn layout(sink: u32, window: Window, max_chunk: usize) -> LayerLayout {
        whole(sink, window, max_chunk, None).of(0).clone()
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
    fn what_is_cached_after_some_tokens_stays_in_its_slots_up_to_the_reach_and_no_further() {
        for (sink, window, own) in [
            (4, Window::Sliding(50), None),
            (4, Window::Sliding(50), Some(20)),
            (0, Window::Sliding(7), Some(90)),
            (2, Window::Full, Some(20)),
        ] {
            let whole = whole(sink, window, 16, own);
            for length in u64::from(sink) + 1..=100 {
                let intact = |written: u64| {
                    whole.layers().iter().all(|layer| {
                        let mut holds = std::collections::HashMap::new();
                        holds.extend((0..written).map(|position| (layer.slot(position), position)));
                        let mut cached = layer.cached(length);
                        cached.all(|position| holds[&layer.slot(position)] == position)
                    })
                };
                let reach = whole.reach(length);
                assert!(reach >= length + 16, "{length} {reach}");
                assert!(intact(reach) && intact(length), "{length} {reach}");
                assert!(!intact(reach + 1), "{length} {reach}");
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
    fn every_segment_of_every_key_and_value_has_a_scale_of_its_own() {
        let layout = whole(4, Window::Sliding(100), 50, Some(40));
        let mut owners = std::collections::HashMap::new();
        for layer in layout.layers() {
            for (head, position, dim) in (0..90).flat_map(|p| (0..32).map(move |d| (0, p, d))) {
                let vector = layer.key_index(head, position, 0);
                let scale = key_scale(layer.key_index(head, position, dim));
                assert_eq!(*owners.entry(scale).or_insert(vector), vector);
                let vector = layer.value_index(head, position, 0);
                let scale = layer.value_index(head, position, dim) / SEGMENT;
                assert_eq!(*owners.entry(scale).or_insert(vector), vector);
            }
        }
        assert_eq!(owners.len(), 2 * (90 + 90));
        assert!(
            owners
                .keys()
                .all(|scale| *scale < layout.elements() / SEGMENT)
        );
    }

    #[test]
    fn a_full_window_sees_everything_and_has_no_sinks() {
        let layout = layout(4, Window::Full, 8);
        assert_eq!(
            (layout.window_start(99), layout.sink(), layout.slots()),
            (0, 0, 128)
        );
    }

    #[test]
    fn a_layer_with_a_window_of_its_own_keeps_it_whatever_the_policy() {
        for policy in [Window::Sliding(100), Window::Sliding(8), Window::Full] {
            let layout = whole(4, policy, 16, Some(40));
            let own = layout.of(1);
            assert_eq!((own.sink(), own.window_start(90)), (0, 51));
            assert_eq!(
                own.cached(90).collect::<Vec<_>>(),
                (50..90).collect::<Vec<_>>()
            );
            assert_eq!(own.cached_length(90), 40);
            assert_eq!(own.keys_at(0), layout.of(0).slots() * 2 * 32);
            assert_eq!(
                layout.elements(),
                (layout.of(0).slots() + own.slots()) * 2 * 32
            );
        }
        let layout = whole(4, Window::Sliding(8), 16, Some(40));
        assert_eq!(layout.cached_positions(90), 12 + 40);
        let sinks_first: Vec<_> = layout.of(0).cached(90).collect();
        assert_eq!(sinks_first[..5], [0, 1, 2, 3, 82]);
        assert_eq!(layout.of(0).cached(3).collect::<Vec<_>>(), [0, 1, 2]);
    }
}
