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
    unsafe fn load_nibbles(from: *const u8) -> (Self, Self) {
        // SAFETY: as in `load`.
        let bytes = unsafe { from.cast::<[u8; LANES]>().read_unaligned() };
        (
            Self::from_fn(|lane| f32::from(bytes[lane] & 15)),
            Self::from_fn(|lane| f32::from(bytes[lane] >> 4)),
        )
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
