//! Matrix products: `out[row][column] = sum over k of x[row][k] * w[column][k]`.
//!
//! The order, for each output alone (`docs/numerics.md`, rule LINEAR): `t = 0`; for each segment of 32
//! inputs in ascending order, a chain of fused multiply-adds from zero over the *raw* weight values,
//! `c = fma(x[k], q[k], c)`, folded into `t` as the weight type says. One row reads the quantised panel
//! directly; many rows share a panel segment that was widened to f32 once. Both make the same chain, so a
//! row's bits do not depend on how many rows came with it.

use crate::config::SEGMENT;
use crate::panels::{PackedMatrix, PanelKind};
use crate::simd::{LANES, Vector};

/// Rows that share one widened panel segment; bounds the accumulators to the first-level cache.
const ROW_BLOCK: usize = 96;
/// Rows of one register tile: 6 x 16 accumulators, two weight registers and one broadcast fill AVX2.
const TILE: usize = 6;

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

/// How one weight type is read and folded. No closures in here or below: a closure is a function of its own,
/// and one that is not inlined loses the instruction set of its kernel.
trait Format {
    const KIND: PanelKind;
    /// The weights of inputs `2 * pair` and `2 * pair + 1`, for the panel's 16 outputs.
    unsafe fn weights<V: Vector>(segment: *const u8, pair: usize) -> (V, V);
    /// Folds the chain `c` of a segment into `t`; `sum` is the segment's sum of activations.
    unsafe fn fold<V: Vector>(segment: *const u8, c: V, sum: V, t: V) -> V;
}

struct Q4_1;
struct Q8_0;
struct F32;

// In the blocks below: `segment` points to one whole panel segment of the format, and `pair` is below 16, by
// the callers' contract.
impl Format for Q4_1 {
    const KIND: PanelKind = PanelKind::Q4_1;

    #[inline(always)]
    unsafe fn weights<V: Vector>(segment: *const u8, pair: usize) -> (V, V) {
        // SAFETY: 64 bytes of scales and minima, then 16 rows of 16 bytes.
        unsafe { V::load_nibbles(segment.add(4 * LANES + pair * LANES)) }
    }

    #[inline(always)]
    unsafe fn fold<V: Vector>(segment: *const u8, c: V, sum: V, t: V) -> V {
        // SAFETY: the segment begins with 16 f16 scales and 16 f16 minima.
        unsafe {
            let d = V::load_f16(segment.cast());
            let m = V::load_f16(segment.add(2 * LANES).cast());
            m.fma(sum, d.fma(c, t))
        }
    }
}

impl Format for Q8_0 {
    const KIND: PanelKind = PanelKind::Q8_0;

    #[inline(always)]
    unsafe fn weights<V: Vector>(segment: *const u8, pair: usize) -> (V, V) {
        // SAFETY: 32 bytes of scales, then 32 rows of 16 signed bytes.
        unsafe {
            let rows = segment.add(2 * LANES + 2 * pair * LANES).cast::<i8>();
            (V::load_i8(rows), V::load_i8(rows.add(LANES)))
        }
    }

    #[inline(always)]
    unsafe fn fold<V: Vector>(segment: *const u8, c: V, _sum: V, t: V) -> V {
        // SAFETY: the segment begins with 16 f16 scales.
        unsafe { V::load_f16(segment.cast()).fma(c, t) }
    }
}

impl Format for F32 {
    const KIND: PanelKind = PanelKind::F32;

    #[inline(always)]
    unsafe fn weights<V: Vector>(segment: *const u8, pair: usize) -> (V, V) {
        // SAFETY: 32 rows of 16 f32; the panel's words are aligned for f32.
        unsafe {
            let rows = segment.cast::<f32>().add(2 * pair * LANES);
            (V::load(rows), V::load(rows.add(LANES)))
        }
    }

    #[inline(always)]
    unsafe fn fold<V: Vector>(_segment: *const u8, c: V, _sum: V, t: V) -> V {
        // SAFETY: no memory is touched.
        unsafe { t.add(c) }
    }
}

/// Computes the outputs of panels `first..end` for every row.
///
/// # Safety
/// The processor has the instructions of `V`; the pointers of `product` are good for the shapes it names;
/// no other thread writes the columns of these panels.
#[inline(always)]
pub(crate) unsafe fn panels<V: Vector>(product: &Product<'_>, first: usize, end: usize) {
    // SAFETY: passed on from the caller.
    unsafe {
        match product.matrix.kind {
            PanelKind::Q4_1 => panels_of::<V, Q4_1>(product, first, end),
            PanelKind::Q8_0 => panels_of::<V, Q8_0>(product, first, end),
            PanelKind::F32 => panels_of::<V, F32>(product, first, end),
        }
    }
}

#[inline(always)]
unsafe fn panels_of<V: Vector, W: Format>(product: &Product<'_>, first: usize, end: usize) {
    let mut panel = first;
    // SAFETY: by the contract of `panels`.
    unsafe {
        if product.x.rows == 1 {
            // Two panels at a time: one chain alone would wait for its own multiply-adds.
            while panel + 2 <= end {
                single_row::<V, W, 2>(product, panel);
                panel += 2;
            }
            while panel < end {
                single_row::<V, W, 1>(product, panel);
                panel += 1;
            }
        } else {
            while panel < end {
                many_rows::<V, W>(product, panel);
                panel += 1;
            }
        }
    }
}

/// `P` panels against one row, their chains side by side.
#[inline(always)]
unsafe fn single_row<V: Vector, W: Format, const P: usize>(product: &Product<'_>, panel: usize) {
    let segments = product.matrix.columns / SEGMENT;
    // SAFETY: by the contract of `panels`; a panel has `segments` segments of `segment_bytes`.
    unsafe {
        let mut base = [std::ptr::null::<u8>(); P];
        for (i, base) in base.iter_mut().enumerate() {
            *base = product.matrix.panel(panel + i).as_ptr();
        }
        let mut t = [V::splat(0.0); P];
        for segment in 0..segments {
            let x = product.x.values.add(segment * SEGMENT);
            let offset = segment * W::KIND.segment_bytes();
            let mut c = [V::splat(0.0); P];
            for pair in 0..SEGMENT / 2 {
                let (first, second) = (V::splat(*x.add(2 * pair)), V::splat(*x.add(2 * pair + 1)));
                for i in 0..P {
                    let (even, odd) = W::weights::<V>(base[i].add(offset), pair);
                    c[i] = second.fma(odd, first.fma(even, c[i]));
                }
            }
            let sum = V::splat(*product.x.sums.add(segment));
            for i in 0..P {
                t[i] = W::fold(base[i].add(offset), c[i], sum, t[i]);
            }
        }
        for (i, t) in t.into_iter().enumerate() {
            write_row(product, 0, panel + i, t);
        }
    }
}

/// Widens one panel segment to 32 rows of 16 f32.
#[inline(always)]
unsafe fn widen<V: Vector, W: Format>(segment: *const u8, out: &mut [f32; SEGMENT * LANES]) {
    for pair in 0..SEGMENT / 2 {
        // SAFETY: `segment` is a whole one, by the caller, and `out` holds 32 rows of 16.
        unsafe {
            let (even, odd) = W::weights::<V>(segment, pair);
            even.store(out.as_mut_ptr().add(2 * pair * LANES));
            odd.store(out.as_mut_ptr().add((2 * pair + 1) * LANES));
        }
    }
}

#[inline(always)]
unsafe fn many_rows<V: Vector, W: Format>(product: &Product<'_>, panel: usize) {
    let segments = product.matrix.columns / SEGMENT;
    let rows = product.x.rows;
    let mut widened = [0.0f32; SEGMENT * LANES];
    let mut first = 0;
    // SAFETY: by the contract of `panels`.
    unsafe {
        let base = product.matrix.panel(panel).as_ptr();
        while first < rows {
            let block = (rows - first).min(ROW_BLOCK);
            let mut t = [V::splat(0.0); ROW_BLOCK];
            for segment in 0..segments {
                let at = base.add(segment * W::KIND.segment_bytes());
                widen::<V, W>(at, &mut widened);
                let x = product.x.values.add((segment * rows + first) * SEGMENT);
                let sums = product.x.sums.add(segment * rows + first);
                let mut row = 0;
                while row < block {
                    let x = x.add(row * SEGMENT);
                    let (sums, t) = (sums.add(row), t.as_mut_ptr().add(row));
                    let count = (block - row).min(TILE);
                    match count {
                        1 => tile::<V, W, 1>(at, &widened, x, sums, t),
                        2 => tile::<V, W, 2>(at, &widened, x, sums, t),
                        3 => tile::<V, W, 3>(at, &widened, x, sums, t),
                        4 => tile::<V, W, 4>(at, &widened, x, sums, t),
                        5 => tile::<V, W, 5>(at, &widened, x, sums, t),
                        _ => tile::<V, W, TILE>(at, &widened, x, sums, t),
                    }
                    row += count;
                }
            }
            for (row, t) in t[..block].iter().enumerate() {
                write_row(product, first + row, panel, *t);
            }
            first += block;
        }
    }
}

/// The chains of `R` rows against one widened segment, each folded into its row's `t`.
#[inline(always)]
unsafe fn tile<V: Vector, W: Format, const R: usize>(
    segment: *const u8,
    widened: &[f32; SEGMENT * LANES],
    x: *const f32,
    sums: *const f32,
    t: *mut V,
) {
    // SAFETY: `x` holds R segments, `sums` and `t` hold R elements, by the caller.
    unsafe {
        let mut c = [V::splat(0.0); R];
        for k in 0..SEGMENT {
            let weights = V::load(widened.as_ptr().add(k * LANES));
            for r in 0..R {
                c[r] = V::splat(*x.add(r * SEGMENT + k)).fma(weights, c[r]);
            }
        }
        for r in 0..R {
            let folded = W::fold(segment, c[r], V::splat(*sums.add(r)), *t.add(r));
            *t.add(r) = folded;
        }
    }
}

#[inline(always)]
unsafe fn write_row<V: Vector>(product: &Product<'_>, row: usize, panel: usize, t: V) {
    let column = panel * LANES;
    let width = (product.matrix.rows - column).min(LANES);
    // SAFETY: `out` has `rows` rows of `stride` f32, and the columns of this panel are ours.
    unsafe {
        let out = product.out.add(row * product.stride + column);
        if width == LANES {
            let t = if product.accumulate {
                V::load(out).add(t)
            } else {
                t
            };
            t.store(out);
        } else {
            let mut lanes = [0.0f32; LANES];
            t.store(lanes.as_mut_ptr());
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
