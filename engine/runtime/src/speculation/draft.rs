//! A smaller model that drafts for a larger one (Leviathan, Kalman and Matias 2023): it reads what the session reads, in a
//! cache of its own, and goes on greedily.

use std::sync::{Arc, Mutex, PoisonError};

use kakeya_core::{CacheConfig, KVSlab, KvElement, SlabPool};
use kakeya_model::{Compute, ComputeOptions, KvLayout, LogitRows, Model, PassSize};
use thiserror::Error;

use super::proposer::{Proposal, Proposer, ProposerError, Proposers};
use crate::config::EngineStartError;
use crate::sampler::greedy;
use crate::verifier::{MAX_CHUNK, SinkWindowVerifier};

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
pub struct DraftModel {
    model: Arc<Model>,
    cache: CacheConfig,
    layout: Arc<KvLayout>,
    /// Sessions draft one after the other: each has all threads.
    compute: Mutex<Compute>,
    slabs: Mutex<SlabPool>,
}

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
        cache.validate()?;
        let layout = SinkWindowVerifier::layout_for(&model, &cache);
        let slabs = SlabPool::new(layout.slab_shape(kv), capacity)?;
        let mut compute = Compute::new(options)?;
        compute.reserve(
            &model,
            &layout,
            PassSize {
                sequences: 1,
                rows: MAX_CHUNK,
                logits: 1,
            },
        );
        Ok(Self {
            model,
            cache,
            layout,
            compute: Mutex::new(compute),
            slabs: Mutex::new(slabs),
        })
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

    fn start(self: Arc<Self>) -> Result<Box<dyn Proposer>, ProposerError> {
        let slab = self.lock_slabs().acquire().map_err(ProposerError::new)?;
        let verifier = SinkWindowVerifier::new(
            Arc::clone(&self.model),
            self.cache,
            Arc::clone(&self.layout),
            slab,
        )
        .map_err(ProposerError::new)?;
        Ok(Box::new(Drafter {
            of: self,
            session: Some(verifier),
            unread: Vec::new(),
            tail: Vec::new(),
        }))
    }
}

impl DraftModel {
    // A drafter that panicked has left nothing that another reads: slabs are whole, and a pass begins anew.
    fn lock_slabs(&self) -> std::sync::MutexGuard<'_, SlabPool> {
        self.slabs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, slab: KVSlab) {
        if let Err(rejected) = self.lock_slabs().release(slab) {
            tracing::error!(reason = %rejected, "a draft's slab was not taken back");
        }
    }
}

/// The draft model in one session.
struct Drafter {
    of: Arc<DraftModel>,
    /// Its cache: the history as far as it was read, and behind it `tail`. There until it is dropped.
    session: Option<SinkWindowVerifier>,
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
        let session = self.session.as_mut().expect("it is not dropped");
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
        let session = self.session.as_mut().expect("it is not dropped");
        let length = session.position() + self.unread.len() as u64;
        let room = match self.of.cache.cached_limit() {
            Some(_) => most,
            None => {
                let context = self.of.model.config().context as u64;
                usize::try_from(context.saturating_sub(length)).map_or(most, |room| most.min(room))
            }
        };
        if room == 0 || self.unread.is_empty() {
            return Ok(Proposal::default());
        }
        let mut tokens = Vec::with_capacity(room);
        let mut compute = self
            .of
            .compute
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
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

impl Drop for Drafter {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.of.give_back(session.into_slab());
        }
    }
}
