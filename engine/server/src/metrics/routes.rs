//! The route, and a port for those who have no other.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::prometheus_text;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Metrics;
use crate::http::body::{method_not_allowed, unknown_route};
use crate::http::probes;

/// `GET /metrics`.
pub fn router(metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .with_state(metrics)
}

async fn scrape(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, prometheus_text::CONTENT_TYPE)],
        metrics.text().await,
    )
}

/// Serves `/metrics`, `/healthz` and `/readyz` on a port of their own until `end` is cancelled. The server is ready until
/// `stopping` is.
///
/// # Errors
/// When the port fails.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
    end: CancellationToken,
) -> io::Result<()> {
    let engine = metrics.engine.clone();
    let routes = router(metrics)
        .merge(probes::router(engine, stopping))
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed);
    axum::serve(listener, routes)
        .with_graceful_shutdown(end.cancelled_owned())
        .await
}
