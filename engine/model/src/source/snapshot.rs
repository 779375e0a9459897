//! A snapshot of a Hugging Face repository: config.json, and safetensors in one file or in shards with an index.
//!
//! The `safetensors` crate reads the headers, which checks every offset against the file. This module adds that the
//! index and the shards agree, and errors that name the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use candle_core::quantized::GgmlDType;
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{SourceError, TensorBytes, TensorEntry, kind};

/// The configuration's file.
pub(super) const CONFIG: &str = "config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// A configuration takes a few kilobytes, an index a hundred bytes for each tensor.
const LARGEST_CONFIG: u64 = 1 << 20;
const LARGEST_INDEX: u64 = 64 << 20;

/// An open snapshot.
#[derive(Debug)]
pub struct Snapshot {
    path: PathBuf,
    config: Map<String, Value>,
    shards: Vec<Shard>,
    tensors: BTreeMap<String, Place>,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    map: Mmap,
}

/// Where a tensor lies.
#[derive(Debug)]
struct Place {
    shard: usize,
    start: usize,
    end: usize,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl Snapshot {
    /// Reads the configuration and the headers of every shard. No weight is read yet.
    ///
    /// # Errors
    /// When a file is missing, damaged or too large, or the shards are not those of the index.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        match Self::open_partly(path)? {
            (snapshot, None) => Ok(snapshot),
            (_, Some(error)) => Err(error),
        }
    }

    /// As [`Snapshot::open`], and where the weights are not what they should be, what could be read of them and why
    /// no more.
    ///
    /// # Errors
    /// When there is no configuration.
    pub fn open_partly(path: &Path) -> Result<(Self, Option<SourceError>), SourceError> {
        let config = object(&path.join(CONFIG), LARGEST_CONFIG)?;
        let mut snapshot = Self {
            path: path.to_owned(),
            config,
            shards: Vec::new(),
            tensors: BTreeMap::new(),
        };
        let index = path.join(INDEX);
        let opened = if index.exists() {
            snapshot.sharded(&index)
        } else {
            snapshot.shard(&path.join(SINGLE))
        };
        Ok((snapshot, opened.err()))
    }

    /// Opens every shard that the index names, and compares what each holds with what the index says.
    fn sharded(&mut self, index: &Path) -> Result<(), SourceError> {
        let wrong = |found: String, expected: &str| SourceError::Json {
            path: index.to_owned(),
            found,
            expected: expected.to_owned(),
        };
        let object = object(index, LARGEST_INDEX)?;
        let Some(Value::Object(map)) = object.get("weight_map") else {
            return Err(wrong(
                "weight_map is missing or no object".to_owned(),
                "the file of each tensor",
            ));
        };
        let mut wanted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (tensor, file) in map {
            let Some(name) = file.as_str().filter(|name| is_file_name(name)) else {
                return Err(wrong(
                    format!("weight_map places {tensor} in {file}"),
                    "the name of a file beside the index",
                ));
            };
            wanted.entry(name).or_default().push(tensor);
        }
        for (name, tensors) in wanted {
            let path = self.path.join(name);
            self.shard(&path)?;
            let shard = self.shards.len() - 1;
            let differs = |found: String, expected: String| SourceError::Shard {
                path: path.clone(),
                found,
                expected,
            };
            for tensor in tensors {
                match self.tensors.get(tensor) {
                    Some(place) if place.shard == shard => {}
                    _ => {
                        return Err(differs(
                            format!("it does not hold the tensor {tensor}"),
                            "places it there: a shard is missing, old, or swapped for another"
                                .to_owned(),
                        ));
                    }
                }
            }
            let stray = self.tensors.iter().find(|(tensor, place)| {
                place.shard == shard && map.get(*tensor).and_then(Value::as_str) != Some(name)
            });
            if let Some((tensor, _)) = stray {
                let says = match map.get(tensor).and_then(Value::as_str) {
                    Some(other) => format!("places it in {other}"),
                    None => "does not know it".to_owned(),
                };
                return Err(differs(format!("it holds the tensor {tensor}"), says));
            }
        }
        Ok(())
    }

    /// Maps one file and reads its header.
    fn shard(&mut self, path: &Path) -> Result<(), SourceError> {
        let io = |source| SourceError::Io {
            path: path.to_owned(),
            source,
        };
        let damaged = |detail: String| SourceError::Header {
            path: path.to_owned(),
            format: "safetensors",
            detail,
        };
        let file = File::open(path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            return Err(io(std::io::Error::other("it is not a regular file")));
        }
        // SAFETY: the map is read-only. If another process shortens the file while we read it, the read faults; that
        // is the known price of a map, and model files are replaced by renaming.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let (header, metadata) =
            SafeTensors::read_metadata(&map).map_err(|error| match kind::of(&map) {
                Some(kind) if !kind.starts_with("a safetensors") => {
                    damaged(format!("{error}; the file is {kind}"))
                }
                _ => damaged(error.to_string()),
            })?;
        // Eight bytes say how long the header is.
        let data = header + 8;
        let shard = self.shards.len();
        for (name, info) in metadata.tensors() {
            let place = Place {
                shard,
                start: data + info.data_offsets.0,
                end: data + info.data_offsets.1,
                dtype: info.dtype,
                shape: info.shape.clone(),
            };
            if place.end > map.len() {
                return Err(damaged(format!(
                    "tensor {name} ends at byte {}, and the file has {}",
                    place.end,
                    map.len()
                )));
            }
            if let Some(other) = self.tensors.insert(name.clone(), place) {
                let other = &self.shards[other.shard].path;
                return Err(damaged(format!(
                    "tensor {name} is also in {}",
                    other.display()
                )));
            }
        }
        self.shards.push(Shard {
            path: path.to_owned(),
            map,
        });
        Ok(())
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What config.json says.
    #[must_use]
    pub fn config(&self) -> &Map<String, Value> {
        &self.config
    }

    /// Bytes of the shards.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.shards.iter().map(|shard| shard.map.len() as u64).sum()
    }

    /// SHA-256 of what config.json says and of the shards, one after the other in the order of the index, in lower-case
    /// hex.
    #[must_use]
    pub fn sha256(&self) -> String {
        let mut digest = Sha256::new();
        // Its keys are sorted, so how the file is laid out does not matter.
        digest.update(Value::Object(self.config.clone()).to_string());
        for shard in &self.shards {
            digest.update(&shard.map[..]);
        }
        digest
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Whether there is a tensor of that name.
    #[must_use]
    pub fn has_tensor(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The names of all tensors.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Every tensor, by name.
    pub fn tensors(&self) -> impl Iterator<Item = TensorEntry<'_>> {
        self.tensors.iter().map(|(name, place)| TensorEntry {
            name,
            kind: format!("{:?}", place.dtype),
            shape: &place.shape,
            bytes: Some((place.end - place.start) as u64),
        })
    }

    /// Files of weights.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The shard that holds a tensor, or the folder where none does.
    pub(super) fn file_of(&self, name: &str) -> &Path {
        self.tensors
            .get(name)
            .map_or(&self.path, |place| &self.shards[place.shard].path)
    }

    /// A tensor of the given shape (rows, columns).
    ///
    /// # Errors
    /// When it is missing, or has another shape or a type that we do not read.
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
            path: self.file_of(name).to_owned(),
            tensor: name.to_owned(),
            found,
            expected,
        };
        let Some(place) = self.tensors.get(name) else {
            return Err(wrong("is missing".to_owned(), expected));
        };
        let matches = match place.shape[..] {
            [only] => rows == 1 && only == columns,
            [outer, inner] => outer == rows && inner == columns,
            _ => false,
        };
        if !matches {
            return Err(wrong(format!("has shape {:?}", place.shape), expected));
        }
        let dtype = match place.dtype {
            Dtype::F32 => GgmlDType::F32,
            Dtype::F16 => GgmlDType::F16,
            Dtype::BF16 => GgmlDType::BF16,
            other => {
                return Err(wrong(
                    format!("has type {other:?}"),
                    "one of the types this build reads from safetensors: F32, F16, BF16".to_owned(),
                ));
            }
        };
        Ok(TensorBytes {
            dtype,
            rows,
            columns,
            bytes: &self.shards[place.shard].map[place.start..place.end],
            pairs: 0,
        })
    }

    /// As [`super::Source::release_pages`].
    pub(super) fn release_pages(&self) {
        for shard in &self.shards {
            super::gguf::release(&shard.map);
        }
    }
}

/// A name that stays in the folder.
fn is_file_name(name: &str) -> bool {
    !name.is_empty() && Path::new(name).file_name().is_some_and(|last| last == name)
}

/// Reads a JSON object from a file of bounded size.
fn object(path: &Path, limit: u64) -> Result<Map<String, Value>, SourceError> {
    let io = |source| SourceError::Io {
        path: path.to_owned(),
        source,
    };
    let wrong = |found: String, expected: String| SourceError::Json {
        path: path.to_owned(),
        found,
        expected,
    };
    let mut text = Vec::new();
    let file = File::open(path).map_err(io)?;
    file.take(limit + 1).read_to_end(&mut text).map_err(io)?;
    if text.len() as u64 > limit {
        return Err(wrong(
            format!("it has more than {limit} bytes"),
            format!("at most {limit}"),
        ));
    }
    match serde_json::from_slice(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(wrong(
            "it is JSON, but no object".to_owned(),
            "an object".to_owned(),
        )),
        Err(error) => Err(wrong(
            format!("it is not JSON: {error}"),
            "an object".to_owned(),
        )),
    }
}
