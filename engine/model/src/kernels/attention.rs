//! Attention over the sinks and the window of one session, for a few query vectors at a time.
//!
//! Rule ATTENTION of `docs/numerics.md`. A query at position `p` sees key `j` when `j < S` or
//! `p - W < j <= p`; the rule is applied query by query, so it cannot depend on the chunk. Scores fold the
//! head dimension in segments of 32, lanes over keys. The weighted values fold the *visible* keys in
//! ascending position, in segments of 32 aligned to absolute position, lanes over the head dimension. A key
//! that is not visible is skipped, not multiplied by zero: whatever its slot holds cannot reach the result.

use crate::config::SEGMENT;
use crate::kv::KvLayout;
use crate::simd::{LANES, Vector, exp};

/// Query vectors of one register tile.
pub(crate) const QUERY_TILE: usize = 6;

/// An element of the KV cache: f16 bits or f32.
pub(crate) trait KvElem: Copy + Send + Sync {
    /// # Safety
    /// `from` is readable for 16 elements; the processor has the instructions of `V`.
    unsafe fn load<V: Vector>(from: *const Self) -> V;
    /// Rounds to the nearest, ties to even.
    fn store(value: f32) -> Self;
}

impl KvElem for u16 {
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: by the caller.
        unsafe { V::load_f16(from) }
    }

    #[inline(always)]
    fn store(value: f32) -> Self {
        half::f16::from_f32(value).to_bits()
    }
}

impl KvElem for f32 {
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: by the caller.
        unsafe { V::load(from) }
    }

    #[inline(always)]
    fn store(value: f32) -> Self {
        value
    }
}

/// One session's rows against one key and value head.
#[derive(Clone, Copy)]
pub(crate) struct Attention<'a, E> {
    pub(crate) layout: &'a KvLayout,
    /// Keys and values of this layer and head.
    pub(crate) keys: *const E,
    pub(crate) values: *const E,
    /// Rotated queries, row-major over the whole batch, `heads * head_dim` a row: for window keys, and for
    /// sink keys.
    pub(crate) queries: *const f32,
    pub(crate) sink_queries: *const f32,
    pub(crate) heads: usize,
    pub(crate) group: usize,
    pub(crate) kv_head: usize,
    /// The session's first row in the batch, its position, and the rows of the whole batch.
    pub(crate) first_row: usize,
    pub(crate) start: u64,
    pub(crate) batch_rows: usize,
    /// Segment-major output (see [`super::linear::Activations`]), `heads * head_dim` wide.
    pub(crate) out: *mut f32,
}

// SAFETY: tasks write the outputs of disjoint queries and only read the rest.
unsafe impl<E: Sync> Sync for Attention<'_, E> {}

/// A query of the tile: where its vectors lie and what it sees.
#[derive(Clone, Copy)]
struct Query {
    row: usize,
    head: usize,
    position: u64,
    /// The first window position it sees.
    low: u64,
}

impl<E: KvElem> Attention<'_, E> {
    /// Query `index` of this session and key head: rows outside, grouped heads inside.
    #[inline(always)]
    fn query(&self, index: usize) -> Query {
        let row = index / self.group;
        let position = self.start + row as u64;
        Query {
            row: self.first_row + row,
            head: self.kv_head * self.group + index % self.group,
            position,
            low: self.layout.window_start(position),
        }
    }
}

/// Computes queries `first..first + count` (at most [`QUERY_TILE`]).
///
/// # Safety
/// The processor has the instructions of `V`; the pointers are good for the shapes; `scores` has room for
/// `QUERY_TILE * layout.score_stride()` elements; no other thread writes these queries' outputs.
#[inline(always)]
pub(crate) unsafe fn attend<V: Vector, E: KvElem>(
    args: &Attention<'_, E>,
    first: usize,
    count: usize,
    scores: *mut f32,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        match count {
            1 => attend_tile::<V, E, 1>(args, first, scores),
            2 => attend_tile::<V, E, 2>(args, first, scores),
            3 => attend_tile::<V, E, 3>(args, first, scores),
            4 => attend_tile::<V, E, 4>(args, first, scores),
            5 => attend_tile::<V, E, 5>(args, first, scores),
            _ => attend_tile::<V, E, QUERY_TILE>(args, first, scores),
        }
    }
}

#[inline(always)]
unsafe fn attend_tile<V: Vector, E: KvElem, const R: usize>(
    args: &Attention<'_, E>,
    first: usize,
    scores: *mut f32,
) {
    let layout = args.layout;
    let queries: [Query; R] = std::array::from_fn(|i| args.query(first + i));
    // Score columns: the sink slots, then the window's positions from an aligned one upwards.
    let stride = layout.score_stride();
    let origin = queries[0].low / SEGMENT as u64 * SEGMENT as u64;
    // SAFETY: by the contract of `attend`; score columns stay below the stride because a tile's rows and
    // the window fit the ring.
    unsafe {
        score::<V, E, R>(args, &queries, origin, scores, stride);
        for (i, query) in queries.iter().enumerate() {
            softmax_numerators::<V>(layout, query, origin, scores.add(i * stride));
        }
        mix::<V, E, R>(args, &queries, origin, scores, stride);
    }
}

/// Raw scores of every block of 16 keys that any query of the tile may see.
#[inline(always)]
unsafe fn score<V: Vector, E: KvElem, const R: usize>(
    args: &Attention<'_, E>,
    queries: &[Query; R],
    origin: u64,
    scores: *mut f32,
    stride: usize,
) {
    let layout = args.layout;
    let dim = layout.head_dim();
    let last = queries[R - 1].position;
    // IEEE square root and division: the same on every platform.
    let scale = 1.0 / (dim as f32).sqrt();
    // SAFETY: by the contract of `attend`.
    unsafe {
        let vector = |base: *const f32, i: usize| {
            base.add((queries[i].row * args.heads + queries[i].head) * dim)
        };
        let sinks = layout.sink().min(last + 1);
        let vectors: [*const f32; R] = std::array::from_fn(|i| vector(args.sink_queries, i));
        for block in 0..sinks.div_ceil(LANES as u64) as usize {
            let keys = args.keys.add(block * LANES * dim);
            score_block::<V, E, R>(keys, dim, vectors, scale, scores.add(block * LANES), stride);
        }
        let vectors: [*const f32; R] = std::array::from_fn(|i| vector(args.queries, i));
        let mut position = queries[0].low / LANES as u64 * LANES as u64;
        while position <= last {
            let keys = args.keys.add(layout.ring_slot(position) * dim);
            let column = layout.sink_slots() + (position - origin) as usize;
            score_block::<V, E, R>(keys, dim, vectors, scale, scores.add(column), stride);
            position += LANES as u64;
        }
    }
}

#[inline(always)]
unsafe fn score_block<V: Vector, E: KvElem, const R: usize>(
    keys: *const E,
    dim: usize,
    queries: [*const f32; R],
    scale: f32,
    scores: *mut f32,
    stride: usize,
) {
    // SAFETY: a block of keys is `dim` rows of 16; `scores` has R rows; by the caller.
    unsafe {
        let mut t = [V::splat(0.0); R];
        for segment in 0..dim / SEGMENT {
            let mut c = [V::splat(0.0); R];
            for k in segment * SEGMENT..(segment + 1) * SEGMENT {
                let key = E::load::<V>(keys.add(k * LANES));
                for r in 0..R {
                    c[r] = V::splat(*queries[r].add(k)).fma(key, c[r]);
                }
            }
            for r in 0..R {
                t[r] = t[r].add(c[r]);
            }
        }
        let scale = V::splat(scale);
        for (r, t) in t.iter().enumerate() {
            t.mul(scale).store(scores.add(r * stride));
        }
    }
}

/// Replaces the visible scores of a query by `exp(score - max)`. Other columns hold anything afterwards.
#[inline(always)]
unsafe fn softmax_numerators<V: Vector>(
    layout: &KvLayout,
    query: &Query,
    origin: u64,
    scores: *mut f32,
) {
    let sinks = 0..layout.sink().min(query.position + 1) as usize;
    let column = |position: u64| layout.sink_slots() + (position - origin) as usize;
    let window = if query.low <= query.position {
        column(query.low)..column(query.position) + 1
    } else {
        0..0
    };
    // SAFETY: the ranges lie inside the query's row of scores; whole vectors around them do as well, since
    // rows are padded to segments.
    unsafe {
        let mut max = f32::NEG_INFINITY;
        for range in [&sinks, &window] {
            max = greatest::<V>(scores, range.clone(), max);
        }
        let max = V::splat(max);
        for range in [sinks, window] {
            let mut at = range.start / LANES * LANES;
            while at < range.end {
                exp(V::load(scores.add(at)).sub(max)).store(scores.add(at));
                at += LANES;
            }
        }
    }
}

/// The greatest score of a range: a maximum has no order.
#[inline(always)]
unsafe fn greatest<V: Vector>(
    scores: *const f32,
    range: std::ops::Range<usize>,
    mut max: f32,
) -> f32 {
    // SAFETY: the range lies inside the row, by the caller.
    unsafe {
        let mut at = range.start;
        if range.len() >= LANES {
            let mut lanes = V::splat(max);
            while at + LANES <= range.end {
                lanes = V::load(scores.add(at)).max(lanes);
                at += LANES;
            }
            let mut all = [0.0f32; LANES];
            lanes.store(all.as_mut_ptr());
            max = all.into_iter().fold(max, |a, b| if b > a { b } else { a });
        }
        for column in at..range.end {
            let score = *scores.add(column);
            max = if score > max { score } else { max };
        }
        max
    }
}

/// `out = (sum over visible keys of weight * value) / (sum of weights)`.
#[inline(always)]
unsafe fn mix<V: Vector, E: KvElem, const R: usize>(
    args: &Attention<'_, E>,
    queries: &[Query; R],
    origin: u64,
    scores: *const f32,
    stride: usize,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        // The first pass over the keys also sums the weights; the others need only its result.
        let totals = mix_lanes::<V, E, R, true>(args, queries, origin, scores, stride, 0, [1.0; R]);
        let inverse = totals.map(|total| 1.0 / total);
        rescale::<V, E, R>(args, queries, inverse);
        for lanes in 1..args.layout.head_dim() / LANES {
            mix_lanes::<V, E, R, false>(args, queries, origin, scores, stride, lanes, inverse);
        }
    }
}

/// Where 16 lanes of a query's output go.
#[inline(always)]
fn output<E: KvElem>(args: &Attention<'_, E>, query: &Query, lanes: usize) -> usize {
    let column = query.head * args.layout.head_dim() + lanes * LANES;
    (column / SEGMENT * args.batch_rows + query.row) * SEGMENT + column % SEGMENT
}

/// Multiplies the first 16 lanes, written before the sum of weights was known.
#[inline(always)]
unsafe fn rescale<V: Vector, E: KvElem, const R: usize>(
    args: &Attention<'_, E>,
    queries: &[Query; R],
    inverse: [f32; R],
) {
    for (query, inverse) in queries.iter().zip(inverse) {
        // SAFETY: these outputs are ours, by the contract of `attend`.
        unsafe {
            let out = args.out.add(output(args, query, 0));
            V::load(out).mul(V::splat(inverse)).store(out);
        }
    }
}

/// The weighted sum for 16 lanes of the head dimension, times `factor`. Returns the sums of weights, when
/// `SUM` asks for them.
#[inline(always)]
unsafe fn mix_lanes<V: Vector, E: KvElem, const R: usize, const SUM: bool>(
    args: &Attention<'_, E>,
    queries: &[Query; R],
    origin: u64,
    scores: *const f32,
    stride: usize,
    lanes: usize,
    factor: [f32; R],
) -> [f32; R] {
    let layout = args.layout;
    let (low, last) = (queries[0].low, queries[R - 1].position);
    let sink_segments = layout.sink().min(last + 1).div_ceil(SEGMENT as u64);
    let first_segment = low / SEGMENT as u64;
    // SAFETY: by the contract of `attend`.
    unsafe {
        let mut mix = Mix {
            args,
            queries,
            origin,
            scores,
            stride,
            lanes,
            t: [V::splat(0.0); R],
            totals: [0.0; R],
        };
        for segment in 0..sink_segments {
            mix.fold::<SUM>(segment, true, segment >= first_segment && low <= last);
        }
        for segment in first_segment.max(sink_segments)..=last / SEGMENT as u64 {
            mix.fold::<SUM>(segment, false, true);
        }
        for (r, query) in queries.iter().enumerate() {
            mix.t[r]
                .mul(V::splat(factor[r]))
                .store(args.out.add(output(args, query, lanes)));
        }
        mix.totals
    }
}

/// The folded sums of R queries for 16 lanes of the head dimension.
struct Mix<'a, V, E, const R: usize> {
    args: &'a Attention<'a, E>,
    queries: &'a [Query; R],
    origin: u64,
    scores: *const f32,
    stride: usize,
    lanes: usize,
    t: [V; R],
    totals: [f32; R],
}

impl<V: Vector, E: KvElem, const R: usize> Mix<'_, V, E, R> {
    /// Folds in the visible keys of one segment of positions: first those that are sinks, then those of the
    /// window, in one chain.
    #[inline(always)]
    unsafe fn fold<const SUM: bool>(&mut self, segment: u64, with_sinks: bool, with_window: bool) {
        let layout = self.args.layout;
        let dim = layout.head_dim();
        let start = segment * SEGMENT as u64;
        let end = start + SEGMENT as u64;
        // SAFETY: by the contract of `attend`: the segment's slots and score columns exist.
        unsafe {
            let mut chain = Chain::<V, R> {
                c: [V::splat(0.0); R],
                sums: [0.0; R],
            };
            let mut visible = [(0, 0); R];
            if with_sinks {
                for (visible, query) in visible.iter_mut().zip(self.queries) {
                    *visible = span(start, end.min(layout.sink()).min(query.position + 1), start);
                }
                let values = self
                    .args
                    .values
                    .add(start as usize * dim + self.lanes * LANES);
                let weights = self.scores.add(start as usize);
                chain.extend::<E, SUM>(
                    Keys {
                        values,
                        dim,
                        weights,
                        stride: self.stride,
                    },
                    &visible,
                );
            }
            if with_window {
                for (visible, query) in visible.iter_mut().zip(self.queries) {
                    *visible = span(start.max(query.low), end.min(query.position + 1), start);
                }
                let values = self
                    .args
                    .values
                    .add(layout.ring_slot(start) * dim + self.lanes * LANES);
                let weights = self
                    .scores
                    .add(layout.sink_slots() + (start - self.origin) as usize);
                chain.extend::<E, SUM>(
                    Keys {
                        values,
                        dim,
                        weights,
                        stride: self.stride,
                    },
                    &visible,
                );
            }
            for r in 0..R {
                self.t[r] = self.t[r].add(chain.c[r]);
                self.totals[r] += chain.sums[r];
            }
        }
    }
}

/// Values of one segment of slots (16 lanes of the head dimension), and the queries' weights for them.
#[derive(Clone, Copy)]
struct Keys<E> {
    values: *const E,
    dim: usize,
    weights: *const f32,
    stride: usize,
}

/// Positions from `start` to `end`, counted from the segment's first; empty when they are not in it.
#[inline(always)]
fn span(start: u64, end: u64, origin: u64) -> (usize, usize) {
    (
        (start - origin) as usize,
        end.saturating_sub(origin) as usize,
    )
}

/// The running sums of one segment for R queries.
struct Chain<V, const R: usize> {
    c: [V; R],
    sums: [f32; R],
}

impl<V: Vector, const R: usize> Chain<V, R> {
    /// Continues the chains over each query's visible keys, in ascending order.
    #[inline(always)]
    unsafe fn extend<E: KvElem, const SUM: bool>(
        &mut self,
        keys: Keys<E>,
        visible: &[(usize, usize); R],
    ) {
        // SAFETY: visible keys lie inside one aligned segment of slots, by the caller.
        unsafe {
            if visible.windows(2).all(|pair| pair[0] == pair[1]) {
                for key in visible[0].0..visible[0].1 {
                    let value = E::load::<V>(keys.values.add(key * keys.dim));
                    for r in 0..R {
                        self.step::<SUM>(r, *keys.weights.add(r * keys.stride + key), value);
                    }
                }
            } else {
                for (r, (start, end)) in visible.iter().copied().enumerate() {
                    for key in start..end {
                        let value = E::load::<V>(keys.values.add(key * keys.dim));
                        self.step::<SUM>(r, *keys.weights.add(r * keys.stride + key), value);
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn step<const SUM: bool>(&mut self, r: usize, weight: f32, value: V) {
        // SAFETY: no memory is touched; the instructions were checked by the kernel's caller.
        self.c[r] = unsafe { V::splat(weight).fma(value, self.c[r]) };
        if SUM {
            self.sums[r] += weight;
        }
    }
}
