//! How sessions begin, where a slab comes from, and how they end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kakeya_core::{Ended, EngineError, KVSlab, SessionId, SessionImage};
use kakeya_model::KeptLogits;

use super::{Engine, SessionState, internal};
use crate::verifier::{SinkWindowVerifier, SlabMismatch};

/// Why a session ends, for the count of those that did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Closed,
    Completed,
    Abandoned,
    Expired,
    Evicted,
    Violated,
    Failed,
}

impl Engine {
    /// Opens a session. When all places are taken, the one that has been idle longest ends.
    ///
    /// # Errors
    /// [`EngineError::NoSlab`] when every session is at work.
    pub fn create_session(
        &mut self,
        now: Instant,
        label: String,
        eos: Vec<u32>,
    ) -> Result<SessionId, EngineError> {
        let slab = self.slab(now)?;
        let logits = KeptLogits::with_capacity(self.model.config().vocabulary);
        self.open(now, label, eos, Vec::new(), slab, logits)
    }

    /// A slab for a new session. When all are taken, the session that has been idle longest ends.
    pub(crate) fn slab(&mut self, now: Instant) -> Result<KVSlab, EngineError> {
        self.expire(now);
        if self.pool.available() == 0 {
            let capacity = self.config.capacity;
            let Some(victim) = self.store.least_recently_used() else {
                self.counts.refused += 1;
                return Err(EngineError::NoSlab { capacity });
            };
            tracing::info!(session = %victim, "evicted: a new session needs its place");
            self.end(&victim, Ending::Evicted)?;
        }
        Ok(self.pool.acquire()?)
    }

    /// Opens a session whose cache, after `history`, is in `slab`.
    pub(crate) fn open(
        &mut self,
        now: Instant,
        label: String,
        eos: Vec<u32>,
        history: Vec<u32>,
        slab: KVSlab,
        next_logits: KeptLogits,
    ) -> Result<SessionId, EngineError> {
        let state = self.resume(slab, history.len() as u64, next_logits)?;
        let id = self
            .store
            .create_with_history(now, label, eos, history, state)
            .map_err(|(error, state)| {
                self.release(state);
                EngineError::from(error)
            })?;
        tracing::debug!(session = %id, "opened");
        Ok(id)
    }

    /// Opens a session again that was there before, under the id that it had.
    ///
    /// # Errors
    /// [`EngineError::NoSlab`] when there is no free slab: no other session ends for it. [`EngineError::Internal`] when
    /// there is such a session, or no such image.
    pub fn restore(
        &mut self,
        id: SessionId,
        idle: Duration,
        now: Instant,
        mut image: SessionImage,
    ) -> Result<(), EngineError> {
        self.prepare(&mut image)?;
        let slab = self.pool.acquire()?;
        // A time before the machine began cannot be told; then the session is as good as just used.
        let last_used = now.checked_sub(idle).unwrap_or(now);
        self.reopen(id, last_used, slab, image)
    }

    /// Opens a session under an id that it had before, in `slab`.
    pub(crate) fn reopen(
        &mut self,
        id: SessionId,
        last_used: Instant,
        slab: KVSlab,
        image: SessionImage,
    ) -> Result<(), EngineError> {
        let slab = self.fill(slab, &image);
        let state = self.resume(slab, image.history.len() as u64, image.next_logits.into())?;
        self.store
            .restore(
                id,
                last_used,
                image.label,
                image.eos_token_ids,
                image.history,
                state,
            )
            .map_err(|(error, state)| {
                self.release(state);
                EngineError::from(error)
            })
    }

    /// What a session holds whose cache, after `committed` tokens, is in `slab`.
    fn resume(
        &self,
        slab: KVSlab,
        committed: u64,
        next_logits: KeptLogits,
    ) -> Result<Option<Box<SessionState>>, EngineError> {
        let verifier = SinkWindowVerifier::resume(
            Arc::clone(&self.model),
            self.config.cache,
            Arc::clone(&self.layout),
            slab,
            committed,
        )
        .map_err(|SlabMismatch { found, expected }| {
            internal(format!("slab {found:?}, expected {expected:?}"))
        })?;
        Ok(Some(Box::new(SessionState {
            verifier,
            next_logits,
            last_state: Vec::new(),
            sharing: None,
            speculator: None,
        })))
    }

    /// Sessions that a new one could have the places of, free places included.
    pub(crate) fn room(&self) -> usize {
        self.pool.available() + self.store.evictable_count()
    }

    /// Ends a session and frees its slab. Returns its final history length.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn close_session(&mut self, id: &SessionId) -> Result<u64, EngineError> {
        self.end(id, Ending::Closed)
    }

    /// Ends the sessions that have been idle too long.
    pub fn expire(&mut self, now: Instant) {
        for id in self.store.expired(now) {
            tracing::info!(session = %id, "evicted: idle for too long");
            drop(self.end(&id, Ending::Expired));
        }
    }

    pub(crate) fn end(&mut self, id: &SessionId, ending: Ending) -> Result<u64, EngineError> {
        let session = self.store.remove(id)?;
        let counts = &mut self.counts;
        *match ending {
            Ending::Closed => &mut counts.closed,
            Ending::Completed => &mut counts.completed,
            Ending::Abandoned => &mut counts.abandoned,
            Ending::Expired => &mut counts.evicted_ttl,
            Ending::Evicted => &mut counts.evicted_lru,
            Ending::Violated => &mut counts.violated,
            Ending::Failed => &mut counts.failed,
        } += 1;
        let length = session.history().len() as u64;
        self.release(session.into_resource());
        (self.ends)(Ended {
            id,
            displaced: ending == Ending::Evicted,
        });
        Ok(length)
    }

    fn release(&mut self, state: Option<Box<SessionState>>) {
        let Some(state) = state else { return };
        if let Err(rejected) = self.pool.release(state.verifier.into_slab()) {
            tracing::error!(reason = %rejected, "a slab was not taken back");
        }
    }
}
