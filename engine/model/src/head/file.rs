//! A head's file: safetensors, with its sizes and the model that it was trained for in the metadata.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::SEGMENT;
use crate::model::Model;

/// The format that this build writes and reads.
pub const HEAD_FORMAT: u32 = 1;
/// The key of the metadata.
const KEY: &str = "kakeya.draft_head";
/// The tensor with the tokens of the head's own vocabulary.
const TOKENS: &str = "tokens";
/// A head takes some megabytes.
const LARGEST: u64 = 4 << 30;
const MOST_BLOCKS: usize = 64;
const WIDEST: usize = 1 << 16;

/// The sizes of a head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadShape {
    /// Width of the model's states.
    pub hidden: usize,
    /// Width of the head's own, a multiple of 32.
    pub width: usize,
    /// Width inside a block, a multiple of 32.
    pub wide: usize,
    /// Blocks.
    pub blocks: usize,
    /// Tokens that it can say.
    pub drafted: usize,
}

/// What the metadata says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    format: u32,
    /// SHA-256 of the weights of the model that it was trained for.
    model_sha256: String,
    shape: HeadShape,
}

/// A head as a file has it: f32 weights by name.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadFile {
    model_sha256: String,
    shape: HeadShape,
    tensors: BTreeMap<String, Vec<f32>>,
    tokens: Vec<u32>,
}

/// Why a head cannot be used.
#[derive(Debug, Error)]
pub enum HeadError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no head, or damaged.
    #[error("{path} is not a draft head: {problem}")]
    NotAHead {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Another version wrote it.
    #[error(
        "{path} is a draft head of format {found}, and this build reads format {HEAD_FORMAT}: train it again"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It was trained for another model.
    #[error("the head was trained for the model with SHA-256 {expected}, and this one has {found}")]
    OtherModel {
        /// The model's.
        found: String,
        /// The head's.
        expected: String,
    },
    /// Its sizes are not the model's, or make no sense.
    #[error("the head's {what} is {found}, expected {expected}")]
    Shape {
        /// The size.
        what: &'static str,
        /// What the file says.
        found: usize,
        /// What would be right.
        expected: String,
    },
    /// A tensor is missing or has other values than it may.
    #[error("the head's tensor `{name}`: {problem}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl HeadShape {
    /// Each tensor of weights, and its shape.
    #[must_use]
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let Self {
            hidden,
            width,
            wide,
            blocks,
            ..
        } = *self;
        let mut tensors = vec![
            ("state_in".to_owned(), vec![width, hidden]),
            ("token_in".to_owned(), vec![width, hidden]),
            ("state_out".to_owned(), vec![hidden, width]),
            ("norm".to_owned(), vec![width]),
        ];
        for index in 0..blocks {
            let named = |name: &str| format!("blocks.{index}.{name}");
            tensors.extend([
                (named("norm"), vec![width]),
                (named("gate"), vec![wide, width]),
                (named("up"), vec![wide, width]),
                (named("down"), vec![width, wide]),
            ]);
        }
        tensors
    }

    /// Refuses sizes that no head has.
    ///
    /// # Errors
    /// [`HeadError::Shape`].
    pub fn check(&self) -> Result<(), HeadError> {
        let multiple = format!("a multiple of {SEGMENT} from {SEGMENT} to {WIDEST}");
        for (what, found) in [
            ("hidden size", self.hidden),
            ("width", self.width),
            ("block width", self.wide),
        ] {
            if found == 0 || !found.is_multiple_of(SEGMENT) || found > WIDEST {
                return Err(HeadError::Shape {
                    what,
                    found,
                    expected: multiple,
                });
            }
        }
        if self.blocks > MOST_BLOCKS {
            return Err(HeadError::Shape {
                what: "number of blocks",
                found: self.blocks,
                expected: format!("at most {MOST_BLOCKS}"),
            });
        }
        if self.drafted == 0 {
            return Err(HeadError::Shape {
                what: "vocabulary",
                found: 0,
                expected: "one token or more".to_owned(),
            });
        }
        Ok(())
    }
}

impl HeadFile {
    /// A head from its parts.
    ///
    /// # Errors
    /// [`HeadError::Shape`] and [`HeadError::Tensor`], when they do not fit each other.
    pub fn new(
        model_sha256: String,
        shape: HeadShape,
        tensors: BTreeMap<String, Vec<f32>>,
        tokens: Vec<u32>,
    ) -> Result<Self, HeadError> {
        shape.check()?;
        let problem = |name: &str, problem: String| HeadError::Tensor {
            name: name.to_owned(),
            problem,
        };
        for (name, dims) in shape.tensors() {
            let values = tensors
                .get(&name)
                .ok_or_else(|| problem(&name, "it is missing".to_owned()))?;
            let expected: usize = dims.iter().product();
            if values.len() != expected {
                let text = format!("it has {} values, expected {expected}", values.len());
                return Err(problem(&name, text));
            }
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                return Err(problem(&name, format!("value {index} is not finite")));
            }
        }
        if tokens.len() != shape.drafted {
            let text = format!("it has {} tokens, expected {}", tokens.len(), shape.drafted);
            return Err(problem(TOKENS, text));
        }
        let mut sorted = tokens.clone();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(problem(TOKENS, format!("token {} is there twice", pair[0])));
        }
        Ok(Self {
            model_sha256,
            shape,
            tensors,
            tokens,
        })
    }

    /// Reads a head.
    ///
    /// # Errors
    /// [`HeadError`], naming the file.
    pub fn read(path: &Path) -> Result<Self, HeadError> {
        let file = |source| HeadError::File {
            path: path.to_owned(),
            source,
        };
        let size = std::fs::metadata(path).map_err(file)?.len();
        let not = |problem: String| HeadError::NotAHead {
            path: path.to_owned(),
            problem,
        };
        if size > LARGEST {
            return Err(not(format!(
                "it has {size} bytes, and a head at most {LARGEST}"
            )));
        }
        let bytes = std::fs::read(path).map_err(file)?;
        let (_, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|error| not(error.to_string()))?;
        let about = metadata
            .metadata()
            .as_ref()
            .and_then(|about| about.get(KEY))
            .ok_or_else(|| not(format!("its metadata has no `{KEY}`")))?;
        // The format first: what else there is may be another's.
        let format: Format = serde_json::from_str(about).map_err(|error| not(error.to_string()))?;
        if format.format != HEAD_FORMAT {
            return Err(HeadError::Format {
                path: path.to_owned(),
                found: format.format,
            });
        }
        let about: About = serde_json::from_str(about).map_err(|error| not(error.to_string()))?;
        about.shape.check()?;
        let all = SafeTensors::deserialize(&bytes).map_err(|error| not(error.to_string()))?;
        let tensor = |name: &str, dtype: Dtype, dims: &[usize]| {
            let problem = |problem: String| HeadError::Tensor {
                name: name.to_owned(),
                problem,
            };
            let view = all
                .tensor(name)
                .map_err(|_| problem("it is missing".to_owned()))?;
            if view.dtype() != dtype || view.shape() != dims {
                return Err(problem(format!(
                    "it is {:?} {:?}, expected {dtype:?} {dims:?}",
                    view.dtype(),
                    view.shape()
                )));
            }
            Ok(view)
        };
        let words = |bytes: &[u8]| -> Vec<[u8; 4]> { bytes.as_chunks::<4>().0.to_vec() };
        let mut tensors = BTreeMap::new();
        for (name, dims) in about.shape.tensors() {
            let view = tensor(&name, Dtype::F32, &dims)?;
            let values = words(view.data()).into_iter().map(f32::from_le_bytes);
            tensors.insert(name, values.collect());
        }
        let view = tensor(TOKENS, Dtype::U32, &[about.shape.drafted])?;
        let tokens = words(view.data()).into_iter().map(u32::from_le_bytes);
        Self::new(about.model_sha256, about.shape, tensors, tokens.collect())
    }

    /// Writes a head to a file, which is there wholly or not at all.
    ///
    /// # Errors
    /// [`HeadError::File`].
    pub fn write(&self, path: &Path) -> Result<(), HeadError> {
        let failed = |source| HeadError::File {
            path: path.to_owned(),
            source,
        };
        let bytes = self.to_bytes();
        let part = path.with_extension("part");
        std::fs::write(&part, bytes).map_err(failed)?;
        std::fs::rename(&part, path).map_err(failed)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let about = About {
            format: HEAD_FORMAT,
            model_sha256: self.model_sha256.clone(),
            shape: self.shape.clone(),
        };
        let about = serde_json::to_string(&about).expect("plain values");
        let metadata = HashMap::from([(KEY.to_owned(), about)]);
        let mut data: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = self
            .shape
            .tensors()
            .into_iter()
            .map(|(name, dims)| {
                let values = self.tensors[&name].iter();
                let bytes = values.flat_map(|value| value.to_le_bytes()).collect();
                (name, Dtype::F32, dims, bytes)
            })
            .collect();
        let tokens = self.tokens.iter();
        let tokens = tokens.flat_map(|token| token.to_le_bytes()).collect();
        data.push((
            TOKENS.to_owned(),
            Dtype::U32,
            vec![self.tokens.len()],
            tokens,
        ));
        let views = data.iter().map(|(name, dtype, dims, bytes)| {
            let view = TensorView::new(*dtype, dims.clone(), bytes);
            (name.as_str(), view.expect("the bytes of the shape"))
        });
        safetensors::serialize(views, Some(metadata)).expect("tensors of known sizes")
    }

    /// Refuses a head that was not trained for `model`, whose weights have the SHA-256 `sha256`.
    ///
    /// # Errors
    /// [`HeadError::OtherModel`] or [`HeadError::Shape`].
    pub fn check(&self, model: &Model, sha256: &str) -> Result<(), HeadError> {
        if self.model_sha256 != sha256 {
            return Err(HeadError::OtherModel {
                found: sha256.to_owned(),
                expected: self.model_sha256.clone(),
            });
        }
        let config = model.config();
        if self.shape.hidden != config.hidden {
            return Err(HeadError::Shape {
                what: "hidden size",
                found: self.shape.hidden,
                expected: format!("{} as the model's", config.hidden),
            });
        }
        let outside = |token: &&u32| **token as usize >= config.vocabulary;
        if let Some(token) = self.tokens.iter().find(outside) {
            return Err(HeadError::Tensor {
                name: TOKENS.to_owned(),
                problem: format!(
                    "token {token} is outside the vocabulary of {}",
                    config.vocabulary
                ),
            });
        }
        Ok(())
    }

    /// Its sizes.
    #[must_use]
    pub fn shape(&self) -> &HeadShape {
        &self.shape
    }

    /// The tokens that it can say.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// SHA-256 of the weights of the model that it was trained for.
    #[must_use]
    pub fn model_sha256(&self) -> &str {
        &self.model_sha256
    }

    /// The values of a tensor, row after row.
    ///
    /// # Errors
    /// [`HeadError::Tensor`], when there is none.
    pub fn tensor(&self, name: &str) -> Result<&[f32], HeadError> {
        let missing = || HeadError::Tensor {
            name: name.to_owned(),
            problem: "it is missing".to_owned(),
        };
        self.tensors
            .get(name)
            .map(Vec::as_slice)
            .ok_or_else(missing)
    }
}

/// The one field that every format has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}
