//! The port of the HTTP door.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Shim, router};

/// Serves the routes on `listener` until `drained` is cancelled. Requests are answered to the last: the engine refuses
/// new ones by itself once it drains. Connections that are left then have `flush` to read what was sent to them.
///
/// # Errors
/// When the port fails.
pub async fn serve(
    listener: TcpListener,
    shim: Arc<Shim>,
    drained: CancellationToken,
    flush: Duration,
) -> io::Result<()> {
    let listener = listener.tap_io(|connection| {
        // An event is sent as soon as there is one.
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "a connection waits to fill its packets");
        }
    });
    let overdue = {
        let drained = drained.clone();
        async move {
            drained.cancelled().await;
            tokio::time::sleep(flush).await;
        }
    };
    let serving =
        axum::serve(listener, router(shim)).with_graceful_shutdown(drained.cancelled_owned());
    tokio::select! {
        ended = serving => ended,
        () = overdue => {
            tracing::warn!("some HTTP connections did not close in time and are cut");
            Ok(())
        }
    }
}
