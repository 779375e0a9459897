//! A server on a loopback port, and what every test asks of it.

use std::time::Duration;

use kakeya_core::{Command, EngineHandle, SessionId};
use kakeya_proto::v1::runtime_service_client::RuntimeServiceClient;
use kakeya_proto::v1::{AppendTokensRequest, GenerateRequest};
use kakeya_server::wire::{Drain, ServeError, bind, serve_with};
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;

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
    pub commands: Receiver<Command>,
    pub shutdown: CancellationToken,
    pub server: JoinHandle<Result<(), ServeError>>,
}

impl Served {
    pub async fn start() -> Self {
        let listener = bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let (engine, commands) = EngineHandle::channel(8);
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve_with(listener, engine, shutdown.clone(), QUICK));
        let channel = connect(&address).await.expect("a connection");
        Self {
            address,
            channel,
            commands,
            shutdown,
            server,
        }
    }

    pub fn client(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone())
    }

    pub fn assert_engine_untouched(&mut self) {
        let arrived = self.commands.try_recv();
        assert!(arrived.is_err(), "the engine was touched: {arrived:?}");
    }
}

pub async fn connect(address: &str) -> Result<Channel, tonic::transport::Error> {
    Channel::from_shared(format!("http://{address}"))
        .expect("an address")
        .connect()
        .await
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
