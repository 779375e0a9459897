//! What the tests ask of a router and of an error.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kakeya_server::http::ApiError;
use kakeya_server::http::body::parse;
use kakeya_server::http::requests::{ChatBody, ChatRequest, CompletionBody, CompletionRequest};
use serde_json::{Value, json};
use tower::ServiceExt;

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub async fn of(response: Response) -> Self {
        let (head, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.expect("a body");
        Self {
            status: head.status,
            headers: head.headers,
            text: String::from_utf8(bytes.to_vec()).expect("text"),
        }
    }

    pub async fn to(router: Router, request: Request<Body>) -> Self {
        Self::of(router.oneshot(request).await.expect("infallible")).await
    }

    pub async fn error(error: ApiError) -> Self {
        Self::of(error.into_response()).await
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("JSON")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A POST of a body that says it is JSON.
pub fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.into())
        .expect("a request")
}

/// A chat request of one message with these fields as well, which may replace its own.
pub fn chat(fields: Value) -> Result<ChatRequest, ApiError> {
    let messages = json!([{ "role": "user", "content": "hi" }]);
    let body = with(json!({ "model": "m", "messages": messages }), fields);
    parse::<ChatBody>(body.to_string().as_bytes())?.validate()
}

/// A completion request of one prompt with these fields as well, which may replace its own.
pub fn completion(fields: Value) -> Result<CompletionRequest, ApiError> {
    let body = with(json!({ "model": "m", "prompt": "once" }), fields);
    parse::<CompletionBody>(body.to_string().as_bytes())?.validate()
}

pub fn with(mut body: Value, fields: Value) -> Value {
    let (Value::Object(body_fields), Value::Object(fields)) = (&mut body, fields) else {
        panic!("not objects")
    };
    body_fields.extend(fields);
    body
}

/// The field at fault and the message of a request that is refused.
pub fn refusal<T: std::fmt::Debug>(answer: Result<T, ApiError>) -> (String, String) {
    let error = answer.expect_err("a refusal");
    assert_eq!(error.kind.status(), 400, "{error}");
    (error.param.expect("a field"), error.message)
}

/// Asserts that each of these fields is refused by this name, with this part of a message.
pub fn assert_refused<T: std::fmt::Debug>(
    read: impl Fn(Value) -> Result<T, ApiError>,
    cases: &[(Value, &str, &str)],
) {
    for (fields, param, part) in cases {
        let (named, message) = refusal(read(fields.clone()));
        assert_eq!(&named, param, "{fields}: {message}");
        assert!(message.contains(part), "{part}: {message}");
    }
}
