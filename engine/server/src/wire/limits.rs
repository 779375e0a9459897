//! What the transport refuses before a service is called: messages over the limit, and bytes that are no message.
//!
//! The limit is gRPC's usual 4 MiB. A token id below 2^21 takes at most three bytes on the wire, so an append of a
//! million ids fits whatever the vocabulary of today's models; a longer history is appended in pieces, which the
//! contract makes equal to one append, bit for bit.

use std::convert::Infallible;

use kakeya_core::EngineError;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Context, Poll, Service, http};
use tonic::server::NamedService;
use tonic::{Code, Status};

/// The largest request message that is read, in bytes.
pub const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;

/// How many token ids are sure to fit in one AppendTokens request.
pub const SAFE_APPEND_IDS: usize = 1_000_000;

/// Wraps a gRPC service so that a request over [`MAX_REQUEST_BYTES`] is answered with what to do about it, and one that
/// cannot be read as the caller's mistake.
///
/// The transport refuses such a message while decoding, before the service is called, with OUT_OF_RANGE: a status
/// that this service gives for nothing else. The code is kept, because unlike RESOURCE_EXHAUSTED it does not invite
/// a client to send the same message again. Bytes that are no message it answers with INTERNAL, which is what this
/// server says of its own faults alone.
#[derive(Clone, Debug)]
pub struct ExplainLimit<S> {
    inner: S,
}

impl<S> ExplainLimit<S> {
    /// Wraps `inner`, whose decoding limit must be [`MAX_REQUEST_BYTES`].
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S: NamedService> NamedService for ExplainLimit<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for ExplainLimit<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.inner.call(request);
        Box::pin(async move { answer.await.map(explain) })
    }
}

/// Replaces what the transport says; every other response passes as it is.
fn explain(response: http::Response<Body>) -> http::Response<Body> {
    let status = Status::from_header_map(response.headers());
    match status.and_then(|status| explained(&status)) {
        Some(status) => status.into_http(),
        None => response,
    }
}

/// The status to give for one of the transport's; `None` for one that is not the transport's.
pub(crate) fn explained(status: &Status) -> Option<Status> {
    match status.code() {
        Code::OutOfRange => Some(too_large(status.message())),
        Code::Internal if !is_ours(status.message()) => Some(Status::invalid_argument(format!(
            "the request is no gRPC message of this method: {}",
            status.message()
        ))),
        _ => None,
    }
}

/// Whether an INTERNAL is a fault of this server, by its text.
fn is_ours(message: &str) -> bool {
    let of_engine = EngineError::Internal {
        detail: String::new(),
    };
    message.starts_with(&of_engine.to_string())
}

/// The status of a request message over the limit; `cause` is the transport's own account, with the size found.
fn too_large(cause: &str) -> Status {
    Status::out_of_range(format!(
        "the request message is over the limit of {MAX_REQUEST_BYTES} bytes (4 MiB): append tokens in pieces of at \
         most {SAFE_APPEND_IDS} ids, which gives the same session as one append, and send a snapshot in smaller \
         chunks ({cause})"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_with_another_status_passes_unchanged() {
        let response = explain(Status::not_found("no such session").into_http());
        let status = Status::from_header_map(response.headers()).expect("a status");
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(status.message(), "no such session");
    }

    #[test]
    fn a_response_without_a_status_passes_unchanged() {
        let response = explain(http::Response::new(Body::empty()));
        assert!(Status::from_header_map(response.headers()).is_none());
    }

    #[test]
    fn the_size_refusal_names_the_limit_and_the_way_out() {
        let response = explain(Status::out_of_range("found 5 bytes").into_http());
        let status = Status::from_header_map(response.headers()).expect("a status");
        assert_eq!(status.code(), Code::OutOfRange);
        for part in [
            "4194304 bytes (4 MiB)",
            "in pieces",
            "1000000 ids",
            "found 5 bytes",
        ] {
            assert!(status.message().contains(part), "{part}: {status:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_message_are_the_callers_mistake_and_a_fault_is_ours() {
        let response = explain(Status::internal("invalid wire type").into_http());
        let status = Status::from_header_map(response.headers()).expect("a status");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("invalid wire type"), "{status:?}");
        let detail = "a thread died".to_owned();
        let fault = crate::wire::status::status(EngineError::Internal { detail });
        let response = explain(fault.clone().into_http());
        let status = Status::from_header_map(response.headers()).expect("a status");
        assert_eq!(
            (status.code(), status.message()),
            (Code::Internal, fault.message())
        );
    }

    #[test]
    fn a_million_ids_of_three_bytes_fit() {
        let session_id = 2 + "sess-".len() + 32;
        let ids = 1 + 4 + 3 * SAFE_APPEND_IDS;
        assert!(session_id + ids <= MAX_REQUEST_BYTES);
    }
}
