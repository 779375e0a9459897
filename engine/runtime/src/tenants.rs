//! Whose sessions are, and who may ask for what: the one place where that is decided.

use std::sync::Arc;

use kakeya_core::{Command, EngineError, SessionId, Tenant};

use crate::engine::Engine;

impl Engine {
    /// Makes a session `tenant`'s. Until then it is everybody's.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn give(&mut self, id: &SessionId, tenant: &Arc<Tenant>) -> Result<(), EngineError> {
        Ok(self.store.give(id, Arc::clone(tenant))?)
    }

    /// Whose a session is.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn tenant(&self, id: &SessionId) -> Result<&Arc<Tenant>, EngineError> {
        Ok(self.store.get(id)?.tenant())
    }

    /// Refuses what `by` may not ask for: a session that is another's, or more sessions than it may have.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] for another's session, as for none; [`EngineError::Limit`].
    pub fn admit(&self, by: &Tenant, command: &Command) -> Result<(), EngineError> {
        if let Some(id) = command.session()
            && !self.store.reaches(by, id)
        {
            return Err(EngineError::NotFound { id: id.to_string() });
        }
        let more = command.sessions_made();
        if more > 0 {
            by.check_sessions(self.store.owned(by.owner()), more)?;
        }
        Ok(())
    }
}
