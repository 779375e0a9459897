//! What was collected: trajectories of a model, in safetensors files of bounded size.
//!
//! A shard has, for each token of its trajectories one after the other, the token and the state that the model's last
//! layer made of it (f16), where each trajectory begins, and the prompts. The first token of a trajectory is the last of
//! its prompt; those after it are what the model said. A shard is there wholly or not at all.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use half::f16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::error::AlignError;

/// The format that this build writes and reads.
const FORMAT: u32 = 1;
const KEY: &str = "kakeya.trajectories";

/// Where a collection comes from: what makes its trajectories what they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// SHA-256 of the model's weights.
    pub model_sha256: String,
    /// The numerics contract.
    pub numerics: u32,
    /// Width of the states.
    pub hidden: usize,
    /// The seed.
    pub seed: u64,
    /// The most tokens that the model says in a trajectory.
    pub max_new: usize,
    /// Its temperature.
    pub temperature: f32,
}

/// One trajectory.
#[derive(Clone, Debug, PartialEq)]
pub struct Trajectory {
    /// Its number in the collection: with the origin it says all that is in it.
    pub number: u64,
    /// The prompt, but for its last token.
    pub prompt: Vec<u32>,
    /// The last token of the prompt, and what the model said.
    pub tokens: Vec<u32>,
    /// The state after each of `tokens`, one after the other.
    pub states: Vec<f16>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    format: u32,
    origin: Origin,
    numbers: Vec<u64>,
}

/// The shards of a folder.
#[derive(Debug)]
pub struct Shards {
    folder: PathBuf,
    origin: Origin,
    files: Vec<PathBuf>,
    /// The trajectories that are there.
    pub(crate) numbers: BTreeSet<u64>,
    tokens: u64,
    bytes: u64,
}

impl Shards {
    /// The shards of a folder, which may be empty or missing. What a run that was killed has left half-written goes.
    ///
    /// # Errors
    /// When a shard is damaged or of another origin.
    pub fn open(folder: &Path, origin: Origin) -> Result<Self, AlignError> {
        std::fs::create_dir_all(folder).map_err(AlignError::file(folder))?;
        for path in files(folder, "part")? {
            std::fs::remove_file(&path).map_err(AlignError::file(&path))?;
        }
        let mut shards = Self {
            folder: folder.to_owned(),
            origin,
            files: Vec::new(),
            numbers: BTreeSet::new(),
            tokens: 0,
            bytes: 0,
        };
        for path in files(folder, "safetensors")? {
            let (origin, trajectories) = read(&path)?;
            ensure_same(&path, &origin, &shards.origin)?;
            let size = std::fs::metadata(&path).map_err(AlignError::file(&path))?;
            shards.take(path, &trajectories, size.len());
        }
        Ok(shards)
    }

    /// Where they come from, by a folder's first shard.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub fn origin_of(folder: &Path) -> Result<Origin, AlignError> {
        let first = files(folder, "safetensors")?.into_iter().next();
        let first = first.ok_or_else(|| AlignError::TooFew {
            path: folder.to_owned(),
            found: 0,
            needed: 1,
        })?;
        Ok(read(&first)?.0)
    }

    fn take(&mut self, path: PathBuf, trajectories: &[Trajectory], size: u64) {
        self.files.push(path);
        self.numbers
            .extend(trajectories.iter().map(|trajectory| trajectory.number));
        self.tokens += said(trajectories);
        self.bytes += size;
    }

    /// Tokens that the model said in them.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Bytes of the files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes a shard, unless all would then have more than `limit` bytes.
    ///
    /// # Errors
    /// [`AlignError::Limit`]; [`AlignError::DiskFull`]: nothing of the shard is left then.
    pub fn write(&mut self, trajectories: &[Trajectory], limit: u64) -> Result<(), AlignError> {
        let bytes = to_bytes(&self.origin, trajectories);
        let needed = self.bytes + bytes.len() as u64;
        if needed > limit {
            return Err(AlignError::Limit {
                needed,
                limit,
                kept: self.tokens,
            });
        }
        let path = self
            .folder
            .join(format!("shard-{:05}.safetensors", self.files.len()));
        let part = path.with_extension("part");
        let written = std::fs::write(&part, &bytes).and_then(|()| std::fs::rename(&part, &path));
        if let Err(source) = written {
            let _ = std::fs::remove_file(&part);
            return Err(match source.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                    AlignError::DiskFull {
                        path,
                        kept: self.tokens,
                        source,
                    }
                }
                _ => AlignError::File { path, source },
            });
        }
        self.take(path, trajectories, bytes.len() as u64);
        Ok(())
    }

    /// All trajectories, by their numbers.
    ///
    /// # Errors
    /// When a shard has been damaged meanwhile.
    pub fn read_all(&self) -> Result<Vec<Trajectory>, AlignError> {
        let mut all = Vec::new();
        for path in &self.files {
            all.extend(read(path)?.1);
        }
        all.sort_by_key(|trajectory| trajectory.number);
        Ok(all)
    }
}

/// Tokens that the model said.
fn said(trajectories: &[Trajectory]) -> u64 {
    let lengths = trajectories
        .iter()
        .map(|trajectory| trajectory.tokens.len() as u64 - 1);
    lengths.sum()
}

fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, AlignError> {
    let entries = std::fs::read_dir(folder).map_err(AlignError::file(folder))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(AlignError::file(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("shard-") && path.extension().is_some_and(|end| end == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn ensure_same(path: &Path, found: &Origin, expected: &Origin) -> Result<(), AlignError> {
    let other = |what, found: String, expected: String| {
        Err(AlignError::OtherCollection {
            path: path.to_owned(),
            what,
            found,
            expected,
        })
    };
    if found.model_sha256 != expected.model_sha256 {
        return other(
            "the model with SHA-256",
            found.model_sha256.clone(),
            expected.model_sha256.clone(),
        );
    }
    for (what, found, expected) in [
        (
            "numerics",
            u64::from(found.numerics),
            u64::from(expected.numerics),
        ),
        (
            "states of width",
            found.hidden as u64,
            expected.hidden as u64,
        ),
        ("--seed", found.seed, expected.seed),
        ("--max-new", found.max_new as u64, expected.max_new as u64),
    ] {
        if found != expected {
            return other(what, found.to_string(), expected.to_string());
        }
    }
    if found.temperature != expected.temperature {
        return other(
            "--temperature",
            found.temperature.to_string(),
            expected.temperature.to_string(),
        );
    }
    Ok(())
}

/// Which tokens of a trajectory.
type TokensOf = fn(&Trajectory) -> &[u32];

fn to_bytes(origin: &Origin, trajectories: &[Trajectory]) -> Vec<u8> {
    let about = About {
        format: FORMAT,
        origin: origin.clone(),
        numbers: trajectories
            .iter()
            .map(|trajectory| trajectory.number)
            .collect(),
    };
    let about = serde_json::to_string(&about).expect("plain values");
    let metadata = HashMap::from([(KEY.to_owned(), about)]);
    let words = |values: Vec<u32>| -> (usize, Vec<u8>) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        (values.len(), bytes.collect())
    };
    let lengths = |of: TokensOf| {
        words(
            trajectories
                .iter()
                .map(|trajectory| of(trajectory).len() as u32)
                .collect(),
        )
    };
    let all =
        |of: fn(&Trajectory) -> &[u32]| words(trajectories.iter().flat_map(of).copied().collect());
    let (tokens, prompts): (TokensOf, TokensOf) = (|one| &one.tokens, |one| &one.prompt);
    let states: Vec<u8> = trajectories
        .iter()
        .flat_map(|trajectory| &trajectory.states)
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let rows = states.len() / 2 / origin.hidden;
    let vectors = [
        ("lengths", lengths(tokens)),
        ("tokens", all(tokens)),
        ("prompt_lengths", lengths(prompts)),
        ("prompts", all(prompts)),
    ];
    let mut views: Vec<(&str, TensorView<'_>)> = vectors
        .iter()
        .map(|(name, (count, bytes))| {
            let view = TensorView::new(Dtype::U32, vec![*count], bytes);
            (*name, view.expect("the bytes of the shape"))
        })
        .collect();
    let view = TensorView::new(Dtype::F16, vec![rows, origin.hidden], &states);
    views.push(("states", view.expect("the bytes of the shape")));
    safetensors::serialize(views, Some(metadata)).expect("tensors of known sizes")
}

fn read(path: &Path) -> Result<(Origin, Vec<Trajectory>), AlignError> {
    let bytes = std::fs::read(path).map_err(AlignError::file(path))?;
    let not = |problem: String| AlignError::NotAShard {
        path: path.to_owned(),
        problem,
    };
    let (_, metadata) =
        SafeTensors::read_metadata(&bytes).map_err(|error| not(error.to_string()))?;
    let about = metadata
        .metadata()
        .as_ref()
        .and_then(|about| about.get(KEY));
    let about = about.ok_or_else(|| not(format!("its metadata has no `{KEY}`")))?;
    let about: About = serde_json::from_str(about).map_err(|error| not(error.to_string()))?;
    if about.format != FORMAT {
        return Err(not(format!(
            "it has format {}, and this build reads {FORMAT}",
            about.format
        )));
    }
    let all = SafeTensors::deserialize(&bytes).map_err(|error| not(error.to_string()))?;
    let tensor = |name: &str, dtype: Dtype| {
        let view = all
            .tensor(name)
            .map_err(|_| not(format!("`{name}` is missing")))?;
        if view.dtype() == dtype {
            Ok(view)
        } else {
            Err(not(format!(
                "`{name}` is {:?}, expected {dtype:?}",
                view.dtype()
            )))
        }
    };
    let words = |name: &str| -> Result<Vec<u32>, AlignError> {
        let view = tensor(name, Dtype::U32)?;
        let words = view.data().as_chunks::<4>().0;
        Ok(words.iter().map(|word| u32::from_le_bytes(*word)).collect())
    };
    let (lengths, tokens) = (words("lengths")?, words("tokens")?);
    let (prompt_lengths, prompts) = (words("prompt_lengths")?, words("prompts")?);
    let states = tensor("states", Dtype::F16)?;
    let hidden = about.origin.hidden;
    let sum = |lengths: &[u32]| lengths.iter().map(|length| *length as usize).sum::<usize>();
    let sound = lengths.len() == about.numbers.len()
        && prompt_lengths.len() == about.numbers.len()
        && sum(&lengths) == tokens.len()
        && sum(&prompt_lengths) == prompts.len()
        && states.shape() == [tokens.len(), hidden]
        && lengths.iter().all(|length| *length > 1);
    if !sound {
        return Err(not("its parts do not fit each other".to_owned()));
    }
    let mut values = states
        .data()
        .as_chunks::<2>()
        .0
        .iter()
        .map(|pair| f16::from_le_bytes(*pair));
    let (mut tokens, mut prompts) = (tokens.into_iter(), prompts.into_iter());
    let trajectories = about
        .numbers
        .iter()
        .zip(lengths.iter().zip(&prompt_lengths))
        .map(|(number, (length, prompt))| Trajectory {
            number: *number,
            prompt: prompts.by_ref().take(*prompt as usize).collect(),
            tokens: tokens.by_ref().take(*length as usize).collect(),
            states: values.by_ref().take(*length as usize * hidden).collect(),
        })
        .collect();
    Ok((about.origin, trajectories))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin {
            model_sha256: "ab".to_owned(),
            numerics: 1,
            hidden: 3,
            seed: 7,
            max_new: 9,
            temperature: 0.0,
        }
    }

    fn trajectory(number: u64, length: usize) -> Trajectory {
        let values = (0..length * 3).map(|at| f16::from_f32(at as f32 + number as f32));
        Trajectory {
            number,
            prompt: vec![1; number as usize],
            tokens: (0..length as u32).collect(),
            states: values.collect(),
        }
    }

    #[test]
    fn what_was_written_is_read_in_the_order_of_the_numbers() {
        let home = tempfile::tempdir().expect("a folder");
        let mut shards = Shards::open(home.path(), origin()).expect("empty");
        let (late, early) = (trajectory(5, 4), trajectory(2, 3));
        shards
            .write(std::slice::from_ref(&late), u64::MAX)
            .expect("written");
        shards
            .write(std::slice::from_ref(&early), u64::MAX)
            .expect("written");
        let again = Shards::open(home.path(), origin()).expect("opened");
        assert_eq!(again.tokens(), 5);
        assert_eq!(again.bytes(), shards.bytes());
        assert_eq!(again.numbers, BTreeSet::from([2, 5]));
        assert_eq!(again.read_all().expect("read"), [early, late]);
    }

    #[test]
    fn a_half_written_shard_goes_and_a_damaged_one_is_named() {
        let home = tempfile::tempdir().expect("a folder");
        let part = home.path().join("shard-00000.part");
        std::fs::write(&part, "half").expect("written");
        let mut shards = Shards::open(home.path(), origin()).expect("empty");
        assert!(!part.exists());
        shards
            .write(&[trajectory(0, 3)], u64::MAX)
            .expect("written");
        let path = home.path().join("shard-00000.safetensors");
        let whole = std::fs::read(&path).expect("there");
        for length in [0, 5, 60, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).expect("cut");
            let error = Shards::open(home.path(), origin()).expect_err("damaged");
            let text = error.to_string();
            assert!(
                text.contains("shard-00000") && text.contains("no shard"),
                "{text}"
            );
        }
    }

    #[test]
    fn shards_of_another_origin_are_refused() {
        let home = tempfile::tempdir().expect("a folder");
        let mut shards = Shards::open(home.path(), origin()).expect("empty");
        shards
            .write(&[trajectory(0, 3)], u64::MAX)
            .expect("written");
        for (other, part) in [
            (
                Origin {
                    model_sha256: "cd".to_owned(),
                    ..origin()
                },
                "SHA-256 ab, and not cd",
            ),
            (
                Origin {
                    seed: 8,
                    ..origin()
                },
                "--seed 7, and not 8",
            ),
            (
                Origin {
                    max_new: 8,
                    ..origin()
                },
                "--max-new",
            ),
            (
                Origin {
                    temperature: 0.5,
                    ..origin()
                },
                "--temperature 0, and not 0.5",
            ),
            (
                Origin {
                    numerics: 2,
                    ..origin()
                },
                "numerics",
            ),
        ] {
            let error = Shards::open(home.path(), other)
                .expect_err("another")
                .to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn shards_take_no_more_than_they_may() {
        let home = tempfile::tempdir().expect("a folder");
        let mut shards = Shards::open(home.path(), origin()).expect("empty");
        shards
            .write(&[trajectory(0, 3)], u64::MAX)
            .expect("written");
        let limit = 2 * shards.bytes() - 1;
        let error = shards
            .write(&[trajectory(1, 3)], limit)
            .expect_err("too much");
        assert!(error.to_string().contains("2 tokens are kept"), "{error}");
        assert_eq!(
            Shards::open(home.path(), origin())
                .expect("opened")
                .tokens(),
            2
        );
    }
}
