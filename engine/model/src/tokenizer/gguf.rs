//! Reading a tokenizer's description from a GGUF file's metadata.

use super::pre::PRE_KEY;
use super::{Tokenizer, TokenizerError, TokenizerParts};
use crate::error::ModelError;
use crate::source::{GgufFile, SourceError};

impl TokenizerParts {
    /// Reads the fields as the file has them; [`Tokenizer::from_parts`] checks them.
    ///
    /// # Errors
    /// A required field that is missing, or one of the wrong type, named with the file.
    pub fn from_gguf(file: &GgufFile) -> Result<Self, SourceError> {
        let token_types = "tokenizer.ggml.token_type";
        Ok(Self {
            model: file.string("tokenizer.ggml.model")?.to_owned(),
            pre: file.string(PRE_KEY)?.to_owned(),
            tokens: file.string_array("tokenizer.ggml.tokens")?,
            token_types: optional(file, token_types, GgufFile::u64_array)?.unwrap_or_default(),
            merges: file.string_array("tokenizer.ggml.merges")?,
            bos_token_id: token_id(file, "tokenizer.ggml.bos_token_id")?,
            eos_token_id: token_id(file, "tokenizer.ggml.eos_token_id")?,
            eot_token_id: token_id(file, "tokenizer.ggml.eot_token_id")?,
            eom_token_id: token_id(file, "tokenizer.ggml.eom_token_id")?,
            add_bos_token: optional(file, "tokenizer.ggml.add_bos_token", GgufFile::bool)?,
        })
    }
}

impl Tokenizer {
    /// Builds the tokenizer that the file carries.
    ///
    /// # Errors
    /// What is missing, unknown or inconsistent, naming the file and the field.
    pub fn from_gguf(file: &GgufFile) -> Result<Self, ModelError> {
        let parts = TokenizerParts::from_gguf(file)?;
        let built = Self::from_parts(parts);
        Ok(built.map_err(|source| TokenizerError::InFile {
            path: file.path().to_owned(),
            source: Box::new(source),
        })?)
    }
}

/// A field that may be absent, but not of the wrong type.
fn optional<T>(
    file: &GgufFile,
    key: &str,
    read: impl Fn(&GgufFile, &str) -> Result<T, SourceError>,
) -> Result<Option<T>, SourceError> {
    file.has(key).then(|| read(file, key)).transpose()
}

fn token_id(file: &GgufFile, key: &str) -> Result<Option<u32>, SourceError> {
    let Some(found) = optional(file, key, GgufFile::u64)? else {
        return Ok(None);
    };
    let id = u32::try_from(found)
        .map_err(|_| file.unusable(key, found.to_string(), "a token id of 32 bits"))?;
    Ok(Some(id))
}
