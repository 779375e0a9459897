//! The reference: every lane in plain Rust.

use super::{LANES, Vector};

#[derive(Clone, Copy)]
pub(crate) struct Lanes(pub(crate) [f32; LANES]);

impl Lanes {
    #[inline(always)]
    fn from_fn(lane: impl FnMut(usize) -> f32) -> Self {
        Self(std::array::from_fn(lane))
    }
}

// SAFETY (of the blocks below): the trait's contract says that the pointers are good for 16 elements.
impl Vector for Lanes {
    type Words = [u32; LANES];
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn prefetch(_at: *const u8) {}

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: readable for 16 elements, by the trait's contract; no alignment is assumed.
        Self(unsafe { from.cast::<[f32; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        // SAFETY: as in `load`.
        let bits = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        Self::from_fn(|lane| half::f16::from_bits(bits[lane]).to_f32_const())
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        // SAFETY: as in `load`.
        let bytes = unsafe { from.cast::<[i8; LANES]>().read_unaligned() };
        Self::from_fn(|lane| f32::from(bytes[lane]))
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: as in `load`.
        let bits = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        Self::from_fn(|lane| f32::from_bits(u32::from(bits[lane]) << 16))
    }

    #[inline(always)]
    unsafe fn load_words(from: *const u8) -> [u32; LANES] {
        // SAFETY: as in `load`.
        unsafe { from.cast::<[u32; LANES]>().read_unaligned() }.map(u32::from_le)
    }

    #[inline(always)]
    unsafe fn nibble(words: [u32; LANES], shift: u32) -> Self {
        Self::from_fn(|lane| (words[lane] >> shift & 15) as f32)
    }

    #[inline(always)]
    unsafe fn nibble_less_8(words: [u32; LANES], shift: u32) -> Self {
        Self::from_fn(|lane| (words[lane] >> shift & 15) as f32 - 8.0)
    }

    #[inline(always)]
    unsafe fn joined(
        low: [u32; LANES],
        shift: u32,
        high: [u32; LANES],
        high_shift: u32,
        bits: u32,
        offset: i32,
    ) -> Self {
        Self::from_fn(|lane| {
            let high = high[lane] >> high_shift & ((1 << bits) - 1);
            let value = (low[lane] >> shift & 15) | high << 4;
            (value as i32 - offset) as f32
        })
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        let bits = self
            .0
            .map(|value| half::f16::from_f32_const(value).to_bits());
        // SAFETY: writable for 16 elements, by the trait's contract.
        unsafe { to.cast::<[u16; LANES]>().write_unaligned(bits) }
    }

    #[inline(always)]
    unsafe fn swap_pairs(self) -> Self {
        Self::from_fn(|lane| self.0[lane ^ 1])
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: writable for 16 elements, by the trait's contract.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn fma(self, factor: Self, addend: Self) -> Self {
        Self::from_fn(|lane| self.0[lane].mul_add(factor.0[lane], addend.0[lane]))
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self::from_fn(|lane| self.0[lane] + other.0[lane])
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self::from_fn(|lane| self.0[lane] - other.0[lane])
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self::from_fn(|lane| self.0[lane] * other.0[lane])
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self::from_fn(|lane| self.0[lane] / other.0[lane])
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self::from_fn(|lane| {
            if self.0[lane] > other.0[lane] {
                self.0[lane]
            } else {
                other.0[lane]
            }
        })
    }

    #[inline(always)]
    unsafe fn clamp(self, low: f32, high: f32) -> Self {
        Self::from_fn(|lane| {
            let x = self.0[lane];
            let x = if x < low { low } else { x };
            if x > high { high } else { x }
        })
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self::from_fn(|lane| self.0[lane].round_ties_even())
    }

    #[inline(always)]
    unsafe fn exp2_integer(self) -> Self {
        Self::from_fn(|lane| f32::from_bits(((self.0[lane] as i32 + 127) << 23) as u32))
    }
}
