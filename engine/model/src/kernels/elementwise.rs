//! What happens between the matrix products, a row at a time: normalisation, and the segment-major packing
//! that the products read.

use crate::FREE_ORDER;
use crate::config::SEGMENT;
use crate::simd::{LANES, Vector, exp};

/// Where a packed row goes: see [`super::linear::Activations`] for the order.
#[derive(Clone, Copy)]
pub(crate) struct PackedRow {
    pub(crate) values: *mut f32,
    pub(crate) sums: *mut f32,
    /// Rows of the whole batch, and which of them this is.
    pub(crate) rows: usize,
    pub(crate) row: usize,
}

impl PackedRow {
    /// # Safety
    /// The buffers hold this segment.
    #[inline(always)]
    pub(super) unsafe fn segment(self, segment: usize) -> *mut f32 {
        // SAFETY: by the caller.
        unsafe { self.values.add((segment * self.rows + self.row) * SEGMENT) }
    }

    /// Writes the sum of one segment: ascending additions from zero.
    ///
    /// # Safety
    /// The segment has been written, and the buffers hold it.
    #[inline(always)]
    pub(super) unsafe fn sum_segment<V: Vector>(self, segment: usize) {
        // SAFETY: by the caller.
        unsafe {
            let values = self.segment(segment);
            let mut sum = 0.0f32;
            if FREE_ORDER {
                sum = sum_lanes(V::load(values).add(V::load(values.add(LANES))));
            } else {
                for k in 0..SEGMENT {
                    sum += *values.add(k);
                }
            }
            *self.sums.add(segment * self.rows + self.row) = sum;
        }
    }
}

/// `out[i] = exp((x[i] - peak) / temperature)`: rule DRAW of `docs/numerics.md`.
///
/// # Safety
/// The processor has the instructions of `V`; `out` is as long as `x`.
#[inline(always)]
pub(crate) unsafe fn terms<V: Vector>(x: &[f32], peak: f32, temperature: f32, out: &mut [f32]) {
    let whole = x.len() / LANES * LANES;
    let (mut rest, mut found) = ([0.0; LANES], [0.0; LANES]);
    rest[..x.len() - whole].copy_from_slice(&x[whole..]);
    // SAFETY: every index below stays under `whole`, which both are at least as long as, by the caller.
    unsafe {
        let (peak, temperature) = (V::splat(peak), V::splat(temperature));
        for at in (0..whole).step_by(LANES) {
            let x = V::load(x.as_ptr().add(at));
            exp(x.sub(peak).div(temperature)).store(out.as_mut_ptr().add(at));
        }
        exp(V::load(rest.as_ptr()).sub(peak).div(temperature)).store(found.as_mut_ptr());
    }
    out[whole..].copy_from_slice(&found[..x.len() - whole]);
}

/// The sum of a vector's lanes, in the order that is fastest: for [`FREE_ORDER`] only.
///
/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn sum_lanes<V: Vector>(vector: V) -> f32 {
    let mut lanes = [0.0f32; LANES];
    // SAFETY: 16 writable f32.
    unsafe { vector.store(lanes.as_mut_ptr()) };
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// `1 / sqrt(mean(x^2) + epsilon)`, the squares summed in segments.
///
/// # Safety
/// The processor has the instructions of `V`; `x` is a multiple of 32 long.
#[inline(always)]
unsafe fn inverse_rms<V: Vector>(x: &[f32], epsilon: f32) -> f32 {
    let mut total = 0.0f32;
    if FREE_ORDER {
        // SAFETY: `x` is a multiple of 32 long, by the caller.
        unsafe {
            let mut c = [V::splat(0.0); 4];
            for at in (0..x.len()).step_by(LANES) {
                let value = V::load(x.as_ptr().add(at));
                c[at / LANES % 4] = value.fma(value, c[at / LANES % 4]);
            }
            total = sum_lanes(c[0].add(c[1]).add(c[2].add(c[3])));
        }
    } else {
        fold_segments(
            x.len() / SEGMENT,
            |segment, k, c| {
                let value = x[segment * SEGMENT + k];
                value.mul_add(value, c)
            },
            |_, c| total += c,
        );
    }
    1.0 / (total / x.len() as f32 + epsilon).sqrt()
}

/// Root-mean-square normalisation (Zhang and Sennrich 2019): `y = (x * (1 / sqrt(mean(x^2) + epsilon))) * w`,
/// packed. The squares are summed in segments: rule NORM of `docs/numerics.md`.
///
/// # Safety
/// The processor has the instructions of `V`; `x` and `weights` have the same length, a multiple of 32, and
/// `out` has room for it.
#[inline(always)]
pub(crate) unsafe fn rms_norm<V: Vector>(x: &[f32], weights: &[f32], epsilon: f32, out: PackedRow) {
    // SAFETY: passed on from the caller.
    let inverse = unsafe { inverse_rms::<V>(x, epsilon) };
    // SAFETY: every index below stays under `x.len()`, and the segments inside `out`, by the caller.
    unsafe {
        let inverse = V::splat(inverse);
        for segment in 0..x.len() / SEGMENT {
            let to = out.segment(segment);
            for half in 0..SEGMENT / LANES {
                let at = segment * SEGMENT + half * LANES;
                let y = V::load(x.as_ptr().add(at))
                    .mul(inverse)
                    .mul(V::load(weights.as_ptr().add(at)));
                y.store(to.add(half * LANES));
            }
        }
        segment_sums::<V>(x.len() / SEGMENT, out);
    }
}

/// Normalises each head of a row in its place, as [`rms_norm`] does a row.
///
/// # Safety
/// The processor has the instructions of `V`; `row` is whole heads as long as `weights`, which is a multiple of 32.
#[inline(always)]
pub(crate) unsafe fn norm_heads<V: Vector>(row: &mut [f32], weights: &[f32], epsilon: f32) {
    for head in row.chunks_exact_mut(weights.len()) {
        // SAFETY: by the contract above.
        unsafe {
            let inverse = V::splat(inverse_rms::<V>(head, epsilon));
            for at in (0..weights.len()).step_by(LANES) {
                let y = V::load(head.as_ptr().add(at)).mul(inverse);
                y.mul(V::load(weights.as_ptr().add(at)))
                    .store(head.as_mut_ptr().add(at));
            }
        }
    }
}

/// Normalises `x` as [`rms_norm`] does, and adds it to `to`.
///
/// # Safety
/// The processor has the instructions of `V`; the three have the same length, a multiple of 32.
#[inline(always)]
pub(crate) unsafe fn norm_and_add<V: Vector>(
    x: &[f32],
    weights: &[f32],
    epsilon: f32,
    to: &mut [f32],
) {
    // SAFETY: by the contract above.
    unsafe {
        let inverse = V::splat(inverse_rms::<V>(x, epsilon));
        for at in (0..x.len()).step_by(LANES) {
            let y = V::load(x.as_ptr().add(at)).mul(inverse);
            let y = y.mul(V::load(weights.as_ptr().add(at)));
            V::load(to.as_ptr().add(at))
                .add(y)
                .store(to.as_mut_ptr().add(at));
        }
    }
}

/// Writes the sum of each packed segment of the row: ascending additions from zero.
///
/// # Safety
/// The row's first `segments` segments have been written.
#[inline(always)]
pub(crate) unsafe fn segment_sums<V: Vector>(segments: usize, row: PackedRow) {
    if FREE_ORDER {
        for segment in 0..segments {
            // SAFETY: the segments were written, by the caller.
            unsafe { row.sum_segment::<V>(segment) };
        }
        return;
    }
    fold_segments(
        segments,
        // SAFETY: the segments were written, by the caller.
        |segment, k, c| unsafe { c + *row.segment(segment).add(k) },
        // SAFETY: `sums` has one element for each segment and row.
        |segment, c| unsafe { *row.sums.add(segment * row.rows + row.row) = c },
    );
}

/// For each segment `c = 0`, then `c = step(segment, k, c)` for k from 0 to 31, then `fold(segment, c)` in
/// ascending order. Eight segments advance together, which changes no chain and hides their latency.
#[inline(always)]
fn fold_segments(
    segments: usize,
    step: impl Fn(usize, usize, f32) -> f32,
    mut fold: impl FnMut(usize, f32),
) {
    const TOGETHER: usize = 8;
    let mut first = 0;
    while first < segments {
        // Always eight, so that the chains stay in registers: the last segment stands in for those that are
        // missing.
        let numbers: [usize; TOGETHER] = std::array::from_fn(|i| (first + i).min(segments - 1));
        let mut c = [0.0f32; TOGETHER];
        for k in 0..SEGMENT {
            for i in 0..TOGETHER {
                c[i] = step(numbers[i], k, c[i]);
            }
        }
        for i in 0..(segments - first).min(TOGETHER) {
            fold(first + i, c[i]);
        }
        first += TOGETHER;
    }
}
