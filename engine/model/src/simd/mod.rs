//! Sixteen lanes of f32: the only vector the kernels know.
//!
//! Lanes run over outputs (columns, keys, head dimensions), never over a reduced axis, so the number of
//! lanes that the hardware has cannot change an order. Every operation below is exact or correctly rounded
//! on every implementation (IEEE 754: add, multiply, fused multiply-add, conversions), hence equal bits.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod scalar;

/// Lanes of one vector, and columns of one weight panel.
pub(crate) const LANES: usize = 16;

/// Sixteen f32 lanes.
///
/// # Safety
/// All functions are `unsafe`: an implementation may need instructions that the caller must have checked
/// for (see [`crate::Isa::is_supported`]), and the pointers must be readable or writable for 16 elements.
pub(crate) trait Vector: Copy {
    /// Sixteen 32-bit words, one for each lane, that hold quantised weights.
    type Words: Copy;

    /// Whether the register file holds 24 accumulators of 16 lanes, beside what they are made of.
    const WIDE: bool;

    /// Asks for the cache line at an address, which need not be a valid one.
    unsafe fn prefetch(at: *const u8);
    /// All lanes equal to `value`.
    unsafe fn splat(value: f32) -> Self;
    /// Reads 16 f32.
    unsafe fn load(from: *const f32) -> Self;
    /// Reads 16 IEEE half-precision numbers, widened exactly.
    unsafe fn load_f16(from: *const u16) -> Self;
    /// As [`Vector::load_f16`], of weights, which come from memory and not from a cache. On AVX-512 that is faster in
    /// two halves (decoding F16 on Zen 4 by 8%, the median of nine pairs), and for keys and values it is not.
    #[inline(always)]
    unsafe fn load_f16_once(from: *const u16) -> Self {
        // SAFETY: passed on from the caller.
        unsafe { Self::load_f16(from) }
    }
    /// Reads 16 bfloat16 numbers, widened exactly.
    unsafe fn load_bf16(from: *const u16) -> Self;
    /// Reads 16 signed bytes, converted exactly.
    unsafe fn load_i8(from: *const i8) -> Self;
    /// Reads 16 words (64 bytes).
    unsafe fn load_words(from: *const u8) -> Self::Words;
    /// The four bits of each word from bit `shift` on, a number from 0 to 15.
    unsafe fn nibble(words: Self::Words, shift: u32) -> Self;
    /// The same bits less 8, a number from -8 to 7.
    unsafe fn nibble_less_8(words: Self::Words, shift: u32) -> Self;
    /// Four bits of `low` from bit `shift` on, and above them `bits` bits of `high` from bit `high_shift` on,
    /// less `offset`.
    unsafe fn joined(
        low: Self::Words,
        shift: u32,
        high: Self::Words,
        high_shift: u32,
        bits: u32,
        offset: i32,
    ) -> Self;
    /// Rounds to half precision, to the nearest, ties to even, and writes 16 of them.
    unsafe fn store_f16(self, to: *mut u16);
    /// Lanes 0 and 1 exchanged, 2 and 3, and so on.
    unsafe fn swap_pairs(self) -> Self;
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

    /// What every operation makes of some inputs, as bits.
    ///
    /// # Safety
    /// The processor must have the instructions of `V`.
    #[inline(always)]
    unsafe fn everything<V: Vector>(out: &mut Vec<u32>) {
        let words: Vec<u8> = (0..128u32)
            .map(|i| (i.wrapping_mul(167) ^ (i >> 3)) as u8)
            .collect();
        let halves: Vec<u16> = (0..16u16).map(|i| i.wrapping_mul(4219) & 0x7bff).collect();
        let mut keep = |v: V| {
            let mut lanes = [0.0f32; LANES];
            // SAFETY: 16 writable f32.
            unsafe { v.store(lanes.as_mut_ptr()) };
            out.extend(lanes.map(f32::to_bits));
        };
        // SAFETY: by the caller; every buffer holds what is read from it.
        unsafe {
            let arguments = arguments();
            for chunk in arguments.chunks_exact(LANES) {
                let x = V::load(chunk.as_ptr());
                keep(exp(x));
                keep(x.swap_pairs());
                keep(x.round());
                keep(x.clamp(-3.0, 5.5));
                keep(
                    x.fma(x, V::splat(0.1))
                        .max(x.mul(V::splat(-0.3)).sub(x))
                        .div(V::splat(0.7).add(x)),
                );
                let mut half = [0u16; LANES];
                x.store_f16(half.as_mut_ptr());
                out_f16(&half, &mut keep);
                keep(V::load_f16(half.as_ptr()));
            }
            keep(V::load_f16(halves.as_ptr()));
            keep(V::load_bf16(halves.as_ptr()));
            keep(V::load_i8(words.as_ptr().cast()));
            let (low, high) = (
                V::load_words(words.as_ptr()),
                V::load_words(words.as_ptr().add(64)),
            );
            for shift in (0..32).step_by(4) {
                keep(V::nibble(low, shift));
                keep(V::nibble_less_8(low, shift));
                keep(V::joined(low, shift, high, shift / 4, 1, 0));
                keep(V::joined(low, shift, high, 24 + shift / 4, 1, 16));
                keep(V::joined(low, shift, high, shift / 2, 2, 32));
                keep(V::joined(low, shift, high, 16 + shift / 2, 2, 32));
            }
        }
    }

    /// Passes half-precision bits on as numbers.
    #[inline(always)]
    unsafe fn out_f16<V: Vector>(half: &[u16; LANES], keep: &mut impl FnMut(V)) {
        let as_f32 = half.map(f32::from);
        // SAFETY: 16 readable f32.
        keep(unsafe { V::load(as_f32.as_ptr()) });
    }

    fn scalar_bits() -> Vec<u32> {
        let mut bits = Vec::new();
        // SAFETY: the scalar implementation needs no special instructions.
        unsafe { everything::<scalar::Lanes>(&mut bits) };
        bits
    }

    #[test]
    fn scalar_fields_are_what_their_names_say() {
        let mut words = [0u8; 128];
        words[..4].copy_from_slice(&0x9000_0025_u32.to_le_bytes());
        words[64..68].copy_from_slice(&0x8000_0006_u32.to_le_bytes());
        type V = scalar::Lanes;
        // SAFETY: the scalar implementation needs no special instructions; the buffer holds both reads.
        unsafe {
            let (low, high) = (
                V::load_words(words.as_ptr()),
                V::load_words(words.as_ptr().add(64)),
            );
            assert_eq!(V::nibble(low, 0).0[0], 5.0);
            assert_eq!(V::nibble(low, 4).0[0], 2.0);
            assert_eq!(V::nibble_less_8(low, 28).0[0], 1.0);
            assert_eq!(V::joined(low, 0, high, 1, 1, 0).0[0], 21.0);
            assert_eq!(V::joined(low, 28, high, 31, 1, 16).0[0], 9.0);
            assert_eq!(V::joined(low, 4, high, 1, 2, 32).0[0], 18.0);
            let swapped = V::load(
                [
                    0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0,
                    15.0,
                ]
                .as_ptr(),
            )
            .swap_pairs();
            assert_eq!(swapped.0[..4], [1.0, 0.0, 3.0, 2.0]);
            assert_eq!(V::load_bf16([0x3fc0; LANES].as_ptr()).0[0], 1.5);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn avx2_has_the_bits_of_scalar() {
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn bits(out: &mut Vec<u32>) {
            // SAFETY: by the caller.
            unsafe { everything::<avx2::Lanes>(out) }
        }
        if !crate::Isa::Avx2.is_supported() {
            return;
        }
        let mut found = Vec::new();
        // SAFETY: AVX2 was checked above.
        unsafe { bits(&mut found) };
        assert_eq!(found, scalar_bits());
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn avx512_has_the_bits_of_scalar() {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        unsafe fn bits(out: &mut Vec<u32>) {
            // SAFETY: by the caller.
            unsafe { everything::<avx512::Lanes>(out) }
        }
        if !crate::Isa::Avx512.is_supported() {
            return;
        }
        let mut found = Vec::new();
        // SAFETY: AVX-512 was checked above.
        unsafe { bits(&mut found) };
        assert_eq!(found, scalar_bits());
    }

    #[cfg(target_arch = "aarch64")]
    #[test]
    fn neon_has_the_bits_of_scalar() {
        let mut found = Vec::new();
        // SAFETY: every aarch64 processor has NEON.
        unsafe { everything::<neon::Lanes>(&mut found) };
        assert_eq!(found, scalar_bits());
    }
}
