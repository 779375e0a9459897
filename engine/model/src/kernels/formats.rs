//! How each weight type is read from a panel and folded.
//!
//! No closures in here or in the kernels: a closure is a function of its own, and one that is not inlined
//! loses the instruction set of its kernel.

use crate::config::SEGMENT;
use crate::panels::PanelKind;
use crate::simd::{LANES, Vector};

/// Inputs that share a group of registers.
pub(super) const GROUP: usize = 8;
/// Bytes of one word for each lane.
const WORDS: usize = 4 * LANES;

/// How the chain `c` of a segment is folded into the total `t`.
pub(super) trait Fold {
    /// Whether the scales are there to be read.
    const SCALED: bool;
    /// Chains of one segment: 1, or 2 of 16 inputs each.
    const CHAINS: usize;
    /// `sum` is the segment's sum of activations.
    unsafe fn fold<V: Vector>(scale: V, minimum: V, c: V, sum: V, t: V) -> V;
}

/// `t + c`: the weights are floating point.
pub(super) struct Plain;
/// `fma(d, c, t)`.
pub(super) struct Scaled;
/// `fma(d, c, t)` after each 16 inputs.
pub(super) struct ScaledTwice;
/// `fma(m, sum, fma(d, c, t))`.
pub(super) struct ScaledWithMinimum;

impl Fold for Plain {
    const SCALED: bool = false;
    const CHAINS: usize = 1;

    #[inline(always)]
    unsafe fn fold<V: Vector>(_scale: V, _minimum: V, c: V, _sum: V, t: V) -> V {
        // SAFETY: no memory is touched; the caller checked the instructions.
        unsafe { t.add(c) }
    }
}

impl Fold for Scaled {
    const SCALED: bool = true;
    const CHAINS: usize = 1;

    #[inline(always)]
    unsafe fn fold<V: Vector>(scale: V, _minimum: V, c: V, _sum: V, t: V) -> V {
        // SAFETY: as above.
        unsafe { scale.fma(c, t) }
    }
}

impl Fold for ScaledTwice {
    const SCALED: bool = true;
    const CHAINS: usize = 2;

    #[inline(always)]
    unsafe fn fold<V: Vector>(scale: V, _minimum: V, c: V, _sum: V, t: V) -> V {
        // SAFETY: as above.
        unsafe { scale.fma(c, t) }
    }
}

impl Fold for ScaledWithMinimum {
    const SCALED: bool = true;
    const CHAINS: usize = 1;

    #[inline(always)]
    unsafe fn fold<V: Vector>(scale: V, minimum: V, c: V, sum: V, t: V) -> V {
        // SAFETY: as above.
        unsafe { minimum.fma(sum, scale.fma(c, t)) }
    }
}

/// Where one half of a panel's segment lies.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) header: *const u8,
    pub(super) scales: *const u8,
    pub(super) weights: *const u8,
}

impl Place {
    /// # Safety
    /// `panel` points to a whole panel of `kind` with more than `segment` segments; `half` is 0 or 1.
    #[inline(always)]
    pub(super) unsafe fn new(
        panel: *const u8,
        kind: PanelKind,
        segment: usize,
        half: usize,
    ) -> Self {
        let shape = kind.shape();
        let (header, scales, weights) = shape.parts(segment);
        // SAFETY: by the caller.
        unsafe {
            Self {
                header: panel.add(header + half * shape.header),
                scales: panel.add(scales + half * shape.scales),
                weights: panel.add(weights + half * shape.weights),
            }
        }
    }
}

/// One weight type.
pub(super) trait Format {
    const KIND: PanelKind;
    type Fold: Fold;
    /// What 8 inputs are read from, in registers.
    type Group<V: Vector>: Copy;
    /// Group 0 to 3 of a segment.
    unsafe fn group<V: Vector>(weights: *const u8, group: usize) -> Self::Group<V>;
    /// The weights of input `index` of the group, for 16 outputs.
    unsafe fn weight<V: Vector>(group: Self::Group<V>, index: usize) -> V;
    /// The scales and minima of a chain. Not called when there are none.
    unsafe fn scales<V: Vector>(place: Place, chain: usize) -> (V, V);
}

// In the blocks below: `weights` and `place` point into one whole panel segment of the format, `group` is below
// 4 and `index` below 8, by the callers' contract.

/// # Safety
/// 32 bytes are readable at each of the 16-element arrays asked for.
#[inline(always)]
unsafe fn f16_scales<V: Vector>(scales: *const u8, with_minimum: bool) -> (V, V) {
    // SAFETY: by the caller.
    unsafe {
        let minimum = if with_minimum {
            V::load_f16(scales.add(2 * LANES).cast())
        } else {
            V::splat(0.0)
        };
        (V::load_f16(scales.cast()), minimum)
    }
}

pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q5_0;
pub(super) struct Q5_1;
pub(super) struct Q8_0;
pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;
pub(super) struct F16;
pub(super) struct Bf16;
pub(super) struct F32;

/// A format of 4 bits.
macro_rules! four_bits {
    ($name:ident, $fold:ty, $weight:ident, $scales:expr) => {
        impl Format for $name {
            const KIND: PanelKind = PanelKind::$name;
            type Fold = $fold;
            type Group<V: Vector> = V::Words;

            #[inline(always)]
            unsafe fn group<V: Vector>(weights: *const u8, group: usize) -> V::Words {
                // SAFETY: 4 groups of words.
                unsafe { V::load_words(weights.add(group * WORDS)) }
            }

            #[inline(always)]
            unsafe fn weight<V: Vector>(group: V::Words, index: usize) -> V {
                // SAFETY: no memory is touched.
                unsafe { V::$weight(group, 4 * index as u32) }
            }

            #[inline(always)]
            unsafe fn scales<V: Vector>(place: Place, _chain: usize) -> (V, V) {
                let scales: unsafe fn(Place) -> (V, V) = $scales;
                // SAFETY: by the trait's contract.
                unsafe { scales(place) }
            }
        }
    };
}

/// A format of 5 bits: nibbles, and one word a lane with the fifth bits.
macro_rules! five_bits {
    ($name:ident, $fold:ty, $offset:literal, $scales:expr) => {
        impl Format for $name {
            const KIND: PanelKind = PanelKind::$name;
            type Fold = $fold;
            /// The nibbles, and the fifth bits moved so that this group's come first.
            type Group<V: Vector> = (V::Words, V::Words, usize);

            #[inline(always)]
            unsafe fn group<V: Vector>(weights: *const u8, group: usize) -> Self::Group<V> {
                // SAFETY: 4 groups of words and the fifth bits behind them.
                unsafe {
                    (
                        V::load_words(weights.add(group * WORDS)),
                        V::load_words(weights.add(4 * WORDS)),
                        group,
                    )
                }
            }

            #[inline(always)]
            unsafe fn weight<V: Vector>((low, high, group): Self::Group<V>, index: usize) -> V {
                let bit = (group * GROUP + index) as u32;
                // SAFETY: no memory is touched.
                unsafe { V::joined(low, 4 * index as u32, high, bit, 1, $offset) }
            }

            #[inline(always)]
            unsafe fn scales<V: Vector>(place: Place, _chain: usize) -> (V, V) {
                let scales: unsafe fn(Place) -> (V, V) = $scales;
                // SAFETY: by the trait's contract.
                unsafe { scales(place) }
            }
        }
    };
}

#[inline(always)]
unsafe fn f16_only<V: Vector>(place: Place) -> (V, V) {
    // SAFETY: 16 f16, by the caller.
    unsafe { f16_scales(place.scales, false) }
}

#[inline(always)]
unsafe fn f16_and_minimum<V: Vector>(place: Place) -> (V, V) {
    // SAFETY: twice 16 f16, by the caller.
    unsafe { f16_scales(place.scales, true) }
}

/// `d * s` and `-(dmin * m)`: both products are exact in f32 (11 bits by 6).
#[inline(always)]
unsafe fn k_scales<V: Vector>(place: Place) -> (V, V) {
    // SAFETY: the header holds twice 16 f16, the segment twice 16 bytes below 64; by the caller.
    unsafe {
        let (d, dmin) = f16_scales::<V>(place.header, true);
        let scale = V::load_i8(place.scales.cast());
        let minimum = V::load_i8(place.scales.add(LANES).cast());
        (d.mul(scale), V::splat(0.0).sub(dmin.mul(minimum)))
    }
}

four_bits!(Q4_0, Scaled, nibble_less_8, f16_only::<V>);
four_bits!(Q4_1, ScaledWithMinimum, nibble, f16_and_minimum::<V>);
four_bits!(Q4K, ScaledWithMinimum, nibble, k_scales::<V>);
five_bits!(Q5_0, Scaled, 16, f16_only::<V>);
five_bits!(Q5_1, ScaledWithMinimum, 0, f16_and_minimum::<V>);
five_bits!(Q5K, ScaledWithMinimum, 0, k_scales::<V>);

impl Format for Q8_0 {
    const KIND: PanelKind = PanelKind::Q8_0;
    type Fold = Scaled;
    type Group<V: Vector> = *const i8;

    #[inline(always)]
    unsafe fn group<V: Vector>(weights: *const u8, group: usize) -> *const i8 {
        // SAFETY: 32 rows of 16 bytes.
        unsafe { weights.add(group * GROUP * LANES).cast() }
    }

    #[inline(always)]
    unsafe fn weight<V: Vector>(group: *const i8, index: usize) -> V {
        // SAFETY: as above.
        unsafe { V::load_i8(group.add(index * LANES)) }
    }

    #[inline(always)]
    unsafe fn scales<V: Vector>(place: Place, _chain: usize) -> (V, V) {
        // SAFETY: 16 f16.
        unsafe { f16_scales(place.scales, false) }
    }
}

impl Format for Q6K {
    const KIND: PanelKind = PanelKind::Q6K;
    type Fold = ScaledTwice;
    /// The nibbles, the words with the upper bits, and where this group's begin.
    type Group<V: Vector> = (V::Words, V::Words, u32);

    #[inline(always)]
    unsafe fn group<V: Vector>(weights: *const u8, group: usize) -> Self::Group<V> {
        // SAFETY: 4 groups of words, and two words behind them.
        unsafe {
            (
                V::load_words(weights.add(group * WORDS)),
                V::load_words(weights.add((4 + group / 2) * WORDS)),
                (group % 2 * 2 * GROUP) as u32,
            )
        }
    }

    #[inline(always)]
    unsafe fn weight<V: Vector>((low, high, first): Self::Group<V>, index: usize) -> V {
        // SAFETY: no memory is touched.
        unsafe { V::joined(low, 4 * index as u32, high, first + 2 * index as u32, 2, 32) }
    }

    #[inline(always)]
    unsafe fn scales<V: Vector>(place: Place, chain: usize) -> (V, V) {
        // SAFETY: the header holds 16 f16, the segment twice 16 bytes.
        unsafe {
            let (d, none) = f16_scales::<V>(place.header, false);
            (
                d.mul(V::load_i8(place.scales.add(chain * LANES).cast())),
                none,
            )
        }
    }
}

/// A floating-point format: 32 rows of 16 values.
macro_rules! floats {
    ($name:ident, $element:ty, $load:ident) => {
        impl Format for $name {
            const KIND: PanelKind = PanelKind::$name;
            type Fold = Plain;
            type Group<V: Vector> = *const $element;

            #[inline(always)]
            unsafe fn group<V: Vector>(weights: *const u8, group: usize) -> *const $element {
                // SAFETY: 32 rows of 16 values.
                unsafe { weights.cast::<$element>().add(group * GROUP * LANES) }
            }

            #[inline(always)]
            unsafe fn weight<V: Vector>(group: *const $element, index: usize) -> V {
                // SAFETY: as above.
                unsafe { V::$load(group.add(index * LANES)) }
            }

            #[inline(always)]
            unsafe fn scales<V: Vector>(_place: Place, _chain: usize) -> (V, V) {
                // SAFETY: no memory is touched.
                unsafe { (V::splat(1.0), V::splat(0.0)) }
            }
        }
    };
}

floats!(F16, u16, load_f16_once);
floats!(Bf16, u16, load_bf16);
floats!(F32, f32, load);

/// Runs `$body` with `$format` standing for the format of a kind.
macro_rules! with_format {
    ($kind:expr, $format:ident => $body:expr) => {
        match $kind {
            PanelKind::Q4_0 => {
                type $format = formats::Q4_0;
                $body
            }
            PanelKind::Q4_1 => {
                type $format = formats::Q4_1;
                $body
            }
            PanelKind::Q5_0 => {
                type $format = formats::Q5_0;
                $body
            }
            PanelKind::Q5_1 => {
                type $format = formats::Q5_1;
                $body
            }
            PanelKind::Q8_0 => {
                type $format = formats::Q8_0;
                $body
            }
            PanelKind::Q4K => {
                type $format = formats::Q4K;
                $body
            }
            PanelKind::Q5K => {
                type $format = formats::Q5K;
                $body
            }
            PanelKind::Q6K => {
                type $format = formats::Q6K;
                $body
            }
            PanelKind::F16 => {
                type $format = formats::F16;
                $body
            }
            PanelKind::Bf16 => {
                type $format = formats::Bf16;
                $body
            }
            PanelKind::F32 => {
                type $format = formats::F32;
                $body
            }
        }
    };
}
pub(super) use with_format;

/// Writes output row `row` of a matrix, dequantised: `d * q + m` or `d * q`, each operation rounded once.
///
/// # Safety
/// The processor has the instructions of `V`; `row` is a row of the matrix.
#[inline(always)]
pub(crate) unsafe fn dequantise<V: Vector>(
    matrix: &crate::panels::PackedMatrix,
    row: usize,
    out: &mut [f32],
) {
    use super::formats;
    // SAFETY: passed on from the caller.
    unsafe { with_format!(matrix.kind, W => dequantise_of::<V, W>(matrix, row, out)) }
}

#[inline(always)]
unsafe fn dequantise_of<V: Vector, W: Format>(
    matrix: &crate::panels::PackedMatrix,
    row: usize,
    out: &mut [f32],
) {
    let panel = matrix.panel(row / crate::panels::PANEL).as_ptr();
    let (half, lane) = (row % crate::panels::PANEL / LANES, row % LANES);
    let mut lanes = [0.0f32; LANES];
    for (segment, out) in out.chunks_exact_mut(SEGMENT).enumerate() {
        // SAFETY: the row lies in this panel, by the caller; the matrix has as many segments as a row.
        unsafe {
            let place = Place::new(panel, W::KIND, segment, half);
            for group in 0..SEGMENT / GROUP {
                let words = W::group::<V>(place.weights, group);
                let (scale, minimum) =
                    W::scales::<V>(place, group * W::Fold::CHAINS / (SEGMENT / GROUP));
                for index in 0..GROUP {
                    let q = W::weight::<V>(words, index);
                    let value = if W::Fold::SCALED {
                        scale.mul(q).add(minimum)
                    } else {
                        q
                    };
                    value.store(lanes.as_mut_ptr());
                    out[group * GROUP + index] = lanes[lane];
                }
            }
        }
    }
}
