//! A server on a loopback port, and what every test asks of it.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kakeya_core::{Command, EngineHandle, Request, SessionId};
use kakeya_proto::v1::runtime_service_client::RuntimeServiceClient;
use kakeya_proto::v1::{AppendTokensRequest, GenerateRequest};
use kakeya_server::door::Guard;
use kakeya_server::wire::{Drain, ServeError, Services, bind, serve_guarded};
use tokio::net::TcpStream;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Context, Poll};
use tonic::transport::{Channel, Endpoint};

/// Long enough for a loaded machine; reached only by a test that fails.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// A stop that no test has to wait long for.
pub const QUICK: Drain = Drain {
    grace: Duration::from_millis(300),
    flush: Duration::from_millis(300),
};
pub const SERVICE: &str = "kakeya.v1.RuntimeService";

/// A server on a free port, the engine's end of its channel, and a connected client.
pub struct Served {
    pub address: String,
    pub channel: Channel,
    pub commands: Receiver<Request>,
    pub shutdown: CancellationToken,
    pub server: JoinHandle<Result<(), ServeError>>,
}

impl Served {
    pub async fn start() -> Self {
        let (served, _) = Self::behind(Guard::default()).await;
        let channel = connect(&served.address).await.expect("a connection");
        Self { channel, ..served }
    }

    /// A server behind a guard, and where it is. Its own client is for a door without TLS, and connects when it is used.
    pub async fn behind(guard: Guard) -> (Self, SocketAddr) {
        let listener = bind("127.0.0.1:0").await.expect("a free port");
        let at = listener.local_addr().expect("an address");
        let address = at.to_string();
        let (engine, commands) = EngineHandle::channel(8);
        let shutdown = CancellationToken::new();
        let services = Services::default();
        let serving = serve_guarded(listener, engine, services, guard, shutdown.clone(), QUICK);
        let server = tokio::spawn(serving);
        let channel = endpoint(&address).connect_lazy();
        let served = Self {
            address,
            channel,
            commands,
            shutdown,
            server,
        };
        (served, at)
    }

    /// The next command that reaches the engine.
    pub async fn next(&mut self) -> Command {
        self.next_request().await.command
    }

    /// The next command that reaches the engine, and who asks.
    pub async fn next_request(&mut self) -> Request {
        let arrived = timeout(PATIENCE, self.commands.recv());
        arrived.await.expect("in time").expect("a command")
    }

    pub fn client(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone())
    }

    /// A client that keeps no deadline itself, as the usual one does.
    pub async fn bare_client(&self) -> RuntimeServiceClient<Bare> {
        let origin = "http://localhost".parse().expect("an address");
        RuntimeServiceClient::with_origin(self.bare().await, origin)
    }

    /// A connection of HTTP/2, and nothing around it.
    pub async fn bare(&self) -> Bare {
        let stream = TcpStream::connect(&self.address)
            .await
            .expect("a connection");
        let io = TokioIo::new(stream);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io)
            .await
            .expect("HTTP/2");
        tokio::spawn(connection);
        Bare(sender)
    }

    pub fn assert_engine_untouched(&mut self) {
        let arrived = self.commands.try_recv();
        assert!(arrived.is_err(), "the engine was touched: {arrived:?}");
    }
}

/// A connection, and nothing around it.
#[derive(Clone)]
pub struct Bare(pub http2::SendRequest<Body>);

impl tower::Service<hyper::Request<Body>> for Bare {
    type Response = hyper::Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<Self::Response, hyper::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: hyper::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

pub async fn connect(address: &str) -> Result<Channel, tonic::transport::Error> {
    endpoint(address).connect().await
}

fn endpoint(address: &str) -> Endpoint {
    Channel::from_shared(format!("http://{address}")).expect("an address")
}

pub fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> Status {
    answer.expect_err("a refusal")
}

pub fn id() -> String {
    SessionId::random().to_string()
}

pub fn append(session_id: String, token_ids: Vec<u32>) -> AppendTokensRequest {
    AppendTokensRequest {
        session_id,
        token_ids,
    }
}

pub fn generate(session_id: String) -> GenerateRequest {
    GenerateRequest {
        session_id,
        max_tokens: 4,
        ..Default::default()
    }
}
