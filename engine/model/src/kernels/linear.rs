//! Matrix products: `out[row][column] = sum over k of x[row][k] * w[column][k]`.
//!
//! The order, for each output alone (`docs/numerics.md`, rule LINEAR): `t = 0`; for each segment of 32
//! inputs in ascending order, a chain of fused multiply-adds from zero over the *raw* weight values,
//! `c = fma(x[k], q[k], c)`, folded into `t` as the weight type says. One row reads the quantised panel
//! directly; many rows share a panel segment that was widened to f32 once. Both make the same chain, so a
//! row's bits do not depend on how many rows came with it.

use super::elementwise::PackedRow;
use super::formats::{self, Fold, Format, GROUP, Place, with_format};
use crate::config::SEGMENT;
use crate::panels::{HALVES, PANEL, PackedMatrix, PanelKind};
use crate::simd::{LANES, Vector, exp};

/// Rows that share one widened panel segment; bounds the accumulators to the first-level cache.
const ROW_BLOCK: usize = 96;
/// Rows of one register tile of 16 columns: 12 accumulators of 8 lanes, two of weights and a broadcast one
/// fill AVX2's sixteen registers.
const NARROW_TILE: usize = 6;
/// Rows of one register tile of 32 columns, where the register file is wide.
const WIDE_TILE: usize = 12;
/// Rows up to which the weights are widened in registers rather than once for all rows in the first-level cache.
const DIRECT_NARROW: usize = 6;
const DIRECT_WIDE: usize = 24;

/// Bytes between what a product reads and what it asks the memory for.
const AHEAD: usize = 2048;

/// Activations in segment-major order: element `k` of row `r` at `(k / 32 * rows + r) * 32 + k % 32`.
#[derive(Clone, Copy)]
pub(crate) struct Activations {
    pub(crate) values: *const f32,
    /// The sum of each segment, at `k / 32 * rows + r`.
    pub(crate) sums: *const f32,
    pub(crate) rows: usize,
}

/// One product: a matrix, its activations and where the result goes.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub(crate) matrix: &'a PackedMatrix,
    pub(crate) x: Activations,
    /// Row-major, `stride` f32 a row. Added to (after the fold) when `accumulate` is set.
    pub(crate) out: *mut f32,
    pub(crate) stride: usize,
    pub(crate) accumulate: bool,
}

// SAFETY: tasks of one product write disjoint columns of `out` and only read the rest.
unsafe impl Sync for Product<'_> {}

/// The gated half of a feed-forward layer: SwiGLU (Shazeer 2020),
/// `y = gate / (1 + exp(-gate)) * up`, packed for the next product.
#[derive(Clone, Copy)]
pub(crate) struct Gated<'a> {
    pub(crate) gate: &'a PackedMatrix,
    /// Of the same shape.
    pub(crate) up: &'a PackedMatrix,
    pub(crate) x: Activations,
    /// Segment-major, as many rows as `x`: values and segment sums.
    pub(crate) values: *mut f32,
    pub(crate) sums: *mut f32,
}

// SAFETY: tasks write disjoint segments of the output and only read the rest.
unsafe impl Sync for Gated<'_> {}

/// A vector type with its compiled register tiles: functions of their own, so that each is there once, in the vector's
/// own instructions.
pub(super) trait Tiles: Vector {
    /// See [`block`].
    unsafe fn block<F: Fold>(
        widened: &Widened,
        x: *const f32,
        sums: *const f32,
        t: &mut [[Self; HALVES]],
    );

    /// See [`few_rows`].
    unsafe fn few_rows<W: Format>(
        matrix: &PackedMatrix,
        panel: usize,
        x: &Activations,
        block: (usize, usize),
        t: &mut [[Self; HALVES]],
    );
}

/// The totals of one panel for a block of rows.
type Totals<V> = [[V; HALVES]; ROW_BLOCK];

/// Computes the outputs of panels `first..end` for every row.
///
/// # Safety
/// The processor has the instructions of `V`; the pointers of `product` are good for the shapes it names;
/// no other thread writes the columns of these panels.
#[inline(always)]
pub(super) unsafe fn product<V: Tiles>(product: &Product<'_>, first: usize, end: usize) {
    // SAFETY: passed on from the caller.
    unsafe {
        with_format!(product.matrix.kind, W => product_of::<V, W>(product, first, end));
    }
}

#[inline(always)]
unsafe fn product_of<V: Tiles, W: Format>(product: &Product<'_>, first: usize, end: usize) {
    // SAFETY: by the contract of `product`.
    unsafe {
        let mut t = [[V::splat(0.0); HALVES]; ROW_BLOCK];
        for panel in first..end {
            for block in row_blocks::<V>(product.x.rows) {
                rows::<V, W>(product.matrix, panel, &product.x, block, &mut t);
                for offset in 0..block.1 {
                    write_row(product, block.0 + offset, panel, t[offset]);
                }
            }
        }
    }
}

/// The blocks of rows, as first row and count, that share a widened segment or a register tile.
fn row_blocks<V: Vector>(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let few = rows <= direct_rows::<V>();
    let largest = if few { tile_rows::<V>() } else { ROW_BLOCK };
    // Blocks of much the same height: a low one would wait for its own multiply-adds.
    let blocks = rows.div_ceil(largest).max(1);
    let height = rows.div_ceil(blocks).max(1);
    (0..rows)
        .step_by(height)
        .map(move |first| (first, height.min(rows - first)))
}

/// Rows of a register tile.
const fn tile_rows<V: Vector>() -> usize {
    if V::WIDE { WIDE_TILE } else { NARROW_TILE }
}

/// Rows up to which weights are widened in registers, for each tile anew.
const fn direct_rows<V: Vector>() -> usize {
    if V::WIDE { DIRECT_WIDE } else { DIRECT_NARROW }
}

/// The totals of one panel for a block of rows.
#[inline(always)]
unsafe fn rows<V: Tiles, W: Format>(
    matrix: &PackedMatrix,
    panel: usize,
    x: &Activations,
    block: (usize, usize),
    t: &mut Totals<V>,
) {
    // SAFETY: by the contract of `product`.
    unsafe {
        if x.rows <= direct_rows::<V>() {
            V::few_rows::<W>(matrix, panel, x, block, t);
        } else {
            many_rows::<V, W>(matrix, panel, x, block, t);
        }
    }
}

/// Computes the gated outputs of panels `first..end` for every row.
///
/// # Safety
/// As for [`product`]; the outputs are a multiple of 32.
#[inline(always)]
pub(super) unsafe fn gated<V: Tiles>(gated: &Gated<'_>, first: usize, end: usize) {
    // SAFETY: by the caller's contract.
    unsafe {
        let mut gate = [[V::splat(0.0); HALVES]; ROW_BLOCK];
        let mut up = gate;
        for panel in first..end {
            for block in row_blocks::<V>(gated.x.rows) {
                // Each by its own type: some mixes of quantisations have two.
                with_format!(gated.gate.kind, W => rows::<V, W>(gated.gate, panel, &gated.x, block, &mut gate));
                with_format!(gated.up.kind, W => rows::<V, W>(gated.up, panel, &gated.x, block, &mut up));
                for offset in 0..block.1 {
                    write_gated(gated, block.0 + offset, panel, gate[offset], up[offset]);
                }
            }
        }
    }
}

/// `$body` for `$i` from 0 to 7, each a constant.
macro_rules! eight_times {
    ($i:ident => $body:block) => {
        eight_times!(@ $i $body 0 1 2 3 4 5 6 7)
    };
    (@ $i:ident $body:block $($n:literal)*) => {
        $({ let $i: usize = $n; $body })*
    };
}

/// Asks for the weights of a segment further on. A product of few rows waits for memory, not for arithmetic; and where a
/// panel ends, the next begins.
#[inline(always)]
unsafe fn prefetch<V: Vector, W: Format>(base: *const u8, segment: usize) {
    let shape = W::KIND.shape();
    let bytes = HALVES * (shape.scales + shape.weights);
    let ahead = base.wrapping_add(segment * bytes + AHEAD);
    for line in (0..bytes).step_by(64) {
        // SAFETY: any address may be named.
        unsafe { V::prefetch(ahead.wrapping_add(line)) };
    }
}

/// The rows from `row` to `row + count`, at most a register tile of them, against a panel whose weights are widened
/// in registers.
///
/// # Safety
/// As for [`product`]; the rows exist, and `t` has room for them.
#[inline(always)]
pub(super) unsafe fn few_rows<V: Vector, W: Format>(
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
    let groups_a_chain = SEGMENT / GROUP / W::Fold::CHAINS;
    // SAFETY: by the contract of `few_rows`.
    unsafe {
        let mut total = [[V::splat(0.0); H]; R];
        for segment in 0..matrix.segments() {
            if half == 0 {
                prefetch::<V, W>(base, segment);
            }
            let at = segment * x.rows + row;
            let (values, sums) = (x.values.add(at * SEGMENT), x.sums.add(at));
            let mut places = [Place::new(base, W::KIND, segment, half); H];
            if H == 2 {
                places[1] = Place::new(base, W::KIND, segment, 1);
            }
            let mut c = [[V::splat(0.0); H]; R];
            for group in 0..SEGMENT / GROUP {
                let mut words = [W::group::<V>(places[0].weights, group); H];
                if H == 2 {
                    words[1] = W::group::<V>(places[1].weights, group);
                }
                eight_times!(i => {
                    let mut weights = [V::splat(0.0); H];
                    for h in 0..H {
                        weights[h] = W::weight::<V>(words[h], i);
                    }
                    for r in 0..R {
                        let value = V::splat(*values.add(r * SEGMENT + group * GROUP + i));
                        for h in 0..H {
                            c[r][h] = value.fma(weights[h], c[r][h]);
                        }
                    }
                });
                if (group + 1).is_multiple_of(groups_a_chain) {
                    for h in 0..H {
                        let (scale, minimum) = W::scales::<V>(places[h], group / groups_a_chain);
                        for r in 0..R {
                            let sum = V::splat(*sums.add(r));
                            total[r][h] = W::Fold::fold(scale, minimum, c[r][h], sum, total[r][h]);
                            c[r][h] = V::splat(0.0);
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
pub(super) struct Widened {
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
            for group in 0..SEGMENT / GROUP {
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
unsafe fn many_rows<V: Tiles, W: Format>(
    matrix: &PackedMatrix,
    panel: usize,
    x: &Activations,
    (first, count): (usize, usize),
    t: &mut Totals<V>,
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
            prefetch::<V, W>(base, segment);
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
pub(super) unsafe fn block<V: Vector, F: Fold>(
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

#[inline(always)]
unsafe fn write_row<V: Vector>(product: &Product<'_>, row: usize, panel: usize, t: [V; HALVES]) {
    let column = panel * PANEL;
    let width = (product.matrix.rows - column).min(PANEL);
    // SAFETY: `out` has `rows` rows of `stride` f32, and the columns of this panel are ours.
    unsafe {
        let out = product.out.add(row * product.stride + column);
        if width == PANEL {
            for (half, t) in t.into_iter().enumerate() {
                let out = out.add(half * LANES);
                let t = if product.accumulate {
                    V::load(out).add(t)
                } else {
                    t
                };
                t.store(out);
            }
        } else {
            let mut lanes = [0.0f32; PANEL];
            for (half, t) in t.into_iter().enumerate() {
                t.store(lanes.as_mut_ptr().add(half * LANES));
            }
            for (lane, value) in lanes[..width].iter().enumerate() {
                let out = out.add(lane);
                *out = if product.accumulate {
                    *out + value
                } else {
                    *value
                };
            }
        }
    }
}

/// A panel of outputs is a segment of the next product's inputs.
#[inline(always)]
unsafe fn write_gated<V: Vector>(
    gated: &Gated<'_>,
    row: usize,
    panel: usize,
    gate: [V; HALVES],
    up: [V; HALVES],
) {
    const { assert!(PANEL == SEGMENT) };
    let to = PackedRow {
        values: gated.values,
        sums: gated.sums,
        rows: gated.x.rows,
        row,
    };
    // SAFETY: this segment of this row is ours, by the contract of `gated`.
    unsafe {
        let out = to.segment(panel);
        for half in 0..HALVES {
            let denominator = V::splat(1.0).add(exp(V::splat(0.0).sub(gate[half])));
            let silu = gate[half].div(denominator);
            silu.mul(up[half]).store(out.add(half * LANES));
        }
        to.sum_segment(panel);
    }
}
