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
    type Words = (__m256i, __m256i);
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        // SAFETY: a hint, which never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

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
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: 16 readable u16, so two 128-bit loads of 8.
        unsafe {
            let widen = |at| _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(at));
            Self(
                _mm256_castsi256_ps(widen(_mm_loadu_si128(from.cast()))),
                _mm256_castsi256_ps(widen(_mm_loadu_si128(from.add(8).cast()))),
            )
        }
    }

    #[inline(always)]
    unsafe fn load_words(from: *const u8) -> Self::Words {
        // SAFETY: 64 readable bytes.
        unsafe {
            (
                _mm256_loadu_si256(from.cast()),
                _mm256_loadu_si256(from.add(32).cast()),
            )
        }
    }

    #[inline(always)]
    unsafe fn nibble(words: Self::Words, shift: u32) -> Self {
        // SAFETY: AVX2 was checked; no memory is touched.
        unsafe {
            let mask = _mm256_set1_epi32(15);
            from_integers(
                _mm256_and_si256(shift_right(words.0, shift), mask),
                _mm256_and_si256(shift_right(words.1, shift), mask),
            )
        }
    }

    #[inline(always)]
    unsafe fn nibble_less_8(words: Self::Words, shift: u32) -> Self {
        // SAFETY: AVX2 was checked; no memory is touched.
        unsafe {
            let (mask, eight) = (_mm256_set1_epi32(15), _mm256_set1_epi32(8));
            let field =
                |words| _mm256_sub_epi32(_mm256_and_si256(shift_right(words, shift), mask), eight);
            from_integers(field(words.0), field(words.1))
        }
    }

    #[inline(always)]
    unsafe fn joined(
        low: Self::Words,
        shift: u32,
        high: Self::Words,
        high_shift: u32,
        bits: u32,
        offset: i32,
    ) -> Self {
        // SAFETY: AVX2 was checked; no memory is touched.
        unsafe {
            from_integers(
                joined_half(low.0, shift, high.0, high_shift, bits, offset),
                joined_half(low.1, shift, high.1, high_shift, bits, offset),
            )
        }
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;
        // SAFETY: 16 writable u16; F16C was checked.
        unsafe {
            _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<NEAREST>(self.0));
            _mm_storeu_si128(to.add(8).cast(), _mm256_cvtps_ph::<NEAREST>(self.1));
        }
    }

    #[inline(always)]
    unsafe fn swap_pairs(self) -> Self {
        // SAFETY: AVX was checked; no memory is touched.
        unsafe {
            Self(
                _mm256_permute_ps::<0b10_11_00_01>(self.0),
                _mm256_permute_ps::<0b10_11_00_01>(self.1),
            )
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
unsafe fn from_integers(low: __m256i, high: __m256i) -> Lanes {
    // SAFETY: AVX2, by the caller; no memory is touched.
    unsafe { Lanes(_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)) }
}

/// The count is a constant wherever this is inlined, so it becomes an immediate.
///
/// # Safety
/// The processor must have AVX2.
#[inline(always)]
unsafe fn shift_right(words: __m256i, by: u32) -> __m256i {
    // SAFETY: AVX2, by the caller; no memory is touched.
    unsafe { _mm256_srl_epi32(words, _mm_cvtsi32_si128(by as i32)) }
}

/// # Safety
/// The processor must have AVX2.
#[inline(always)]
unsafe fn joined_half(
    low: __m256i,
    shift: u32,
    high: __m256i,
    high_shift: u32,
    bits: u32,
    offset: i32,
) -> __m256i {
    // SAFETY: AVX2, by the caller; no memory is touched.
    unsafe {
        let low = _mm256_and_si256(shift_right(low, shift), _mm256_set1_epi32(15));
        let mask = _mm256_set1_epi32((1 << bits) - 1);
        let high = _mm256_and_si256(shift_right(high, high_shift), mask);
        let value = _mm256_or_si256(low, _mm256_slli_epi32::<4>(high));
        _mm256_sub_epi32(value, _mm256_set1_epi32(offset))
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
