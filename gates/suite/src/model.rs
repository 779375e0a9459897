//! The weights that a suite's process is told to run.

use std::path::PathBuf;

/// A model on this machine, and what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile {
    /// The name in the lock of models.
    pub name: String,
    /// The weights' file.
    pub path: PathBuf,
    /// The SHA-256 that the lock promises, in lower-case hex.
    pub sha256: String,
}
