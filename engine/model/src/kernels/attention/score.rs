//! The first pass: queries by keys.

use std::ops::Range;

use super::{Attention, KvCache, PAIR, Seen, Tile, pair_fits};
use crate::FREE_ORDER;
use crate::config::SEGMENT;
use crate::simd::{LANES, Vector};

/// Raw scores of the keys of units `first..end`, and the greatest of them, as those of piece `piece`.
///
/// # Safety
/// As for [`pack`], which was done.
#[inline(always)]
pub(crate) unsafe fn score<V: Vector, C: KvCache>(
    args: &Attention<'_, C>,
    tile: &Tile,
    piece: usize,
    first: usize,
    end: usize,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        of_height!(tile.count, R, G => score_tile::<V, C, R>(args, tile, first, end));
        let seen = args.seen(tile);
        for r in 0..tile.count {
            *tile.maxima.add(piece * tile.count + r) =
                greatest::<V, C>(args, tile, seen, r, first..end);
        }
    }
}

#[inline(always)]
unsafe fn score_tile<V: Vector, C: KvCache, const R: usize>(
    args: &Attention<'_, C>,
    tile: &Tile,
    first: usize,
    end: usize,
) {
    let seen = args.seen(tile);
    let dim = args.layout.head_dim();
    let scale = args.scale;
    // SAFETY: by the contract of `pack`: a segment of slots holds two blocks of keys.
    unsafe {
        for unit in first..end {
            for segment in seen.unit(unit) {
                let queries = if segment < seen.sinks {
                    tile.sink_queries
                } else {
                    tile.queries
                };
                let keys = args.keys.at(args.slot(seen, segment) * dim);
                let scores = tile.scores(PAIR * segment, 0);
                if pair_fits::<V>(R) {
                    score_blocks::<V, C, R, PAIR>(keys, dim, queries, scale, scores);
                } else {
                    for block in 0..PAIR {
                        let keys = keys.at(block * LANES * dim);
                        let scores = scores.add(block * R * LANES);
                        score_blocks::<V, C, R, 1>(keys, dim, queries, scale, scores);
                    }
                }
            }
        }
    }
}

/// Scores of `B` blocks of 16 keys for `R` queries: `[block][query][16]`.
#[inline(always)]
unsafe fn score_blocks<V: Vector, C: KvCache, const R: usize, const B: usize>(
    keys: C,
    dim: usize,
    queries: *const f32,
    scale: f32,
    scores: *mut f32,
) {
    // SAFETY: a block of keys is `dim` rows of 16; `queries` is `dim` rows of R; by the caller.
    unsafe {
        let mut t = [[V::splat(0.0); B]; R];
        for segment in 0..dim / SEGMENT {
            let mut c = if FREE_ORDER {
                t
            } else {
                [[V::splat(0.0); B]; R]
            };
            let mut scales = [V::splat(0.0); B];
            for b in 0..B {
                scales[b] = keys.key_scales(b * dim + segment * SEGMENT);
            }
            for k in segment * SEGMENT..(segment + 1) * SEGMENT {
                // The same dimension of the segment of keys after this one.
                V::prefetch(keys.address(SEGMENT * dim + k * B * LANES));
                let mut key = [V::splat(0.0); B];
                for b in 0..B {
                    key[b] = keys.keys((b * dim + k) * LANES, scales[b]);
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
                    t[r][b] = if FREE_ORDER {
                        c[r][b]
                    } else {
                        t[r][b].add(c[r][b])
                    };
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
unsafe fn greatest<V: Vector, C: KvCache>(
    args: &Attention<'_, C>,
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
