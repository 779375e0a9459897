//! A call's deadline, `grpc-timeout`: when it passes, the answer is dropped, and with it the work behind it.
//!
//! The transport itself bounds only the time to the first message of an answer, so a stream would run on.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::Frame;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::Status;

const HEADER: &str = "grpc-timeout";

/// The transport's own clock answers CANCELLED. This one is a little ahead of it.
const AHEAD: Duration = Duration::from_millis(2);

/// The most digits that the protocol allows.
const MAX_DIGITS: usize = 8;

/// Answers within a call's deadline, or with DEADLINE_EXCEEDED.
pub(super) async fn keep(request: Request, next: Next) -> Response {
    let timeout = match timeout(request.headers()) {
        Ok(None) => return next.run(request).await,
        Ok(Some(timeout)) => timeout,
        Err(value) => return unreadable(&value).into_http(),
    };
    let timeout = timeout.saturating_sub(AHEAD);
    if timeout.is_zero() {
        return passed().into_http();
    }
    let deadline = Instant::now() + timeout;
    match timeout_at(deadline, next.run(request)).await {
        Ok(response) => response.map(|body| bounded(body, deadline)),
        Err(_) => passed().into_http(),
    }
}

fn passed() -> Status {
    Status::deadline_exceeded("the call's deadline has passed: its work has ended")
}

fn unreadable(value: &str) -> Status {
    Status::invalid_argument(format!(
        "{HEADER} is {value:?}, and must be 1 to {MAX_DIGITS} digits and a unit of H, M, S, m, u or n"
    ))
}

/// The timeout of a call; an error is the text that is none.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, String> {
    let Some(value) = headers.get(HEADER) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    parse(text)
        .map(Some)
        .ok_or_else(|| text.chars().take(2 * MAX_DIGITS).collect())
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let fits = (1..=MAX_DIGITS).contains(&digits.len());
    if !fits || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// A refusal has no body, and goes as it is: gRPC's C core, which Python and others stand on, takes a status in headers
/// that an empty frame follows for a broken stream.
fn bounded(body: Body, deadline: Instant) -> Body {
    if body.is_end_stream() {
        body
    } else {
        Body::new(Bounded::new(body, deadline))
    }
}

/// The body of an answer that ends with its deadline, if it has not by then.
struct Bounded {
    /// `None` once it has ended.
    body: Option<Body>,
    clock: Pin<Box<Sleep>>,
}

impl Bounded {
    fn new(body: Body, deadline: Instant) -> Self {
        Self {
            body: Some(body),
            clock: Box::pin(sleep_until(deadline)),
        }
    }
}

impl HttpBody for Bounded {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self { body, clock } = &mut *self;
        let Some(running) = body else {
            return Poll::Ready(None);
        };
        // The clock first: a generation that always has a token ready must end as well.
        if clock.as_mut().poll(context).is_ready() {
            *body = None;
            let mut trailers = HeaderMap::new();
            let added = passed().add_header(&mut trailers).map(|()| trailers);
            return Poll::Ready(Some(added.map(Frame::trailers).map_err(Into::into)));
        }
        Pin::new(running).poll_frame(context).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bounded_body_ends_once_whichever_way() {
        use http_body_util::BodyExt;
        let late = Instant::now() + Duration::from_secs(60);
        let mut whole = Bounded::new(Body::from("all"), late);
        assert!(!whole.is_end_stream());
        let data = whole.frame().await.expect("a frame").expect("data");
        assert_eq!(data.into_data().expect("data"), "all");
        assert!(whole.is_end_stream());
        let past = Instant::now() - Duration::from_secs(1);
        let mut cut = Bounded::new(Body::from("late"), past);
        let trailers = cut.frame().await.expect("a frame").expect("trailers");
        let trailers = trailers.into_trailers().expect("trailers");
        assert_eq!(trailers["grpc-status"], "4");
        assert!(cut.is_end_stream());
        assert!(cut.frame().await.is_none());
    }

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        for (text, expected) in [
            ("0S", Some(Duration::ZERO)),
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("4m", Some(Duration::from_millis(4))),
            ("5u", Some(Duration::from_micros(5))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            ("123456789S", None),
            ("1é", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
