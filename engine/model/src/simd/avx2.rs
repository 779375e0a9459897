//! Two 256-bit registers make the sixteen lanes.

use std::arch::x86_64::*;

use super::Vector;

#[derive(Clone, Copy)]
pub(crate) struct Lanes(__m256, __m256);

macro_rules! lanewise {
    ($name:ident, $intrinsic:ident) => {
        #[inline(always)]
        unsafe fn $name(self, other: Self) -> Self {
            // SAFETY: the trait's contract: the processor has AVX2.
            unsafe { Self($intrinsic(self.0, other.0), $intrinsic(self.1, other.1)) }
        }
    };
}

// In every block below: the trait's contract says that AVX2, FMA and F16C were checked, and that pointers
// are good for 16 elements. All loads and stores are unaligned ones.
impl Vector for Lanes {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: AVX was checked; no memory is touched.
        unsafe { Self(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: 16 readable f32.
        unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        // SAFETY: 16 readable u16, so two 128-bit loads of 8.
        unsafe {
            Self(
                _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast())),
            )
        }
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        // SAFETY: 16 readable bytes, so two 64-bit loads of 8.
        unsafe {
            Self(
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.add(8).cast()))),
            )
        }
    }

    #[inline(always)]
    unsafe fn load_nibbles(from: *const u8) -> (Self, Self) {
        // SAFETY: 16 readable bytes.
        unsafe {
            let bytes = _mm_loadu_si128(from.cast());
            let mask = _mm_set1_epi8(15);
            let low = _mm_and_si128(bytes, mask);
            let high = _mm_and_si128(_mm_srli_epi16::<4>(bytes), mask);
            (widen_bytes(low), widen_bytes(high))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: 16 writable f32.
        unsafe {
            _mm256_storeu_ps(to, self.0);
            _mm256_storeu_ps(to.add(8), self.1);
        }
    }

    #[inline(always)]
    unsafe fn fma(self, factor: Self, addend: Self) -> Self {
        // SAFETY: FMA was checked; no memory is touched.
        unsafe {
            Self(
                _mm256_fmadd_ps(self.0, factor.0, addend.0),
                _mm256_fmadd_ps(self.1, factor.1, addend.1),
            )
        }
    }

    lanewise!(add, _mm256_add_ps);
    lanewise!(sub, _mm256_sub_ps);
    lanewise!(mul, _mm256_mul_ps);
    lanewise!(div, _mm256_div_ps);
    lanewise!(max, _mm256_max_ps);

    #[inline(always)]
    unsafe fn clamp(self, low: f32, high: f32) -> Self {
        // `max` and `min` return their second operand where one is NaN, so NaN passes through, as in the
        // scalar reference.
        // SAFETY: AVX was checked; no memory is touched.
        unsafe {
            let (low, high) = (_mm256_set1_ps(low), _mm256_set1_ps(high));
            Self(
                _mm256_min_ps(high, _mm256_max_ps(low, self.0)),
                _mm256_min_ps(high, _mm256_max_ps(low, self.1)),
            )
        }
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: AVX was checked; no memory is touched.
        unsafe {
            Self(
                _mm256_round_ps::<NEAREST>(self.0),
                _mm256_round_ps::<NEAREST>(self.1),
            )
        }
    }

    #[inline(always)]
    unsafe fn exp2_integer(self) -> Self {
        // SAFETY: AVX2 was checked; no memory is touched.
        unsafe { Self(exp2_half(self.0), exp2_half(self.1)) }
    }
}

/// # Safety
/// The processor must have AVX2.
#[inline(always)]
unsafe fn widen_bytes(bytes: __m128i) -> Lanes {
    // SAFETY: AVX2, by the caller; no memory is touched.
    unsafe {
        Lanes(
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128::<8>(bytes))),
        )
    }
}

/// # Safety
/// The processor must have AVX2.
#[inline(always)]
unsafe fn exp2_half(n: __m256) -> __m256 {
    // SAFETY: AVX2, by the caller; no memory is touched.
    unsafe {
        let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
    }
}

/// # Safety
/// The processor must have AVX2, FMA and F16C; `from` and `to` are good for 16 elements.
#[cfg(test)]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn exp_for_test(from: *const f32, to: *mut f32) {
    // SAFETY: by the caller.
    unsafe { super::exp(Lanes::load(from)).store(to) }
}
