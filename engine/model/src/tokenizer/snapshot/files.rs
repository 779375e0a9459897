//! Reading JSON files that someone else wrote: bounded, and with an error that says which file and where.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::panic::catch_unwind;
use std::path::Path;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use super::super::TokenizerError;

/// The largest file that is read. The largest tokenizers known have some 35 MB.
const LIMIT: u64 = 64 << 20;

/// Reads a file that may be missing.
pub(super) fn optional(path: &Path) -> Result<Option<Vec<u8>>, TokenizerError> {
    let io = |source| TokenizerError::in_file(path, TokenizerError::Read(source));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    if !file.metadata().map_err(io)?.is_file() {
        return Err(io(std::io::Error::other("it is not a regular file")));
    }
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > LIMIT {
        return Err(TokenizerError::in_file(
            path,
            TokenizerError::TooLarge { limit: LIMIT },
        ));
    }
    Ok(Some(bytes))
}

/// Reads a file that must be there.
fn required(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    optional(path)?.ok_or_else(|| {
        let missing = std::io::Error::from(ErrorKind::NotFound);
        TokenizerError::in_file(path, TokenizerError::Read(missing))
    })
}

/// Reads a text that may be missing.
pub(super) fn optional_text(path: &Path) -> Result<Option<String>, TokenizerError> {
    let text = |bytes: Vec<u8>| {
        String::from_utf8(bytes).map_err(|error| {
            let source = std::io::Error::new(ErrorKind::InvalidData, error.utf8_error());
            TokenizerError::in_file(path, TokenizerError::Read(source))
        })
    };
    optional(path)?.map(text).transpose()
}

/// Reads a JSON file that may be missing.
pub(super) fn optional_json(path: &Path) -> Result<Option<Value>, TokenizerError> {
    optional(path)?.map(|bytes| parse(path, &bytes)).transpose()
}

/// Reads a `tokenizer.json`.
///
/// The library panics on some descriptions that break off or contradict themselves, so it is only given what
/// is JSON, and its panics end here.
pub(super) fn tokenizer(path: &Path) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let bytes = required(path)?;
    parse::<IgnoredAny>(path, &bytes)?;
    let read = catch_unwind(|| tokenizers::Tokenizer::from_bytes(&bytes))
        .unwrap_or_else(|_| Err("the tokenizing library cannot read it".into()));
    read.or_else(|error| {
        // The library does not tell a nesting without end from an unknown description; the reader does.
        parse::<Value>(path, &bytes)?;
        Err(TokenizerError::in_file(
            path,
            TokenizerError::Description(error),
        ))
    })
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, TokenizerError> {
    serde_json::from_slice(bytes)
        .map_err(|source| TokenizerError::in_file(path, TokenizerError::Json { source }))
}
