//! One 512-bit register makes the sixteen lanes.

use std::arch::x86_64::*;

use super::Vector;

#[derive(Clone, Copy)]
pub(crate) struct Lanes(__m512);

macro_rules! lanewise {
    ($name:ident, $intrinsic:ident) => {
        #[inline(always)]
        unsafe fn $name(self, other: Self) -> Self {
            // SAFETY: the trait's contract: the processor has AVX-512F.
            unsafe { Self($intrinsic(self.0, other.0)) }
        }
    };
}

// In every block below: the trait's contract says that AVX-512F, BW, DQ and VL were checked, and that
// pointers are good for 16 elements. All loads and stores are unaligned ones.
impl Vector for Lanes {
    type Words = __m512i;
    const WIDE: bool = true;

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        // SAFETY: a hint, which never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: AVX-512F was checked; no memory is touched.
        unsafe { Self(_mm512_set1_ps(value)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: 16 readable f32.
        unsafe { Self(_mm512_loadu_ps(from)) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        // SAFETY: 16 readable u16.
        unsafe { Self(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_f16_once(from: *const u16) -> Self {
        // SAFETY: 16 readable u16, so two 128-bit loads of 8.
        unsafe {
            let low = _mm256_cvtph_ps(_mm_loadu_si128(from.cast()));
            let high = _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast()));
            Self(_mm512_insertf32x8::<1>(_mm512_castps256_ps512(low), high))
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: 16 readable u16.
        unsafe {
            let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)))
        }
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        // SAFETY: 16 readable bytes.
        unsafe {
            let bytes = _mm_loadu_si128(from.cast());
            Self(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)))
        }
    }

    #[inline(always)]
    unsafe fn load_words(from: *const u8) -> __m512i {
        // SAFETY: 64 readable bytes.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn nibble(words: __m512i, shift: u32) -> Self {
        // A table of the sixteen values: the permutation looks at the low four bits of each word only.
        // SAFETY: AVX-512F was checked; no memory is touched.
        unsafe {
            let table = _mm512_set_ps(
                15.0, 14.0, 13.0, 12.0, 11.0, 10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0,
                0.0,
            );
            Self(_mm512_permutexvar_ps(shift_right(words, shift), table))
        }
    }

    #[inline(always)]
    unsafe fn nibble_less_8(words: __m512i, shift: u32) -> Self {
        // SAFETY: as in `nibble`.
        unsafe {
            let table = _mm512_set_ps(
                7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0, -1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0,
                -8.0,
            );
            Self(_mm512_permutexvar_ps(shift_right(words, shift), table))
        }
    }

    #[inline(always)]
    unsafe fn joined(
        low: __m512i,
        shift: u32,
        high: __m512i,
        high_shift: u32,
        bits: u32,
        offset: i32,
    ) -> Self {
        // SAFETY: AVX-512F was checked; no memory is touched.
        unsafe {
            let low = _mm512_and_si512(shift_right(low, shift), _mm512_set1_epi32(15));
            let mask = _mm512_set1_epi32((1 << bits) - 1);
            let high = _mm512_and_si512(shift_right(high, high_shift), mask);
            let value = _mm512_or_si512(low, _mm512_slli_epi32::<4>(high));
            let value = _mm512_sub_epi32(value, _mm512_set1_epi32(offset));
            Self(_mm512_cvtepi32_ps(value))
        }
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        // SAFETY: 16 writable u16.
        unsafe {
            let half = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0);
            _mm256_storeu_si256(to.cast(), half);
        }
    }

    #[inline(always)]
    unsafe fn swap_pairs(self) -> Self {
        // SAFETY: AVX-512F was checked; no memory is touched.
        unsafe { Self(_mm512_permute_ps::<0b10_11_00_01>(self.0)) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: 16 writable f32.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn fma(self, factor: Self, addend: Self) -> Self {
        // SAFETY: AVX-512F was checked; no memory is touched.
        unsafe { Self(_mm512_fmadd_ps(self.0, factor.0, addend.0)) }
    }

    lanewise!(add, _mm512_add_ps);
    lanewise!(sub, _mm512_sub_ps);
    lanewise!(mul, _mm512_mul_ps);
    lanewise!(div, _mm512_div_ps);
    lanewise!(max, _mm512_max_ps);

    #[inline(always)]
    unsafe fn clamp(self, low: f32, high: f32) -> Self {
        // `max` and `min` return their second operand where one is NaN, so NaN passes through, as in the
        // scalar reference.
        // SAFETY: AVX-512F was checked; no memory is touched.
        unsafe {
            let raised = _mm512_max_ps(_mm512_set1_ps(low), self.0);
            Self(_mm512_min_ps(_mm512_set1_ps(high), raised))
        }
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        // SAFETY: AVX-512F was checked; no memory is touched.
        unsafe {
            Self(_mm512_roundscale_ps::<
                { _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC },
            >(self.0))
        }
    }

    #[inline(always)]
    unsafe fn exp2_integer(self) -> Self {
        // SAFETY: AVX-512F was checked; no memory is touched.
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased)))
        }
    }
}

/// The count is a constant wherever this is inlined, so it becomes an immediate.
///
/// # Safety
/// The processor must have AVX-512F.
#[inline(always)]
unsafe fn shift_right(words: __m512i, by: u32) -> __m512i {
    // SAFETY: AVX-512F, by the caller; no memory is touched.
    unsafe { _mm512_srl_epi32(words, _mm_cvtsi32_si128(by as i32)) }
}
