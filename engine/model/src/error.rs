//! What can go wrong between a file and a running model.

use thiserror::Error;

use crate::device::CudaError;
use crate::isa::IsaError;
use crate::source::SourceError;

/// Why a model cannot be loaded or run.
#[derive(Debug, Error)]
pub enum ModelError {
    /// A file of the model is damaged, or not what it should be.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The instruction set cannot be used.
    #[error(transparent)]
    Isa(#[from] IsaError),
    /// The GPU cannot be used, or has not the memory.
    #[error(transparent)]
    Cuda(#[from] CudaError),
    /// The tokenizer cannot be built from the file.
    #[error(transparent)]
    Tokenizer(#[from] crate::tokenizer::TokenizerError),
    /// The compute threads could not be started.
    #[error("cannot start {threads} compute threads: {source}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the system said.
        source: std::io::Error,
    },
}
