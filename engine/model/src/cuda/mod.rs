//! The model on an NVIDIA GPU: the same arithmetic as on the processor, in kernels of CUDA C++
//! (`src/kernels/cuda`), to the same bits.

mod ahead;
mod attention;
mod clock;
mod context;
mod found;
mod graph;
mod kernels;
mod memory;
mod plan;
mod run;
mod scratch;
mod slab;
mod spread;
mod stream;
mod tile;
mod weights;

pub use context::facts;
pub(crate) use run::CudaCompute;
pub(crate) use stream::LogitsOnDevice;
pub(crate) use weights::Uploaded;
