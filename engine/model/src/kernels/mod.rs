//! The kernels, compiled once for each instruction set, and the table that picks among them.

#![expect(
    clippy::needless_range_loop,
    reason = "the index of a row or a panel runs over several arrays at once"
)]

pub(crate) mod attention;
pub(crate) mod elementwise;
pub(crate) mod linear;
pub mod probe;

use attention::Attention;
use elementwise::PackedRow;
use linear::Product;

use crate::isa::Isa;

/// Defines an entry point for each instruction set around one generic kernel.
macro_rules! kernel {
    ($scalar:ident, $avx2:ident, $generic:ident, ($($arg:ident: $type:ty),*)) => {
        unsafe fn $scalar($($arg: $type),*) {
            // SAFETY: the caller keeps the kernel's contract; scalar code needs no special instructions.
            unsafe { $generic!(crate::simd::scalar::Lanes, $($arg),*) }
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn $avx2($($arg: $type),*) {
            // SAFETY: the caller keeps the kernel's contract, and has checked these instructions.
            unsafe { $generic!(crate::simd::avx2::Lanes, $($arg),*) }
        }
    };
}

macro_rules! call_linear { ($v:ty, $($arg:ident),*) => { linear::panels::<$v>($($arg),*) }; }
macro_rules! call_norm { ($v:ty, $($arg:ident),*) => { elementwise::rms_norm::<$v>($($arg),*) }; }
macro_rules! call_swiglu { ($v:ty, $($arg:ident),*) => { elementwise::swiglu::<$v>($($arg),*) }; }
macro_rules! call_attend { ($v:ty, $($arg:ident),*) => { attention::attend::<$v, _>($($arg),*) }; }

kernel!(linear_scalar, linear_avx2, call_linear, (product: &Product<'_>, first: usize, end: usize));
kernel!(norm_scalar, norm_avx2, call_norm, (x: &[f32], weights: &[f32], epsilon: f32, out: PackedRow));
kernel!(swiglu_scalar, swiglu_avx2, call_swiglu, (gate: &[f32], up: &[f32], out: PackedRow));
kernel!(attend_f16_scalar, attend_f16_avx2, call_attend, (args: &Attention<'_, u16>, first: usize, count: usize, scores: *mut f32));
kernel!(attend_f32_scalar, attend_f32_avx2, call_attend, (args: &Attention<'_, f32>, first: usize, count: usize, scores: *mut f32));

/// The entry points for one instruction set. The contracts are those of the generic kernels.
#[derive(Clone, Copy)]
pub(crate) struct Kernels {
    pub(crate) linear: unsafe fn(&Product<'_>, usize, usize),
    pub(crate) norm: unsafe fn(&[f32], &[f32], f32, PackedRow),
    pub(crate) swiglu: unsafe fn(&[f32], &[f32], PackedRow),
    pub(crate) attend_f16: unsafe fn(&Attention<'_, u16>, usize, usize, *mut f32),
    pub(crate) attend_f32: unsafe fn(&Attention<'_, f32>, usize, usize, *mut f32),
}

impl Kernels {
    /// The kernels of an instruction set, which must be supported by this processor.
    pub(crate) fn of(isa: Isa) -> Self {
        assert!(
            isa.is_supported(),
            "{isa} was not checked for this processor"
        );
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Self {
                linear: linear_avx2,
                norm: norm_avx2,
                swiglu: swiglu_avx2,
                attend_f16: attend_f16_avx2,
                attend_f32: attend_f32_avx2,
            },
            _ => Self {
                linear: linear_scalar,
                norm: norm_scalar,
                swiglu: swiglu_scalar,
                attend_f16: attend_f16_scalar,
                attend_f32: attend_f32_scalar,
            },
        }
    }
}
