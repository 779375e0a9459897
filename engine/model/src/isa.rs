//! What runs the kernels: an instruction set of the processor, or a GPU. The bits are the same on all of them, but for the fast
//! mode of a GPU, which has its own.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::device::{self, CudaError};
use crate::{FAST_NUMERICS_VERSION, NUMERICS_VERSION};

/// What the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust, one lane at a time. The reference that the others must equal.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL, beside the above.
    Avx512,
    /// aarch64 with Advanced SIMD, which is every one.
    Neon,
    /// The NVIDIA GPU that [`device::select`] has chosen.
    Cuda,
    /// The same in its fast mode: products by tensor cores, to bits of its own (`docs/numerics.md`).
    CudaFast,
}

/// Why an instruction set cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum IsaError {
    /// The name is none we know.
    #[error("unknown instruction set {found:?}: expected auto, scalar, avx2, avx512 or neon")]
    Unknown {
        /// What was given.
        found: String,
    },
    /// The name is known, but this processor lacks it.
    #[error("this processor does not have {isa} ({}): use auto or scalar", isa.needs())]
    Unsupported {
        /// What was asked for.
        isa: Isa,
    },
    /// The GPU cannot be used.
    #[error(transparent)]
    Cuda(#[from] CudaError),
}

impl Isa {
    /// Every instruction set of a processor that this build knows, in the order of the enum.
    pub const ALL: [Self; 4] = [Self::Scalar, Self::Avx2, Self::Avx512, Self::Neon];

    /// The same, and the GPU: all that make the same bits.
    pub const EVERY: [Self; 5] = [
        Self::Scalar,
        Self::Avx2,
        Self::Avx512,
        Self::Neon,
        Self::Cuda,
    ];

    /// Everything that runs kernels, in the order of the enum.
    pub const COUNTED: [Self; 6] = [
        Self::Scalar,
        Self::Avx2,
        Self::Avx512,
        Self::Neon,
        Self::Cuda,
        Self::CudaFast,
    ];

    /// Whether a GPU runs it.
    #[must_use]
    pub fn is_gpu(self) -> bool {
        matches!(self, Self::Cuda | Self::CudaFast)
    }

    /// The version of what its bits are: [`NUMERICS_VERSION`] of the contract, or the fast mode's.
    #[must_use]
    pub fn numerics_version(self) -> u32 {
        match self {
            Self::CudaFast => FAST_NUMERICS_VERSION,
            _ => NUMERICS_VERSION,
        }
    }

    /// The fastest instruction set of this processor. A GPU is only used when it is asked for.
    #[must_use]
    pub fn detect() -> Self {
        [Self::Avx512, Self::Avx2, Self::Neon]
            .into_iter()
            .find(|isa| isa.is_supported())
            .unwrap_or(Self::Scalar)
    }

    /// Whether it can be used here.
    ///
    /// # Errors
    /// When the processor lacks the instruction set, or the GPU cannot be used: the error says what is missing.
    pub fn check(self) -> Result<(), IsaError> {
        match self {
            Self::Cuda | Self::CudaFast => Ok(device::check()?),
            isa if isa.is_supported() => Ok(()),
            isa => Err(IsaError::Unsupported { isa }),
        }
    }

    /// The same for what runs on the processor beside it: itself, or the processor's own where it is the GPU.
    #[must_use]
    pub(crate) fn of_processor(self) -> Self {
        match self {
            Self::Cuda | Self::CudaFast => Self::detect(),
            isa => isa,
        }
    }

    /// How many chunks of a layout a pass may take of one session, one after the other in each layer: a GPU makes products
    /// of more rows in less time for each, and a processor does not.
    #[must_use]
    pub fn chunks(self) -> usize {
        match self {
            Self::Cuda | Self::CudaFast => 2,
            _ => 1,
        }
    }

    /// Whether this machine can run it.
    #[must_use]
    pub fn is_supported(self) -> bool {
        match self {
            Self::Cuda | Self::CudaFast => device::check().is_ok(),
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                std::arch::is_x86_feature_detected!("avx2")
                    && std::arch::is_x86_feature_detected!("fma")
                    && std::arch::is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_supported()
                    && std::arch::is_x86_feature_detected!("avx512f")
                    && std::arch::is_x86_feature_detected!("avx512bw")
                    && std::arch::is_x86_feature_detected!("avx512dq")
                    && std::arch::is_x86_feature_detected!("avx512vl")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
            Self::Neon => cfg!(target_arch = "aarch64"),
        }
    }

    fn needs(self) -> &'static str {
        match self {
            Self::Scalar => "it needs nothing",
            Self::Avx2 => "it needs AVX2, FMA and F16C",
            Self::Avx512 => "it needs AVX-512 F, BW, DQ and VL",
            Self::Neon => "it is aarch64's",
            Self::Cuda | Self::CudaFast => "it needs an NVIDIA GPU",
        }
    }

    /// Reads the name of a processor's as given on a command line or in `KAKEYA_ISA`; `auto` and the empty string detect.
    ///
    /// # Errors
    /// When the name is unknown, or the processor cannot run it: it is never replaced in silence.
    pub fn select(name: &str) -> Result<Self, IsaError> {
        if name.is_empty() || name == "auto" {
            return Ok(Self::detect());
        }
        let isa: Self = name.parse()?;
        isa.check().map(|()| isa)
    }

    /// Reads the environment variable `KAKEYA_ISA`; unset means `auto`.
    ///
    /// # Errors
    /// As [`Isa::select`].
    pub fn from_env() -> Result<Self, IsaError> {
        Self::select(&std::env::var("KAKEYA_ISA").unwrap_or_default())
    }
}

impl FromStr for Isa {
    type Err = IsaError;

    fn from_str(name: &str) -> Result<Self, IsaError> {
        match name {
            "scalar" => Ok(Self::Scalar),
            "avx2" => Ok(Self::Avx2),
            "avx512" => Ok(Self::Avx512),
            "neon" => Ok(Self::Neon),
            _ => Err(IsaError::Unknown {
                found: name.to_owned(),
            }),
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
            Self::Cuda => "cuda",
            Self::CudaFast => "cuda-fast",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_what_the_processor_has_and_unknown_names_are_refused() {
        assert_eq!(Isa::select("auto"), Ok(Isa::detect()));
        assert_eq!(Isa::select("scalar"), Ok(Isa::Scalar));
        let error = Isa::select("sse9").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown instruction set \"sse9\": expected auto, scalar, avx2, avx512 or neon"
        );
    }
}
