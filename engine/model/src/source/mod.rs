//! Where weights come from: one GGUF file, or a snapshot of a Hugging Face repository.

mod error;
mod ggml;
pub mod gguf;
mod header;
mod kind;
mod snapshot;
mod tensor;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::SourceError;
pub use gguf::GgufFile;
pub use snapshot::Snapshot;
pub use tensor::TensorBytes;
pub(crate) use tensor::widen;

/// A tensor as its file describes it, whether or not this build runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its element type, as its format calls it.
    pub kind: String,
    /// The outermost dimension first.
    pub shape: &'a [usize],
    /// Bytes in the file; `None` where the type is unknown, or the shape cannot be.
    pub bytes: Option<u64>,
}

/// Weights and their configuration, mapped into memory.
#[derive(Clone, Debug)]
pub enum Source {
    /// A GGUF file.
    Gguf(Arc<GgufFile>),
    /// A folder with config.json and safetensors.
    Snapshot(Arc<Snapshot>),
}

impl Source {
    /// Opens a GGUF file, or a folder as a snapshot. No weight is read yet.
    ///
    /// # Errors
    /// When it cannot be read, or is neither.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        if path.is_dir() {
            Ok(Self::Snapshot(Arc::new(Snapshot::open(path)?)))
        } else {
            Ok(Self::Gguf(Arc::new(GgufFile::open(path)?)))
        }
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Gguf(file) => file.path(),
            Self::Snapshot(snapshot) => snapshot.path(),
        }
    }

    /// The file that holds the configuration.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        match self {
            Self::Gguf(file) => file.path().to_owned(),
            Self::Snapshot(snapshot) => snapshot.path().join(snapshot::CONFIG),
        }
    }

    /// Bytes of the weights' files.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Gguf(file) => file.size(),
            Self::Snapshot(snapshot) => snapshot.size(),
        }
    }

    /// SHA-256 of the weights, in lower-case hex: of the GGUF file, or of the shards one after the other.
    #[must_use]
    pub fn sha256(&self) -> String {
        match self {
            Self::Gguf(file) => file.sha256(),
            Self::Snapshot(snapshot) => snapshot.sha256(),
        }
    }

    /// The GGUF file, if it is one.
    #[must_use]
    pub fn gguf(&self) -> Option<&GgufFile> {
        match self {
            Self::Gguf(file) => Some(file),
            Self::Snapshot(_) => None,
        }
    }

    /// Whether there is a tensor of that name.
    #[must_use]
    pub fn has_tensor(&self, name: &str) -> bool {
        match self {
            Self::Gguf(file) => file.has_tensor(name),
            Self::Snapshot(snapshot) => snapshot.has_tensor(name),
        }
    }

    /// A tensor of the given shape (rows, columns), checked against its file.
    ///
    /// # Errors
    /// When it is missing, has another shape, or reaches beyond the end of its file.
    pub fn tensor(
        &self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<TensorBytes<'_>, SourceError> {
        match self {
            Self::Gguf(file) => file.tensor(name, rows, columns),
            Self::Snapshot(snapshot) => snapshot.tensor(name, rows, columns),
        }
    }

    /// The names of all tensors.
    pub fn tensor_names(&self) -> Vec<&str> {
        let mut names: Vec<_> = match self {
            Self::Gguf(file) => file.tensor_names().collect(),
            Self::Snapshot(snapshot) => snapshot.tensor_names().collect(),
        };
        names.sort_unstable();
        names
    }

    /// Every tensor, by name.
    #[must_use]
    pub fn tensors(&self) -> Vec<TensorEntry<'_>> {
        match self {
            Self::Gguf(file) => file.tensors().collect(),
            Self::Snapshot(snapshot) => snapshot.tensors().collect(),
        }
    }

    /// Tells the system that the pages read so far are not needed any more: their weights have been repacked.
    pub(crate) fn release_pages(&self) {
        match self {
            Self::Gguf(file) => file.release_pages(),
            Self::Snapshot(snapshot) => snapshot.release_pages(),
        }
    }

    /// The error that says a tensor is not what it should be.
    pub(crate) fn wrong_tensor(
        &self,
        name: &str,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> SourceError {
        let path = match self {
            Self::Gguf(file) => file.path(),
            Self::Snapshot(snapshot) => snapshot.file_of(name),
        };
        SourceError::Tensor {
            path: path.to_owned(),
            tensor: name.to_owned(),
            found: found.into(),
            expected: expected.into(),
        }
    }
}
