//! What is known of sessions, and of the engine as a whole.

use std::time::Instant;

use kakeya_core::{EngineError, EngineStats, SessionId, SessionInfo, SessionSummary, Tenant};

use super::{Engine, SessionState, internal};

impl Engine {
    /// What is known of a session.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn info(&self, id: &SessionId, now: Instant) -> Result<SessionInfo, EngineError> {
        let session = self.store.get(id)?;
        let verifier = &session
            .resource()
            .as_ref()
            .ok_or_else(|| internal("a session's state is missing"))?
            .verifier;
        let violations = self.store.violations();
        Ok(SessionInfo {
            history_length: session.history().len() as u64,
            cached_length: verifier.cached_length(),
            kv_live_bytes: verifier.kv_live_bytes(),
            inv1_violations: violations.inv1,
            inv2_violations: violations.inv2,
            idle: session.idle(now),
        })
    }

    /// The ids of all sessions, in their order.
    #[must_use]
    pub fn session_ids(&self) -> Vec<SessionId> {
        let mut ids: Vec<_> = self
            .store
            .iter()
            .map(|session| session.id().clone())
            .collect();
        ids.sort();
        ids
    }

    /// What is known of every session that `by` may know of, in the order of their ids.
    ///
    /// # Errors
    /// [`EngineError::Internal`], when a session is worked on.
    pub fn list(&self, by: &Tenant, now: Instant) -> Result<Vec<SessionSummary>, EngineError> {
        let mut sessions = self
            .store
            .iter()
            .filter(|session| by.reaches(session.tenant().owner()))
            .map(|session| {
                Ok(SessionSummary {
                    id: session.id().clone(),
                    label: session.label().to_owned(),
                    busy: session.is_busy(),
                    info: self.info(session.id(), now)?,
                })
            })
            .collect::<Result<Vec<_>, EngineError>>()?;
        sessions.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(sessions)
    }

    /// Counts of the engine. The step loop adds what it alone knows.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        let violations = self.store.violations();
        let states = self
            .store
            .iter()
            .filter_map(|session| session.resource().as_ref());
        EngineStats {
            sessions: self.store.len() as u64,
            kv_live_bytes: states.map(|state| state.verifier.kv_live_bytes()).sum(),
            history_tokens: self
                .store
                .iter()
                .map(|session| session.history().len() as u64)
                .sum(),
            capacity: self.config.capacity as u64,
            free_slabs: self.pool.available() as u64,
            inv1_violations: violations.inv1,
            inv2_violations: violations.inv2,
            prefix: self.prefix_stats(),
            ahead: self.compute.passes_ahead(),
            ..self.counts
        }
    }

    /// A session's history.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn history(&self, id: &SessionId) -> Result<&[u32], EngineError> {
        Ok(self.store.get(id)?.history())
    }

    /// The recorded cached tokens of a session, in position order.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn cached_tokens(&self, id: &SessionId) -> Result<Vec<u32>, EngineError> {
        Ok(self.store.get(id)?.cached().iter().collect())
    }

    /// A session's end-of-sequence tokens.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn eos_token_ids(&self, id: &SessionId) -> Result<&[u32], EngineError> {
        Ok(self.store.get(id)?.eos_token_ids())
    }

    /// A session's label.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn label(&self, id: &SessionId) -> Result<&str, EngineError> {
        Ok(self.store.get(id)?.label())
    }

    /// A session's cache and next logits, to read.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn state(&self, id: &SessionId) -> Result<&SessionState, EngineError> {
        self.store
            .get(id)?
            .resource()
            .as_deref()
            .ok_or_else(|| internal("a session's state is missing"))
    }
}
