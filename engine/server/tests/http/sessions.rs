//! What the routes under /v1/sessions take and answer.

use std::time::Duration;

use kakeya_core::{
    EngineError, GenerateDone, LimitError, SessionId, SessionInfo, SessionSummary, StopReason,
};
use kakeya_server::http::body::parse;
use kakeya_server::http::error::named_session;
use kakeya_server::http::ranges::MAX_LABEL;
use kakeya_server::http::requests::{
    AppendBody, Continue, ContinueBody, HistoryQuery, NewSession, NewSessionBody, SamplingSettings,
};
use kakeya_server::http::responses::{History, Session, SessionEvent, SessionList, Tokens};
use kakeya_server::http::{ApiError, ErrorKind};
use serde::Serialize;
use serde_json::{Value, json};

use crate::support::{assert_refused, refusal};

fn opened(fields: Value) -> Result<NewSession, ApiError> {
    parse::<NewSessionBody>(fields.to_string().as_bytes())?.validate()
}

fn appended(fields: Value) -> Result<Vec<u32>, ApiError> {
    parse::<AppendBody>(fields.to_string().as_bytes())?.validate()
}

fn continued(fields: Value) -> Result<Continue, ApiError> {
    parse::<ContinueBody>(fields.to_string().as_bytes())?.validate()
}

const INFO: SessionInfo = SessionInfo {
    history_length: 9,
    cached_length: 5,
    kv_live_bytes: 640,
    inv1_violations: 0,
    inv2_violations: 0,
    idle: Duration::from_millis(1500),
};

#[test]
fn a_session_opens_with_nothing_said() {
    let nothing = NewSession {
        label: String::new(),
        eos: None,
    };
    assert_eq!(opened(json!({})), Ok(nothing.clone()));
    let nulls = json!({"label": null, "eos_token_ids": null, "else": 1});
    assert_eq!(opened(nulls), Ok(nothing));
    let longest = "\u{e9}".repeat(MAX_LABEL);
    let all = NewSession {
        label: longest.clone(),
        eos: Some(vec![0, u32::MAX]),
    };
    let sent = json!({"label": longest, "eos_token_ids": [0, u32::MAX]});
    assert_eq!(opened(sent), Ok(all));
    assert_refused(
        opened,
        &[
            (json!({"label": "x".repeat(MAX_LABEL + 1)}), "label", "257"),
            (json!({"label": 7}), "label", "string"),
            (json!({"eos_token_ids": [1, -1]}), "eos_token_ids[1]", "-1"),
            (json!({"eos_token_ids": 2}), "eos_token_ids", "sequence"),
        ],
    );
}

#[test]
fn tokens_are_appended_as_a_list() {
    assert_eq!(appended(json!({"tokens": []})), Ok(vec![]));
    assert_eq!(appended(json!({"tokens": [3, 4]})), Ok(vec![3, 4]));
    assert_refused(
        appended,
        &[
            (json!({}), "tokens", "required"),
            (
                json!({"tokens": [1, 4294967296_u64]}),
                "tokens[1]",
                "4294967296",
            ),
            (json!({"tokens": [0.5]}), "tokens[0]", "0.5"),
            (json!({"tokens": ["1"]}), "tokens[0]", "number"),
        ],
    );
}

#[test]
fn a_generation_is_asked_for_as_a_completion_is() {
    let plain = Continue {
        max_tokens: 5,
        sampling: SamplingSettings::default(),
    };
    assert_eq!(continued(json!({"max_tokens": 5})), Ok(plain.clone()));
    let drawn = json!({"max_tokens": 5, "temperature": 0.5, "seed": 7, "logit_bias": {"3": -1}});
    let drawn = continued(drawn).expect("a generation");
    assert_eq!(drawn.sampling.temperature, 0.5);
    assert_eq!(drawn.sampling.seed, Some(7));
    assert_eq!(drawn.sampling.logit_bias, [(3, -1.0)].into());
    assert_refused(
        continued,
        &[
            (json!({}), "max_tokens", "required"),
            (json!({"max_tokens": 0}), "max_tokens", "from 1"),
            (json!({"max_tokens": 1, "top_p": 0}), "top_p", "above 0"),
        ],
    );
}

#[test]
fn a_history_is_told_from_a_position() {
    for (query, from) in [
        (None, 0),
        (Some(""), 0),
        (Some("to=9"), 0),
        (Some("from=17&to=9"), 17),
        (Some("from=18446744073709551615"), u64::MAX),
    ] {
        assert_eq!(HistoryQuery::read(query), Ok(from), "{query:?}");
    }
    for query in ["from=", "from=-1", "from=1.5", "from=18446744073709551616"] {
        let (param, message) = refusal(HistoryQuery::read(Some(query)));
        assert_eq!(param, "from", "{query}");
        assert!(message.contains("must be a position"), "{message}");
    }
    let long = format!("from={}", "9".repeat(1000));
    assert!(refusal(HistoryQuery::read(Some(&long))).1.len() < 200);
}

#[test]
fn a_session_that_is_not_there_is_not_found() {
    let id = "sess-0".to_owned();
    let error = named_session(EngineError::NotFound { id });
    assert_eq!(error.kind, ErrorKind::SessionNotFound);
    assert!(error.message.contains("sess-0"), "{error}");
    let who = "key `app`".to_owned();
    let limited = named_session(LimitError::Streams { who, limit: 1 }.into());
    assert_eq!(limited.kind, ErrorKind::RateLimited);
}

fn told(answer: &impl Serialize) -> Value {
    serde_json::to_value(answer).expect("JSON")
}

#[test]
fn answers_say_what_grpc_says() {
    let id = SessionId::random();
    let text = id.to_string();
    assert_eq!(
        told(&Session::of(&id, &INFO)),
        json!({"id": text, "object": "session", "history_length": 9, "cached_length": 5, "kv_live_bytes": 640,
               "idle_seconds": 1.5})
    );
    let summary = SessionSummary {
        id: id.clone(),
        label: "agent".to_owned(),
        busy: true,
        info: INFO,
    };
    assert_eq!(
        told(&SessionList::new(vec![summary])),
        json!({"object": "list", "data": [{"id": text, "object": "session", "label": "agent", "busy": true,
               "history_length": 9, "cached_length": 5, "kv_live_bytes": 640, "idle_seconds": 1.5}]})
    );
    assert_eq!(
        told(&History::of(&id, 9)),
        json!({"id": text, "history_length": 9})
    );
    assert_eq!(
        told(&Tokens::of(&id, 7, vec![3, 4])),
        json!({"id": text, "from": 7, "tokens": [3, 4]})
    );
}

#[test]
fn a_generation_is_told_as_events_of_three_kinds() {
    let truncated = SessionEvent::Truncated {
        dropped_token_count: 5,
    };
    let token = SessionEvent::Token {
        token_id: 7,
        text: "a".to_owned(),
    };
    let events = [truncated, token].map(|event| serde_json::to_value(event).expect("JSON"));
    assert_eq!(
        events,
        [
            json!({"type": "truncated", "dropped_token_count": 5}),
            json!({"type": "token", "token_id": 7, "text": "a"}),
        ]
    );
    for (reason, name) in [
        (StopReason::MaxTokens, "max_tokens"),
        (StopReason::Eos, "eos"),
        (StopReason::Cancelled, "cancelled"),
        (StopReason::Truncated, "truncated"),
        (StopReason::StopSequence, "stop_sequence"),
        (StopReason::Complete, "complete"),
    ] {
        let done = GenerateDone {
            reason,
            generated: 2,
            prefill: Duration::from_millis(250),
            total: Duration::from_millis(500),
        };
        let told = serde_json::to_value(SessionEvent::done(&done, "b".to_owned()));
        assert_eq!(
            told.expect("JSON"),
            json!({"type": "done", "stop_reason": name, "text": "b", "generated_token_count": 2,
                   "prefill_duration_seconds": 0.25, "total_duration_seconds": 0.5})
        );
    }
}
