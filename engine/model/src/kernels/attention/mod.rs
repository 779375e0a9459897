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

use crate::config::SEGMENT;
use crate::kv::LayerLayout;
use crate::simd::{LANES, Vector};

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

mod cache;
mod mix;
mod score;
mod weigh;

pub(crate) use cache::{Int8, KvCache};
pub(crate) use mix::{fold, mix, mix_units};
pub(crate) use score::score;
pub(crate) use weigh::weigh;

/// Whether the accumulators leave room to take a pair of vectors at once for so many queries.
const fn pair_fits<V: Vector>(queries: usize) -> bool {
    V::WIDE || 2 * queries <= NARROW_TILE
}

/// One session's rows against one key and value head.
#[derive(Clone, Copy)]
pub(crate) struct Attention<'a, C> {
    pub(crate) layout: &'a LayerLayout,
    /// Keys and values of this layer and head.
    pub(crate) keys: C,
    pub(crate) values: C,
    /// Rotated queries, row-major over the whole batch, `heads * head_dim` a row: for window keys, and for
    /// sink keys.
    pub(crate) queries: *const f32,
    pub(crate) sink_queries: *const f32,
    /// What scores are multiplied by.
    pub(crate) scale: f32,
    pub(crate) heads: usize,
    pub(crate) group: usize,
    pub(crate) kv_head: usize,
    /// The session's first row in the batch, its position, and the rows of the whole batch.
    pub(crate) first_row: usize,
    pub(crate) start: u64,
    /// The last position that every query sees, where a block's tokens see each other; otherwise it is its own.
    pub(crate) until: Option<u64>,
    pub(crate) batch_rows: usize,
    /// Segment-major output (see [`super::linear::Activations`]), `heads * head_dim` wide, and its segments' sums.
    pub(crate) out: *mut f32,
    pub(crate) sums: *mut f32,
}

// SAFETY: tasks write the outputs of disjoint queries and only read the rest.
unsafe impl<C> Sync for Attention<'_, C> {}

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
    fn lengths(self, layout: &LayerLayout) -> [usize; 6] {
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
    pub(crate) fn scratch_len(self, layout: &LayerLayout) -> usize {
        self.lengths(layout).iter().sum()
    }
}

impl Tile {
    /// A tile whose scratch begins at `scratch`.
    pub(crate) fn new(
        layout: &LayerLayout,
        first: usize,
        room: TileRoom,
        scratch: *mut f32,
    ) -> Self {
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
    /// The last position it sees.
    last: u64,
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

impl<C: KvCache> Attention<'_, C> {
    #[inline(always)]
    fn query(&self, index: usize) -> Query {
        let row = index / self.group;
        let position = self.start + row as u64;
        Query {
            row: self.first_row + row,
            head: self.kv_head * self.group + index % self.group,
            last: self.until.unwrap_or(position),
            low: self.layout.window_start(position),
        }
    }

    #[inline(always)]
    fn seen(&self, tile: &Tile) -> Seen {
        let (first, last) = (
            self.query(tile.first),
            self.query(tile.first + tile.count - 1),
        );
        let sinks = self.layout.sink().min(last.last + 1);
        let start = first.low / SEGMENT as u64;
        let end = if first.low <= last.last {
            last.last / SEGMENT as u64 + 1
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
            let end = self.layout.sink().min(query.last + 1);
            ((segment * SEGMENT) as u64, 0, end)
        } else {
            let start = (seen.first + (segment - seen.sinks) as u64) * SEGMENT as u64;
            (start, query.low, query.last + 1)
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
pub(crate) unsafe fn pack<C: KvCache>(args: &Attention<'_, C>, tile: &Tile) {
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
