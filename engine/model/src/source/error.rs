//! What can be wrong with the files of a model.

use std::path::PathBuf;

use thiserror::Error;

/// Why a model's files cannot be used.
#[derive(Debug, Error)]
pub enum SourceError {
    /// A file cannot be opened or mapped.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It does not begin as a GGUF file does.
    #[error("{} is not a GGUF file: {found}; expected a file that begins with \"GGUF\" and a version from 1 to 3, or a folder with config.json and safetensors", path.display())]
    NotGguf {
        /// The file.
        path: PathBuf,
        /// What it is instead, and its first bytes.
        found: String,
    },
    /// The header breaks off or contradicts itself.
    #[error("{}: the {format} header is damaged: {detail}; download the file again or compare its sha256", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// GGUF or safetensors.
        format: &'static str,
        /// What the reader found.
        detail: String,
    },
    /// A field of the configuration is missing or has a value that cannot be used.
    #[error("{}: field {key} is {found}, expected {expected}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field's name.
        key: String,
        /// What is there.
        found: String,
        /// What should be there.
        expected: String,
    },
    /// A tensor is missing, has another shape, or another type than we can run.
    #[error("{}: tensor {tensor} {found}, expected {expected}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// What is there.
        found: String,
        /// What should be there.
        expected: String,
    },
    /// A JSON file is none, or not of the shape it should have.
    #[error("{}: {found}, expected {expected}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        found: String,
        /// What should be there.
        expected: String,
    },
    /// The index and the shards do not fit each other.
    #[error("{}: {found}, and the index {}", path.display(), expected)]
    Shard {
        /// The shard.
        path: PathBuf,
        /// What the shard has.
        found: String,
        /// What the index says.
        expected: String,
    },
}
