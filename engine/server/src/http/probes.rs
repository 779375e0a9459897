//! Whether the server is well, for whoever watches it.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use kakeya_core::{EngineError, EngineHandle};
use tokio_util::sync::CancellationToken;

use super::error::ApiError;

/// `GET /healthz` answers while the process lives, and `GET /readyz` while its engine takes new work, which is until
/// `stopping` is cancelled.
pub fn router(engine: EngineHandle, stopping: CancellationToken) -> Router {
    Router::new()
        .route("/healthz", get(live))
        .route("/readyz", get(ready))
        .with_state((engine, stopping))
}

pub(super) async fn live() -> &'static str {
    "ok\n"
}

async fn ready(State((engine, stopping)): State<(EngineHandle, CancellationToken)>) -> Response {
    if stopping.is_cancelled() {
        return ApiError::from(EngineError::Draining).into_response();
    }
    match engine.stats().await {
        Ok(_) => "ready\n".into_response(),
        Err(error) => ApiError::from(error).into_response(),
    }
}
