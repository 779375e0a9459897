//! Real weights and the arithmetic that runs them.
//!
//! Everything a session generates is decided here: how a GGUF file becomes packed weights, and in which
//! order every sum is taken. `docs/numerics.md` states that order; the modules below keep it, on every
//! instruction set, for every number of rows and threads.

mod architectures;
pub mod catalogue;
pub mod chat;
#[expect(
    unsafe_code,
    reason = "tasks of the pool write disjoint parts of shared buffers"
)]
mod compute;
mod config;
#[cfg(feature = "cuda")]
#[expect(unsafe_code, reason = "the driver and its memory are raw")]
mod cuda;
pub mod device;
mod draw;
mod error;
#[expect(unsafe_code, reason = "the kernels are called")]
pub mod head;
mod inspect;
mod isa;
#[expect(unsafe_code, reason = "vector instructions and raw buffers")]
mod kernels;
mod kv;
mod model;
#[expect(unsafe_code, reason = "matrices share mappings")]
mod panels;
mod quantize;
mod rope;
#[expect(unsafe_code, reason = "vector instructions")]
mod simd;
#[expect(unsafe_code, reason = "files are mapped into memory")]
mod source;
#[expect(unsafe_code, reason = "a borrowed closure is handed to other threads")]
mod threads;
pub mod tokenizer;

pub use compute::{
    Ahead, Compute, ComputeOptions, KeptLogits, LogitRows, PassSize, Phase, SequenceInput,
    device_time, forward_passes, forward_passes_on, time_device,
};
pub use config::{Activation, LayerKind, ModelConfig, RopeConfig, RopeScaling};
pub use device::CudaError;
pub use draw::{Draw, Drawer};
pub use error::ModelError;
pub use inspect::Inspection;
pub use isa::{Isa, IsaError};

pub use kernels::probe;
pub use kv::{KvLayout, LayerLayout, LayerLengths, key_scale};
pub use model::{LoadOptions, Model};
pub use panels::PanelKind;
pub use quantize::Quantization;
pub use source::{GgufFile, Snapshot, Source, SourceError, TensorBytes, TensorEntry};

/// The optimisation level that the kernels of this build were compiled at, as rustc names it.
pub const OPT_LEVEL: &str = env!("KAKEYA_MODEL_OPT_LEVEL");

/// Whether the kernels of this build carry debug assertions.
pub const DEBUG_ASSERTIONS: bool = cfg!(debug_assertions);

/// The version of the numerics contract that this build implements (`docs/numerics.md`).
///
/// Any change to the order or the rounding of a single operation raises it.
pub const NUMERICS_VERSION: u32 = if FREE_ORDER { 0 } else { 1 };

/// The version of what the fast mode of a GPU makes (`docs/numerics.md`): far from those of the contract.
pub const FAST_NUMERICS_VERSION: u32 = 10_001;

/// Whether this build reduces in whatever order is fastest, to measure what the fixed orders cost (feature
/// `free-order`, for that benchmark alone). Its bits depend on the instruction set and on the number of rows.
pub const FREE_ORDER: bool = cfg!(feature = "free-order");
