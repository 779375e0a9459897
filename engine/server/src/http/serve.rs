//! The port of the HTTP door.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn;
use futures::StreamExt;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::door::access::Access;
use crate::door::hosts;
use crate::door::incoming::incoming;
use crate::door::patience::MAX_HEADER_BYTES;
use crate::door::{Door, Guard, guarded};

/// Serves routes on `listener`, behind a guard, until `drained` is cancelled. Requests under way then, and connections
/// that are left, have `flush` to come to their ends.
pub async fn serve_routes(
    listener: TcpListener,
    routes: Router,
    guard: Guard,
    drained: CancellationToken,
    flush: Duration,
) {
    let is_local = |address: SocketAddr| address.ip().to_canonical().is_loopback();
    let routes = match &*guard.access {
        Access::Open(_) if listener.local_addr().is_ok_and(is_local) => {
            routes.layer(from_fn(hosts::only_here))
        }
        _ => routes,
    };
    let routes = guarded(routes, Door::Http, &guard);
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(guard.patience.arrival)
        .max_header_size(MAX_HEADER_BYTES);
    let connections = GracefulShutdown::new();
    {
        let mut arriving = pin!(incoming(listener, Door::Http, guard));
        while let Some(Some(Ok(connection))) = drained.run_until_cancelled(arriving.next()).await {
            let service = TowerToHyperService::new(routes.clone());
            let served = builder.serve_connection(TokioIo::new(connection), service);
            let served = connections.watch(served);
            tokio::spawn(async move {
                if let Err(error) = served.await {
                    tracing::debug!(%error, "an HTTP connection broke");
                }
            });
        }
    }
    if tokio::time::timeout(flush, connections.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("some HTTP connections did not close in time and are cut");
    }
}
