//! Four 128-bit registers make the sixteen lanes.

use std::arch::aarch64::*;

use super::Vector;

#[derive(Clone, Copy)]
pub(crate) struct Lanes([float32x4_t; 4]);

macro_rules! lanewise {
    ($name:ident, $intrinsic:ident) => {
        #[inline(always)]
        unsafe fn $name(self, other: Self) -> Self {
            // SAFETY: every aarch64 processor has NEON; no memory is touched.
            unsafe { self.zip(other, |a, b| $intrinsic(a, b)) }
        }
    };
}

impl Lanes {
    #[inline(always)]
    fn map(self, of: impl Fn(float32x4_t) -> float32x4_t) -> Self {
        let [a, b, c, d] = self.0;
        Self([of(a), of(b), of(c), of(d)])
    }

    #[inline(always)]
    fn zip(self, other: Self, of: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Self([of(a, e), of(b, f), of(c, g), of(d, h)])
    }
}

// In every block below: every aarch64 processor has NEON, and the trait's contract says that pointers are
// good for 16 elements.
impl Vector for Lanes {
    type Words = [uint32x4_t; 4];
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        // SAFETY: a hint, which never faults.
        unsafe {
            std::arch::asm!("prfm pldl1keep, [{at}]", at = in(reg) at,
                options(readonly, nostack, preserves_flags));
        }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: no memory is touched.
        unsafe { Self([vdupq_n_f32(value); 4]) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: 16 readable f32.
        unsafe {
            Self([
                vld1q_f32(from),
                vld1q_f32(from.add(4)),
                vld1q_f32(from.add(8)),
                vld1q_f32(from.add(12)),
            ])
        }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        // SAFETY: 16 readable u16.
        unsafe {
            Self([
                widen_f16(from),
                widen_f16(from.add(4)),
                widen_f16(from.add(8)),
                widen_f16(from.add(12)),
            ])
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: 16 readable u16, so four 64-bit loads of 4.
        unsafe {
            let widen = |from| vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from)));
            Self([
                widen(from),
                widen(from.add(4)),
                widen(from.add(8)),
                widen(from.add(12)),
            ])
        }
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        // SAFETY: 16 readable bytes.
        unsafe {
            let bytes = vld1q_s8(from);
            let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
            Self([
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
                vcvtq_f32_s32(vmovl_high_s16(low)),
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
                vcvtq_f32_s32(vmovl_high_s16(high)),
            ])
        }
    }

    #[inline(always)]
    unsafe fn load_words(from: *const u8) -> Self::Words {
        // SAFETY: 64 readable bytes; NEON loads need no alignment beyond a byte's.
        unsafe {
            let load = |at: usize| vreinterpretq_u32_u8(vld1q_u8(from.add(at)));
            [load(0), load(16), load(32), load(48)]
        }
    }

    #[inline(always)]
    unsafe fn nibble(words: Self::Words, shift: u32) -> Self {
        // SAFETY: no memory is touched.
        unsafe { Self(words.map(|words| vcvtq_f32_u32(field(words, shift, 15)))) }
    }

    #[inline(always)]
    unsafe fn nibble_less_8(words: Self::Words, shift: u32) -> Self {
        // SAFETY: no memory is touched.
        unsafe { Self(words.map(|words| less(field(words, shift, 15), 8))) }
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
        // SAFETY: no memory is touched.
        unsafe {
            let part = |i: usize| {
                let above = vshlq_n_u32::<4>(field(high[i], high_shift, (1 << bits) - 1));
                less(vorrq_u32(field(low[i], shift, 15), above), offset)
            };
            Self([part(0), part(1), part(2), part(3)])
        }
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        let mut lanes = [0.0f32; 16];
        // SAFETY: the buffer holds 16 f32; 16 writable u16, by the trait's contract.
        unsafe {
            self.store(lanes.as_mut_ptr());
            let bits = lanes.map(|value| half::f16::from_f32(value).to_bits());
            to.cast::<[u16; 16]>().write_unaligned(bits);
        }
    }

    #[inline(always)]
    unsafe fn swap_pairs(self) -> Self {
        // SAFETY: no memory is touched.
        unsafe { self.map(|a| vrev64q_f32(a)) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: 16 writable f32.
        unsafe {
            for (i, part) in self.0.into_iter().enumerate() {
                vst1q_f32(to.add(4 * i), part);
            }
        }
    }

    #[inline(always)]
    unsafe fn fma(self, factor: Self, addend: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h], [i, j, k, l]) = (self.0, factor.0, addend.0);
        // SAFETY: no memory is touched.
        unsafe {
            Self([
                vfmaq_f32(i, a, e),
                vfmaq_f32(j, b, f),
                vfmaq_f32(k, c, g),
                vfmaq_f32(l, d, h),
            ])
        }
    }

    lanewise!(add, vaddq_f32);
    lanewise!(sub, vsubq_f32);
    lanewise!(mul, vmulq_f32);
    lanewise!(div, vdivq_f32);

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // A comparison and a choice: NEON's own maximum treats NaN and signed zeros in another way.
        // SAFETY: no memory is touched.
        unsafe { self.zip(other, |a, b| vbslq_f32(vcgtq_f32(a, b), a, b)) }
    }

    #[inline(always)]
    unsafe fn clamp(self, low: f32, high: f32) -> Self {
        // SAFETY: no memory is touched.
        unsafe {
            let (low, high) = (vdupq_n_f32(low), vdupq_n_f32(high));
            self.map(|x| {
                let x = vbslq_f32(vcltq_f32(x, low), low, x);
                vbslq_f32(vcgtq_f32(x, high), high, x)
            })
        }
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        // SAFETY: no memory is touched.
        unsafe { self.map(|x| vrndnq_f32(x)) }
    }

    #[inline(always)]
    unsafe fn exp2_integer(self) -> Self {
        // SAFETY: no memory is touched.
        unsafe {
            self.map(|n| {
                let biased = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
                vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
            })
        }
    }
}

/// # Safety
/// `from` is readable for 4 elements.
#[inline(always)]
unsafe fn widen_f16(from: *const u16) -> float32x4_t {
    let out: float32x4_t;
    // The intrinsics for half precision are not stable yet; the instruction is in the base set.
    // SAFETY: 4 readable u16, by the caller; the instruction changes nothing but its output.
    unsafe {
        let half = vld1_u16(from);
        std::arch::asm!("fcvtl {out:v}.4s, {half:v}.4h", out = out(vreg) out, half = in(vreg) half,
            options(pure, nomem, nostack, preserves_flags));
    }
    out
}

/// # Safety
/// None beyond NEON, which every aarch64 processor has.
#[inline(always)]
unsafe fn field(words: uint32x4_t, shift: u32, mask: u32) -> uint32x4_t {
    // A shift to the left by a negative count is one to the right.
    // SAFETY: no memory is touched.
    unsafe {
        let moved = vshlq_u32(words, vdupq_n_s32(-(shift as i32)));
        vandq_u32(moved, vdupq_n_u32(mask))
    }
}

/// # Safety
/// None beyond NEON.
#[inline(always)]
unsafe fn less(words: uint32x4_t, offset: i32) -> float32x4_t {
    // SAFETY: no memory is touched.
    unsafe { vcvtq_f32_s32(vsubq_s32(vreinterpretq_s32_u32(words), vdupq_n_s32(offset))) }
}
