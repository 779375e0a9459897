//! Matrix products: `out[row][column] = sum over k of x[row][k] * w[column][k]`.
//!
//! The order, for each output alone (`docs/numerics.md`, rule LINEAR): `t = 0`; for each segment of 32
//! inputs in ascending order, a chain of fused multiply-adds from zero over the *raw* weight values,
//! `c = fma(x[k], q[k], c)`, folded into `t` as the weight type says. A few rows widen the quantised
//! panel in registers; many rows share a panel segment that was widened to f32 once. Both make the same chain, so a
//! row's bits do not depend on how many rows came with it.

mod tiles;

use super::elementwise::PackedRow;
use super::formats::{self, Fold, Format, with_format};
use crate::config::{Activation, SEGMENT};
use crate::panels::{HALVES, PANEL, PackedMatrix, PanelKind};
use crate::simd::{LANES, Vector, exp};
use tiles::many_rows;
pub(super) use tiles::{Widened, block, few_rows};

/// The constants of the GELU in its tanh form: the factor of the cube, and `2 sqrt(2 / pi)`.
const GELU_CUBIC: f32 = 0.044_715;
const GELU_SCALE: f32 = 1.595_769_2;
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

/// The gated half of a feed-forward layer (Shazeer 2020): `y = gate / (1 + exp(-z)) * up`, packed for the next product.
/// For SwiGLU `z = gate`. For GeGLU `z = 2 sqrt(2 / pi) (gate + 0.044715 gate^3)`, which makes the GELU in its tanh form
/// (Hendrycks and Gimpel 2016), since `(1 + tanh(z / 2)) / 2 = 1 / (1 + exp(-z))`.
#[derive(Clone, Copy)]
pub(crate) struct Gated<'a> {
    pub(crate) gate: &'a PackedMatrix,
    /// Of the same shape.
    pub(crate) up: &'a PackedMatrix,
    pub(crate) activation: Activation,
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
        if product.x.rows <= direct_rows::<V>() {
            product_in_blocks::<V, W, WIDE_TILE>(product, first, end);
        } else {
            product_in_blocks::<V, W, ROW_BLOCK>(product, first, end);
        }
    }
}

/// In blocks of at most `ROWS` rows: of `WIDE_TILE` where they are few.
#[inline(always)]
unsafe fn product_in_blocks<V: Tiles, W: Format, const ROWS: usize>(
    product: &Product<'_>,
    first: usize,
    end: usize,
) {
    // SAFETY: no memory is touched.
    let mut t = [[unsafe { V::splat(0.0) }; HALVES]; ROWS];
    let height = block_height::<V>(product.x.rows);
    for panel in first..end {
        for row in (0..product.x.rows).step_by(height) {
            let count = height.min(product.x.rows - row);
            // SAFETY: by the contract of `product`; a block has at most ROWS rows.
            unsafe {
                rows::<V, W, ROWS>(product.matrix, panel, &product.x, (row, count), &mut t);
                for offset in 0..count {
                    write_row(product, row + offset, panel, t[offset]);
                }
            }
        }
    }
}

/// Rows of the blocks that share a widened segment or a register tile. Of much the same height: a low one would wait
/// for its own multiply-adds.
fn block_height<V: Vector>(rows: usize) -> usize {
    let few = rows <= direct_rows::<V>();
    let largest = if few { tile_rows::<V>() } else { ROW_BLOCK };
    let blocks = rows.div_ceil(largest).max(1);
    rows.div_ceil(blocks).max(1)
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
unsafe fn rows<V: Tiles, W: Format, const ROWS: usize>(
    matrix: &PackedMatrix,
    panel: usize,
    x: &Activations,
    block: (usize, usize),
    t: &mut [[V; HALVES]],
) {
    // SAFETY: by the contract of `product`.
    unsafe {
        if ROWS == WIDE_TILE {
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
    // SAFETY: passed on from the caller.
    unsafe {
        if gated.x.rows <= direct_rows::<V>() {
            gated_in_blocks::<V, WIDE_TILE>(gated, first, end);
        } else {
            gated_in_blocks::<V, ROW_BLOCK>(gated, first, end);
        }
    }
}

/// In blocks of at most `ROWS` rows: of `WIDE_TILE` where they are few.
#[inline(always)]
unsafe fn gated_in_blocks<V: Tiles, const ROWS: usize>(
    gated: &Gated<'_>,
    first: usize,
    end: usize,
) {
    // SAFETY: no memory is touched.
    let mut gate = [[unsafe { V::splat(0.0) }; HALVES]; ROWS];
    let mut up = gate;
    let height = block_height::<V>(gated.x.rows);
    for panel in first..end {
        for row in (0..gated.x.rows).step_by(height) {
            let block = (row, height.min(gated.x.rows - row));
            // Each by its own type: some mixes of quantisations have two.
            // SAFETY: by the contract of `gated`; a block has at most ROWS rows.
            unsafe {
                with_format!(gated.gate.kind, W => rows::<V, W, ROWS>(gated.gate, panel, &gated.x, block, &mut gate));
                with_format!(gated.up.kind, W => rows::<V, W, ROWS>(gated.up, panel, &gated.x, block, &mut up));
                for offset in 0..block.1 {
                    write_gated(gated, row + offset, panel, gate[offset], up[offset]);
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
            let x = gate[half];
            let z = match gated.activation {
                Activation::Silu => x,
                Activation::Gelu => {
                    let cube = x.mul(x).mul(x);
                    cube.fma(V::splat(GELU_CUBIC), x).mul(V::splat(GELU_SCALE))
                }
            };
            let denominator = V::splat(1.0).add(exp(V::splat(0.0).sub(z)));
            x.div(denominator)
                .mul(up[half])
                .store(out.add(half * LANES));
        }
        to.sum_segment::<V>(panel);
    }
}
