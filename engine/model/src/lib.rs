//! Real weights and the arithmetic that runs them.
//!
//! Everything a session generates is decided here: how a GGUF file becomes packed weights, and in which
//! order every sum is taken. `docs/numerics.md` states that order; the modules below keep it, on every
//! instruction set, for every number of rows and threads.

pub mod catalogue;
#[allow(unsafe_code)]
mod compute;
mod config;
mod error;
#[allow(unsafe_code)]
pub mod gguf;
mod isa;
#[allow(unsafe_code)]
mod kernels;
mod kv;
mod llama;
#[allow(unsafe_code)]
mod panels;
mod rope;
#[allow(unsafe_code)]
mod simd;
#[allow(unsafe_code)]
mod threads;
pub mod tokenizer;

pub use compute::{Compute, ComputeOptions, LogitRows, SequenceInput, forward_passes};
pub use config::LlamaConfig;
pub use error::ModelError;
pub use gguf::{GgufError, GgufFile};
pub use isa::{Isa, IsaError};

pub use kernels::probe;
pub use kv::{KvLayout, LayerLengths};
pub use llama::Model;

/// The version of the numerics contract that this build implements (`docs/numerics.md`).
///
/// Any change to the order or the rounding of a single operation raises it.
pub const NUMERICS_VERSION: u32 = 1;
