//! An open port before there is a model behind it.
//!
//! Loading takes seconds to minutes. Whoever watches a port meanwhile must hear that the server lives and is not ready,
//! rather than nothing.

use std::io;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::error::{ApiError, ErrorKind};
use super::probes::live;

/// Answers on the port of `listener` until `loaded` is cancelled: `/healthz` with 200, and all else with 503. Returns the
/// listener, for whoever comes after.
///
/// # Errors
/// When the system does not let the port be shared.
pub fn answer(listener: TcpListener, loaded: CancellationToken) -> io::Result<TcpListener> {
    let own = listener.into_std()?;
    let shared = TcpListener::from_std(own.try_clone()?)?;
    let routes = Router::new()
        .route("/healthz", get(live))
        .fallback(async || ApiError::new(ErrorKind::Unavailable, "the model is loading"));
    let serving = axum::serve(shared, routes).with_graceful_shutdown(loaded.cancelled_owned());
    tokio::spawn(serving.into_future());
    TcpListener::from_std(own)
}
