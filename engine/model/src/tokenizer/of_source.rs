//! The tokenizer that comes with a model's files.

use super::Tokenizer;
use crate::error::ModelError;
use crate::source::Source;

impl Tokenizer {
    /// Reads the tokenizer that lies in a GGUF file, or beside the weights of a snapshot.
    ///
    /// # Errors
    /// When there is none, or none that can be used.
    pub fn of(source: &Source) -> Result<Self, ModelError> {
        match source {
            Source::Gguf(file) => Self::from_gguf(file),
            Source::Snapshot(snapshot) => Ok(Self::from_snapshot(snapshot.path())?),
        }
    }
}
