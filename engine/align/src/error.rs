//! What can go wrong.

use std::path::PathBuf;

use kakeya_model::head::HeadError;
use thiserror::Error;

/// Why a step cannot be made. What was written before it is kept.
#[derive(Debug, Error)]
pub enum AlignError {
    /// A file or folder cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no room for another shard.
    #[error(
        "{path}: there is no room for another shard ({source}); {kept} tokens are kept: make room, and run the same command again"
    )]
    DiskFull {
        /// The shard.
        path: PathBuf,
        /// Tokens that are written.
        kept: u64,
        /// What the system said.
        source: std::io::Error,
    },
    /// The shards may take no more.
    #[error(
        "{needed} bytes of shards would be more than the {limit} that they may have (--max-bytes); {kept} tokens are kept"
    )]
    Limit {
        /// Bytes with the next one.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
        /// Tokens that are written.
        kept: u64,
    },
    /// A shard is damaged, or is none.
    #[error("{path} is no shard: {problem}")]
    NotAShard {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A shard was collected from another model, or in another way.
    #[error("{path} was collected with {what} {found}, and not {expected}: use another folder")]
    OtherCollection {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// The shard's.
        found: String,
        /// What was asked for.
        expected: String,
    },
    /// There is nothing to learn from.
    #[error(
        "{path} has {found} tokens to learn from, and at least {needed} are needed: collect more"
    )]
    TooFew {
        /// The folder.
        path: PathBuf,
        /// Tokens there.
        found: u64,
        /// Tokens needed.
        needed: u64,
    },
    /// A checkpoint is of another training.
    #[error(
        "{path} is of a training with other settings: use another folder, or the same settings ({problem})"
    )]
    OtherTraining {
        /// The file.
        path: PathBuf,
        /// What differs.
        problem: String,
    },
    /// The model has no chat template to begin a conversation with.
    #[error("{problem}: there is nothing to begin a conversation with")]
    NoTemplate {
        /// What is missing.
        problem: String,
    },
    /// The loss is no number any more.
    #[error("the loss is {loss} at step {step}: use a smaller learning rate")]
    Diverged {
        /// The step.
        step: u64,
        /// The loss.
        loss: f32,
    },
    /// A setting makes no sense.
    #[error("{0}")]
    Setting(String),
    /// The head.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The model.
    #[error(transparent)]
    Model(#[from] kakeya_model::ModelError),
    /// The engine.
    #[error("{0}")]
    Engine(String),
    /// Tensors.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A plot cannot be drawn.
    #[error("the plot cannot be drawn: {0}")]
    Plot(String),
}

impl AlignError {
    /// About a file.
    pub(crate) fn file(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}
