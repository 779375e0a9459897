//! The third pass: values by weights.

use std::ops::Range;

use super::{Attention, KvCache, PAIR, Seen, Tile, pair_fits};
use crate::FREE_ORDER;
use crate::config::SEGMENT;
use crate::kernels::elementwise::PackedRow;
use crate::simd::{LANES, Vector};

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
pub(crate) unsafe fn mix<V: Vector, C: KvCache>(args: &Attention<'_, C>, tile: &Tile) {
    // SAFETY: passed on from the caller.
    unsafe { of_height!(tile.count, R, G => mix_tile::<V, C, R>(args, tile)) }
}

#[inline(always)]
unsafe fn mix_tile<V: Vector, C: KvCache, const R: usize>(args: &Attention<'_, C>, tile: &Tile) {
    // SAFETY: by the contract of `pack`.
    unsafe {
        for lane in (0..args.layout.head_dim()).step_by(SEGMENT) {
            if pair_fits::<V>(R) {
                mix_lanes::<V, C, R, PAIR>(args, tile, lane);
            } else {
                mix_lanes::<V, C, R, 1>(args, tile, lane);
                mix_lanes::<V, C, R, 1>(args, tile, lane + LANES);
            }
        }
        finish::<V, C>(args, tile);
    }
}

/// The weighted sums of `R` queries for `16 * L` lanes of the head's dimension, from `lane` on.
#[inline(always)]
unsafe fn mix_lanes<V: Vector, C: KvCache, const R: usize, const L: usize>(
    args: &Attention<'_, C>,
    tile: &Tile,
    lane: usize,
) {
    let seen = args.seen(tile);
    // SAFETY: by the contract of `pack`.
    unsafe {
        let mut t = [[V::splat(0.0); L]; R];
        for unit in 0..seen.units() {
            if FREE_ORDER {
                t = chain::<V, C, R, L>(t, args, tile, seen, unit, lane);
                continue;
            }
            let c = chain::<V, C, R, L>(zero(), args, tile, seen, unit, lane);
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
pub(crate) unsafe fn mix_units<V: Vector, C: KvCache>(
    args: &Attention<'_, C>,
    tile: &Tile,
    first: usize,
    end: usize,
) {
    // SAFETY: passed on from the caller.
    unsafe { of_height!(tile.count, R, G => mix_units_of::<V, C, R>(args, tile, first, end)) }
}

#[inline(always)]
unsafe fn mix_units_of<V: Vector, C: KvCache, const R: usize>(
    args: &Attention<'_, C>,
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
                if pair_fits::<V>(R) {
                    let c = chain::<V, C, R, PAIR>(zero(), args, tile, seen, unit, lane);
                    for r in 0..R {
                        for l in 0..PAIR {
                            c[r][l].store(chains.add(r * dim + lane + l * LANES));
                        }
                    }
                } else {
                    for lane in [lane, lane + LANES] {
                        let c = chain::<V, C, R, 1>(zero(), args, tile, seen, unit, lane);
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
pub(crate) unsafe fn fold<V: Vector, C: KvCache>(args: &Attention<'_, C>, tile: &Tile) {
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
        finish::<V, C>(args, tile);
    }
}

/// Multiplies the outputs, which hold the sums so far, by one over the total weight, and writes their segment sums.
#[inline(always)]
unsafe fn finish<V: Vector, C: KvCache>(args: &Attention<'_, C>, tile: &Tile) {
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
                row.sum_segment::<V>(query.head * segments + segment);
            }
        }
    }
}

/// Where chains begin.
#[inline(always)]
unsafe fn zero<V: Vector, const R: usize, const L: usize>() -> [[V; L]; R] {
    // SAFETY: no memory is touched; the caller checked the instructions.
    [[unsafe { V::splat(0.0) }; L]; R]
}

/// The chains of one unit, from `c` on: the visible keys' values by their weights, in ascending order.
#[inline(always)]
unsafe fn chain<V: Vector, C: KvCache, const R: usize, const L: usize>(
    mut c: [[V; L]; R],
    args: &Attention<'_, C>,
    tile: &Tile,
    seen: Seen,
    unit: usize,
    lane: usize,
) -> [[V; L]; R] {
    let dim = args.layout.head_dim();
    let (head, tail) = (args.query(tile.first), args.query(tile.first + R - 1));
    // SAFETY: by the contract of `pack`.
    unsafe {
        for segment in seen.unit(unit) {
            let values = args.values.at(args.slot(seen, segment) * dim + lane);
            let weights: *const f32 = tile.scores(PAIR * segment, 0);
            let visible = args.visible(seen, segment, &head);
            // Bounds move with the position, so if the first and the last query see the same keys, all do.
            if visible == args.visible(seen, segment, &tail) {
                c = extend::<V, C, R, L>(c, values, dim, weights, visible);
            } else {
                for r in 0..R {
                    let visible = args.visible(seen, segment, &args.query(tile.first + r));
                    c[r] = extend_one::<V, C, R, L>(
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
unsafe fn extend<V: Vector, C: KvCache, const R: usize, const L: usize>(
    mut c: [[V; L]; R],
    values: C,
    dim: usize,
    weights: *const f32,
    visible: Range<usize>,
) -> [[V; L]; R] {
    // SAFETY: visible keys lie inside one aligned segment of slots, by the caller.
    unsafe {
        for key in visible {
            V::prefetch(values.address((SEGMENT + key) * dim));
            let weights = weights.add(key / LANES * R * LANES + key % LANES);
            let scale = values.value_scale(key * dim);
            let mut value = [V::splat(0.0); L];
            for l in 0..L {
                value[l] = values.values(key * dim + l * LANES, scale);
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
unsafe fn extend_one<V: Vector, C: KvCache, const R: usize, const L: usize>(
    mut c: [V; L],
    values: C,
    dim: usize,
    weights: *const f32,
    visible: Range<usize>,
) -> [V; L] {
    // SAFETY: as in `extend`.
    unsafe {
        for key in visible {
            let weight = V::splat(*weights.add(key / LANES * R * LANES + key % LANES));
            let scale = values.value_scale(key * dim);
            for l in 0..L {
                let value: V = values.values(key * dim + l * LANES, scale);
                c[l] = weight.fma(value, c[l]);
            }
        }
    }
    c
}
