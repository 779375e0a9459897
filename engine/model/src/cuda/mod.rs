//! The model on an NVIDIA GPU: the same arithmetic as on the processor, in kernels of CUDA C++
//! (`src/kernels/cuda`), to the same bits.

mod context;
mod memory;
mod plan;
mod run;
mod slab;
mod weights;

pub use context::facts;
pub(crate) use run::{CudaCompute, LogitsOnDevice};
pub(crate) use weights::Uploaded;
