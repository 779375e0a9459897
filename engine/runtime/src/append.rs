//! Appending tokens to a session's history.

use std::time::Instant;

use kakeya_core::{EngineError, InvalidArgument, SessionId};

use crate::engine::Engine;
use crate::pass::Pass;
use crate::verifier::longest_append;

/// One append, done a slice at a time so that other sessions get their turns in between.
///
/// Everything that can be refused is refused in [`AppendCoordinator::begin`], before anything is touched;
/// after that an append runs to its end.
#[derive(Debug)]
pub struct AppendCoordinator {
    id: SessionId,
    tokens: Vec<u32>,
    done: usize,
    /// Tokens that a pass may have of it.
    longest: usize,
    /// When the first of them went into a pass.
    since: Option<Instant>,
}

impl AppendCoordinator {
    /// Checks an append: the session, the vocabulary, with a full window the model's context, and what its tenant may
    /// have.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], [`EngineError::InvalidArgument`] and [`EngineError::Limit`]; the session is as it
    /// was.
    pub fn begin(
        engine: &mut Engine,
        id: &SessionId,
        tokens: Vec<u32>,
        now: Instant,
    ) -> Result<Self, EngineError> {
        let history = engine.history(id)?.len() as u64;
        let config = engine.model().config();
        let vocabulary = config.vocabulary as u32;
        if let Some(index) = tokens.iter().position(|token| *token >= vocabulary) {
            return Err(InvalidArgument::TokenOutOfVocabulary {
                index,
                token: tokens[index],
                vocabulary,
            }
            .into());
        }
        let (appended, limit) = (tokens.len() as u64, config.context as u64);
        if engine.config().cache.cached_limit().is_none() && history + appended > limit {
            return Err(InvalidArgument::ContextExceeded {
                history,
                appended,
                limit,
            }
            .into());
        }
        engine.tenant(id)?.check_history(history, appended)?;
        engine.touch(id, now)?;
        engine.reserve(id, tokens.len())?;
        Ok(Self {
            id: id.clone(),
            tokens,
            done: 0,
            longest: longest_append(engine.config().isa),
            since: None,
        })
    }

    /// The session.
    #[must_use]
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// All of its tokens.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Takes note that so many more tokens are in the cache, and the history, without having been computed.
    pub(crate) fn skip(&mut self, count: usize) {
        self.done += count;
    }

    /// Whether every token is in the cache.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.left() == 0
    }

    /// Tokens that are not in the cache yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.tokens.len() - self.done
    }

    /// Adds up to `slice` more tokens to a pass (at most [`longest_append`]; at least one). Returns how many.
    pub fn join(&mut self, pass: &mut Pass, slice: usize) -> usize {
        self.since.get_or_insert_with(Instant::now);
        let chunk = self.chunk(slice);
        pass.push(&self.id, chunk, chunk.len() == self.left());
        chunk.len()
    }

    /// Takes note that the pass with `count` more tokens has run.
    pub fn advance(&mut self, engine: &mut Engine, count: usize) {
        engine.counts.tokens_appended += count as u64;
        self.done += count;
        if let Some(since) = self.since.filter(|_| self.is_done()) {
            let metrics = engine.metrics();
            metrics.prefill_tokens.observe(self.tokens.len() as f64);
            metrics
                .prefill_seconds
                .observe(since.elapsed().as_secs_f64());
        }
    }

    /// Puts up to `slice` more tokens in the cache, in a pass of their own.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] when the session has ended meanwhile, [`EngineError::Invariant`].
    pub fn step(
        &mut self,
        engine: &mut Engine,
        slice: usize,
        now: Instant,
    ) -> Result<(), EngineError> {
        if self.is_done() {
            return Ok(());
        }
        self.since.get_or_insert(now);
        let chunk = self.chunk(slice);
        let count = chunk.len();
        engine.run_alone(&self.id, chunk, count == self.left(), now)?;
        self.advance(engine, count);
        Ok(())
    }

    fn chunk(&self, slice: usize) -> &[u32] {
        let count = self.left().min(slice.clamp(1, self.longest));
        &self.tokens[self.done..][..count]
    }

    /// Runs an append from begin to end. Returns the history length.
    ///
    /// # Errors
    /// As [`AppendCoordinator::begin`] and [`AppendCoordinator::step`].
    pub fn append(engine: &mut Engine, id: &SessionId, tokens: &[u32]) -> Result<u64, EngineError> {
        let mut append = Self::begin(engine, id, tokens.to_vec(), Instant::now())?;
        while !append.is_done() {
            append.step(engine, append.longest, Instant::now())?;
        }
        Ok(engine.history(id)?.len() as u64)
    }
}
