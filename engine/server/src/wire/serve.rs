//! Serving a listener until told to stop, and stopping without cutting anyone off.
//!
//! The order of a stop: health says NOT_SERVING; the engine refuses new work (UNAVAILABLE) and lets running
//! generations finish for a grace, then cancels them; only then does the port close, and the connections that are
//! left get a moment to read what was sent to them.

use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn;
use kakeya_core::EngineHandle;
use kakeya_proto::v1::runtime_service_server::{RuntimeServiceServer, SERVICE_NAME as NAME};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::transport::Server;

use super::deadline;
use super::health::Health;
use super::limits::{ExplainLimit, MAX_REQUEST_BYTES};
use super::service::RuntimeServiceImpl;
use crate::door::incoming::incoming;
use crate::door::patience::MAX_HEADER_BYTES;
use crate::door::{Door, Guard, guarded};

/// The full name of the service, as health and reflection know it.
pub const SERVICE_NAME: &str = NAME;

/// A client that says nothing for this long is pinged; one that does not answer has its streams dropped, and with
/// them the work it had asked for.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Calls at once on one connection; what a client sends beyond waits on its side.
const MAX_CONCURRENT_STREAMS: u32 = 256;

/// How a server stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// How long running generations may go on before they are cancelled.
    pub grace: Duration,
    /// How long connections may take to read their last bytes once the port is closed.
    pub flush: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(10),
            flush: Duration::from_secs(2),
        }
    }
}

/// Why serving ended other than by being told to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptors of the service could not be read, so reflection cannot be offered.
    #[error("the service's own descriptors are unreadable: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("the gRPC transport failed: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves RuntimeService, health and reflection on `listener` until `shutdown` is cancelled, then drains with the
/// default [`Drain`].
///
/// # Errors
/// [`ServeError`] when the transport fails; a stop that was asked for is `Ok`.
pub async fn serve(
    listener: TcpListener,
    engine: EngineHandle,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    serve_with(listener, engine, shutdown, Drain::default()).await
}

/// [`serve`], with a say in how it stops.
///
/// # Errors
/// As [`serve`].
pub async fn serve_with(
    listener: TcpListener,
    engine: EngineHandle,
    shutdown: CancellationToken,
    drain: Drain,
) -> Result<(), ServeError> {
    serve_all(listener, engine, Services::default(), shutdown, drain).await
}

/// Services on the port besides RuntimeService, health and reflection.
#[derive(Debug, Clone, Default)]
pub struct Services {
    /// Where their calls go.
    pub routes: Routes,
    /// Their full names, for health.
    pub names: Vec<&'static str>,
}

/// [`serve_with`], with more services.
///
/// # Errors
/// As [`serve`].
pub async fn serve_all(
    listener: TcpListener,
    engine: EngineHandle,
    services: Services,
    shutdown: CancellationToken,
    drain: Drain,
) -> Result<(), ServeError> {
    let guard = Guard::default();
    serve_guarded(listener, engine, services, guard, shutdown, drain).await
}

/// [`serve_all`], behind a guard.
///
/// # Errors
/// As [`serve`].
pub async fn serve_guarded(
    listener: TcpListener,
    engine: EngineHandle,
    services: Services,
    guard: Guard,
    shutdown: CancellationToken,
    drain: Drain,
) -> Result<(), ServeError> {
    let names = services.names.into_iter().chain([SERVICE_NAME]);
    let (health, health_service) = Health::serving(names).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(kakeya_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let runtime = RuntimeServiceServer::new(RuntimeServiceImpl::new(engine.clone()))
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(MAX_REQUEST_BYTES);
    let routes = services.routes.add_service(health_service);
    let routes = routes
        .add_service(reflection)
        .add_service(ExplainLimit::new(runtime));
    let calls: Router = routes.into_axum_router().layer(from_fn(deadline::keep));
    let calls = guarded(calls, Door::Grpc, &guard);
    let closed = CancellationToken::new();
    let port_closes = stop(shutdown, health, engine, drain, closed.clone());
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(MAX_HEADER_BYTES as u32)
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .add_routes(Routes::from(calls))
        .serve_with_incoming_shutdown(incoming(listener, Door::Grpc, guard), port_closes);
    let overdue = async {
        closed.cancelled().await;
        tokio::time::sleep(drain.flush).await;
    };
    tokio::select! {
        ended = serving => Ok(ended?),
        () = overdue => {
            tracing::warn!("some connections did not close in time and are cut");
            Ok(())
        }
    }
}

/// Completes when the port may close: told to stop, said so, and the engine drained.
async fn stop(
    shutdown: CancellationToken,
    mut health: Health,
    engine: EngineHandle,
    drain: Drain,
    closed: CancellationToken,
) {
    shutdown.cancelled().await;
    tracing::info!(grace = ?drain.grace, "draining: new work is refused");
    health.stop_serving().await;
    // An engine that is already gone, or too stuck to answer, has nothing left to wait for.
    let _ = tokio::time::timeout(drain.grace + drain.flush, engine.shutdown(drain.grace)).await;
    health.end_watches().await;
    closed.cancel();
}
