//! What OpenTelemetry is told of a request: where its trace began, and what it was. Never what was said in it.

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanKind, Status, TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

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

/// Puts the span of a request under the client's, if the client has one (`traceparent`).
pub(super) fn begin(span: &Span, request: &Request) {
    let parent = TraceContextPropagator::new().extract(&Headers(request.headers()));
    if parent.span().span_context().is_valid() {
        // A span that nobody collects has no place for it.
        drop(span.set_parent(parent));
    }
    let (method, path) = (request.method().as_str(), request.uri().path());
    span.set_attribute("http.request.method", method.to_owned());
    span.set_attribute("url.path", path.to_owned());
    span.set_attribute(
        "span.kind",
        format!("{:?}", SpanKind::Server).to_lowercase(),
    );
}

/// Tells how it was answered.
pub(super) fn end(span: &Span, status: StatusCode) {
    span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.set_status(Status::error(status.to_string()));
    }
}
