//! Every error has its status, its envelope and its headers.

use std::collections::HashSet;
use std::mem::discriminant;
use std::time::Duration;

use kakeya_core::{
    ConstraintError, EngineError, InvalidArgument, InvariantViolation, KvSide, LimitError,
    LogitBiasError, SamplingError, SessionId, StopError,
};
use kakeya_server::http::{ApiError, ErrorKind};

use crate::support::Answer;

/// A kind: status, `type`, `code`, and the seconds after which to ask again.
type Kind = (
    ErrorKind,
    u16,
    &'static str,
    Option<&'static str>,
    Option<&'static str>,
);

const KINDS: [Kind; 15] = {
    use ErrorKind::*;
    const REQUEST: &str = "invalid_request_error";
    [
        (InvalidRequest, 400, REQUEST, None, None),
        (
            ContextLength,
            400,
            REQUEST,
            Some("context_length_exceeded"),
            None,
        ),
        (InvalidApiKey, 401, REQUEST, Some("invalid_api_key"), None),
        (UnknownRoute, 404, REQUEST, Some("unknown_url"), None),
        (ModelNotFound, 404, REQUEST, Some("model_not_found"), None),
        (
            SessionNotFound,
            404,
            REQUEST,
            Some("session_not_found"),
            None,
        ),
        (
            MethodNotAllowed,
            405,
            REQUEST,
            Some("method_not_supported"),
            None,
        ),
        (BodyTooSlow, 408, REQUEST, Some("request_timeout"), None),
        (BodyTooLarge, 413, REQUEST, None, None),
        (UnsupportedMediaType, 415, REQUEST, None, None),
        (Unprocessable, 422, REQUEST, None, None),
        (
            RateLimited,
            429,
            "rate_limit_error",
            Some("rate_limit_exceeded"),
            Some("1"),
        ),
        (
            Overloaded,
            429,
            "rate_limit_error",
            Some("overloaded"),
            Some("1"),
        ),
        (Server, 500, "server_error", None, None),
        (
            Unavailable,
            503,
            "server_error",
            Some("unavailable"),
            Some("5"),
        ),
    ]
};

#[tokio::test]
async fn every_kind_has_its_status_its_envelope_and_its_time_to_come_back() {
    assert_eq!(KINDS.map(|row| row.0), ErrorKind::ALL);
    for (kind, status, type_name, code, retry_after) in KINDS {
        let answer = Answer::error(ApiError::new(kind, "what went wrong")).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("retry-after"), retry_after, "{kind:?}");
        let code = code.map_or("null".to_owned(), |code| format!("\"{code}\""));
        let expected = format!(
            r#"{{"error":{{"message":"what went wrong","type":"{type_name}","param":null,"code":{code}}}}}"#
        );
        assert_eq!(answer.text, expected);
    }
}

#[tokio::test]
async fn a_refusal_names_the_field_at_fault() {
    for (error, param, message) in [
        (
            ApiError::invalid("stop[1]", "is empty"),
            "stop[1]",
            "is empty",
        ),
        (ApiError::missing("model"), "model", "`model` is required"),
        (
            ApiError::unsupported("suffix", "text is only generated at the end"),
            "suffix",
            "`suffix` is not supported: text is only generated at the end",
        ),
    ] {
        assert_eq!(error.to_string(), message);
        let answer = Answer::error(error).await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json()["error"]["param"], param);
        assert_eq!(answer.json()["error"]["message"], message);
    }
}

#[tokio::test]
async fn a_wrong_key_is_told_how_to_send_one() {
    let answer = Answer::error(ApiError::invalid_api_key()).await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    assert_eq!(answer.json()["error"]["code"], "invalid_api_key");
    assert_eq!(
        Answer::error(ApiError::missing("model"))
            .await
            .header("www-authenticate"),
        None
    );
}

#[tokio::test]
async fn an_unknown_model_is_quoted_in_part() {
    let answer = Answer::error(ApiError::unknown_model(&"\u{e9}".repeat(1_000_000), "m")).await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["error"]["param"], "model");
    let quoted = format!(
        "the model `{}...` does not exist here",
        "\u{e9}".repeat(200)
    );
    assert!(answer.text.contains(&quoted), "{}", answer.text);
    let short = ApiError::unknown_model("gpt-4o", "smollm2-135m");
    assert_eq!(
        short.message,
        "the model `gpt-4o` does not exist here, but `smollm2-135m` does: name that one, or start the server with \
         `--served-model-name`"
    );
}

#[tokio::test]
async fn the_time_to_come_back_is_whole_seconds_rounded_up_and_never_none() {
    for (after, seconds) in [
        (Duration::ZERO, "1"),
        (Duration::from_millis(1), "1"),
        (Duration::from_millis(2001), "3"),
        (Duration::MAX, "18446744073709551615"),
    ] {
        let error = ApiError::new(ErrorKind::RateLimited, "slower").retry_after(after);
        assert_eq!(
            Answer::error(error).await.header("retry-after"),
            Some(seconds)
        );
    }
}

/// An engine error, the kind it becomes, the field it names and a part of its text.
type Row = (EngineError, ErrorKind, Option<&'static str>, &'static str);

/// Every engine error.
fn table() -> Vec<Row> {
    let id: SessionId = "sess-00000000000000000000000000000007"
        .parse()
        .expect("an id");
    let out_of_vocabulary = InvalidArgument::TokenOutOfVocabulary {
        index: 3,
        token: 50_000,
        vocabulary: 49_152,
    };
    let exceeded = InvalidArgument::ContextExceeded {
        history: 0,
        appended: 9000,
        limit: 8192,
    };
    let inv1 = InvariantViolation::Inv1 {
        layer: 2,
        which: KvSide::Values,
        recorded: 7,
        observed: 6,
    };
    let inv2 = InvariantViolation::Inv2 {
        last: 9,
        observed: 4,
    };
    let max_wait = Duration::from_millis(1500);
    let temperature = SamplingError::Temperature { value: 200.0 };
    let top_p = SamplingError::TopP { value: 2.0 };
    use ErrorKind::{ContextLength, InvalidRequest, Overloaded, RateLimited, Server, Unavailable};
    let who = || "key `app`".to_owned();
    vec![
        (
            EngineError::NotFound { id: id.to_string() },
            Overloaded,
            None,
            "was evicted",
        ),
        (
            EngineError::NoSlab { capacity: 16 },
            Overloaded,
            None,
            "16 sessions",
        ),
        (
            EngineError::QueueFull { cap: 8 },
            Overloaded,
            None,
            "queue of 8 is full",
        ),
        (
            EngineError::QueueTimeout { max_wait },
            Overloaded,
            None,
            "1.5 seconds",
        ),
        (
            InvalidArgument::ZeroMaxTokens.into(),
            InvalidRequest,
            Some("max_tokens"),
            "max_tokens is 0",
        ),
        (
            out_of_vocabulary.into(),
            InvalidRequest,
            None,
            "token 50000 at index 3",
        ),
        (
            InvalidArgument::EmptySession { id }.into(),
            InvalidRequest,
            None,
            "is empty",
        ),
        (
            temperature.into(),
            InvalidRequest,
            Some("temperature"),
            "temperature is 200",
        ),
        (top_p.into(), InvalidRequest, Some("top_p"), "top_p is 2"),
        (
            SamplingError::MinP { value: 2.0 }.into(),
            InvalidRequest,
            Some("min_p"),
            "min_p is 2",
        ),
        (
            SamplingError::PresencePenalty { value: 3.0 }.into(),
            InvalidRequest,
            Some("presence_penalty"),
            "from -2 to 2",
        ),
        (
            SamplingError::FrequencyPenalty { value: 3.0 }.into(),
            InvalidRequest,
            Some("frequency_penalty"),
            "from -2 to 2",
        ),
        (
            SamplingError::RepetitionPenalty { value: 0.0 }.into(),
            InvalidRequest,
            Some("repetition_penalty"),
            "above 0",
        ),
        (
            InvalidArgument::from(LogitBiasError::TooMany { count: 2000 }).into(),
            InvalidRequest,
            Some("logit_bias"),
            "2000 entries",
        ),
        (
            InvalidArgument::from(StopError::TooMany { count: 17 }).into(),
            InvalidRequest,
            Some("stop"),
            "17 stop sequences",
        ),
        (
            InvalidArgument::TopLogprobs { value: 21 }.into(),
            InvalidRequest,
            Some("top_logprobs"),
            "top_logprobs is 21",
        ),
        (
            InvalidArgument::EmptyPrompt.into(),
            InvalidRequest,
            Some("prompt"),
            "no tokens",
        ),
        (exceeded.into(), ContextLength, None, "context of 8192"),
        (
            LimitError::Streams {
                who: who(),
                limit: 4,
            }
            .into(),
            RateLimited,
            None,
            "max_streams",
        ),
        (
            LimitError::Sessions {
                who: who(),
                limit: 4,
            }
            .into(),
            RateLimited,
            None,
            "max_sessions",
        ),
        (
            LimitError::Rate {
                who: who(),
                limit: 4,
                retry_after: max_wait,
            }
            .into(),
            RateLimited,
            None,
            "tokens_per_minute",
        ),
        (
            LimitError::RequestTokens {
                who: who(),
                asked: 5,
                limit: 4,
            }
            .into(),
            InvalidRequest,
            None,
            "send fewer",
        ),
        (
            LimitError::NewTokens {
                who: who(),
                asked: 5,
                limit: 4,
            }
            .into(),
            InvalidRequest,
            Some("max_tokens"),
            "max_new_tokens",
        ),
        (
            LimitError::History {
                who: who(),
                history: 5,
                more: 1,
                limit: 4,
            }
            .into(),
            ContextLength,
            None,
            "max_history",
        ),
        (inv1.into(), Server, None, "INV-1"),
        (inv2.into(), Server, None, "INV-2"),
        (
            EngineError::BacklogFull { limit: 100 },
            Overloaded,
            None,
            "100 may be held",
        ),
        (
            ConstraintError {
                detail: "too complex".into(),
            }
            .into(),
            Server,
            None,
            "too complex",
        ),
        (EngineError::Draining, Unavailable, None, "draining"),
        (
            EngineError::Store {
                detail: "it does not answer".into(),
            },
            Unavailable,
            None,
            "it does not answer",
        ),
        (
            EngineError::ShutdownTimeout,
            Unavailable,
            None,
            "could not finish",
        ),
        (EngineError::Stopped, Unavailable, None, "stopped"),
        (
            EngineError::Internal {
                detail: "a bug".into(),
            },
            Server,
            None,
            "a bug",
        ),
    ]
}

#[test]
fn every_engine_error_has_its_kind_its_field_and_its_text() {
    for (error, kind, param, part) in table() {
        let answer = ApiError::from(error.clone());
        assert_eq!(answer.kind, kind, "{error:?}");
        assert_eq!(answer.param.as_deref(), param, "{error:?}");
        assert!(answer.message.contains(part), "{part}: {answer:?}");
        // How long a debt takes is known better than by its kind.
        let debt = EngineError::Limit(LimitError::Rate {
            who: "key `app`".to_owned(),
            limit: 4,
            retry_after: Duration::from_millis(1500),
        });
        let known = (error == debt).then(|| Duration::from_millis(1500));
        assert_eq!(answer.retry_after, known, "{error:?}");
    }
}

#[test]
fn the_table_leaves_no_variant_out() {
    let errors: HashSet<_> = table()
        .iter()
        .map(|(error, ..)| discriminant(error))
        .collect();
    assert_eq!(
        errors.len(),
        14,
        "a new variant of EngineError needs its row here"
    );
    let arguments: HashSet<_> = table()
        .iter()
        .filter_map(|(error, ..)| match error {
            EngineError::InvalidArgument(argument) => Some(discriminant(argument)),
            _ => None,
        })
        .collect();
    assert_eq!(
        arguments.len(),
        9,
        "a new variant of InvalidArgument needs its row here"
    );
}
