//! The register tiles: some rows against one panel.

use std::sync::atomic::{Ordering, compiler_fence};

use super::{Activations, NARROW_TILE, Tiles, WIDE_TILE, tile_rows};
use crate::FREE_ORDER;
use crate::config::SEGMENT;
use crate::kernels::formats::{Fold, Format, GROUP, Place};
use crate::panels::{HALVES, PackedMatrix};
use crate::simd::{LANES, Vector};

/// Bytes between what a product reads and what it asks the memory for.
const AHEAD: usize = 4096;
/// Groups of a segment.
const GROUPS: usize = SEGMENT / GROUP;
/// Bytes of a cache line.
const LINE: usize = 64;

/// `$body` for `$i` from 0 to 7, each a constant.
macro_rules! eight_times {
    ($i:ident => $body:block) => {
        eight_times!(@ $i $body 0 1 2 3 4 5 6 7)
    };
    (@ $i:ident $body:block $($n:literal)*) => {
        $({ let $i: usize = $n; $body })*
    };
}

/// Asks for the weights of a segment further on: the share of `count` inputs from `input` on. A product of few rows
/// waits for memory, not for arithmetic; and where a panel ends, the next begins.
#[inline(always)]
unsafe fn prefetch<V: Vector, W: Format>(
    base: *const u8,
    segment: usize,
    (input, count): (usize, usize),
) {
    let shape = W::KIND.shape();
    let bytes = HALVES * (shape.scales + shape.weights);
    let lines = bytes / LINE;
    let ahead = base.wrapping_add(segment * bytes + AHEAD);
    for line in lines * input / SEGMENT..lines * (input + count) / SEGMENT {
        // SAFETY: any address may be named.
        unsafe { V::prefetch(ahead.wrapping_add(line * LINE)) };
    }
}

/// The rows from `row` to `row + count`, at most a register tile of them, against a panel whose weights are widened
/// in registers.
///
/// # Safety
/// As for [`product`]; the rows exist, and `t` has room for them.
#[inline(always)]
pub(in crate::kernels) unsafe fn few_rows<V: Vector, W: Format>(
    matrix: &PackedMatrix,
    panel: usize,
    x: &Activations,
    (row, count): (usize, usize),
    t: &mut [[V; HALVES]],
) {
    let t = t[..count].as_mut_ptr();
    macro_rules! rows {
        ($($r:literal)*) => {
            match count {
                $($r => direct::<V, W, $r, 2>(matrix, panel, 0, x, row, t),)*
                _ => unreachable!("a register tile has no {count} rows"),
            }
        };
        ($($r:literal)* by halves $($one:literal)*) => {
            match count {
                $($r => direct::<V, W, $r, 2>(matrix, panel, 0, x, row, t),)*
                $($one => for half in 0..HALVES {
                    direct::<V, W, $one, 1>(matrix, panel, half, x, row, t);
                },)*
                _ => unreachable!("a register tile has no {count} rows"),
            }
        };
    }
    // SAFETY: passed on from the caller.
    unsafe {
        if V::WIDE {
            rows!(1 2 3 4 5 6 7 8 9 10 11 12);
        } else {
            rows!(1 2 3 by halves 4 5 6);
        }
    }
}

/// `R` rows against `H` halves of a panel, from `half` on.
#[inline(always)]
unsafe fn direct<V: Vector, W: Format, const R: usize, const H: usize>(
    matrix: &PackedMatrix,
    panel: usize,
    half: usize,
    x: &Activations,
    row: usize,
    t: *mut [V; HALVES],
) {
    let base = matrix.panel(panel).as_ptr();
    let groups_a_chain = GROUPS / W::Fold::CHAINS;
    // Two where order is free and one row would wait for its own multiply-adds.
    let chains = if FREE_ORDER && R * H <= 4 { 2 } else { 1 };
    // SAFETY: by the contract of `few_rows`.
    unsafe {
        let mut total = [[V::splat(0.0); H]; R];
        for segment in 0..matrix.segments() {
            let at = segment * x.rows + row;
            let (values, sums) = (x.values.add(at * SEGMENT), x.sums.add(at));
            let mut places = [Place::new(base, W::KIND, segment, half); H];
            if H == 2 {
                places[1] = Place::new(base, W::KIND, segment, 1);
            }
            let mut c = [[[V::splat(0.0); H]; R]; 2];
            for group in 0..GROUPS {
                if R > 1 && half == 0 {
                    prefetch::<V, W>(base, segment, (group * GROUP, GROUP));
                }
                let mut words = [W::group::<V>(places[0].weights, group); H];
                if H == 2 {
                    words[1] = W::group::<V>(places[1].weights, group);
                }
                eight_times!(i => {
                    if R == 1 {
                        // One row does nothing but wait for memory. Requests that come at once fill the queue of
                        // loads, so they are spread, and the compiler must not gather them.
                        prefetch::<V, W>(base, segment, (group * GROUP + i, 1));
                        compiler_fence(Ordering::SeqCst);
                    }
                    let mut weights = [V::splat(0.0); H];
                    for h in 0..H {
                        weights[h] = W::weight::<V>(words[h], i);
                    }
                    for r in 0..R {
                        let value = V::splat(*values.add(r * SEGMENT + group * GROUP + i));
                        for h in 0..H {
                            c[i % chains][r][h] = value.fma(weights[h], c[i % chains][r][h]);
                        }
                    }
                });
                if (group + 1).is_multiple_of(groups_a_chain) {
                    for h in 0..H {
                        let (scale, minimum) = W::scales::<V>(places[h], group / groups_a_chain);
                        for r in 0..R {
                            let sum = V::splat(*sums.add(r));
                            let mut chain = c[0][r][h];
                            if chains == 2 {
                                chain = chain.add(c[1][r][h]);
                            }
                            total[r][h] = W::Fold::fold(scale, minimum, chain, sum, total[r][h]);
                            c[0][r][h] = V::splat(0.0);
                            c[1][r][h] = V::splat(0.0);
                        }
                    }
                }
            }
        }
        for r in 0..R {
            for h in 0..H {
                (*t.add(r))[half + h] = total[r][h];
            }
        }
    }
}

/// One segment of a panel, widened: `[half][input][lane]`, and the scales and minima of each chain.
#[repr(C, align(64))]
pub(in crate::kernels) struct Widened {
    weights: [[f32; SEGMENT * LANES]; HALVES],
    scales: [[[f32; LANES]; 2]; HALVES],
    minima: [[f32; LANES]; HALVES],
}

#[inline(always)]
unsafe fn widen<V: Vector, W: Format>(base: *const u8, segment: usize, out: &mut Widened) {
    for half in 0..HALVES {
        // SAFETY: the segment is a whole one, by the caller, and `out` holds 32 rows of 16.
        unsafe {
            let place = Place::new(base, W::KIND, segment, half);
            let to = out.weights[half].as_mut_ptr();
            for group in 0..GROUPS {
                let words = W::group::<V>(place.weights, group);
                eight_times!(i => {
                    W::weight::<V>(words, i).store(to.add((group * GROUP + i) * LANES));
                });
            }
            if W::Fold::SCALED {
                for chain in 0..W::Fold::CHAINS {
                    let (scale, minimum) = W::scales::<V>(place, chain);
                    scale.store(out.scales[half][chain].as_mut_ptr());
                    minimum.store(out.minima[half].as_mut_ptr());
                }
            }
        }
    }
}

#[inline(always)]
pub(super) unsafe fn many_rows<V: Tiles, W: Format>(
    matrix: &PackedMatrix,
    panel: usize,
    x: &Activations,
    (first, count): (usize, usize),
    t: &mut [[V; HALVES]],
) {
    let base = matrix.panel(panel).as_ptr();
    let mut widened = Widened {
        weights: [[0.0; SEGMENT * LANES]; HALVES],
        scales: [[[0.0; LANES]; 2]; HALVES],
        minima: [[0.0; LANES]; HALVES],
    };
    // SAFETY: by the contract of `product`.
    unsafe {
        for t in &mut t[..count] {
            *t = [V::splat(0.0); HALVES];
        }
        for segment in 0..matrix.segments() {
            prefetch::<V, W>(base, segment, (0, SEGMENT));
            widen::<V, W>(base, segment, &mut widened);
            let at = segment * x.rows + first;
            let (values, sums) = (x.values.add(at * SEGMENT), x.sums.add(at));
            V::block::<W::Fold>(&widened, values, sums, &mut t[..count]);
        }
    }
}

/// Folds one widened segment into the totals of a block of rows, a register tile at a time.
///
/// # Safety
/// The processor has the instructions of `V`; `x` holds the segment and `sums` its sum for each row of `t`.
#[inline(always)]
pub(in crate::kernels) unsafe fn block<V: Vector, F: Fold>(
    widened: &Widened,
    x: *const f32,
    sums: *const f32,
    t: &mut [[V; HALVES]],
) {
    let largest = tile_rows::<V>();
    let mut row = 0;
    while row < t.len() {
        // Tiles of much the same height: a low one would wait for its own multiply-adds.
        let left = t.len() - row;
        let count = left.div_ceil(left.div_ceil(largest));
        // SAFETY: the rows from `row` to `row + count` exist, by the caller.
        unsafe {
            let (x, sums, t) = (x.add(row * SEGMENT), sums.add(row), t.as_mut_ptr().add(row));
            if V::WIDE {
                match count {
                    1 => tile::<V, F, 1, 2>(widened, 0, x, sums, t),
                    2 => tile::<V, F, 2, 2>(widened, 0, x, sums, t),
                    3 => tile::<V, F, 3, 2>(widened, 0, x, sums, t),
                    4 => tile::<V, F, 4, 2>(widened, 0, x, sums, t),
                    5 => tile::<V, F, 5, 2>(widened, 0, x, sums, t),
                    6 => tile::<V, F, 6, 2>(widened, 0, x, sums, t),
                    7 => tile::<V, F, 7, 2>(widened, 0, x, sums, t),
                    8 => tile::<V, F, 8, 2>(widened, 0, x, sums, t),
                    9 => tile::<V, F, 9, 2>(widened, 0, x, sums, t),
                    10 => tile::<V, F, 10, 2>(widened, 0, x, sums, t),
                    11 => tile::<V, F, 11, 2>(widened, 0, x, sums, t),
                    _ => tile::<V, F, WIDE_TILE, 2>(widened, 0, x, sums, t),
                }
            } else {
                for half in 0..HALVES {
                    match count {
                        1 => tile::<V, F, 1, 1>(widened, half, x, sums, t),
                        2 => tile::<V, F, 2, 1>(widened, half, x, sums, t),
                        3 => tile::<V, F, 3, 1>(widened, half, x, sums, t),
                        4 => tile::<V, F, 4, 1>(widened, half, x, sums, t),
                        5 => tile::<V, F, 5, 1>(widened, half, x, sums, t),
                        _ => tile::<V, F, NARROW_TILE, 1>(widened, half, x, sums, t),
                    }
                }
            }
        }
        row += count;
    }
}

/// The chains of `R` rows against `H` halves of a widened segment, from `half` on, each folded into its
/// total.
#[inline(always)]
unsafe fn tile<V: Vector, F: Fold, const R: usize, const H: usize>(
    widened: &Widened,
    half: usize,
    x: *const f32,
    sums: *const f32,
    t: *mut [V; HALVES],
) {
    // SAFETY: `x` holds R segments, `sums` and `t` hold R elements, by the caller.
    unsafe {
        for chain in 0..F::CHAINS {
            let mut c = [[V::splat(0.0); H]; R];
            let length = SEGMENT / F::CHAINS;
            for k in chain * length..(chain + 1) * length {
                let mut weights = [V::splat(0.0); H];
                for h in 0..H {
                    weights[h] = V::load(widened.weights[half + h].as_ptr().add(k * LANES));
                }
                for r in 0..R {
                    let value = V::splat(*x.add(r * SEGMENT + k));
                    for h in 0..H {
                        c[r][h] = value.fma(weights[h], c[r][h]);
                    }
                }
            }
            for h in 0..H {
                let scale = V::load(widened.scales[half + h][chain].as_ptr());
                let minimum = V::load(widened.minima[half + h].as_ptr());
                for r in 0..R {
                    let t = t.add(r).cast::<V>().add(half + h);
                    *t = F::fold(scale, minimum, c[r][h], V::splat(*sums.add(r)), *t);
                }
            }
        }
    }
}
