//! What a step does to a session: its state is taken out, run, and put back with its invariants checked.

use std::time::Instant;

use kakeya_core::{CacheInspector, EngineError, SessionError, SessionId};
use kakeya_model::SequenceInput;

use super::lives::Ending;
use super::{Engine, SessionState, internal};

impl Engine {
    pub(crate) fn state_mut(&mut self, id: &SessionId) -> Result<&mut SessionState, EngineError> {
        self.store
            .get_mut(id)?
            .resource_mut()
            .as_deref_mut()
            .ok_or_else(|| internal("a session's state is missing"))
    }

    /// Refreshes a session's idle clock.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn touch(&mut self, id: &SessionId, now: Instant) -> Result<(), EngineError> {
        Ok(self.store.touch(id, now)?)
    }

    /// Makes room for `additional` tokens in a session's records, so that the steps to come allocate nothing.
    pub(crate) fn reserve(&mut self, id: &SessionId, additional: usize) -> Result<(), EngineError> {
        Ok(self.store.reserve(id, additional)?)
    }

    /// Marks a session as having work under way, which keeps it from being evicted, and says how it was marked.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn set_busy(&mut self, id: &SessionId, busy: bool) -> Result<bool, EngineError> {
        Ok(self.store.set_busy(id, busy)?)
    }

    /// Runs one session's tokens in a pass of its own.
    ///
    /// # Errors
    /// As [`Pass::outcome`].
    pub(crate) fn run_alone(
        &mut self,
        id: &SessionId,
        tokens: &[u32],
        last_logits: bool,
        now: Instant,
    ) -> Result<(), EngineError> {
        let mut pass = std::mem::take(&mut self.pass);
        pass.clear();
        pass.push(id, tokens, last_logits);
        self.run(&mut pass, now);
        let outcome = pass.outcome(0);
        self.pass = pass;
        outcome
    }

    pub(crate) fn take_state(&mut self, id: &SessionId) -> Result<Box<SessionState>, EngineError> {
        self.store
            .get_mut(id)?
            .resource_mut()
            .take()
            .ok_or_else(|| internal("a session's state is missing"))
    }

    pub(crate) fn forward(&mut self, batch: &mut [SequenceInput<'_>]) {
        self.compute.forward(&self.model, batch);
        self.counts.forward_passes += 1;
    }

    /// Gives a session its state back, records the tokens it has committed, and checks the invariants.
    pub(crate) fn put_back(
        &mut self,
        id: &SessionId,
        state: Box<SessionState>,
        tokens: &[u32],
        now: Instant,
    ) -> Result<(), EngineError> {
        let recorded = self.store.record(id, tokens, now);
        let checked = self.store.check(id, &state.verifier);
        *self.store.get_mut(id)?.resource_mut() = Some(state);
        recorded?;
        self.settle(id, checked)
    }

    /// Ends a session whose pass has failed: what is in its cache is not known. Returns the error that it failed with.
    pub(crate) fn failed(
        &mut self,
        id: &SessionId,
        state: Box<SessionState>,
        error: EngineError,
    ) -> EngineError {
        tracing::error!(session = %id, %error, "the session ends: its pass has failed");
        match self.store.get_mut(id) {
            Ok(session) => *session.resource_mut() = Some(state),
            Err(missing) => return missing.into(),
        }
        self.distrust_prefixes(id);
        match self.end(id, Ending::Failed) {
            Ok(_) => error,
            Err(missing) => missing,
        }
    }

    /// Checks a session's invariants against what `inspector` reports of its cache. The engine does so with
    /// the cache itself after every change; the gates pass an inspector of their own to see that a violation
    /// is caught.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], or [`EngineError::Invariant`]: the session has then ended and its slab is
    /// free.
    pub fn check_invariants(
        &mut self,
        id: &SessionId,
        inspector: &dyn CacheInspector,
    ) -> Result<(), EngineError> {
        let checked = self.store.check(id, inspector);
        self.settle(id, checked)
    }

    fn settle(
        &mut self,
        id: &SessionId,
        checked: Result<(), SessionError>,
    ) -> Result<(), EngineError> {
        let Err(violation) = checked else {
            return Ok(());
        };
        tracing::error!(session = %id, %violation, "the session ends: its cache is not what was recorded");
        self.distrust_prefixes(id);
        self.end(id, Ending::Violated)?;
        Err(violation.into())
    }
}
