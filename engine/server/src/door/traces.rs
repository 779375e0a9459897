//! What OpenTelemetry is told of a request: where its trace began, and what it was. Never what was said in it.

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{Status, TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::Door;

/// Headers as a carrier of W3C Trace Context.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}

/// The span of a request, under the client's, if the client has one (`traceparent`).
pub(super) fn begin(id: &str, door: Door, request: &Request) -> Span {
    let (method, path) = (request.method().as_str(), request.uri().path());
    let span = tracing::info_span!(
        "request",
        id,
        door = door.name(),
        key = Empty,
        otel.kind = "server",
        otel.name = format!("{method} {path}"),
    );
    let parent = TraceContextPropagator::new().extract(&Headers(request.headers()));
    if parent.span().span_context().is_valid() {
        // A span that nobody collects has no place for it.
        drop(span.set_parent(parent));
    }
    span.set_attribute("http.request.method", method.to_owned());
    span.set_attribute("url.path", path.to_owned());
    span
}

/// Tells how it was answered.
pub(super) fn end(span: &Span, status: StatusCode) {
    span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.set_status(Status::error(status.to_string()));
    }
}
