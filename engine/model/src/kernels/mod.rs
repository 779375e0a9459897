//! The kernels, compiled once for each instruction set, and the table that picks among them.

#![expect(
    clippy::needless_range_loop,
    reason = "the index of a row or a panel runs over several arrays at once"
)]

pub(crate) mod attention;
pub(crate) mod elementwise;
mod formats;
pub(crate) mod linear;
pub mod probe;
pub(crate) mod rotate;

use attention::{Attention, Int8, Tile};
use elementwise::PackedRow;
use formats::{Fold, Format};
use linear::{Activations, Gated, Product, Tiles, Widened};

use crate::isa::Isa;
use crate::panels::{HALVES, PackedMatrix};
use crate::simd;

/// The entry points for one instruction set. The contracts are those of the generic kernels.
#[derive(Clone, Copy)]
pub(crate) struct Kernels {
    pub(crate) dequantise: unsafe fn(&PackedMatrix, usize, &mut [f32]),
    pub(crate) norm: unsafe fn(&[f32], &[f32], f32, PackedRow),
    pub(crate) norm_heads: unsafe fn(&mut [f32], &[f32], f32),
    pub(crate) norm_and_add: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    pub(crate) terms: unsafe fn(&[f32], f32, f32, &mut [f32]),
    pub(crate) product: unsafe fn(&Product<'_>, usize, usize),
    pub(crate) gated: unsafe fn(&Gated<'_>, usize, usize),
    pub(crate) f16: CacheKernels<*mut u16>,
    pub(crate) f32: CacheKernels<*mut f32>,
    pub(crate) int8: CacheKernels<Int8>,
    /// Queries of a tile of attention.
    pub(crate) query_tile: usize,
}

/// Those that touch a cache of one type of element.
#[derive(Clone, Copy)]
pub(crate) struct CacheKernels<C> {
    pub(crate) rotate_and_store: unsafe fn(&rotate::Row<'_, C>),
    pub(crate) attend: unsafe fn(&Attention<'_, C>, &Tile),
    pub(crate) pack: unsafe fn(&Attention<'_, C>, &Tile),
    pub(crate) score: unsafe fn(&Attention<'_, C>, &Tile, usize, usize, usize),
    pub(crate) weigh: unsafe fn(&Attention<'_, C>, &Tile, usize, usize),
    pub(crate) mix_units: unsafe fn(&Attention<'_, C>, &Tile, usize, usize),
    pub(crate) fold: unsafe fn(&Attention<'_, C>, &Tile),
}

/// Instantiates every generic kernel for one vector type, and makes the table of the instances.
macro_rules! kernels {
    ($name:ident, $vector:ty $(, $features:literal)?) => {
        pub(super) mod $name {
            use super::*;
            use crate::kernels::attention::KvCache;

            type V = $vector;

            // SAFETY (of each block below): the caller keeps the generic kernel's contract, and has checked the
            // instructions.
            $(#[target_feature(enable = $features)])?
            unsafe fn dequantise(matrix: &PackedMatrix, row: usize, out: &mut [f32]) {
                // SAFETY: as above.
                unsafe { formats::dequantise::<V>(matrix, row, out) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn norm(x: &[f32], weights: &[f32], epsilon: f32, out: PackedRow) {
                // SAFETY: as above.
                unsafe { elementwise::rms_norm::<V>(x, weights, epsilon, out) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn norm_heads(row: &mut [f32], weights: &[f32], epsilon: f32) {
                // SAFETY: as above.
                unsafe { elementwise::norm_heads::<V>(row, weights, epsilon) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn norm_and_add(x: &[f32], weights: &[f32], epsilon: f32, to: &mut [f32]) {
                // SAFETY: as above.
                unsafe { elementwise::norm_and_add::<V>(x, weights, epsilon, to) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn terms(x: &[f32], peak: f32, temperature: f32, out: &mut [f32]) {
                // SAFETY: as above.
                unsafe { elementwise::terms::<V>(x, peak, temperature, out) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn product(product: &Product<'_>, first: usize, end: usize) {
                // SAFETY: as above.
                unsafe { linear::product::<V>(product, first, end) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn gated(gated: &Gated<'_>, first: usize, end: usize) {
                // SAFETY: as above.
                unsafe { linear::gated::<V>(gated, first, end) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn block<F: Fold>(
                widened: &Widened,
                x: *const f32,
                sums: *const f32,
                t: &mut [[V; HALVES]],
            ) {
                // SAFETY: as above.
                unsafe { linear::block::<V, F>(widened, x, sums, t) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn few_rows<W: Format>(
                matrix: &PackedMatrix,
                panel: usize,
                x: &Activations,
                block: (usize, usize),
                t: &mut [[V; HALVES]],
            ) {
                // SAFETY: as above.
                unsafe { linear::few_rows::<V, W>(matrix, panel, x, block, t) }
            }

            impl Tiles for V {
                #[inline(always)]
                unsafe fn few_rows<W: Format>(
                    matrix: &PackedMatrix,
                    panel: usize,
                    x: &Activations,
                    block: (usize, usize),
                    t: &mut [[Self; HALVES]],
                ) {
                    // SAFETY: passed on from the caller.
                    unsafe { few_rows::<W>(matrix, panel, x, block, t) }
                }

                #[inline(always)]
                unsafe fn block<F: Fold>(
                    widened: &Widened,
                    x: *const f32,
                    sums: *const f32,
                    t: &mut [[Self; HALVES]],
                ) {
                    // SAFETY: passed on from the caller.
                    unsafe { block::<F>(widened, x, sums, t) }
                }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn rotate_and_store<C: KvCache>(row: &rotate::Row<'_, C>) {
                // SAFETY: as above.
                unsafe { rotate::rotate_and_store::<V, C>(row) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn attend<C: KvCache>(args: &Attention<'_, C>, tile: &Tile) {
                // SAFETY: as above.
                unsafe {
                    let units = args.units(tile);
                    attention::pack(args, tile);
                    score(args, tile, 0, 0, units);
                    weigh(args, tile, 0, units);
                    mix(args, tile);
                }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn score<C: KvCache>(
                args: &Attention<'_, C>,
                tile: &Tile,
                piece: usize,
                first: usize,
                end: usize,
            ) {
                // SAFETY: as above.
                unsafe { attention::score::<V, C>(args, tile, piece, first, end) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn weigh<C: KvCache>(args: &Attention<'_, C>, tile: &Tile, first: usize, end: usize) {
                // SAFETY: as above.
                unsafe { attention::weigh::<V, C>(args, tile, first, end) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn mix<C: KvCache>(args: &Attention<'_, C>, tile: &Tile) {
                // SAFETY: as above.
                unsafe { attention::mix::<V, C>(args, tile) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn mix_units<C: KvCache>(args: &Attention<'_, C>, tile: &Tile, first: usize, end: usize) {
                // SAFETY: as above.
                unsafe { attention::mix_units::<V, C>(args, tile, first, end) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn fold<C: KvCache>(args: &Attention<'_, C>, tile: &Tile) {
                // SAFETY: as above.
                unsafe { attention::fold::<V, C>(args, tile) }
            }

            const fn cache<C: KvCache>() -> CacheKernels<C> {
                CacheKernels {
                    rotate_and_store: rotate_and_store::<C>,
                    attend: attend::<C>,
                    pack: attention::pack::<C>,
                    score: score::<C>,
                    weigh: weigh::<C>,
                    mix_units: mix_units::<C>,
                    fold: fold::<C>,
                }
            }

            pub(in crate::kernels) const KERNELS: Kernels = Kernels {
                dequantise,
                norm,
                norm_heads,
                norm_and_add,
                terms,
                product,
                gated,
                f16: cache(),
                f32: cache(),
                int8: cache(),
                query_tile: attention::query_tile::<V>(),
            };
        }
    };
}

mod instances {
    use super::*;

    kernels!(scalar, simd::scalar::Lanes);
    #[cfg(target_arch = "x86_64")]
    kernels!(avx2, simd::avx2::Lanes, "avx2,fma,f16c");
    #[cfg(target_arch = "x86_64")]
    kernels!(
        avx512,
        simd::avx512::Lanes,
        "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"
    );
    #[cfg(target_arch = "aarch64")]
    kernels!(neon, simd::neon::Lanes);
}

impl Kernels {
    /// The kernels of an instruction set, which must be supported by this processor. Beside a GPU the processor uses its
    /// own.
    pub(crate) fn of(isa: Isa) -> Self {
        let isa = isa.of_processor();
        assert!(
            isa.is_supported(),
            "{isa} was not checked for this processor"
        );
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => instances::avx2::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => instances::avx512::KERNELS,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => instances::neon::KERNELS,
            _ => instances::scalar::KERNELS,
        }
    }

    /// Output row `row` of a matrix as numbers, in `out`, which is as long as it has inputs.
    #[cfg(feature = "cuda")]
    pub(crate) fn dequantise_row(self, matrix: &PackedMatrix, row: usize, out: &mut [f32]) {
        assert!(row < matrix.rows, "the matrix has no such row");
        // SAFETY: `Kernels::of` checked the instructions, and the row is there.
        unsafe { (self.dequantise)(matrix, row, out) };
    }

    /// `exp((logit - peak) / temperature)` of each logit.
    pub(crate) fn terms_of(
        self,
        logits: &[f32],
        peak: f32,
        temperature: f32,
        terms: &mut Vec<f32>,
    ) {
        terms.resize(logits.len(), 0.0);
        // SAFETY: `Kernels::of` checked the instructions, and there are as many terms as logits.
        unsafe { (self.terms)(logits, peak, temperature, terms) };
    }
}
