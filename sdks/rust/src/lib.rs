//! Client of `kakeya serve`: sessions that live on the server, with a KV cache of fixed size.
//!
//! ```no_run
//! # async fn example() -> Result<(), kakeya_client::ClientError> {
//! use kakeya_client::{Client, GenerateOptions};
//!
//! let client = Client::connect("127.0.0.1:50051").await?;
//! let session = client.session(&[2]).await?;
//! session.append(vec![1, 520, 9531]).await?;
//! let mut generation = session.generate(64, GenerateOptions::default()).await?;
//! while let Some(token) = generation.next().await? {
//!     println!("{token}");
//! }
//! session.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Nothing is repeated by itself: an append or a generation may have reached the server before a connection broke.

mod error;
mod session;

use std::time::Duration;

use kakeya_proto::v1;
use kakeya_proto::v1::runtime_service_client::RuntimeServiceClient;
use kakeya_proto::v1::session_service_client::SessionServiceClient;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

pub use error::ClientError;
pub use kakeya_proto::v1::generate_done::StopReason;
pub use kakeya_proto::v1::{
    GenerateDone, GetSessionInfoResponse as SessionInfo, GetStateDigestResponse as StateDigest,
    SessionSummary, TokenLogprobs,
};
pub use session::{Generation, Session};

/// Where a proxy in front of several servers finds what to choose one by (docs/ops/several-machines.md).
const ROUTE: &str = "kakeya-route";
/// The longest route, in bytes.
const MAX_ROUTE: usize = 256;

/// Bytes of a snapshot that one message takes.
const CHUNK: usize = 1 << 20;

/// How tokens are drawn, as GenerateRequest of `runtime.proto` says. `session_id` and `max_tokens` are set by the call.
/// The default is greedy decoding.
pub type GenerateOptions = v1::GenerateRequest;

/// A connection to a server. Clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    address: String,
    runtime: RuntimeServiceClient<Channel>,
    sessions: SessionServiceClient<Channel>,
    key: Option<MetadataValue<Ascii>>,
    timeout: Option<Duration>,
}

impl Client {
    /// Connects to `address`, given as HOST:PORT.
    ///
    /// # Errors
    /// When the address is none, or no server answers there.
    pub async fn connect(address: &str) -> Result<Self, ClientError> {
        let endpoint = match address.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Endpoint::from_shared(format!("http://{address}"))
            }
            _ => return Err(ClientError::address(address)),
        };
        let endpoint = endpoint.map_err(|_| ClientError::address(address))?;
        // A connection that is dead is noticed while a call waits on it.
        let endpoint = endpoint
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        let channel = endpoint
            .connect()
            .await
            .map_err(|cause| ClientError::unreachable(address, &cause))?;
        Ok(Self::over(address, channel))
    }

    /// A client over a connection that is made otherwise, with TLS for example.
    #[must_use]
    pub fn over(address: &str, channel: Channel) -> Self {
        Self {
            address: address.to_owned(),
            runtime: RuntimeServiceClient::new(channel.clone()),
            sessions: SessionServiceClient::new(channel),
            key: None,
            timeout: None,
        }
    }

    /// The same connection, with an API key.
    ///
    /// # Errors
    /// A key that a header cannot hold.
    pub fn with_key(self, key: &str) -> Result<Self, ClientError> {
        let fits = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
        let value = format!("Bearer {key}").parse().ok().filter(|_| fits);
        let key = Some(value.ok_or(ClientError::Key)?);
        Ok(Self { key, ..self })
    }

    /// The same connection, with a deadline for each call.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self {
            timeout: Some(timeout),
            ..self
        }
    }

    /// Opens a session, whose generations stop after one of `end_tokens`.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn session(&self, end_tokens: &[u32]) -> Result<Session, ClientError> {
        let request = v1::CreateSessionRequest {
            client_label: String::new(),
            eos_token_ids: end_tokens.to_vec(),
        };
        let route = uuid::Uuid::new_v4().simple().to_string();
        let mut runtime = self.runtime.clone();
        let created = runtime.create_session(self.routed(request, &route)).await;
        Ok(Session::new(
            self.clone(),
            self.answer(created)?.session_id,
            route,
        ))
    }

    /// A session that is there already, by its id, and by its route where there is a proxy in front of several servers:
    /// empty for none. Asks nothing.
    ///
    /// # Errors
    /// A route that a header cannot hold.
    pub fn attach(&self, id: &str, route: &str) -> Result<Session, ClientError> {
        let fits = route.len() <= MAX_ROUTE && route.bytes().all(|byte| byte.is_ascii_graphic());
        if !fits {
            return Err(ClientError::Route);
        }
        Ok(Session::new(self.clone(), id.to_owned(), route.to_owned()))
    }

    /// The live sessions of this key.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn sessions(&self) -> Result<Vec<SessionSummary>, ClientError> {
        let request = self.asking(v1::ListSessionsRequest {});
        let listed = self.sessions.clone().list_sessions(request).await;
        Ok(self.answer(listed)?.sessions)
    }

    /// Opens a session with what [`Session::snapshot`] gave, of this server or of another with the same settings.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn restore(&self, snapshot: &[u8]) -> Result<Session, ClientError> {
        let chunk = |bytes: &[u8]| v1::SnapshotChunk {
            data: bytes.to_vec(),
        };
        let chunks: Vec<_> = snapshot.chunks(CHUNK).map(chunk).collect();
        let route = uuid::Uuid::new_v4().simple().to_string();
        let request = self.routed(tokio_stream::iter(chunks), &route);
        let restored = self.sessions.clone().restore_session(request).await;
        Ok(Session::new(
            self.clone(),
            self.answer(restored)?.session_id,
            route,
        ))
    }

    /// A request that goes where a session's other calls go.
    fn routed<T>(&self, message: T, route: &str) -> Request<T> {
        let mut request = self.asking(message);
        if let Ok(route) = route.parse::<MetadataValue<Ascii>>()
            && !route.is_empty()
        {
            request.metadata_mut().insert(ROUTE, route);
        }
        request
    }

    fn asking<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(key) = &self.key {
            request.metadata_mut().insert("authorization", key.clone());
        }
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        request
    }

    fn answer<T>(
        &self,
        answer: Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T, ClientError> {
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| ClientError::of(&self.address, status))
    }
}
