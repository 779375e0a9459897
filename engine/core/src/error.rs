//! What the engine answers when it does not do what it was asked. The wire layer maps each to one status.

use std::time::Duration;

use crate::constraint::ConstraintError;
use crate::params::{LogitBiasError, MAX_TOP_LOGPROBS, StopError};
use crate::pipeline::PipelineError;
use crate::sampling::SamplingError;
use crate::scheduler::AdmissionError;
use crate::session::{SessionId, SessionIdError};
use crate::slab::SlabError;
use crate::store::{InvariantViolation, SessionError};
use crate::tenant::LimitError;

/// An argument that was refused before anything was touched.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidArgument {
    /// A generation of nothing.
    #[error("max_tokens is 0, and must be 1 or more")]
    ZeroMaxTokens,
    /// A token id the model does not have.
    #[error("token {token} at index {index} is outside the vocabulary of {vocabulary}")]
    TokenOutOfVocabulary {
        /// Its index in the request.
        index: usize,
        /// The token id.
        token: u32,
        /// Tokens the model has: ids from 0 up to, and without, this.
        vocabulary: u32,
    },
    /// A generation with nothing to continue.
    #[error("session {id} is empty: append at least one token before generating")]
    EmptySession {
        /// The session.
        id: SessionId,
    },
    /// A single generation after nothing.
    #[error("the prompt has no tokens: there must be something to continue")]
    EmptyPrompt,
    /// A fork into nothing.
    #[error("count is 0, and must be 1 or more")]
    ZeroForks,
    /// A sampling value out of range.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// A bias that cannot be had.
    #[error(transparent)]
    LogitBias(#[from] LogitBiasError),
    /// A stop sequence that cannot be had.
    #[error(transparent)]
    Stop(#[from] StopError),
    /// More log-probabilities than are given.
    #[error("top_logprobs is {value}, and must be from 0 to {MAX_TOP_LOGPROBS}")]
    TopLogprobs {
        /// The value given.
        value: u32,
    },
    /// With a full window, an append beyond the model's context.
    #[error("{history} tokens of history and {appended} more pass the model's context of {limit}")]
    ContextExceeded {
        /// Tokens the session has.
        history: u64,
        /// Tokens to append.
        appended: u64,
        /// The model's context.
        limit: u64,
    },
}

/// What the engine answers when it does not do what it was asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// No live session has the id. An id that could not be one is not found either.
    #[error("session `{id}` not found: it never existed, was closed, or was evicted")]
    NotFound {
        /// The id, as it was given.
        id: String,
    },
    /// Every slab is held by a session that cannot be evicted.
    #[error("all {capacity} sessions are in use and none can be evicted")]
    NoSlab {
        /// Slabs of the engine.
        capacity: usize,
    },
    /// Every slot is taken, and so is every place in the queue.
    #[error("every generation slot is busy and the queue of {cap} is full")]
    QueueFull {
        /// Places in the queue; 0 when the policy is to reject.
        cap: usize,
    },
    /// The requests that wait hold as many tokens as may be.
    #[error(
        "the requests that wait hold too many tokens: {limit} may be held at once; ask again later"
    )]
    BacklogFull {
        /// Tokens that may be held.
        limit: usize,
    },
    /// The request waited longer than it may.
    #[error("no generation slot came free within {} seconds", max_wait.as_secs_f64())]
    QueueTimeout {
        /// The longest wait.
        max_wait: Duration,
    },
    /// An argument was refused.
    #[error(transparent)]
    InvalidArgument(#[from] InvalidArgument),
    /// It is more than the tenant may have.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The session broke an invariant and has ended.
    #[error("the session has ended: {0}")]
    Invariant(#[from] InvariantViolation),
    /// A generation could not be held to its form, and has ended.
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
    /// What several servers keep their sessions in does not do what it must.
    #[error("the store that sessions are shared in: {detail}")]
    Store {
        /// What it did.
        detail: String,
    },
    /// The engine is stopping and takes no new work.
    #[error("the engine is draining and takes no new work")]
    Draining,
    /// The engine stopped before this could finish.
    #[error(
        "the server stopped, and this could not finish in the time that was left (--shutdown-timeout): ask again"
    )]
    ShutdownTimeout,
    /// The engine has stopped.
    #[error("the engine has stopped")]
    Stopped,
    /// A fault of the engine.
    #[error("internal error: {detail}")]
    Internal {
        /// What went wrong.
        detail: String,
    },
}

impl From<SessionIdError> for EngineError {
    fn from(error: SessionIdError) -> Self {
        Self::NotFound { id: error.given }
    }
}

impl From<SessionError> for EngineError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::NotFound { id } => Self::NotFound { id: id.to_string() },
            SessionError::Full { capacity } => Self::NoSlab { capacity },
            SessionError::Taken { .. } => Self::Internal {
                detail: error.to_string(),
            },
            SessionError::Invariant(violation) => Self::Invariant(violation),
        }
    }
}

impl From<SlabError> for EngineError {
    fn from(error: SlabError) -> Self {
        match error {
            SlabError::Exhausted { capacity } => Self::NoSlab { capacity },
            SlabError::Empty { .. } | SlabError::TooLarge { .. } | SlabError::Refused { .. } => {
                Self::Internal {
                    detail: error.to_string(),
                }
            }
        }
    }
}

impl From<SamplingError> for EngineError {
    fn from(error: SamplingError) -> Self {
        Self::InvalidArgument(error.into())
    }
}

impl From<AdmissionError> for EngineError {
    fn from(error: AdmissionError) -> Self {
        match error {
            AdmissionError::Rejected { .. } => Self::QueueFull { cap: 0 },
            AdmissionError::QueueFull { cap, .. } => Self::QueueFull { cap },
            AdmissionError::InvalidTransition { .. } | AdmissionError::UnknownTicket => {
                Self::Internal {
                    detail: error.to_string(),
                }
            }
        }
    }
}

impl From<PipelineError<EngineError>> for EngineError {
    fn from(error: PipelineError<EngineError>) -> Self {
        match error {
            PipelineError::Failed(error) => error,
            PipelineError::ProducerLost => Self::Internal {
                detail: error.to_string(),
            },
        }
    }
}
