//! Streams of events: what a client reads when all goes well, when something fails, and when nothing comes.

use std::time::{Duration, Instant};

use futures::{Stream, StreamExt, stream};
use kakeya_server::http::sse::{respond, respond_with};
use kakeya_server::http::{ApiError, ErrorKind};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::Answer;

type Chunk = Result<Value, ApiError>;

async fn read(chunks: impl Stream<Item = Chunk> + Send + 'static) -> Answer {
    Answer::of(respond(chunks)).await
}

#[tokio::test]
async fn each_chunk_is_an_event_and_the_last_is_done() {
    let answer = read(stream::iter([Ok(json!({"a": 1})), Ok(json!("two\nlines"))])).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    assert_eq!(
        answer.text,
        "data: {\"a\":1}\n\ndata: \"two\\nlines\"\n\ndata: [DONE]\n\n"
    );
    assert_eq!(read(stream::empty()).await.text, "data: [DONE]\n\n");
}

#[tokio::test]
async fn a_failure_is_the_last_event_and_nothing_says_done() {
    let failure = ApiError::new(ErrorKind::Server, "it broke");
    let answer = read(stream::iter([Ok(json!(1)), Err(failure), Ok(json!(2))])).await;
    let error =
        r#"{"error":{"message":"it broke","type":"server_error","param":null,"code":null}}"#;
    assert_eq!(answer.text, format!("data: 1\n\ndata: {error}\n\n"));
}

/// What cannot be written as JSON.
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("no words"))
    }
}

#[tokio::test]
async fn a_chunk_that_cannot_be_written_is_a_failure_on_this_side() {
    let answer = Answer::of(respond(stream::iter([Ok(Unwritable)]))).await;
    assert!(
        answer.text.starts_with("data: {\"error\":"),
        "{}",
        answer.text
    );
    assert!(
        answer.text.contains("an event is no JSON: no words"),
        "{}",
        answer.text
    );
    assert!(!answer.text.contains("[DONE]"), "{}", answer.text);
}

#[tokio::test]
async fn a_comment_comes_when_nothing_else_does() {
    let silence = Duration::from_millis(20);
    let response = respond_with(stream::pending::<Chunk>(), silence);
    let mut body = response.into_body().into_data_stream();
    let started = Instant::now();
    for _ in 0..3 {
        let comment = body.next().await.expect("a comment").expect("bytes");
        assert_eq!(comment, ": keep-alive\n\n");
    }
    assert!(started.elapsed() >= 3 * silence);
}

#[tokio::test]
async fn a_client_that_goes_away_drops_the_chunks() {
    let gone = CancellationToken::new();
    let guard = gone.clone().drop_guard();
    let chunks = stream::pending().map(move |chunk| {
        let _held = &guard;
        chunk
    });
    let response = respond::<Value>(chunks);
    assert!(!gone.is_cancelled());
    drop(response);
    let waited = tokio::time::timeout(Duration::from_secs(20), gone.cancelled()).await;
    assert_eq!(waited, Ok(()));
}
