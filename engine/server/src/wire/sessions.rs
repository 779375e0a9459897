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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_one_unless_said() {
        let request = |count| v1::ForkSessionRequest {
            session_id: String::new(),
            count,
        };
        let counts = [None, Some(0), Some(3)].map(|count| fork_count(&request(count)));
        assert_eq!(counts, [1, 0, 3]);
    }

    #[test]
    fn sessions_are_told_in_the_contracts_terms() {
        let ids = [SessionId::random(), SessionId::random()];
        assert_eq!(
            fork_session_response(ids.to_vec()).session_ids,
            ids.clone().map(|id| id.to_string())
        );
        let restored = restore_session_response(ids[0].clone(), 7);
        assert_eq!(restored.session_id, ids[0].to_string());
        assert_eq!(restored.history_length, 7);
        let info = kakeya_core::SessionInfo {
            history_length: 9,
            cached_length: 5,
            kv_live_bytes: 640,
            inv1_violations: 0,
            inv2_violations: 0,
            idle: Duration::from_millis(1500),
        };
        let listed = list_sessions_response(vec![SessionSummary {
            id: ids[1].clone(),
            label: "agent".to_owned(),
            busy: true,
            info,
        }]);
        let expected = v1::SessionSummary {
            session_id: ids[1].to_string(),
            client_label: "agent".to_owned(),
            history_length: 9,
            kv_live_bytes: 640,
            idle_seconds: 1.5,
            busy: true,
        };
        assert_eq!(listed.sessions, [expected]);
    }

    #[test]
    fn every_refused_snapshot_has_its_status_and_its_text() {
        let header = SnapshotError::Header {
            detail: "no colon".to_owned(),
        };
        let setting = SnapshotError::Setting {
            setting: "kv",
            snapshot: "int8".to_owned(),
            here: "f16".to_owned(),
        };
        let no_memory = SnapshotError::NoMemory {
            detail: "none left".to_owned(),
        };
        let truncated = SnapshotError::Truncated {
            found: 1,
            expected: 2,
        };
        let kv = SnapshotError::Kv {
            found: 1,
            expected: 2,
        };
        let logits = SnapshotError::Logits {
            found: 1,
            history: 1,
            expected: 5,
        };
        let token = SnapshotError::Token {
            index: 0,
            token: 9,
            vocabulary: 9,
        };
        for (error, code) in [
            (setting, Code::FailedPrecondition),
            (SnapshotError::Format { found: 2 }, Code::FailedPrecondition),
            (no_memory, Code::ResourceExhausted),
            (SnapshotError::Damaged, Code::DataLoss),
            (SnapshotError::Foreign, Code::InvalidArgument),
            (header, Code::InvalidArgument),
            (truncated, Code::InvalidArgument),
            (
                SnapshotError::TooLong { expected: 2 },
                Code::InvalidArgument,
            ),
            (kv, Code::InvalidArgument),
            (logits, Code::InvalidArgument),
            (token, Code::InvalidArgument),
        ] {
            let status = snapshot_status(&error);
            assert_eq!(status.code(), code, "{error:?}");
            assert_eq!(status.message(), error.to_string());
        }
    }

    #[test]
    fn a_client_that_stalls_and_work_that_died_are_told() {
        let stalled = stalled("nothing came", Duration::from_secs(30));
        assert_eq!(stalled.code(), Code::DeadlineExceeded);
        assert!(stalled.message().contains("nothing came for 30 seconds"));
        let lost = lost("a panic");
        assert_eq!(lost.code(), Code::Internal);
        assert!(lost.message().contains("a panic"));
    }
}
