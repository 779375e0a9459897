//! The routes on a port.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Shim, router};
use crate::door::Guard;
use crate::http::serve::serve_routes;

/// Serves the routes on `listener`, behind a guard, until `drained` is cancelled. Requests are answered to the last: the
/// engine refuses new ones by itself once it drains. Connections that are left then have `flush` to read what was sent
/// to them.
pub async fn serve(
    listener: TcpListener,
    shim: Arc<Shim>,
    guard: Guard,
    drained: CancellationToken,
    flush: Duration,
) {
    serve_routes(listener, router(shim), guard, drained, flush).await;
}
