//! Attention over the sinks and the window of one session, for a few query vectors at a time.
//!
//! Rule ATTENTION of `docs/numerics.md`. A query at position `p` sees key `j` when `j < S` or
//! `p - W < j <= p`; the rule is applied query by query, so it cannot depend on the chunk. Scores fold the
//! head dimension in segments of 32, lanes over keys. The weighted values fold the *visible* keys in
//! ascending position, in segments of 32 aligned to absolute position, lanes over the head dimension. A key
//! that is not visible is skipped, not multiplied by zero: whatever its slot holds cannot reach the result.
//!
//! A tile of queries goes through its keys three times: [`score`], [`weigh`] and [`mix`]. One thread takes a tile
//! through all of them, or, where there are fewer tiles than would keep the threads busy, the threads share each pass
//! by keys: a segment's chain is its own, and what is folded in order is folded at the end. So the bits are the same.

use std::ops::Range;

use super::elementwise::PackedRow;
use crate::config::SEGMENT;
use crate::kv::KvLayout;
use crate::simd::{LANES, Vector, exp};

/// Query vectors of the largest tile.
pub(crate) const QUERY_TILE: usize = 12;
/// Query vectors of one register tile where the register file is narrow.
const NARROW_TILE: usize = 6;
/// Blocks of 16 keys in a segment, and vectors of 16 lanes mixed at once.
const PAIR: usize = SEGMENT / LANES;

/// Query vectors of the largest tile that the registers of `V` can hold.
pub(crate) const fn query_tile<V: Vector>() -> usize {
    if V::WIDE { QUERY_TILE } else { NARROW_TILE }
}

/// Runs `$body` with `$r` standing for a tile's number of queries and `$g` for the segments whose weights are summed at
/// once: `$r * $g` chains hide each other's latency.
macro_rules! of_height {
    ($count:expr, $r:ident, $g:ident => $body:expr) => {
        of_height!(@ $count, $r, $g, $body, [1 12, 2 6, 3 4, 4 3, 5 2, 6 2], [7 1, 8 1, 9 1, 10 1, 11 1, 12 1])
    };
    (@ $count:expr, $r:ident, $g:ident, $body:expr,
        [$($low:literal $low_g:literal),*], [$($high:literal $high_g:literal),*]) => {
        match $count {
            $($low => { const $r: usize = $low; const $g: usize = $low_g; let _ = $g; $body })*
            $($high if V::WIDE => { const $r: usize = $high; const $g: usize = $high_g; let _ = $g; $body })*
            other => unreachable!("a tile of {other} queries"),
        }
    };
}

/// An element of the KV cache: f16 bits or f32.
pub(crate) trait KvElem: Copy + Default + Send + Sync {
    /// # Safety
    /// `from` is readable for 16 elements; the processor has the instructions of `V`.
    unsafe fn load<V: Vector>(from: *const Self) -> V;
    /// Rounds to the nearest, ties to even.
    ///
    /// # Safety
    /// `to` is writable for 16 elements; the processor has the instructions of `V`.
    unsafe fn store<V: Vector>(value: V, to: *mut Self);
}

impl KvElem for u16 {
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: by the caller.
        unsafe { V::load_f16(from) }
    }

    #[inline(always)]
    unsafe fn store<V: Vector>(value: V, to: *mut Self) {
        // SAFETY: by the caller.
        unsafe { value.store_f16(to) }
    }
}

impl KvElem for f32 {
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: by the caller.
        unsafe { V::load(from) }
    }

    #[inline(always)]
    unsafe fn store<V: Vector>(value: V, to: *mut Self) {
        // SAFETY: by the caller.
        unsafe { value.store(to) }
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
    /// Segment-major output (see [`super::linear::Activations`]), `heads * head_dim` wide, and its segments' sums.
    pub(crate) out: *mut f32,
    pub(crate) sums: *mut f32,
}

// SAFETY: tasks write the outputs of disjoint queries and only read the rest.
unsafe impl<E: Sync> Sync for Attention<'_, E> {}

/// Queries `first..first + count` of a session and key head: rows outside, grouped heads inside; and the scratch
/// memory of their attention.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tile {
    pub(crate) first: usize,
    /// At most [`query_tile`].
    pub(crate) count: usize,
    /// `[block of 16 keys][query][16]`: scores, then weights.
    scores: *mut f32,
    /// `[unit][query]`: sums of weights.
    sums: *mut f32,
    /// `[piece][query]`: the greatest score that each piece has seen.
    maxima: *mut f32,
    /// `[dimension][query]`, for window keys and for sinks.
    queries: *mut f32,
    sink_queries: *mut f32,
    /// `[unit][query][dimension]`: weighted sums. For shared tiles.
    chains: *mut f32,
    pieces: usize,
}

// SAFETY: the scratch is the tile's own, and the pieces of a pass write disjoint parts of it.
unsafe impl Sync for Tile {}
// SAFETY: as above.
unsafe impl Send for Tile {}

/// The size of a tile's scratch memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TileRoom {
    pub(crate) count: usize,
    /// The pieces that threads share its passes in; 1 when it is not shared.
    pub(crate) pieces: usize,
}

impl TileRoom {
    /// Lengths in f32 of a tile's buffers, in the order of the fields of [`Tile`].
    fn lengths(self, layout: &KvLayout) -> [usize; 6] {
        let Self { count, pieces } = self;
        let (stride, dim) = (layout.score_stride(), layout.head_dim());
        let units = stride / SEGMENT;
        let chains = if pieces > 1 { units * count * dim } else { 0 };
        [
            count * stride,
            units * count,
            pieces * count,
            count * dim,
            count * dim,
            chains,
        ]
        .map(|length| length.next_multiple_of(LANES))
    }

    /// f32 of scratch that the tile needs.
    pub(crate) fn scratch_len(self, layout: &KvLayout) -> usize {
        self.lengths(layout).iter().sum()
    }
}

impl Tile {
    /// A tile whose scratch begins at `scratch`.
    pub(crate) fn new(layout: &KvLayout, first: usize, room: TileRoom, scratch: *mut f32) -> Self {
        let mut at = scratch;
        let [scores, sums, maxima, queries, sink_queries, chains] =
            room.lengths(layout).map(|length| {
                let buffer = at;
                at = at.wrapping_add(length);
                buffer
            });
        Self {
            first,
            count: room.count,
            scores,
            sums,
            maxima,
            queries,
            sink_queries,
            chains,
            pieces: room.pieces,
        }
    }

    #[inline(always)]
    fn scores(&self, block: usize, query: usize) -> *mut f32 {
        self.scores
            .wrapping_add((block * self.count + query) * LANES)
    }
}

/// A query of the tile: where its vectors lie and what it sees.
#[derive(Clone, Copy)]
struct Query {
    row: usize,
    head: usize,
    position: u64,
    /// The first window position it sees.
    low: u64,
}

/// The segments of 32 keys that any query of a tile may see: first those of the sinks, then the window's, in
/// ascending order of position. They number the tile's score blocks: segment `i` has blocks `2i` and `2i + 1`.
///
/// A unit is what makes one chain: a segment, or the last of the sinks' and the first of the window's where both are
/// the same 32 positions.
#[derive(Clone, Copy)]
struct Seen {
    /// Segments that hold sinks.
    sinks: usize,
    /// The first window segment, in units of 32 positions, and one past the last.
    first: u64,
    end: u64,
}

impl Seen {
    #[inline(always)]
    fn segments(self) -> usize {
        self.sinks + (self.end - self.first) as usize
    }

    /// Whether the last sink segment and the first of the window are the same positions.
    #[inline(always)]
    fn joined(self) -> bool {
        self.end > self.first && self.sinks as u64 == self.first + 1
    }

    #[inline(always)]
    fn units(self) -> usize {
        self.segments() - usize::from(self.joined())
    }

    /// The segments of a unit.
    #[inline(always)]
    fn unit(self, unit: usize) -> Range<usize> {
        if !self.joined() || unit + 1 < self.sinks {
            unit..unit + 1
        } else if unit + 1 == self.sinks {
            unit..unit + 2
        } else {
            unit + 1..unit + 2
        }
    }
}

impl<E: KvElem> Attention<'_, E> {
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

    #[inline(always)]
    fn seen(&self, tile: &Tile) -> Seen {
        let (first, last) = (
            self.query(tile.first),
            self.query(tile.first + tile.count - 1),
        );
        let sinks = self.layout.sink().min(last.position + 1);
        let start = first.low / SEGMENT as u64;
        let end = if first.low <= last.position {
            last.position / SEGMENT as u64 + 1
        } else {
            start
        };
        Seen {
            sinks: sinks.div_ceil(SEGMENT as u64) as usize,
            first: start,
            end,
        }
    }

    /// Units of keys that a tile sees: what its passes can be split by.
    pub(crate) fn units(&self, tile: &Tile) -> usize {
        self.seen(tile).units()
    }

    /// The slot of a segment's first key.
    #[inline(always)]
    fn slot(&self, seen: Seen, segment: usize) -> usize {
        if segment < seen.sinks {
            segment * SEGMENT
        } else {
            let position = (seen.first + (segment - seen.sinks) as u64) * SEGMENT as u64;
            self.layout.ring_slot(position)
        }
    }

    /// Where 16 lanes of a query's output go.
    #[inline(always)]
    fn output(&self, query: Query, lane: usize) -> *mut f32 {
        let column = query.head * self.layout.head_dim() + lane;
        let at = (column / SEGMENT * self.batch_rows + query.row) * SEGMENT + column % SEGMENT;
        self.out.wrapping_add(at)
    }

    /// The keys of a segment that a query sees, counted from the segment's first.
    #[inline(always)]
    fn visible(&self, seen: Seen, segment: usize, query: &Query) -> Range<usize> {
        let (start, low, end) = if segment < seen.sinks {
            let end = self.layout.sink().min(query.position + 1);
            ((segment * SEGMENT) as u64, 0, end)
        } else {
            let start = (seen.first + (segment - seen.sinks) as u64) * SEGMENT as u64;
            (start, query.low, query.position + 1)
        };
        let offset = |position: u64| position.clamp(start, start + SEGMENT as u64) - start;
        offset(low) as usize..offset(end) as usize
    }
}

/// Lays a tile's queries out for [`score`]: `[dimension][query]`. The first step of a tile; [`score`], [`weigh`] and
/// [`mix`] follow.
///
/// # Safety
/// The pointers are good for the shapes; no other thread uses the tile's scratch or writes its queries' outputs.
/// For the steps after it also: the processor has the instructions of `V`.
pub(crate) unsafe fn pack<E: KvElem>(args: &Attention<'_, E>, tile: &Tile) {
    let dim = args.layout.head_dim();
    let sinks = args.seen(tile).sinks > 0;
    for (wanted, source, to) in [
        (true, args.queries, tile.queries),
        (sinks, args.sink_queries, tile.sink_queries),
    ] {
        for r in 0..if wanted { tile.count } else { 0 } {
            let query = args.query(tile.first + r);
            // SAFETY: by the contract above.
            unsafe {
                let from = source.add((query.row * args.heads + query.head) * dim);
                for d in 0..dim {
                    *to.add(d * tile.count + r) = *from.add(d);
                }
            }
        }
    }
}

/// Raw scores of the keys of units `first..end`, and the greatest of them, as those of piece `piece`.
///
/// # Safety
/// As for [`pack`], which was done.
#[inline(always)]
pub(crate) unsafe fn score<V: Vector, E: KvElem>(
    args: &Attention<'_, E>,
    tile: &Tile,
    piece: usize,
    first: usize,
    end: usize,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        of_height!(tile.count, R, G => score_tile::<V, E, R>(args, tile, first, end));
        let seen = args.seen(tile);
        for r in 0..tile.count {
            *tile.maxima.add(piece * tile.count + r) =
                greatest::<V, E>(args, tile, seen, r, first..end);
        }
    }
}

#[inline(always)]
unsafe fn score_tile<V: Vector, E: KvElem, const R: usize>(
    args: &Attention<'_, E>,
    tile: &Tile,
    first: usize,
    end: usize,
) {
    let seen = args.seen(tile);
    let dim = args.layout.head_dim();
    // IEEE square root and division: the same on every platform.
    let scale = 1.0 / (dim as f32).sqrt();
    // SAFETY: by the contract of `pack`: a segment of slots holds two blocks of keys.
    unsafe {
        for unit in first..end {
            for segment in seen.unit(unit) {
                let queries = if segment < seen.sinks {
                    tile.sink_queries
                } else {
                    tile.queries
                };
                let keys = args.keys.add(args.slot(seen, segment) * dim);
                let scores = tile.scores(PAIR * segment, 0);
                // Both blocks at once, where the accumulators leave room for it.
                if V::WIDE || 2 * R <= NARROW_TILE {
                    score_blocks::<V, E, R, PAIR>(keys, dim, queries, scale, scores);
                } else {
                    for block in 0..PAIR {
                        let keys = keys.add(block * LANES * dim);
                        let scores = scores.add(block * R * LANES);
                        score_blocks::<V, E, R, 1>(keys, dim, queries, scale, scores);
                    }
                }
            }
        }
    }
}

/// Scores of `B` blocks of 16 keys for `R` queries: `[block][query][16]`.
#[inline(always)]
unsafe fn score_blocks<V: Vector, E: KvElem, const R: usize, const B: usize>(
    keys: *const E,
    dim: usize,
    queries: *const f32,
    scale: f32,
    scores: *mut f32,
) {
    // SAFETY: a block of keys is `dim` rows of 16; `queries` is `dim` rows of R; by the caller.
    unsafe {
        let mut t = [[V::splat(0.0); B]; R];
        for segment in 0..dim / SEGMENT {
            let mut c = [[V::splat(0.0); B]; R];
            for k in segment * SEGMENT..(segment + 1) * SEGMENT {
                // The same dimension of the segment of keys after this one.
                let ahead = keys.wrapping_add((SEGMENT * dim).wrapping_add(k * B * LANES));
                V::prefetch(ahead.cast());
                let mut key = [V::splat(0.0); B];
                for b in 0..B {
                    key[b] = E::load::<V>(keys.add((b * dim + k) * LANES));
                }
                for r in 0..R {
                    let query = V::splat(*queries.add(k * R + r));
                    for b in 0..B {
                        c[r][b] = query.fma(key[b], c[r][b]);
                    }
                }
            }
            for r in 0..R {
                for b in 0..B {
                    t[r][b] = t[r][b].add(c[r][b]);
                }
            }
        }
        let scale = V::splat(scale);
        for r in 0..R {
            for b in 0..B {
                t[r][b].mul(scale).store(scores.add((b * R + r) * LANES));
            }
        }
    }
}

/// The greatest visible score of a query in some units: a maximum has no order.
#[inline(always)]
unsafe fn greatest<V: Vector, E: KvElem>(
    args: &Attention<'_, E>,
    tile: &Tile,
    seen: Seen,
    r: usize,
    units: Range<usize>,
) -> f32 {
    let query = args.query(tile.first + r);
    // SAFETY: every block of the tile's segments has 16 scores for each query.
    unsafe {
        let mut lanes = V::splat(f32::NEG_INFINITY);
        let mut max = f32::NEG_INFINITY;
        for unit in units {
            for segment in seen.unit(unit) {
                let visible = args.visible(seen, segment, &query);
                for block in 0..PAIR {
                    let scores = tile.scores(PAIR * segment + block, r);
                    let keys = block * LANES..(block + 1) * LANES;
                    if visible.start <= keys.start && keys.end <= visible.end {
                        lanes = V::load(scores).max(lanes);
                    } else {
                        for key in visible.start.max(keys.start)..visible.end.min(keys.end) {
                            let score = *scores.add(key - keys.start);
                            max = if score > max { score } else { max };
                        }
                    }
                }
            }
        }
        let mut all = [0.0f32; LANES];
        lanes.store(all.as_mut_ptr());
        all.into_iter().fold(max, |a, b| if b > a { b } else { a })
    }
}

/// Replaces the visible scores of units `first..end` by weights, `exp(score - max)`, and sums those of each unit. Other
/// scores hold anything afterwards.
///
/// # Safety
/// As for [`pack`]; every unit of the tile was scored.
#[inline(always)]
pub(crate) unsafe fn weigh<V: Vector, E: KvElem>(
    args: &Attention<'_, E>,
    tile: &Tile,
    first: usize,
    end: usize,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        of_height!(tile.count, R, G => weigh_tile::<V, E, R, G>(args, tile, first, end));
    }
}

#[inline(always)]
unsafe fn weigh_tile<V: Vector, E: KvElem, const R: usize, const G: usize>(
    args: &Attention<'_, E>,
    tile: &Tile,
    first: usize,
    end: usize,
) {
    let seen = args.seen(tile);
    let (head, tail) = (args.query(tile.first), args.query(tile.first + R - 1));
    // SAFETY: by the contract of `pack`: each segment has two blocks of 16 scores for each query.
    unsafe {
        let mut max = [V::splat(f32::NEG_INFINITY); R];
        for piece in 0..tile.pieces {
            for r in 0..R {
                max[r] = V::splat(*tile.maxima.add(piece * R + r)).max(max[r]);
            }
        }
        let mut unit = first;
        while unit < end {
            // As many units as are whole for every query, up to `G` of them.
            let mut whole = 0;
            while whole < G && unit + whole < end && {
                let segments = seen.unit(unit + whole);
                segments.len() == 1
                    && args.visible(seen, segments.start, &head) == (0..SEGMENT)
                    && args.visible(seen, segments.start, &tail) == (0..SEGMENT)
            } {
                whole += 1;
            }
            let count = whole.max(1);
            let segments = seen.unit(unit).start..seen.unit(unit + count - 1).end;
            for block in PAIR * segments.start..PAIR * segments.end {
                for r in 0..R {
                    let scores = tile.scores(block, r);
                    exp(V::load(scores).sub(max[r])).store(scores);
                }
            }
            let sums = tile.sums.add(unit * R);
            if whole == G {
                sum_whole::<R, G>(tile.scores(PAIR * segments.start, 0), sums);
            } else if whole > 0 {
                for offset in 0..whole {
                    let scores = tile.scores(PAIR * (segments.start + offset), 0);
                    sum_whole::<R, 1>(scores, sums.add(offset * R));
                }
            } else {
                for r in 0..R {
                    let query = args.query(tile.first + r);
                    let mut sum = 0.0f32;
                    for segment in segments.clone() {
                        for key in args.visible(seen, segment, &query) {
                            sum += *tile
                                .scores(PAIR * segment + key / LANES, r)
                                .add(key % LANES);
                        }
                    }
                    *sums.add(r) = sum;
                }
            }
            unit += count;
        }
    }
}

/// Sums the weights of `G` whole segments for each of `R` queries, in ascending order of the keys.
#[inline(always)]
unsafe fn sum_whole<const R: usize, const G: usize>(weights: *const f32, sums: *mut f32) {
    let mut sum = [[0.0f32; R]; G];
    // SAFETY: G segments of two blocks of 16 weights for each query, by the caller.
    unsafe {
        for block in 0..PAIR {
            for key in 0..LANES {
                for g in 0..G {
                    for r in 0..R {
                        sum[g][r] += *weights.add(((g * PAIR + block) * R + r) * LANES + key);
                    }
                }
            }
        }
        for g in 0..G {
            for r in 0..R {
                *sums.add(g * R + r) = sum[g][r];
            }
        }
    }
}

/// One over the sum of a query's weights, its units' sums folded in ascending order.
#[inline(always)]
unsafe fn inverse_total(tile: &Tile, units: usize, r: usize) -> f32 {
    let mut total = 0.0f32;
    for unit in 0..units {
        // SAFETY: every unit was weighed, by the caller.
        total += unsafe { *tile.sums.add(unit * tile.count + r) };
    }
    1.0 / total
}

/// `out = (sum over visible keys of weight * value) / (sum of weights)`.
///
/// # Safety
/// As for [`pack`]; every unit of the tile was weighed.
#[inline(always)]
pub(crate) unsafe fn mix<V: Vector, E: KvElem>(args: &Attention<'_, E>, tile: &Tile) {
    // SAFETY: passed on from the caller.
    unsafe { of_height!(tile.count, R, G => mix_tile::<V, E, R>(args, tile)) }
}

#[inline(always)]
unsafe fn mix_tile<V: Vector, E: KvElem, const R: usize>(args: &Attention<'_, E>, tile: &Tile) {
    // SAFETY: by the contract of `pack`.
    unsafe {
        for lane in (0..args.layout.head_dim()).step_by(SEGMENT) {
            if V::WIDE || 2 * R <= NARROW_TILE {
                mix_lanes::<V, E, R, PAIR>(args, tile, lane);
            } else {
                mix_lanes::<V, E, R, 1>(args, tile, lane);
                mix_lanes::<V, E, R, 1>(args, tile, lane + LANES);
            }
        }
        finish::<V, E>(args, tile);
    }
}

/// The weighted sums of `R` queries for `16 * L` lanes of the head's dimension, from `lane` on.
#[inline(always)]
unsafe fn mix_lanes<V: Vector, E: KvElem, const R: usize, const L: usize>(
    args: &Attention<'_, E>,
    tile: &Tile,
    lane: usize,
) {
    let seen = args.seen(tile);
    // SAFETY: by the contract of `pack`.
    unsafe {
        let mut t = [[V::splat(0.0); L]; R];
        for unit in 0..seen.units() {
            let c = chain::<V, E, R, L>(args, tile, seen, unit, lane);
            for r in 0..R {
                for l in 0..L {
                    t[r][l] = t[r][l].add(c[r][l]);
                }
            }
        }
        for r in 0..R {
            for l in 0..L {
                t[r][l].store(args.output(args.query(tile.first + r), lane + l * LANES));
            }
        }
    }
}

/// Writes the chains of units `first..end` to the tile's scratch, for [`fold`].
///
/// # Safety
/// As for [`mix`]; the tile is shared.
#[inline(always)]
pub(crate) unsafe fn mix_units<V: Vector, E: KvElem>(
    args: &Attention<'_, E>,
    tile: &Tile,
    first: usize,
    end: usize,
) {
    // SAFETY: passed on from the caller.
    unsafe { of_height!(tile.count, R, G => mix_units_of::<V, E, R>(args, tile, first, end)) }
}

#[inline(always)]
unsafe fn mix_units_of<V: Vector, E: KvElem, const R: usize>(
    args: &Attention<'_, E>,
    tile: &Tile,
    first: usize,
    end: usize,
) {
    let dim = args.layout.head_dim();
    let seen = args.seen(tile);
    // SAFETY: by the contract of `pack`; the scratch holds a vector for each unit and query.
    unsafe {
        for unit in first..end {
            let chains = tile.chains.add(unit * R * dim);
            for lane in (0..dim).step_by(SEGMENT) {
                if V::WIDE || 2 * R <= NARROW_TILE {
                    let c = chain::<V, E, R, PAIR>(args, tile, seen, unit, lane);
                    for r in 0..R {
                        for l in 0..PAIR {
                            c[r][l].store(chains.add(r * dim + lane + l * LANES));
                        }
                    }
                } else {
                    for lane in [lane, lane + LANES] {
                        let c = chain::<V, E, R, 1>(args, tile, seen, unit, lane);
                        for r in 0..R {
                            c[r][0].store(chains.add(r * dim + lane));
                        }
                    }
                }
            }
        }
    }
}

/// Folds the chains that [`mix_units`] wrote, in ascending order, into the outputs.
///
/// # Safety
/// As for [`mix`]; the chains of every unit were written.
#[inline(always)]
pub(crate) unsafe fn fold<V: Vector, E: KvElem>(args: &Attention<'_, E>, tile: &Tile) {
    let dim = args.layout.head_dim();
    let units = args.units(tile);
    // SAFETY: passed on from the caller.
    unsafe {
        for r in 0..tile.count {
            for lane in (0..dim).step_by(SEGMENT) {
                let mut t = [V::splat(0.0); PAIR];
                for unit in 0..units {
                    let chain = tile.chains.add((unit * tile.count + r) * dim + lane);
                    for l in 0..PAIR {
                        t[l] = t[l].add(V::load(chain.add(l * LANES)));
                    }
                }
                for l in 0..PAIR {
                    t[l].store(args.output(args.query(tile.first + r), lane + l * LANES));
                }
            }
        }
        finish::<V, E>(args, tile);
    }
}

/// Multiplies the outputs, which hold the sums so far, by one over the total weight, and writes their segment sums.
#[inline(always)]
unsafe fn finish<V: Vector, E: KvElem>(args: &Attention<'_, E>, tile: &Tile) {
    let units = args.units(tile);
    let segments = args.layout.head_dim() / SEGMENT;
    // SAFETY: these outputs are ours, by the contract of `pack`.
    unsafe {
        for r in 0..tile.count {
            let query = args.query(tile.first + r);
            let inverse = V::splat(inverse_total(tile, units, r));
            let row = PackedRow {
                values: args.out,
                sums: args.sums,
                rows: args.batch_rows,
                row: query.row,
            };
            for segment in 0..segments {
                for l in 0..PAIR {
                    let out = args.output(query, segment * SEGMENT + l * LANES);
                    V::load(out).mul(inverse).store(out);
                }
                row.sum_segment(query.head * segments + segment);
            }
        }
    }
}

/// The chains of one unit: the visible keys' values by their weights, in ascending order.
#[inline(always)]
unsafe fn chain<V: Vector, E: KvElem, const R: usize, const L: usize>(
    args: &Attention<'_, E>,
    tile: &Tile,
    seen: Seen,
    unit: usize,
    lane: usize,
) -> [[V; L]; R] {
    let dim = args.layout.head_dim();
    let (head, tail) = (args.query(tile.first), args.query(tile.first + R - 1));
    // SAFETY: by the contract of `pack`.
    unsafe {
        let mut c = [[V::splat(0.0); L]; R];
        for segment in seen.unit(unit) {
            let values = args.values.add(args.slot(seen, segment) * dim + lane);
            let weights: *const f32 = tile.scores(PAIR * segment, 0);
            let visible = args.visible(seen, segment, &head);
            // Bounds move with the position, so if the first and the last query see the same keys, all do.
            if visible == args.visible(seen, segment, &tail) {
                c = extend::<V, E, R, L>(c, values, dim, weights, visible);
            } else {
                for r in 0..R {
                    let visible = args.visible(seen, segment, &args.query(tile.first + r));
                    c[r] = extend_one::<V, E, R, L>(
                        c[r],
                        values,
                        dim,
                        weights.add(r * LANES),
                        visible,
                    );
                }
            }
        }
        c
    }
}

/// Continues the chains of all queries over keys that all of them see, in ascending order.
#[inline(always)]
unsafe fn extend<V: Vector, E: KvElem, const R: usize, const L: usize>(
    mut c: [[V; L]; R],
    values: *const E,
    dim: usize,
    weights: *const f32,
    visible: Range<usize>,
) -> [[V; L]; R] {
    // SAFETY: visible keys lie inside one aligned segment of slots, by the caller.
    unsafe {
        for key in visible {
            V::prefetch(values.wrapping_add((SEGMENT + key) * dim).cast());
            let weights = weights.add(key / LANES * R * LANES + key % LANES);
            let mut value = [V::splat(0.0); L];
            for l in 0..L {
                value[l] = E::load::<V>(values.add(key * dim + l * LANES));
            }
            for r in 0..R {
                let weight = V::splat(*weights.add(r * LANES));
                for l in 0..L {
                    c[r][l] = weight.fma(value[l], c[r][l]);
                }
            }
        }
    }
    c
}

/// Continues the chain of one query of `R`.
#[inline(always)]
unsafe fn extend_one<V: Vector, E: KvElem, const R: usize, const L: usize>(
    mut c: [V; L],
    values: *const E,
    dim: usize,
    weights: *const f32,
    visible: Range<usize>,
) -> [V; L] {
    // SAFETY: as in `extend`.
    unsafe {
        for key in visible {
            let weight = V::splat(*weights.add(key / LANES * R * LANES + key % LANES));
            for l in 0..L {
                let value = E::load::<V>(values.add(key * dim + l * LANES));
                c[l] = weight.fma(value, c[l]);
            }
        }
    }
    c
}
