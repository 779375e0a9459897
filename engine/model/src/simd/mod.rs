//! Sixteen lanes of f32: the only vector the kernels know.
//!
//! Lanes run over outputs (columns, keys, head dimensions), never over a reduced axis, so the number of
//! lanes that the hardware has cannot change an order. Every operation below is exact or correctly rounded
//! on every implementation (IEEE 754: add, multiply, fused multiply-add, conversions), hence equal bits.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
pub(crate) mod scalar;

/// Lanes of one vector, and columns of one weight panel.
pub(crate) const LANES: usize = 16;

/// Sixteen f32 lanes.
///
/// # Safety
/// All functions are `unsafe`: an implementation may need instructions that the caller must have checked
/// for (see [`crate::Isa::is_supported`]), and the pointers must be readable or writable for 16 elements.
pub(crate) trait Vector: Copy {
    /// All lanes equal to `value`.
    unsafe fn splat(value: f32) -> Self;
    /// Reads 16 f32.
    unsafe fn load(from: *const f32) -> Self;
    /// Reads 16 IEEE half-precision numbers, widened exactly.
    unsafe fn load_f16(from: *const u16) -> Self;
    /// Reads 16 signed bytes, converted exactly.
    unsafe fn load_i8(from: *const i8) -> Self;
    /// Reads 16 bytes; the low nibbles make the first vector, the high nibbles the second.
    unsafe fn load_nibbles(from: *const u8) -> (Self, Self);
    /// Writes 16 f32.
    unsafe fn store(self, to: *mut f32);
    /// `self * factor + addend`, rounded once.
    unsafe fn fma(self, factor: Self, addend: Self) -> Self;
    /// Lane-wise sum.
    unsafe fn add(self, other: Self) -> Self;
    /// Lane-wise difference.
    unsafe fn sub(self, other: Self) -> Self;
    /// Lane-wise product.
    unsafe fn mul(self, other: Self) -> Self;
    /// Lane-wise quotient.
    unsafe fn div(self, other: Self) -> Self;
    /// Lane-wise `if self > other { self } else { other }`.
    unsafe fn max(self, other: Self) -> Self;
    /// `if self < low { low } else { self }`, then the same from above; NaN passes through.
    unsafe fn clamp(self, low: f32, high: f32) -> Self;
    /// To the nearest integer, ties to even.
    unsafe fn round(self) -> Self;
    /// Two to the power of a lane that holds an integer from -126 to 127.
    unsafe fn exp2_integer(self) -> Self;
}

/// `exp(x)` as `docs/numerics.md` defines it: range reduction by ln 2 in two parts, then the degree-6
/// polynomial of Cephes' `expf` (S. Moshier, Cephes Math Library 2.2), every step a fused multiply-add.
///
/// The argument is clamped to [-87.33654, 88.37626], so the result is always a normal number.
///
/// # Safety
/// The processor must have the instructions of `V`.
#[expect(
    clippy::excessive_precision,
    reason = "the constants stand as Cephes prints them, and the nearest f32 is meant"
)]
#[inline(always)]
pub(crate) unsafe fn exp<V: Vector>(x: V) -> V {
    // SAFETY: the caller vouches for the instructions; no memory is touched.
    unsafe {
        let x = x.clamp(-87.336_54, 88.376_26);
        let n = x.mul(V::splat(std::f32::consts::LOG2_E)).round();
        let r = n.fma(V::splat(-0.693_359_375), x);
        let r = n.fma(V::splat(2.121_944_4e-4), r);
        let mut p = V::splat(1.987_569_1e-4);
        for coefficient in [
            1.398_2e-3,
            8.333_452e-3,
            4.166_579_6e-2,
            1.666_666_6e-1,
            5.000_000_1e-1,
        ] {
            p = p.fma(r, V::splat(coefficient));
        }
        let y = p.fma(r.mul(r), r).add(V::splat(1.0));
        y.mul(n.exp2_integer())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments() -> Vec<f32> {
        let mut all = vec![
            0.0,
            -0.0,
            1.0,
            -1.0,
            87.0,
            -87.0,
            88.4,
            -88.0,
            1e30,
            -1e30,
            f32::MIN_POSITIVE,
            f32::INFINITY,
            f32::NEG_INFINITY,
        ];
        all.extend((0..16_000).map(|i| -100.0 + i as f32 * 0.0125));
        while !all.len().is_multiple_of(LANES) {
            all.push(0.5);
        }
        all
    }

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for x in arguments() {
            // SAFETY: the scalar implementation needs no special instructions.
            let y = unsafe { exp(scalar::Lanes::splat(x)).0[0] };
            let truth = f64::from(x.clamp(-87.336_54, 88.376_26)).exp();
            assert!(
                (f64::from(y) - truth).abs() <= truth * 2.4e-7,
                "exp({x}) = {y}, expected {truth}"
            );
        }
        // SAFETY: as above.
        assert_eq!(unsafe { exp(scalar::Lanes::splat(0.0)).0[0] }, 1.0);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn avx2_has_the_bits_of_scalar() {
        if !crate::Isa::Avx2.is_supported() {
            return;
        }
        for chunk in arguments().chunks_exact(LANES) {
            let (mut a, mut b) = ([0.0f32; LANES], [0.0f32; LANES]);
            // SAFETY: AVX2 was checked above, and the buffers hold 16 elements.
            unsafe {
                exp(scalar::Lanes::load(chunk.as_ptr())).store(a.as_mut_ptr());
                avx2::exp_for_test(chunk.as_ptr(), b.as_mut_ptr());
            }
            assert_eq!(a.map(f32::to_bits), b.map(f32::to_bits), "{chunk:?}");
        }
    }
}
