//! Bodies that are read, and those that are refused before anything looks at what they ask.

use std::io;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use axum::routing::post as on_post;
use futures::stream;
use kakeya_server::http::body::{
    ApiJson, MAX_BODY_BYTES, method_not_allowed, parse, unknown_route,
};
use kakeya_server::http::requests::{Object, RawObject, TextOr};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::support::{Answer, post};

#[derive(Debug, Deserialize)]
struct Sample {
    text: Option<String>,
    count: Option<u32>,
    list: Option<Vec<Object<Inner>>>,
    stop: Option<TextOr<Vec<String>>>,
    raw: Option<Box<RawValue>>,
}

#[derive(Debug, Deserialize)]
struct Inner {
    count: Option<u32>,
}

async fn echo(ApiJson(sample): ApiJson<Sample>) -> String {
    format!("{}", sample.text.unwrap_or_default().len())
}

fn router() -> Router {
    Router::new()
        .route("/echo", on_post(echo))
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
}

/// The field at fault and the message of a body that cannot be read.
fn refusal(body: impl AsRef<[u8]>) -> (Option<String>, String) {
    let error = parse::<Sample>(body.as_ref()).expect_err("a refusal");
    assert_eq!(error.kind.status(), 400);
    (error.param, error.message)
}

#[tokio::test]
async fn a_json_object_is_read_and_unknown_fields_are_not_looked_at() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let body = format!(r#" {{"text":"five!","none":{deep},"count":null}} "#);
    let answer = Answer::to(router(), post("/echo", body)).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "5"));
    for kind in [
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "application/vnd.api+json",
    ] {
        let request = Request::post("/echo")
            .header(header::CONTENT_TYPE, kind)
            .header(header::CONTENT_ENCODING, "identity")
            .body("{}".into())
            .expect("a request");
        assert_eq!(Answer::to(router(), request).await.status, 200, "{kind}");
    }
}

#[test]
fn a_body_that_is_no_json_object_is_told_where() {
    let nowhere = |body: &[u8]| {
        let (param, message) = refusal(body);
        assert_eq!(param, None, "{message}");
        message
    };
    assert_eq!(nowhere(b""), "the body is empty, expected a JSON object");
    assert_eq!(
        nowhere(b" \n\t"),
        "the body is empty, expected a JSON object"
    );
    assert_eq!(
        nowhere(b"{\"text\":\"\xff\"}"),
        "the body is not UTF-8 at byte 9"
    );
    assert_eq!(
        nowhere(b"{\"text\":\n\"a\" 5}"),
        "the body is not valid JSON, in the body: expected `,` or `}` at line 2 column 5"
    );
    assert_eq!(
        nowhere(b"{} {}"),
        "the body is not valid JSON, in the body: trailing characters at line 1 column 4"
    );
    let twice = nowhere(br#"{"text":"a","text":"b"}"#);
    assert!(twice.contains("duplicate field `text`"), "{twice}");
    for wrong in [
        "[]",
        "[null,null,null,null,null]",
        "7",
        "null",
        "\"{}\"",
        &"[".repeat(1 << 20),
    ] {
        let message = nowhere(wrong.as_bytes());
        assert!(message.contains("expected an object"), "{message}");
    }
}

#[test]
fn a_field_of_the_wrong_type_is_named_by_its_path() {
    for (body, path, account) in [
        (
            r#"{"text":5}"#,
            "text",
            "invalid type: integer `5`, expected a string",
        ),
        (
            r#"{"count":"5"}"#,
            "count",
            "invalid type: string \"5\", expected u32",
        ),
        (
            r#"{"count":-5}"#,
            "count",
            "invalid value: integer `-5`, expected u32",
        ),
        (
            r#"{"list":{}}"#,
            "list",
            "invalid type: map, expected a sequence",
        ),
        (
            r#"{"list":[{},[7]]}"#,
            "list[1]",
            "invalid type: sequence, expected an object",
        ),
        (
            r#"{"list":[{},{"count":true}]}"#,
            "list[1].count",
            "expected u32",
        ),
        (r#"{"stop":5}"#, "stop", "expected a string or an array"),
        (
            r#"{"stop":["a",null]}"#,
            "stop[1]",
            "invalid type: null, expected a string",
        ),
    ] {
        let (param, message) = refusal(body);
        assert_eq!(param.as_deref(), Some(path), "{message}");
        assert!(
            message.starts_with(&format!("`{path}` does not fit: ")),
            "{message}"
        );
        assert!(message.contains(account), "{message}");
        assert!(message.contains(" at line 1 column "), "{message}");
    }
}

#[test]
fn json_that_breaks_off_inside_a_field_is_told_in_which() {
    for (body, path, account) in [
        (r#"{"count":1e999}"#, "count", "number out of range"),
        (
            r#"{"list":[{"count":NaN}]}"#,
            "list[0].count",
            "expected value",
        ),
        (r#"{"text":"\ud800"}"#, "text", "hex escape"),
    ] {
        let (param, message) = refusal(body);
        assert_eq!(param.as_deref(), Some(path), "{message}");
        assert!(
            message.starts_with("the body is not valid JSON, in "),
            "{message}"
        );
        assert!(message.contains(account), "{message}");
    }
}

#[test]
fn what_a_client_sent_is_repeated_in_part() {
    let (_, message) = refusal(format!(r#"{{"count":"{}"}}"#, "x".repeat(1 << 20)));
    assert!(message.len() < 1000, "{}", message.len());
    assert!(message.contains("... at line 1 column 10"), "{message}");
}

#[test]
fn an_object_in_the_clients_words_keeps_them() {
    let sample: Sample = parse(br#"{"raw": {"b":1.50,"a":[]} }"#).expect("a body");
    let raw = RawObject::read("raw", sample.raw.expect("given")).expect("an object");
    assert_eq!(raw.text(), r#"{"b":1.50,"a":[]}"#);
    assert_eq!(serde_json::to_string(&raw).expect("JSON"), raw.text());
    assert_eq!(raw, raw.clone());
}

#[test]
fn an_object_that_no_reader_takes_is_refused_by_name() {
    let deep = format!(
        r#"{{"raw":{{"a":{}{}}}}}"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    for (body, part) in [
        (r#"{"raw":[]}"#, "expected a map"),
        (r#"{"raw":"{}"}"#, "expected a map"),
        (r#"{"raw":{"a":"\ud800"}}"#, "hex escape"),
        (deep.as_str(), "recursion limit exceeded"),
    ] {
        let sample: Sample = parse(body.as_bytes()).expect("a body");
        let error = RawObject::read("raw", sample.raw.expect("given")).expect_err("a refusal");
        assert_eq!(error.param.as_deref(), Some("raw"));
        assert!(error.message.contains(part), "{error}");
    }
}

#[test]
fn the_fields_of_a_sample_are_read() {
    let sample: Sample =
        parse(br#"{"count":3,"list":[{"count":4}],"stop":["a","b"]}"#).expect("a body");
    assert_eq!(sample.count, Some(3));
    let counts: Vec<_> = sample
        .list
        .into_iter()
        .flatten()
        .map(|Object(inner)| inner.count)
        .collect();
    assert_eq!(counts, [Some(4)]);
    assert_eq!(
        sample.stop,
        Some(TextOr::Other(vec!["a".into(), "b".into()]))
    );
    let sample: Sample = parse(br#"{"stop":"a\nb"}"#).expect("a body");
    assert_eq!(sample.stop, Some(TextOr::Text("a\nb".into())));
}

#[tokio::test]
async fn a_body_that_does_not_say_that_it_is_json_is_refused() {
    for (name, value, part) in [
        (
            "x-none",
            "",
            "the content-type is none, expected `application/json`",
        ),
        ("content-type", "text/plain", "is `text/plain`"),
        (
            "content-type",
            "application/x-www-form-urlencoded",
            "form-urlencoded",
        ),
        ("content-type", "nonsense", "is `nonsense`"),
        ("content-type", "text/json", "is `text/json`"),
    ] {
        let request = Request::post("/echo")
            .header(name, value)
            .body("{}".into())
            .expect("a request");
        let answer = Answer::to(router(), request).await;
        assert_eq!(answer.status, 415, "{value}");
        assert!(answer.text.contains(part), "{}", answer.text);
    }
    let mut packed = post("/echo", "{}");
    packed
        .headers_mut()
        .insert("content-encoding", "gzip".parse().expect("a value"));
    let answer = Answer::to(router(), packed).await;
    assert_eq!(answer.status, 415);
    assert!(answer.text.contains("content-encoding"), "{}", answer.text);
}

#[tokio::test]
async fn the_limit_is_on_the_byte() {
    let text = "x".repeat(MAX_BODY_BYTES - r#"{"text":""}"#.len());
    let fits = format!(r#"{{"text":"{text}"}}"#);
    assert_eq!(
        Answer::to(router(), post("/echo", fits.clone())).await.text,
        text.len().to_string()
    );
    let answer = Answer::to(router(), post("/echo", fits + " ")).await;
    assert_eq!(answer.status, 413);
    let message = "the body is over the limit of 4194304 bytes (4 MiB)";
    assert_eq!(answer.json()["error"]["message"], message);
}

#[tokio::test]
async fn a_body_without_a_length_is_bounded_as_well() {
    let endless = stream::repeat_with(|| Ok::<_, io::Error>(vec![b' '; 1 << 16]));
    let answer = Answer::to(router(), post("/echo", Body::from_stream(endless))).await;
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_refused() {
    let broken = stream::iter([
        Ok("{\"text\":"),
        Err(io::Error::other("the line went dead")),
    ]);
    let answer = Answer::to(router(), post("/echo", Body::from_stream(broken))).await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.text.contains("the line went dead"),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn an_unknown_route_is_404_in_the_envelope() {
    let request = Request::get("/v1/engines?q=secret")
        .body(Body::empty())
        .expect("a request");
    let answer = Answer::to(router(), request).await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["error"]["code"], "unknown_url");
    assert!(
        answer.text.contains("GET /v1/engines, GET /openapi"),
        "{}",
        answer.text
    );
    // What a client asks for whose base URL lacks its end.
    for path in ["/chat/completions", "/models", "/completions"] {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let answer = Answer::to(router(), request).await;
        assert!(answer.text.contains("begin with /v1"), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_method_that_a_route_does_not_take_is_405_and_told_which_it_takes() {
    let request = Request::get("/echo")
        .body(Body::empty())
        .expect("a request");
    let answer = Answer::to(router(), request).await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("allow"), Some("POST"));
    assert_eq!(answer.json()["error"]["code"], "method_not_supported");
    assert!(
        answer.text.contains("GET is not allowed on /echo"),
        "{}",
        answer.text
    );
}
