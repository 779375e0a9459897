//! Answers that are sent as events, in the form that OpenAI's clients read.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use futures::{Stream, StreamExt, stream};
use serde::Serialize;

use super::error::{ApiError, ErrorKind};

/// The last event of a stream that came to its end.
const DONE: &str = "[DONE]";

/// A comment is sent when nothing else was for this long, so that nobody between takes the connection for dead, and
/// so that a client that is gone is noticed before the first token.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Tells proxies of nginx's kind to pass each event on as it comes.
const UNBUFFERED: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-accel-buffering"),
    HeaderValue::from_static("no"),
);

/// A stream of chunks as a response: an event each, then `[DONE]`. An error is an event in OpenAI's envelope and the
/// end of the stream, without `[DONE]`. A client that goes away drops `chunks`.
pub fn respond<C>(chunks: impl Stream<Item = Result<C, ApiError>> + Send + 'static) -> Response
where
    C: Serialize + 'static,
{
    respond_with(chunks, KEEP_ALIVE)
}

/// [`respond`], with a say in how long it may be silent.
pub fn respond_with<C>(
    chunks: impl Stream<Item = Result<C, ApiError>> + Send + 'static,
    silence: Duration,
) -> Response
where
    C: Serialize + 'static,
{
    let comment = KeepAlive::new().interval(silence).text("keep-alive");
    let events = Sse::new(events(chunks)).keep_alive(comment);
    ([UNBUFFERED], events).into_response()
}

/// The events of a stream of chunks.
fn events<C: Serialize>(
    chunks: impl Stream<Item = Result<C, ApiError>>,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let chunks = chunks.map(|chunk| chunk.and_then(|chunk| json(&chunk)));
    let done = stream::iter([Ok(DONE.to_owned())]);
    let texts = chunks.chain(done).scan(false, |failed, text| {
        let text = match text {
            _ if *failed => None,
            Ok(text) => Some(text),
            Err(error) => {
                *failed = true;
                json(&error.envelope()).ok()
            }
        };
        std::future::ready(text)
    });
    texts.map(|text| Ok(Event::default().data(text)))
}

fn json(value: &impl Serialize) -> Result<String, ApiError> {
    serde_json::to_string(value)
        .map_err(|cause| ApiError::new(ErrorKind::Server, format!("an event is no JSON: {cause}")))
}
