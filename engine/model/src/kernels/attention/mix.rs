//! The third pass: values by weights.

use std::ops::Range;

use super::{Attention, KvElem, PAIR, Seen, Tile, pair_fits};
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
pub(crate) unsafe fn mix<V: Vector, E: KvElem>(args: &Attention<'_, E>, tile: &Tile) {
    // SAFETY: passed on from the caller.
    unsafe { of_height!(tile.count, R, G => mix_tile::<V, E, R>(args, tile)) }
}

#[inline(always)]
unsafe fn mix_tile<V: Vector, E: KvElem, const R: usize>(args: &Attention<'_, E>, tile: &Tile) {
    // SAFETY: by the contract of `pack`.
    unsafe {
        for lane in (0..args.layout.head_dim()).step_by(SEGMENT) {
            if pair_fits::<V>(R) {
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
            if FREE_ORDER {
                t = chain::<V, E, R, L>(t, args, tile, seen, unit, lane);
                continue;
            }
            let c = chain::<V, E, R, L>(zero(), args, tile, seen, unit, lane);
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
                if pair_fits::<V>(R) {
                    let c = chain::<V, E, R, PAIR>(zero(), args, tile, seen, unit, lane);
                    for r in 0..R {
                        for l in 0..PAIR {
                            c[r][l].store(chains.add(r * dim + lane + l * LANES));
                        }
                    }
                } else {
                    for lane in [lane, lane + LANES] {
                        let c = chain::<V, E, R, 1>(zero(), args, tile, seen, unit, lane);
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
unsafe fn chain<V: Vector, E: KvElem, const R: usize, const L: usize>(
    mut c: [[V; L]; R],
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
