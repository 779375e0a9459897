//! Keys and limits, as scripts see them.

use std::sync::Arc;

use kakeya_core::{Limits, Tenant};
use kakeya_server::door::Guard;
use kakeya_server::door::access::Access;
use kakeya_server::door::keys::{FreshKey, KeyRing, parse_file};
use serde_json::{Value, json};

use super::curl::{Answered, answered, curl, sending};
use super::server::{Queue, Served, four, serving_behind};
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "security.a_key_lets_in_and_limits_are_told",
            limits_are_told,
        ),
        Case::fast("security.a_request_is_its_keys_session", sessions_are_owned),
    ]
}

/// A server with one key, and that.
fn with_key(
    context: &SuiteContext,
    limits: Limits,
    case: impl AsyncFnOnce(&Served, &str) -> CaseResult,
) -> CaseResult {
    let key = FreshKey::new("app")?;
    let ring = KeyRing::new(parse_file(&key.lines())?, limits);
    let guard = Guard {
        access: Arc::new(Access::Keys(ring)),
        ..Guard::default()
    };
    serving_behind(
        context,
        four(context),
        Queue::PATIENT,
        guard,
        async |served| case(served, key.secret()).await,
    )
}

/// What is answered to a completion with these fields, headers before the body.
async fn complete(served: &Served, key: &str, fields: Value) -> Result<Answered, CaseFailure> {
    let mut command = curl(served, "/v1/completions");
    let mut body = json!({"model": served.model, "prompt": "Once upon a time", "temperature": 0});
    for (name, value) in fields.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    command.args([
        "--include",
        "--header",
        &format!("authorization: Bearer {key}"),
    ]);
    answered(sending(&mut command, &body.to_string())).await
}

fn limits_are_told(context: &SuiteContext) -> CaseResult {
    let limits = Limits {
        max_history: Some(30),
        max_new_tokens: Some(8),
        max_streams: Some(2),
        tokens_per_minute: Some(40),
        ..Limits::default()
    };
    with_key(context, limits, async |served, key| {
        for (path, status) in [("/v1/models", 401), ("/healthz", 200), ("/readyz", 200)] {
            let (found, text) = answered(&mut curl(served, path)).await?;
            ensure_eq!(found, status, "{path} without a key: {text}");
        }
        let (status, text) = complete(served, "sk-wrong", json!({})).await?;
        ensure_eq!(status, 401, "a wrong key: {text}");
        ensure!(text.contains("invalid_api_key"), "a wrong key: {text}");
        for (fields, part) in [
            (json!({"max_tokens": 9}), "max_new_tokens"),
            (
                json!({"max_tokens": 8, "prompt": vec![1; 23]}),
                "max_history",
            ),
            (
                json!({"max_tokens": 1, "n": 3}),
                "at most 2 are made at once",
            ),
            (json!({"max_tokens": 1, "prompt": vec![1; 29]}), ""),
        ] {
            let (status, text) = complete(served, key, fields).await?;
            let expected = if part.is_empty() { 200 } else { 400 };
            ensure_eq!(status, expected, "{part}: {text}");
            ensure!(text.contains(part), "{part}: {text}");
        }
        let (status, text) = complete(served, key, json!({"max_tokens": 8})).await?;
        ensure_eq!(status, 200, "within the minute: {text}");
        let (status, text) =
            complete(served, key, json!({"prompt": vec![1; 20], "max_tokens": 1})).await?;
        ensure_eq!(status, 429, "beyond the minute: {text}");
        for part in [
            "retry-after: ",
            "rate_limit_exceeded",
            "key `app`",
            "tokens_per_minute",
        ] {
            ensure!(text.contains(part), "{part}: {text}");
        }
        Ok(())
    })
}

fn sessions_are_owned(context: &SuiteContext) -> CaseResult {
    let limits = Limits {
        max_new_tokens: Some(8),
        ..Limits::default()
    };
    with_key(context, limits, async |served, key| {
        // A chat that names no length gets as much as it may have.
        let mut command = curl(served, "/v1/chat/completions");
        command.args(["--header", &format!("authorization: Bearer {key}")]);
        let chat = json!({"model": served.model, "temperature": 0,
                          "messages": [{"role": "user", "content": "Tell a long story."}]});
        let (status, text) = answered(sending(&mut command, &chat.to_string())).await?;
        ensure_eq!(status, 200, "a chat without a length: {text}");
        let answer: Value = serde_json::from_str(&text)?;
        ensure_eq!(
            answer["usage"]["completion_tokens"],
            json!(8),
            "tokens of the answer"
        );
        // While it is answered, its session is nobody else's.
        let server = served.engine.on_behalf_of(Arc::new(Tenant::server()));
        let asked = complete(
            served,
            key,
            json!({"max_tokens": 8, "prompt": vec![1; 4000]}),
        );
        let looked = async {
            loop {
                if let [session] = &server.list().await?[..] {
                    let found = served.engine.info(session.id.clone()).await;
                    ensure!(found.is_err(), "everybody sees {found:?}");
                    return Ok::<_, CaseFailure>(());
                }
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        let (asked, looked) = tokio::join!(asked, looked);
        looked?;
        ensure_eq!(asked?.0, 200, "the status of an answer");
        Ok(())
    })
}
