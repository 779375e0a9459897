//! The second pass: scores to weights, and their sums.

use super::{Attention, KvCache, PAIR, Tile};
use crate::FREE_ORDER;
use crate::config::SEGMENT;
use crate::kernels::elementwise::sum_lanes;
use crate::simd::{LANES, Vector, exp};

/// Replaces the visible scores of units `first..end` by weights, `exp(score - max)`, and sums those of each unit. Other
/// scores hold anything afterwards.
///
/// # Safety
/// As for [`pack`]; every unit of the tile was scored.
#[inline(always)]
pub(crate) unsafe fn weigh<V: Vector, C: KvCache>(
    args: &Attention<'_, C>,
    tile: &Tile,
    first: usize,
    end: usize,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        of_height!(tile.count, R, G => weigh_tile::<V, C, R, G>(args, tile, first, end));
    }
}

#[inline(always)]
unsafe fn weigh_tile<V: Vector, C: KvCache, const R: usize, const G: usize>(
    args: &Attention<'_, C>,
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
                sum_whole::<V, R, G>(tile.scores(PAIR * segments.start, 0), sums);
            } else if whole > 0 {
                for offset in 0..whole {
                    let scores = tile.scores(PAIR * (segments.start + offset), 0);
                    sum_whole::<V, R, 1>(scores, sums.add(offset * R));
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
unsafe fn sum_whole<V: Vector, const R: usize, const G: usize>(
    weights: *const f32,
    sums: *mut f32,
) {
    if FREE_ORDER {
        for g in 0..G {
            for r in 0..R {
                // SAFETY: two blocks of 16 weights for each query, by the caller.
                unsafe {
                    let at = weights.add((g * PAIR * R + r) * LANES);
                    let both = V::load(at).add(V::load(at.add(R * LANES)));
                    *sums.add(g * R + r) = sum_lanes(both);
                }
            }
        }
        return;
    }
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
