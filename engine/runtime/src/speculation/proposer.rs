//! What a proposer is asked, and what it answers.

use std::sync::Arc;

use thiserror::Error;

/// Kinds of proposals that a proposer can tell apart: those of one kind are expected to be accepted alike.
pub const KINDS: usize = 4;

/// Tokens that may come next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proposal {
    /// The tokens, in the order in which they would come.
    pub tokens: Vec<u32>,
    /// How sure the proposer is, as a number below [`KINDS`] of its own choosing. What is accepted is counted for each
    /// kind by itself, and decides how many tokens of the next proposal of that kind are worth verifying.
    pub kind: usize,
}

/// Why a proposer has nothing more to say.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{detail}")]
pub struct ProposerError {
    /// The reason, for a log.
    pub detail: String,
}

impl ProposerError {
    /// For that reason.
    pub fn new(detail: impl ToString) -> Self {
        Self {
            detail: detail.to_string(),
        }
    }
}

/// Guesses how one session goes on. It runs on a thread of its own, so it may take its time, and the session does not
/// wait for it for long. What it guesses can make a session faster or slower, and never changes a token.
pub trait Proposer {
    /// Takes note of tokens that the session's history has gained: every one of them, in order, but for
    /// [`Proposers::reads_slowly`]. For proposers that ask for
    /// states, `state` is what the model's last layer made of the token before the last of them; `None` where the session
    /// has just been restored.
    fn extend(&mut self, tokens: &[u32], state: Option<&[f32]>);

    /// Up to `most` tokens that may come after those. None is an answer too.
    ///
    /// # Errors
    /// When it cannot go on. It is not asked again.
    fn propose(&mut self, most: usize) -> Result<Proposal, ProposerError>;
}

/// Where the proposers of an engine's sessions come from.
pub trait Proposers: Send + Sync {
    /// What they are called, in logs.
    fn name(&self) -> &'static str;

    /// Whether proposers are to be given the model's states.
    fn wants_states(&self) -> bool {
        false
    }

    /// Whether a proposer computes for each token that it reads. It is then given the latest tokens of a session alone at
    /// first, as if the session began with them, and started again with more of them when that has been earned.
    fn reads_slowly(&self) -> bool {
        false
    }

    /// A proposer for a session of which nothing is known yet. It is called on the thread that the proposer will live on.
    ///
    /// # Errors
    /// When there can be none: the session then goes on without.
    fn start(self: Arc<Self>) -> Result<Box<dyn Proposer>, ProposerError>;
}
