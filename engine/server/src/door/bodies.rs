//! Bodies that come too slowly, and answers that nobody takes.

use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tokio_util::task::AbortOnDropHandle;
use tracing::Span;

use super::Door;
use super::patience::Patience;

type BodyError = Box<dyn Error + Send + Sync>;
type NextFrame = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

/// A request's body did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rest of the request did not come within {} seconds", waited.as_secs_f64())]
pub struct ArrivalTimeout {
    /// How long it was waited for.
    pub waited: Duration,
}

/// An answer was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer was not read")]
pub struct NotTaken;

/// Puts clocks on the bodies of a request and of its answer.
pub(super) async fn watch(
    State((door, patience)): State<(Door, Patience)>,
    request: Request,
    next: Next,
) -> Response {
    let request = request.map(|body| Body::new(Arriving::new(body, door, patience.arrival)));
    let response = next.run(request).await;
    response.map(|body| match body.size_hint().exact() {
        // It is with the connection already, which has a clock of its own.
        Some(_) => body,
        None => Body::new(Leaving::new(body, patience.departure)),
    })
}

/// A request's body with a clock: over HTTP for the whole of it, over gRPC, whose bodies may be streams, for each frame.
struct Arriving {
    body: Body,
    door: Door,
    patience: Duration,
    clock: Option<Pin<Box<Sleep>>>,
}

impl Arriving {
    fn new(body: Body, door: Door, patience: Duration) -> Self {
        Self {
            body,
            door,
            patience,
            clock: None,
        }
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> NextFrame {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            if self.door == Door::Grpc {
                self.clock = None;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let patience = self.patience;
        let clock = self
            .clock
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        match clock.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err(self.door.too_slow(patience)))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// An answer's body, which is dropped, and with it the work for it, when the client takes nothing for too long. While
/// the transport is full it asks for nothing, so the clock runs beside it.
struct Leaving {
    kept: Arc<Mutex<Kept>>,
    _watchdog: AbortOnDropHandle<()>,
}

struct Kept {
    /// `None` once it is given up.
    body: Option<Body>,
    /// When the last frame was handed over, until the transport asks for the next.
    waiting: Option<Instant>,
}

impl Leaving {
    fn new(body: Body, patience: Duration) -> Self {
        let kept = Arc::new(Mutex::new(Kept {
            body: Some(body),
            waiting: None,
        }));
        let watchdog = watchdog(Arc::downgrade(&kept), patience, Span::current());
        Self {
            kept,
            _watchdog: AbortOnDropHandle::new(tokio::spawn(watchdog)),
        }
    }
}

async fn watchdog(kept: Weak<Mutex<Kept>>, patience: Duration, span: Span) {
    let mut until = Instant::now() + patience;
    loop {
        tokio::time::sleep_until(until).await;
        let Some(kept) = kept.upgrade() else { return };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        until = kept.waiting.unwrap_or_else(Instant::now) + patience;
        if until <= Instant::now() {
            span.in_scope(|| tracing::warn!(?patience, "a client did not read its answer"));
            kept.body = None;
            return;
        }
    }
}

impl HttpBody for Leaving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> NextFrame {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(body) = &mut kept.body else {
            return Poll::Ready(Some(Err(NotTaken.into())));
        };
        let polled = Pin::new(body).poll_frame(context);
        kept.waiting = polled.is_ready().then(Instant::now);
        polled.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }
}

/// An answer's body whose making is logged within a span.
pub(super) struct Within {
    body: Body,
    span: Span,
}

impl Within {
    pub(super) fn new(body: Body, span: Span) -> Self {
        Self { body, span }
    }
}

impl HttpBody for Within {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Self { body, span } = &mut *self;
        span.in_scope(|| Pin::new(body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
