//! What a session is asked to do.

use std::time::Instant;

use kakeya_core::{EngineError, GenerateParams, Reply, SessionId, StopReason};

use super::answer;
use crate::append::AppendCoordinator;
use crate::engine::{Engine, internal};
use crate::generate::{Events, GenerationCoordinator};

/// A request to one session.
pub(super) enum Work {
    Append {
        /// Taken when the append begins.
        tokens: Vec<u32>,
        begun: Option<AppendCoordinator>,
        reply: Reply<u64>,
    },
    Generate {
        params: GenerateParams,
        begun: Option<Box<GenerationCoordinator>>,
        events: Events,
        /// Until it is taken in.
        reply: Option<Reply<()>>,
        asked: Instant,
        blocked: bool,
    },
}

/// How a request that was at work ended.
pub(super) enum End {
    /// The history length after it.
    Appended(u64),
    Generated(StopReason),
    Failed(EngineError),
}

impl Work {
    pub(super) fn append(tokens: Vec<u32>, reply: Reply<u64>) -> Self {
        Self::Append {
            tokens,
            begun: None,
            reply,
        }
    }

    pub(super) fn generate(
        params: GenerateParams,
        events: Events,
        reply: Reply<()>,
        asked: Instant,
    ) -> Self {
        Self::Generate {
            params,
            begun: None,
            events,
            reply: Some(reply),
            asked,
            blocked: false,
        }
    }

    /// Checks the request against its session, once.
    pub(super) fn begin(
        &mut self,
        engine: &mut Engine,
        id: &SessionId,
        now: Instant,
    ) -> Result<(), EngineError> {
        match self {
            Self::Append { tokens, begun, .. } if begun.is_none() => {
                *begun = Some(AppendCoordinator::begin(
                    engine,
                    id,
                    std::mem::take(tokens),
                    now,
                )?);
            }
            Self::Generate {
                params,
                begun,
                asked,
                ..
            } if begun.is_none() => {
                *begun = Some(Box::new(GenerationCoordinator::begin(
                    engine,
                    id,
                    params.clone(),
                    *asked,
                )?));
            }
            _ => {}
        }
        Ok(())
    }

    /// Tells the client how it ended.
    pub(super) fn end(self, end: End) {
        match (self, end) {
            (Self::Append { reply, .. }, End::Appended(length)) => answer(reply, Ok(length)),
            (
                Self::Generate {
                    begun: Some(begun),
                    events,
                    ..
                },
                End::Generated(reason),
            ) => events.finish_with(begun.done(reason)),
            (work, End::Failed(error)) => work.fail(error),
            (work, End::Appended(_) | End::Generated(_)) => {
                work.fail(internal("a request ended as another kind would"));
            }
        }
    }

    pub(super) fn fail(self, error: EngineError) {
        match self {
            Self::Append { reply, .. } => answer(reply, Err(error)),
            Self::Generate {
                reply: Some(reply), ..
            } => answer(reply, Err(error)),
            Self::Generate { events, .. } => events.fail(error),
        }
    }

    /// Ends a request whose session is being closed, or whose loop stops. A generation says so in its stream.
    pub(super) fn cancel(self, error: EngineError) {
        match self {
            Self::Generate {
                begun: Some(begun),
                events,
                reply: None,
                ..
            } => {
                events.finish_with(begun.done(StopReason::Cancelled));
            }
            other => other.fail(error),
        }
    }

    pub(super) fn is_given_up(&self) -> bool {
        matches!(self, Self::Generate { events, .. } if events.is_cancelled())
    }
}
