//! A smaller model that drafts for a larger one (Leviathan, Kalman and Matias 2023): it reads what the session reads, in a
//! cache of its own, and goes on greedily.

use std::sync::Arc;

use kakeya_core::{CacheConfig, KvElement};
use kakeya_model::{ComputeOptions, LogitRows, Model};
use thiserror::Error;

use super::companion::{Companion, CompanionSession};
use super::proposer::{Proposal, Proposer, ProposerError, Proposers};
use crate::config::EngineStartError;
use crate::sampler::greedy;

/// A draft model that cannot draft for a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DraftError {
    /// Its tokens are others.
    #[error(
        "the draft model has {draft} tokens and the model {model}: a draft needs the same vocabulary"
    )]
    Vocabulary {
        /// Tokens of the draft model.
        draft: usize,
        /// Tokens of the model.
        model: usize,
    },
}

/// A model that drafts for the sessions of an engine, with a cache for each of them.
pub struct DraftModel(Arc<Companion>);

impl DraftModel {
    /// A draft model for `capacity` sessions under the policy `cache`, on threads of its own.
    ///
    /// # Errors
    /// When its slabs or threads cannot be had.
    pub fn new(
        model: Arc<Model>,
        cache: CacheConfig,
        kv: KvElement,
        capacity: usize,
        options: ComputeOptions,
    ) -> Result<Self, EngineStartError> {
        Ok(Self(Companion::new(model, cache, kv, capacity, options)?))
    }

    /// Refuses a draft model whose token ids cannot be those of `model`. That they stand for the same texts is for the
    /// caller to ask, who has the tokenizers.
    ///
    /// # Errors
    /// [`DraftError::Vocabulary`].
    pub fn check(draft: &Model, model: &Model) -> Result<(), DraftError> {
        let (draft, model) = (draft.config().vocabulary, model.config().vocabulary);
        if draft == model {
            Ok(())
        } else {
            Err(DraftError::Vocabulary { draft, model })
        }
    }
}

impl Proposers for DraftModel {
    fn name(&self) -> &'static str {
        "draft"
    }

    fn reads_slowly(&self) -> bool {
        true
    }

    fn start(self: Arc<Self>) -> Result<Box<dyn Proposer>, ProposerError> {
        Ok(Box::new(Drafter {
            session: self.0.session()?,
            unread: Vec::new(),
            tail: Vec::new(),
        }))
    }
}

/// The draft model in one session.
struct Drafter {
    /// Its cache: the history as far as it was read, and behind it `tail`.
    session: CompanionSession,
    /// Tokens of the history that are not in the cache.
    unread: Vec<u32>,
    /// Tokens in the cache that it has guessed.
    tail: Vec<u32>,
}

impl Proposer for Drafter {
    fn extend(&mut self, tokens: &[u32], _: Option<&[f32]>) {
        // What it guessed right is in its cache already.
        let guessed = if self.unread.is_empty() {
            let alike = self.tail.iter().zip(tokens);
            alike.take_while(|(one, other)| one == other).count()
        } else {
            0
        };
        let session = self.session.verifier();
        session.rewind(session.position() - (self.tail.len() - guessed) as u64);
        self.tail.clear();
        self.unread.extend_from_slice(&tokens[guessed..]);
        if self.unread.is_empty()
            && let Some(last) = tokens.last()
        {
            // The logits behind it are needed again.
            session.rewind(session.position() - 1);
            self.unread.push(*last);
        }
    }

    fn propose(&mut self, most: usize) -> Result<Proposal, ProposerError> {
        let room = self.session.room(self.unread.len(), most);
        if room == 0 || self.unread.is_empty() {
            return Ok(Proposal::default());
        }
        let mut tokens = Vec::with_capacity(room);
        let (session, mut compute) = self.session.run();
        session.prefill(&mut compute, &self.unread, LogitRows::Last);
        self.unread.clear();
        tokens.push(greedy(compute.logits(0)));
        while tokens.len() < room {
            let last = [tokens[tokens.len() - 1]];
            let next = greedy(session.forward_block(&mut compute, &last, LogitRows::Last));
            session.commit_or_truncate(1);
            tokens.push(next);
        }
        self.tail.extend_from_slice(&tokens[..room - 1]);
        Ok(Proposal { tokens, kind: 0 })
    }
}
