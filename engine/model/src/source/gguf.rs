//! A GGUF file, mapped into memory, whose every field is checked before it is used.
//!
//! [`super::header`] reads the header; this module adds what a user needs when a file is wrong: the name of the file,
//! the field, what was found and what was expected.

use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::Value;
use memmap2::Mmap;
use sha2::{Digest, Sha256};

use super::header::{Header, Place};
use super::{SourceError, TensorBytes, TensorEntry, kind};
use crate::panels::PanelKind;

/// An open GGUF file.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    map: Mmap,
    header: Header,
}

impl GgufFile {
    /// Maps the file and reads its header. No weight is read yet.
    ///
    /// # Errors
    /// When the file cannot be read, is no GGUF file, or its header is damaged.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let io = |source| SourceError::Io {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            return Err(io(std::io::Error::other("it is not a regular file")));
        }
        // SAFETY: the map is read-only. If another process shortens the file while we read it, the read
        // faults; that is the known price of a map, and model files are not edited in place: the
        // catalogue replaces them by renaming.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let version = map
            .get(4..8)
            .map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        if !map.starts_with(b"GGUF") || !version.is_some_and(|version| (1..=3).contains(&version)) {
            let mut found = match kind::of(&map) {
                Some(kind) => format!("it is {kind}"),
                None => "it is of no kind known here".to_owned(),
            };
            if let Some(head) = map.get(..8) {
                found += &format!(" (it begins with \"{}\")", head.escape_ascii());
            }
            return Err(SourceError::NotGguf {
                path: path.to_owned(),
                found,
            });
        }
        let damaged = |detail: String| SourceError::Header {
            path: path.to_owned(),
            format: "GGUF",
            detail,
        };
        let header = Header::read(&map).map_err(damaged)?;
        // A file without tensors may end where its header does.
        if header.data > map.len() as u64 && !header.tensors.is_empty() {
            return Err(damaged(format!(
                "tensor data should begin at byte {}, but the file has {} bytes",
                header.data,
                map.len()
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            map,
            header,
        })
    }

    /// Where the file lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.map.len() as u64
    }

    /// SHA-256 of the whole file, in lower-case hex.
    #[must_use]
    pub fn sha256(&self) -> String {
        Sha256::digest(&self.map[..])
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Whether the metadata has the key.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.header.metadata.contains_key(key)
    }

    /// A text field.
    ///
    /// # Errors
    /// When it is missing or no string.
    pub fn string(&self, key: &str) -> Result<&str, SourceError> {
        match self.value(key, "a string")? {
            Value::String(text) => Ok(text),
            other => Err(self.wrong_type(key, other, "a string")),
        }
    }

    /// A field that holds a non-negative integer of any width.
    ///
    /// # Errors
    /// When it is missing, negative or no integer.
    pub fn u64(&self, key: &str) -> Result<u64, SourceError> {
        let expected = "a non-negative integer";
        let value = self.value(key, expected)?;
        integer(value).ok_or_else(|| self.wrong_type(key, value, expected))
    }

    /// A field that holds a finite real number.
    ///
    /// # Errors
    /// When it is missing, not finite or no number.
    pub fn f32(&self, key: &str) -> Result<f32, SourceError> {
        let expected = "a finite number";
        match self.value(key, expected)? {
            Value::F32(number) if number.is_finite() => Ok(*number),
            Value::F64(number) if number.is_finite() => Ok(*number as f32),
            other => Err(self.wrong_type(key, other, expected)),
        }
    }

    /// A boolean field.
    ///
    /// # Errors
    /// When it is missing or no boolean.
    pub fn bool(&self, key: &str) -> Result<bool, SourceError> {
        match self.value(key, "a boolean")? {
            Value::Bool(flag) => Ok(*flag),
            other => Err(self.wrong_type(key, other, "a boolean")),
        }
    }

    /// An array of strings.
    ///
    /// # Errors
    /// When it is missing, or any element is no string.
    pub fn string_array(&self, key: &str) -> Result<Vec<String>, SourceError> {
        self.array(key, "an array of strings", |value| match value {
            Value::String(text) => Some(text.clone()),
            _ => None,
        })
    }

    /// An array of non-negative integers.
    ///
    /// # Errors
    /// When it is missing, or any element is negative or no integer.
    pub fn u64_array(&self, key: &str) -> Result<Vec<u64>, SourceError> {
        self.array(key, "an array of non-negative integers", integer)
    }

    /// An array of finite numbers.
    ///
    /// # Errors
    /// When it is missing, or any element is not finite or no `f32`.
    pub fn f32_array(&self, key: &str) -> Result<Vec<f32>, SourceError> {
        self.array(key, "an array of finite numbers", |value| match value {
            Value::F32(number) if number.is_finite() => Some(*number),
            _ => None,
        })
    }

    /// The error that says a field has a value we cannot use.
    #[must_use]
    pub fn unusable(
        &self,
        key: &str,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> SourceError {
        SourceError::Field {
            path: self.path.clone(),
            key: key.to_owned(),
            found: found.into(),
            expected: expected.into(),
        }
    }

    /// Whether the file has a tensor of that name.
    #[must_use]
    pub fn has_tensor(&self, name: &str) -> bool {
        self.header.tensors.contains_key(name)
    }

    /// The names of all tensors.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.header.tensors.keys().map(String::as_str)
    }

    /// The rows of a matrix, whatever they are.
    ///
    /// # Errors
    /// When it is missing or no matrix.
    pub fn rows(&self, name: &str) -> Result<usize, SourceError> {
        let dims = self.header.tensors.get(name).map(|place| &place.shape[..]);
        match dims {
            Some([rows, _]) => Ok(*rows),
            _ => Err(SourceError::Tensor {
                path: self.path.clone(),
                tensor: name.to_owned(),
                found: dims.map_or("is missing".to_owned(), |dims| {
                    format!("has shape {dims:?}")
                }),
                expected: "a matrix".to_owned(),
            }),
        }
    }

    /// Elements of an array, of whatever type.
    ///
    /// # Errors
    /// When it is missing or no array.
    pub fn array_len(&self, key: &str) -> Result<usize, SourceError> {
        match self.value(key, "an array")? {
            Value::Array(elements) => Ok(elements.len()),
            other => Err(self.wrong_type(key, other, "an array")),
        }
    }

    /// A tensor of the given shape (rows, columns), bounds checked against the file.
    ///
    /// # Errors
    /// When it is missing, has another shape, or reaches beyond the end of the file.
    pub fn tensor(
        &self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<TensorBytes<'_>, SourceError> {
        let expected = if rows == 1 {
            format!("shape [{columns}]")
        } else {
            format!("shape [{rows}, {columns}]")
        };
        let wrong = |found: String, expected: String| SourceError::Tensor {
            path: self.path.clone(),
            tensor: name.to_owned(),
            found,
            expected,
        };
        let Some(place) = self.header.tensors.get(name) else {
            return Err(wrong("is missing".to_owned(), expected));
        };
        let dims = &place.shape[..];
        let matches = match dims {
            [only] => rows == 1 && *only == columns,
            [outer, inner] => *outer == rows && *inner == columns,
            _ => false,
        };
        if !matches {
            return Err(wrong(format!("has shape {dims:?}"), expected));
        }
        let Some(dtype) = place.kind.dtype() else {
            return Err(wrong(
                format!("has type {}", place.kind),
                PanelKind::expected(),
            ));
        };
        if !columns.is_multiple_of(dtype.block_size()) {
            return Err(wrong(
                format!("has rows of {columns} elements of type {dtype:?}"),
                format!("a multiple of the block size {}", dtype.block_size()),
            ));
        }
        match self.range(place) {
            Some(range) => Ok(TensorBytes {
                dtype,
                rows,
                columns,
                bytes: &self.map[range],
                pairs: 0,
            }),
            None => Err(wrong(
                format!(
                    "needs {} bytes at data offset {}",
                    length(place).map_or("more than 2^64".to_owned(), |length| length.to_string()),
                    place.offset
                ),
                format!(
                    "a file long enough for it; this one has {} bytes and may be truncated",
                    self.size()
                ),
            )),
        }
    }

    /// Where a tensor lies in the file; `None` where it reaches beyond the end.
    fn range(&self, place: &Place) -> Option<std::ops::Range<usize>> {
        let start = self.header.data.checked_add(place.offset)?;
        let end = start.checked_add(length(place)?)?;
        (end <= self.size()).then_some(start as usize..end as usize)
    }

    /// The version of the format.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// Every tensor, by name.
    pub fn tensors(&self) -> impl Iterator<Item = TensorEntry<'_>> {
        self.header.tensors.iter().map(|(name, place)| TensorEntry {
            name,
            kind: place.kind.to_string(),
            shape: &place.shape,
            bytes: length(place),
        })
    }

    /// Every metadata entry as people read it, by key: long texts and lists shortened.
    #[must_use]
    pub fn metadata(&self) -> Vec<(&str, String)> {
        let entries = self.header.metadata.iter();
        let mut shown: Vec<_> = entries
            .map(|(key, value)| (key.as_str(), described(value)))
            .collect();
        shown.sort_unstable();
        shown
    }

    /// Tells the system that the pages read so far are not needed any more: their weights have been repacked.
    pub(crate) fn release_pages(&self) {
        release(&self.map);
    }

    fn value(&self, key: &str, expected: &str) -> Result<&Value, SourceError> {
        self.header
            .metadata
            .get(key)
            .ok_or_else(|| self.unusable(key, "missing", expected))
    }

    fn wrong_type(&self, key: &str, found: &Value, expected: &str) -> SourceError {
        self.unusable(key, described(found), expected)
    }

    fn array<T>(
        &self,
        key: &str,
        expected: &str,
        convert: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<T>, SourceError> {
        let value = self.value(key, expected)?;
        let Value::Array(elements) = value else {
            return Err(self.wrong_type(key, value, expected));
        };
        elements
            .iter()
            .map(|element| convert(element).ok_or_else(|| self.wrong_type(key, element, expected)))
            .collect()
    }
}

/// Tells the system that a map's pages are not needed any more.
pub(super) fn release(map: &Mmap) {
    #[cfg(unix)]
    {
        // SAFETY: the map is private and read-only; a page that is touched again is read from the file again, with the
        // same contents.
        let advised = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        if let Err(error) = advised {
            tracing::debug!(%error, "the system kept the mapped pages");
        }
    }
    #[cfg(not(unix))]
    let _ = map;
}

fn integer(value: &Value) -> Option<u64> {
    match value {
        Value::U8(number) => Some(u64::from(*number)),
        Value::U16(number) => Some(u64::from(*number)),
        Value::U32(number) => Some(u64::from(*number)),
        Value::U64(number) => Some(*number),
        Value::I8(number) => u64::try_from(*number).ok(),
        Value::I16(number) => u64::try_from(*number).ok(),
        Value::I32(number) => u64::try_from(*number).ok(),
        Value::I64(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

/// Bytes of a tensor; `None` where they pass 64 bits, or the type is unknown.
fn length(place: &Place) -> Option<u64> {
    let elements = place
        .shape
        .iter()
        .try_fold(1_u64, |product, length| product.checked_mul(*length as u64))?;
    place.kind.bytes(elements)
}

/// A value as people read it.
fn described(value: &Value) -> String {
    const LONGEST: usize = 60;
    match value {
        Value::Array(elements) => format!("a list of {}", elements.len()),
        Value::String(text) => match text.char_indices().nth(LONGEST) {
            Some((cut, _)) => format!("{:?}… ({} bytes)", &text[..cut], text.len()),
            None => format!("{text:?}"),
        },
        Value::Bool(flag) => flag.to_string(),
        Value::F32(number) => number.to_string(),
        Value::F64(number) => number.to_string(),
        Value::I8(number) => number.to_string(),
        Value::I16(number) => number.to_string(),
        Value::I32(number) => number.to_string(),
        Value::I64(number) => number.to_string(),
        other => integer(other).map_or_else(|| format!("{other:?}"), |number| number.to_string()),
    }
}
