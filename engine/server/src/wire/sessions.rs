//! The messages of SessionService, and the statuses of snapshots that are refused.

use std::time::Duration;

use kakeya_core::{EngineError, SessionId, SessionSummary, SnapshotError};
use kakeya_proto::v1;
use tonic::{Code, Status};

use super::status::status;

/// How many copies a request asks for; unset, one.
pub fn fork_count(request: &v1::ForkSessionRequest) -> u32 {
    request.count.unwrap_or(1)
}

/// The answer to ForkSession.
pub fn fork_session_response(ids: Vec<SessionId>) -> v1::ForkSessionResponse {
    v1::ForkSessionResponse {
        session_ids: ids.iter().map(SessionId::to_string).collect(),
    }
}

/// The answer to RestoreSession.
pub fn restore_session_response(id: SessionId, history_length: u64) -> v1::RestoreSessionResponse {
    v1::RestoreSessionResponse {
        session_id: id.to_string(),
        history_length,
    }
}

/// The answer to ListSessions.
pub fn list_sessions_response(sessions: Vec<SessionSummary>) -> v1::ListSessionsResponse {
    let summary = |session: SessionSummary| v1::SessionSummary {
        session_id: session.id.to_string(),
        client_label: session.label,
        history_length: session.info.history_length,
        kv_live_bytes: session.info.kv_live_bytes,
        idle_seconds: session.info.idle.as_secs_f64(),
        busy: session.busy,
    };
    v1::ListSessionsResponse {
        sessions: sessions.into_iter().map(summary).collect(),
    }
}

/// The status of a snapshot that is refused: another state than this server's to go on with, or no snapshot at all.
pub fn snapshot_status(error: &SnapshotError) -> Status {
    let code = match error {
        SnapshotError::Setting { .. } | SnapshotError::Format { .. } => Code::FailedPrecondition,
        SnapshotError::NoMemory { .. } => Code::ResourceExhausted,
        SnapshotError::Damaged => Code::DataLoss,
        SnapshotError::Foreign
        | SnapshotError::Header { .. }
        | SnapshotError::Truncated { .. }
        | SnapshotError::TooLong { .. }
        | SnapshotError::Kv { .. }
        | SnapshotError::Logits { .. }
        | SnapshotError::Token { .. } => Code::InvalidArgument,
    };
    Status::new(code, error.to_string())
}

/// The status for a client that stopped sending, or reading, in the middle of a snapshot.
pub fn stalled(what: &str, patience: Duration) -> Status {
    let seconds = patience.as_secs_f64();
    Status::deadline_exceeded(format!("{what} for {seconds} seconds: begin again"))
}

/// The status of work that died on this side.
pub fn lost(detail: impl ToString) -> Status {
    let detail = detail.to_string();
    status(EngineError::Internal { detail })
}
