//! How keys and values are read from a slab and written to it, for each type of element.

use kakeya_core::KvElement;

use crate::config::SEGMENT;
use crate::kv::key_scale;
use crate::simd::{LANES, Vector};

const _: () = assert!(KvElement::BLOCK == SEGMENT);

/// A place in a slab: its first element, or that of a head, a segment or a vector.
///
/// # Safety
/// Of the unsafe functions: what they read or write lies in the slab, the processor has the instructions of `V`, and
/// nobody else writes what is read or written.
pub(crate) trait KvCache: Copy {
    /// The place `elements` further on. For [`Int8`] places from which scales are read are `elements` from the slab's
    /// start that are a multiple of 32, or of 16 where no more than 16 are read from there.
    fn at(self, elements: usize) -> Self;

    /// The address of an element, to be prefetched: it need not lie in the slab.
    fn address(self, element: usize) -> *const u8;

    /// The scales of one segment of 16 keys: rows are dimensions, and `row` is the first of the segment.
    unsafe fn key_scales<V: Vector>(self, row: usize) -> V;

    /// One dimension of 16 keys.
    unsafe fn keys<V: Vector>(self, element: usize, scales: V) -> V;

    /// The scale of the segment of a value that begins at `element`.
    unsafe fn value_scale<V: Vector>(self, element: usize) -> V;

    /// 16 dimensions of a value.
    unsafe fn values<V: Vector>(self, element: usize, scale: V) -> V;

    /// Writes 32 dimensions of a key, the first of which is `element`.
    unsafe fn write_key<V: Vector>(self, element: usize, key: [V; 2]);

    /// Writes 32 dimensions of a value.
    unsafe fn write_value<V: Vector>(self, element: usize, value: [V; 2]);
}

/// A cache whose elements are numbers of their own.
macro_rules! plain {
    ($element:ty, $load:ident, $store:ident) => {
        impl KvCache for *mut $element {
            #[inline(always)]
            fn at(self, elements: usize) -> Self {
                self.wrapping_add(elements)
            }

            #[inline(always)]
            fn address(self, element: usize) -> *const u8 {
                self.wrapping_add(element).cast()
            }

            #[inline(always)]
            unsafe fn key_scales<V: Vector>(self, _: usize) -> V {
                // SAFETY: no memory is touched; the instructions by the caller.
                unsafe { V::splat(1.0) }
            }

            #[inline(always)]
            unsafe fn keys<V: Vector>(self, element: usize, _: V) -> V {
                // SAFETY: by the caller.
                unsafe { V::$load(self.add(element)) }
            }

            #[inline(always)]
            unsafe fn value_scale<V: Vector>(self, _: usize) -> V {
                // SAFETY: no memory is touched; the instructions by the caller.
                unsafe { V::splat(1.0) }
            }

            #[inline(always)]
            unsafe fn values<V: Vector>(self, element: usize, _: V) -> V {
                // SAFETY: by the caller.
                unsafe { V::$load(self.add(element)) }
            }

            #[inline(always)]
            unsafe fn write_key<V: Vector>(self, element: usize, key: [V; 2]) {
                for (half, key) in key.into_iter().enumerate() {
                    let mut lanes = [<$element>::default(); LANES];
                    // SAFETY: by the caller; dimensions of a key are 16 elements apart.
                    unsafe {
                        key.$store(lanes.as_mut_ptr());
                        for (lane, value) in lanes.into_iter().enumerate() {
                            *self.add(element + (half * LANES + lane) * LANES) = value;
                        }
                    }
                }
            }

            #[inline(always)]
            unsafe fn write_value<V: Vector>(self, element: usize, value: [V; 2]) {
                for (half, value) in value.into_iter().enumerate() {
                    // SAFETY: by the caller.
                    unsafe { value.$store(self.add(element + half * LANES)) }
                }
            }
        }
    };
}

plain!(u16, load_f16, store_f16);
plain!(f32, load, store);

/// A cache of integers with scales. An element stands for its integer times the scale, which f32 holds exactly: the
/// rule of attention is that of any other cache, and only what is written is rounded.
#[derive(Clone, Copy)]
pub(crate) struct Int8 {
    pub(crate) quants: *mut i8,
    pub(crate) scales: *mut u16,
}

impl KvCache for Int8 {
    #[inline(always)]
    fn at(self, elements: usize) -> Self {
        Self {
            quants: self.quants.wrapping_add(elements),
            scales: self.scales.wrapping_add(elements / SEGMENT),
        }
    }

    #[inline(always)]
    fn address(self, element: usize) -> *const u8 {
        self.quants.wrapping_add(element).cast_const().cast()
    }

    #[inline(always)]
    unsafe fn key_scales<V: Vector>(self, row: usize) -> V {
        // SAFETY: by the caller.
        unsafe { V::load_bf16(self.scales.add(row / SEGMENT * LANES)) }
    }

    #[inline(always)]
    unsafe fn keys<V: Vector>(self, element: usize, scales: V) -> V {
        // SAFETY: by the caller.
        unsafe { V::load_i8(self.quants.add(element)).mul(scales) }
    }

    #[inline(always)]
    unsafe fn value_scale<V: Vector>(self, element: usize) -> V {
        // SAFETY: by the caller.
        unsafe { V::splat(widen(*self.scales.add(element / SEGMENT))) }
    }

    #[inline(always)]
    unsafe fn values<V: Vector>(self, element: usize, scale: V) -> V {
        // SAFETY: by the caller.
        unsafe { V::load_i8(self.quants.add(element)).mul(scale) }
    }

    #[inline(always)]
    unsafe fn write_key<V: Vector>(self, element: usize, key: [V; 2]) {
        // SAFETY: by the caller; dimensions of a key are 16 elements apart.
        unsafe {
            let (quants, scale) = quantise(&numbers(key));
            for (dim, quant) in quants.into_iter().enumerate() {
                *self.quants.add(element + dim * LANES) = quant;
            }
            *self.scales.add(key_scale(element)) = scale;
        }
    }

    #[inline(always)]
    unsafe fn write_value<V: Vector>(self, element: usize, value: [V; 2]) {
        // SAFETY: by the caller.
        unsafe {
            let (quants, scale) = quantise(&numbers(value));
            self.quants
                .add(element)
                .copy_from_nonoverlapping(quants.as_ptr(), SEGMENT);
            *self.scales.add(element / SEGMENT) = scale;
        }
    }
}

/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
unsafe fn numbers<V: Vector>(halves: [V; 2]) -> [f32; SEGMENT] {
    let mut all = [0.0; SEGMENT];
    for (half, to) in halves.into_iter().zip(all.chunks_exact_mut(LANES)) {
        // SAFETY: a chunk has 16 elements; the instructions by the caller.
        unsafe { half.store(to.as_mut_ptr()) };
    }
    all
}

/// Integers from -127 to 127 and the bfloat16 bits of their scale: the greatest magnitude over 127, rounded up, so that
/// no element is beyond the range. Elements are rounded to the nearest, ties to even.
///
/// What is not finite is kept so: a block with a NaN or an infinity has a scale that is none either.
#[inline(always)]
fn quantise(block: &[f32; SEGMENT]) -> ([i8; SEGMENT], u16) {
    let greatest = block.iter().fold(0.0f32, |greatest, value| {
        // A NaN stays: nothing is greater.
        if value.abs() > greatest || value.is_nan() {
            value.abs()
        } else {
            greatest
        }
    });
    let scale = round_up(greatest / 127.0);
    if scale == 0 {
        return ([0; SEGMENT], 0);
    }
    let by = widen(scale);
    (
        block.map(|value| (value / by).round_ties_even() as i8),
        scale,
    )
}

/// The least bfloat16 that is no less than `value`, which is not negative, or the NaN.
#[inline(always)]
fn round_up(value: f32) -> u16 {
    if value.is_nan() {
        half::bf16::NAN.to_bits()
    } else {
        ((value.to_bits() + 0xffff) >> 16) as u16
    }
}

#[inline(always)]
fn widen(scale: u16) -> f32 {
    f32::from_bits(u32::from(scale) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(of: impl Fn(usize) -> f32) -> [f32; SEGMENT] {
        std::array::from_fn(of)
    }

    fn read(block: &[f32; SEGMENT]) -> [f32; SEGMENT] {
        let (quants, scale) = quantise(block);
        quants.map(|quant| f32::from(quant) * widen(scale))
    }

    #[test]
    fn an_element_is_within_half_a_step_and_a_step_is_the_greatest_over_127_at_most_a_256th_more() {
        for seed in 1..200u32 {
            let block = block(|i| {
                let bits = (i as u32 + 1).wrapping_mul(seed).wrapping_mul(0x9e37_79b9);
                (bits as i32 as f32) * 2f32.powi(seed as i32 % 90 - 70)
            });
            let greatest = block.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let (quants, scale) = quantise(&block);
            let step = widen(scale);
            assert!(step >= greatest / 127.0 && step <= greatest / 127.0 * (1.0 + 1.0 / 128.0));
            assert!(quants.iter().all(|quant| *quant != i8::MIN));
            assert!(quants.iter().any(|quant| quant.unsigned_abs() >= 126));
            for (value, read) in block.iter().zip(read(&block)) {
                assert!((value - read).abs() <= step * 0.500_001, "{value} {read}");
            }
        }
    }

    #[test]
    fn zeros_and_what_is_too_small_for_a_scale_are_zeros() {
        assert_eq!(quantise(&[0.0; SEGMENT]), ([0; SEGMENT], 0));
        assert_eq!(
            read(&block(|i| if i == 3 { 1e-45 } else { -0.0 })),
            [0.0; SEGMENT]
        );
    }

    #[test]
    fn what_is_not_finite_does_not_become_a_number() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 17, 31] {
                let read = read(&block(|i| if i == at { bad } else { 1.0 }));
                assert!(read[at].is_nan(), "{bad} at {at}: {read:?}");
            }
        }
    }

    #[test]
    fn a_product_of_an_integer_and_a_scale_is_exact() {
        for bits in (1..0x7f80u16).step_by(37) {
            for quant in -127..=127i8 {
                let product = f32::from(quant) * widen(bits);
                let exact = f64::from(quant) * f64::from(widen(bits));
                assert!(product.is_infinite() || f64::from(product) == exact);
            }
        }
    }
}
