//! One session of many turns, over the wire: the two ends of a long session.
//!
//! The server is a process of its own, so that its memory is its own; the harness starts it and drives it. What the
//! driver speaks is the wire contract and nothing else, so that another client can take its place.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kakeya_proto::v1;
use kakeya_proto::v1::generate_response::Payload;
use kakeya_proto::v1::runtime_service_client::RuntimeServiceClient;
use kakeya_runtime::{EngineConfig, EngineStartError, StepLoop};
use kakeya_server::wire::{Drain, ListenError, ServeError, bind, serve_with};
use thiserror::Error;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;

use kakeya_suite::ModelFile;

use crate::model_file::{ModelFileError, load_model};

/// Tokens that a turn appends, and then generates.
const TOKENS: usize = 16;
/// Sessions the server has room for. One is driven.
const CAPACITY: usize = 2;
/// How long a call may take: beyond that the server is not slow but gone.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why a long session did not start or go on.
#[derive(Debug, Error)]
pub enum LongSessionError {
    /// The model could not be loaded.
    #[error(transparent)]
    Model(#[from] ModelFileError),
    /// The engine could not be started.
    #[error(transparent)]
    Engine(#[from] EngineStartError),
    /// The server has no address to listen on.
    #[error(transparent)]
    Bind(#[from] ListenError),
    /// The server failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Something the operating system refused.
    #[error(transparent)]
    System(#[from] std::io::Error),
    /// The server cannot be reached.
    #[error("cannot reach the server: {0}")]
    Connect(#[from] tonic::transport::Error),
    /// The server refused a call.
    #[error("the server answered {:?}: {}", .0.code(), .0.message())]
    Status(Box<Status>),
    /// The server answered something that the contract does not allow.
    #[error("{0}")]
    Contract(String),
}

impl From<Status> for LongSessionError {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// Serves a model on a port of this machine for ever. `ready` is told the port's address.
///
/// # Errors
/// When the model, the engine or the server fails.
pub fn serve(
    model: &ModelFile,
    ready: impl FnOnce(SocketAddr) -> std::io::Result<()>,
) -> Result<(), LongSessionError> {
    let config = EngineConfig {
        capacity: CAPACITY,
        ..EngineConfig::default()
    };
    let (engine, step_loop) = StepLoop::spawn(Arc::new(load_model(model)?), config)?;
    runtime()?.block_on(async {
        let listener = bind("127.0.0.1:0").await?;
        ready(listener.local_addr()?)?;
        serve_with(listener, engine, CancellationToken::new(), Drain::default()).await?;
        Ok::<_, LongSessionError>(())
    })?;
    step_loop.join();
    Ok(())
}

/// The client's end.
#[derive(Debug)]
pub struct Driver {
    runtime: Runtime,
    client: RuntimeServiceClient<Channel>,
    session: String,
    /// What is said, again and again.
    words: Vec<u32>,
    said: usize,
}

/// A turn that came to its end: an append, a generation, and a look at the session.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Turn {
    /// From the append to the last token.
    pub duration: Duration,
    /// Tokens that were generated.
    pub tokens: u64,
    /// Tokens that the session holds.
    pub history_length: u64,
    /// KV bytes that it holds.
    pub kv_bytes: u64,
    /// The server's counters of violated invariants.
    pub inv1: u64,
    /// As above.
    pub inv2: u64,
}

impl Driver {
    /// Connects and opens the session. `words` are token ids of the model's vocabulary, at least as many as a turn
    /// says.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub fn open(address: &str, words: Vec<u32>) -> Result<Self, LongSessionError> {
        if words.len() < 2 * TOKENS {
            return Err(LongSessionError::Contract(format!(
                "there are {} tokens to say, and at least {} are needed",
                words.len(),
                2 * TOKENS
            )));
        }
        let runtime = runtime()?;
        let (client, session) = runtime.block_on(async {
            let channel = Channel::from_shared(format!("http://{address}"))
                .map_err(|error| LongSessionError::Contract(error.to_string()))?
                .timeout(PATIENCE)
                .connect()
                .await?;
            let mut client = RuntimeServiceClient::new(channel);
            // Without an end token: each turn generates as many tokens as it asks for.
            let request = v1::CreateSessionRequest {
                client_label: "long session".to_owned(),
                eos_token_ids: Vec::new(),
            };
            let created = client.create_session(request).await?.into_inner();
            Ok::<_, LongSessionError>((client, created.session_id))
        })?;
        Ok(Self {
            runtime,
            client,
            session,
            words,
            said: 0,
        })
    }

    /// Takes a turn.
    ///
    /// # Errors
    /// When the server fails, refuses, or answers what the contract does not allow.
    pub fn turn(&mut self) -> Result<Turn, LongSessionError> {
        let at = self.said % (self.words.len() - TOKENS);
        let words = self.words[at..at + TOKENS].to_vec();
        self.said += TOKENS;
        let (client, session) = (&mut self.client, &self.session);
        self.runtime.block_on(async {
            let start = Instant::now();
            let append = v1::AppendTokensRequest {
                session_id: session.clone(),
                token_ids: words,
            };
            client.append_tokens(append).await?;
            let generate = v1::GenerateRequest {
                session_id: session.clone(),
                max_tokens: TOKENS as u32,
                ..v1::GenerateRequest::default()
            };
            let mut stream = client.generate(generate).await?.into_inner();
            let (mut tokens, mut done) = (0, false);
            while let Some(message) = stream.message().await? {
                match message.payload {
                    Some(Payload::TokenId(_)) => tokens += 1,
                    Some(Payload::Done(_)) => done = true,
                    Some(Payload::Truncated(_)) | None => {}
                }
            }
            let duration = start.elapsed();
            if !done || tokens != TOKENS as u64 {
                return Err(LongSessionError::Contract(format!(
                    "a generation of {TOKENS} tokens gave {tokens}, and {}",
                    if done { "ended" } else { "no end" }
                )));
            }
            let look = v1::GetSessionInfoRequest {
                session_id: session.clone(),
            };
            let info = client.get_session_info(look).await?.into_inner();
            Ok(Turn {
                duration,
                tokens,
                history_length: info.history_length,
                kv_bytes: info.kv_live_bytes,
                inv1: info.cache_invariant_inv1_violations,
                inv2: info.cache_invariant_inv2_violations,
            })
        })
    }
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
}
