//! Answers of the routes under /v1/sessions.

use kakeya_core::{GenerateDone, SessionId, SessionInfo, SessionSummary, StopReason};
use serde::Serialize;

use super::Kind;

/// A session.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Session {
    id: String,
    object: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    busy: Option<bool>,
    history_length: u64,
    cached_length: u64,
    kv_live_bytes: u64,
    idle_seconds: f64,
}

impl Session {
    /// What is known of a session that was asked for by its id.
    pub fn of(id: &SessionId, info: &SessionInfo) -> Self {
        Self {
            id: id.to_string(),
            object: Kind::Session,
            label: None,
            busy: None,
            history_length: info.history_length,
            cached_length: info.cached_length,
            kv_live_bytes: info.kv_live_bytes,
            idle_seconds: info.idle.as_secs_f64(),
        }
    }
}

impl From<SessionSummary> for Session {
    fn from(summary: SessionSummary) -> Self {
        Self {
            label: Some(summary.label),
            busy: Some(summary.busy),
            ..Self::of(&summary.id, &summary.info)
        }
    }
}

/// The sessions of a key.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SessionList {
    object: Kind,
    data: Vec<Session>,
}

impl SessionList {
    /// The list of these.
    pub fn new(sessions: Vec<SessionSummary>) -> Self {
        Self {
            object: Kind::List,
            data: sessions.into_iter().map(Session::from).collect(),
        }
    }
}

/// What a session's history has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct History {
    /// The session.
    pub id: String,
    /// Tokens of its history.
    pub history_length: u64,
}

impl History {
    /// So many tokens.
    pub fn of(id: &SessionId, history_length: u64) -> Self {
        Self {
            id: id.to_string(),
            history_length,
        }
    }
}

/// Tokens of a session's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tokens {
    id: String,
    from: u64,
    tokens: Vec<u32>,
}

impl Tokens {
    /// Those from a position on.
    pub fn of(id: &SessionId, from: u64, tokens: Vec<u32>) -> Self {
        Self {
            id: id.to_string(),
            from,
            tokens,
        }
    }
}

/// What a generation says, in the order of gRPC's `Generate`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SessionEvent {
    /// How many tokens of the history the generation cannot see.
    Truncated {
        /// Tokens.
        dropped_token_count: u64,
    },
    /// A token of the history, with the text that it completes. No character is told before it is whole.
    Token {
        /// The token.
        token_id: u32,
        /// Its text, which may be empty.
        text: String,
    },
    /// The end.
    Done {
        /// Why it ended.
        stop_reason: &'static str,
        /// Text that was held back, of bytes that came to be no character.
        text: String,
        /// Tokens that were generated.
        generated_token_count: u32,
        /// Time spent on reading what was new of the history.
        prefill_duration_seconds: f64,
        /// Time of it all.
        total_duration_seconds: f64,
    },
}

/// Why a generation ended, as JSON says it: here, and in what `kakeya generate` prints.
pub fn stop_reason(reason: StopReason) -> &'static str {
    match reason {
        StopReason::MaxTokens => "max_tokens",
        StopReason::Eos => "eos",
        StopReason::Cancelled => "cancelled",
        StopReason::Truncated => "truncated",
        StopReason::StopSequence => "stop_sequence",
        StopReason::Complete => "complete",
    }
}

impl SessionEvent {
    /// The end of a generation, with the text that was held back.
    pub fn done(done: &GenerateDone, text: String) -> Self {
        Self::Done {
            stop_reason: stop_reason(done.reason),
            text,
            generated_token_count: done.generated,
            prefill_duration_seconds: done.prefill.as_secs_f64(),
            total_duration_seconds: done.total.as_secs_f64(),
        }
    }
}
