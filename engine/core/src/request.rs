//! A command on its way to the step loop: who asks, and what every command has in common.

use std::sync::Arc;

use crate::engine::{Command, Reply};
use crate::error::EngineError;
use crate::session::SessionId;
use crate::tenant::Tenant;

/// A command, and who asks.
#[derive(Debug)]
pub struct Request {
    /// Who asks.
    pub by: Arc<Tenant>,
    /// For what.
    pub command: Command,
}

impl Command {
    /// The session it is about, where there must be one already.
    pub fn session(&self) -> Option<&SessionId> {
        match self {
            Self::Append { id, .. }
            | Self::Generate { id, .. }
            | Self::Close { id, .. }
            | Self::Info { id, .. }
            | Self::Fork { id, .. }
            | Self::History { id, .. }
            | Self::Export { id, .. } => Some(id),
            Self::CreateSession { .. }
            | Self::Complete { .. }
            | Self::List { .. }
            | Self::Import { .. }
            | Self::Stats { .. }
            | Self::Shutdown { .. } => None,
        }
    }

    /// How many sessions it makes.
    pub fn sessions_made(&self) -> usize {
        match self {
            Self::CreateSession { .. } | Self::Complete { .. } | Self::Import { .. } => 1,
            Self::Fork { count, .. } => *count as usize,
            _ => 0,
        }
    }

    /// Whether it asks for work, which an engine that drains does not take in any more.
    pub fn is_work(&self) -> bool {
        self.sessions_made() > 0 || matches!(self, Self::Append { .. } | Self::Generate { .. })
    }

    /// Answers it with an error.
    pub fn refuse(self, error: EngineError) {
        match self {
            Self::CreateSession { reply, .. } | Self::Import { reply, .. } => tell(reply, error),
            Self::Append { reply, .. } | Self::Close { reply, .. } => tell(reply, error),
            Self::Generate { reply, .. }
            | Self::Complete { reply, .. }
            | Self::Shutdown { reply, .. } => tell(reply, error),
            Self::Info { reply, .. } => tell(reply, error),
            Self::List { reply } => tell(reply, error),
            Self::Fork { reply, .. } => tell(reply, error),
            Self::History { reply, .. } => tell(reply, error),
            Self::Export { reply, .. } => tell(reply, error),
            Self::Stats { reply } => tell(reply, error),
        }
    }
}

/// A caller that is gone has no use for it.
fn tell<T>(reply: Reply<T>, error: EngineError) {
    let _ = reply.send(Err(error));
}
