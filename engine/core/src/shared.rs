//! Sessions that several servers have in common.
//!
//! The door asks before it uses a session, and tells after it has changed one. What the sessions are kept in, and how two
//! servers are kept from having the same one, is not known here.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::error::EngineError;
use crate::session::SessionId;
use crate::tenant::Tenant;

/// What is under way.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A session that has ended on this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended<'a> {
    /// The session.
    pub id: &'a SessionId,
    /// Not for good: another session needed its place, and what is kept of it elsewhere can be gone on with.
    pub displaced: bool,
}

/// The common keeping of sessions, as one server's door sees it.
pub trait SharedSessions: Send + Sync + fmt::Debug {
    /// A session was opened here, and belongs to `tenant`. Afterwards another server can go on with it.
    ///
    /// # Errors
    /// [`EngineError::Store`]: it cannot, and the session should not live.
    fn made<'a>(
        &'a self,
        id: &'a SessionId,
        tenant: &'a Arc<Tenant>,
    ) -> Pending<'a, Result<(), EngineError>>;

    /// Sees to it that a session that `tenant` asks for is here and nowhere else, if it lives anywhere.
    ///
    /// # Errors
    /// [`EngineError::Store`], [`EngineError::NotFound`]; and as [`crate::EngineHandle::import`].
    fn fetch<'a>(
        &'a self,
        id: &'a SessionId,
        tenant: &'a Arc<Tenant>,
    ) -> Pending<'a, Result<(), EngineError>>;

    /// A session gets up to `tokens` more tokens by what has just been taken in.
    fn changed(&self, id: &SessionId, tokens: u64);

    /// A session has ended. Afterwards no server goes on with it.
    ///
    /// # Errors
    /// [`EngineError::Store`]: one still could.
    fn closed<'a>(&'a self, id: &'a SessionId) -> Pending<'a, Result<(), EngineError>>;
}
