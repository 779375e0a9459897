//! A server for one case, and a client that speaks to it in the suite's own terms.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kakeya_core::{
    EngineHandle, GenerateDone, GenerateEvent, GenerateParams, GeneratedToken, SessionId,
    StopReason, TokenLogprob, TokenLogprobs,
};
use kakeya_proto::v1;
use kakeya_proto::v1::generate_response::Payload;
use kakeya_proto::v1::runtime_service_client::RuntimeServiceClient;
use kakeya_runtime::{EngineConfig, SnapshotCodec, StepLoop, StepLoopThread};
use kakeya_server::door::Guard;
use kakeya_server::sessions::services;
use kakeya_server::wire::{Drain, ServeError, bind, serve_guarded};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use crate::context::SuiteContext;
use crate::ensure_eq;
use crate::suites::support::{Generated, PATIENCE, block_on};
use kakeya_suite::{CaseFailure, CaseResult};

/// More tokens than any case lets a generation make: it ends because somebody ends it.
pub(in crate::suites) const WITHOUT_END: u32 = 1_000_000;

/// The server of one case.
pub(in crate::suites) struct Served {
    /// Where it listens.
    pub(in crate::suites) address: String,
    /// A connected client.
    pub(in crate::suites) client: Client,
    /// The engine behind the wire, for what the wire does not tell.
    pub(in crate::suites) engine: EngineHandle,
    /// Stops the server.
    pub(in crate::suites) shutdown: CancellationToken,
    server: JoinHandle<Result<(), ServeError>>,
    step_loop: StepLoopThread,
}

impl Served {
    async fn start(
        context: &SuiteContext,
        config: EngineConfig,
        guard: Guard,
        drain: Drain,
    ) -> Result<Self, CaseFailure> {
        let model = context.model()?;
        let weights = context.model_sha256().to_owned();
        let codec = SnapshotCodec::new(model.clone(), &config, weights, String::new())?;
        let (engine, step_loop) = StepLoop::spawn(model.clone(), config)?;
        let services = services(engine.clone(), Arc::new(codec));
        let listener = bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let shutdown = CancellationToken::new();
        let told = shutdown.clone();
        let serving = serve_guarded(listener, engine.clone(), services, guard, told, drain);
        let server = tokio::spawn(serving);
        let client = Client::connect(&address).await?;
        Ok(Self {
            address,
            client,
            engine,
            shutdown,
            server,
            step_loop,
        })
    }

    /// Tells the server to stop, and requires that it does, with the engine behind it.
    pub(in crate::suites) async fn stop(self) -> CaseResult {
        self.shutdown.cancel();
        drop(self.client);
        timeout(PATIENCE, self.server).await???;
        drop(self.engine);
        let joined = tokio::task::spawn_blocking(|| self.step_loop.join());
        timeout(PATIENCE, joined).await??;
        Ok(())
    }
}

/// Runs a case against a server of its own, and then stops the server.
pub(in crate::suites) fn serving(
    context: &SuiteContext,
    config: EngineConfig,
    case: impl AsyncFnOnce(&mut Served) -> CaseResult,
) -> CaseResult {
    serving_behind(context, config, Guard::default(), case)
}

/// [`serving`], behind a guard.
pub(in crate::suites) fn serving_behind(
    context: &SuiteContext,
    config: EngineConfig,
    guard: Guard,
    case: impl AsyncFnOnce(&mut Served) -> CaseResult,
) -> CaseResult {
    serve(
        context,
        config,
        guard,
        Drain::default(),
        async |mut served| {
            case(&mut served).await?;
            served.stop().await
        },
    )
}

/// Runs a case that stops its server itself.
pub(in crate::suites) fn serving_until(
    context: &SuiteContext,
    config: EngineConfig,
    drain: Drain,
    case: impl AsyncFnOnce(Served) -> CaseResult,
) -> CaseResult {
    serve(context, config, Guard::default(), drain, case)
}

fn serve(
    context: &SuiteContext,
    config: EngineConfig,
    guard: Guard,
    drain: Drain,
    case: impl AsyncFnOnce(Served) -> CaseResult,
) -> CaseResult {
    let limit = match context.tier() {
        crate::Tier::Fast => PATIENCE,
        crate::Tier::Full => PATIENCE * 10,
    };
    block_on(limit, async {
        case(Served::start(context, config, guard, drain).await?).await
    })
}

/// A client that takes and gives plain values. Clones share a connection.
#[derive(Clone)]
pub(in crate::suites) struct Client {
    /// The connection, for the other services on it.
    pub(in crate::suites) channel: Channel,
    raw: RuntimeServiceClient<Channel>,
    key: Option<String>,
    route: Option<String>,
}

impl Client {
    /// A client with a connection of its own.
    pub(in crate::suites) async fn connect(address: &str) -> Result<Self, tonic::transport::Error> {
        let channel = Channel::from_shared(format!("http://{address}"))
            .expect("an address that a listener gave")
            .connect()
            .await?;
        let raw = RuntimeServiceClient::new(channel.clone());
        Ok(Self {
            channel,
            raw,
            key: None,
            route: None,
        })
    }

    /// The same connection, with a key.
    pub(in crate::suites) fn holding(&self, key: &str) -> Self {
        Self {
            key: Some(key.to_owned()),
            ..self.clone()
        }
    }

    /// The same connection, with a route to one of several servers.
    pub(in crate::suites) fn routed(&self, route: &str) -> Self {
        Self {
            route: Some(route.to_owned()),
            ..self.clone()
        }
    }

    /// A request with this client's key and route.
    pub(in crate::suites) fn asking<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(key) = &self.key {
            let value = format!("Bearer {key}").parse();
            let value = value.expect("a key is printable ASCII");
            request.metadata_mut().insert("authorization", value);
        }
        if let Some(route) = &self.route {
            let value = route.parse().expect("a route is printable ASCII");
            request.metadata_mut().insert("kakeya-route", value);
        }
        request
    }

    pub(in crate::suites) async fn create(&mut self, eos: &[u32]) -> Result<String, Status> {
        let request = v1::CreateSessionRequest {
            client_label: "gate".to_owned(),
            eos_token_ids: eos.to_vec(),
        };
        let request = self.asking(request);
        let created = self.raw.create_session(request).await?;
        Ok(created.into_inner().session_id)
    }

    /// A session that holds `tokens`.
    pub(in crate::suites) async fn create_with(
        &mut self,
        tokens: &[u32],
    ) -> Result<String, Status> {
        let id = self.create(&[]).await?;
        self.append(&id, tokens).await?;
        Ok(id)
    }

    pub(in crate::suites) async fn append(
        &mut self,
        id: &str,
        tokens: &[u32],
    ) -> Result<u64, Status> {
        let request = v1::AppendTokensRequest {
            session_id: id.to_owned(),
            token_ids: tokens.to_vec(),
        };
        let request = self.asking(request);
        let appended = self.raw.append_tokens(request).await?;
        Ok(appended.into_inner().history_length)
    }

    /// The history length once everything the session was asked to do before is over: an empty append waits
    /// for it, where the admission policy lets it.
    pub(in crate::suites) async fn settled_length(&mut self, id: &str) -> Result<u64, Status> {
        self.append(id, &[]).await
    }

    pub(in crate::suites) async fn info(
        &mut self,
        id: &str,
    ) -> Result<v1::GetSessionInfoResponse, Status> {
        let request = v1::GetSessionInfoRequest {
            session_id: id.to_owned(),
        };
        let request = self.asking(request);
        Ok(self.raw.get_session_info(request).await?.into_inner())
    }

    pub(in crate::suites) async fn close(&mut self, id: &str) -> Result<u64, Status> {
        let request = v1::CloseSessionRequest {
            session_id: id.to_owned(),
        };
        let request = self.asking(request);
        let closed = self.raw.close_session(request).await?;
        Ok(closed.into_inner().final_history_length)
    }

    /// Sends a Generate as it is.
    pub(in crate::suites) async fn send(
        &mut self,
        request: v1::GenerateRequest,
    ) -> Result<Stream, Status> {
        self.start(self.asking(request)).await
    }

    /// Sends a Generate with metadata of the case's own.
    pub(in crate::suites) async fn start(
        &mut self,
        request: Request<v1::GenerateRequest>,
    ) -> Result<Stream, Status> {
        Ok(Stream {
            messages: self.raw.generate(request).await?.into_inner(),
            events: Vec::new(),
        })
    }

    /// Starts a generation.
    pub(in crate::suites) async fn generate(
        &mut self,
        id: &str,
        params: GenerateParams,
    ) -> Result<Stream, Status> {
        self.send(request(id, params)).await
    }
}

/// The request that asks for `params`.
pub(in crate::suites) fn request(id: &str, params: GenerateParams) -> v1::GenerateRequest {
    v1::GenerateRequest {
        session_id: id.to_owned(),
        max_tokens: params.max_tokens,
        seed: params.sampling.seed,
        temperature: Some(params.sampling.temperature),
        top_p: Some(params.sampling.top_p),
        top_k: Some(params.sampling.top_k),
        min_p: Some(params.sampling.min_p),
        presence_penalty: Some(params.sampling.presence_penalty),
        frequency_penalty: Some(params.sampling.frequency_penalty),
        repetition_penalty: Some(params.sampling.repetition_penalty),
        logit_bias: params
            .logit_bias
            .into_iter()
            .map(|(token_id, bias)| v1::TokenBias { token_id, bias })
            .collect(),
        stop_sequences: params
            .stop
            .into_iter()
            .map(|token_ids| v1::TokenSequence { token_ids })
            .collect(),
        top_logprobs: params.top_logprobs,
    }
}

/// A generation's stream. Dropping it goes away without a word, as a client does.
pub(in crate::suites) struct Stream {
    messages: Streaming<v1::GenerateResponse>,
    events: Vec<GenerateEvent>,
}

impl Stream {
    /// The next event; `None` at the end of the stream.
    pub(in crate::suites) async fn next(&mut self) -> Result<Option<GenerateEvent>, CaseFailure> {
        let Some(message) = self.messages.message().await? else {
            return Ok(None);
        };
        let event = event(message)?;
        self.events.push(event.clone());
        Ok(Some(event))
    }

    /// Reads so many events more.
    pub(in crate::suites) async fn read(&mut self, count: usize) -> CaseResult {
        for _ in 0..count {
            if self.next().await?.is_none() {
                return Err(CaseFailure::violated(format!(
                    "the stream ended early: {:?}",
                    self.events
                )));
            }
        }
        Ok(())
    }

    /// Tokens read so far.
    pub(in crate::suites) fn tokens(&self) -> Vec<u32> {
        let token = |event: &GenerateEvent| match event {
            GenerateEvent::Token(token) => Some(token.id),
            _ => None,
        };
        self.events.iter().filter_map(token).collect()
    }

    /// Reads to the end, and checks the order of all events.
    pub(in crate::suites) async fn finish(mut self) -> Result<Generated, CaseFailure> {
        while self.next().await?.is_some() {}
        Generated::read(&self.events)
    }

    /// Reads to the end, whatever it is, and returns the tokens that came.
    pub(in crate::suites) async fn until_it_ends(mut self) -> (Vec<u32>, Result<(), Status>) {
        let ended = loop {
            match self.messages.message().await {
                Ok(Some(message)) => self.events.extend(event(message).ok()),
                Ok(None) => break Ok(()),
                Err(status) => break Err(status),
            }
        };
        (self.tokens(), ended)
    }

    /// Reads to the status that ends the stream instead of `done`.
    pub(in crate::suites) async fn failure(&mut self) -> Result<Status, CaseFailure> {
        loop {
            match self.messages.message().await {
                Ok(Some(message)) => self.events.push(event(message)?),
                Ok(None) => {
                    return Err(CaseFailure::violated(format!(
                        "the stream ended well: {:?}",
                        self.events
                    )));
                }
                Err(status) => return Ok(status),
            }
        }
    }
}

/// A wire message in the engine's terms, so that both sides are compared as one type.
fn event(message: v1::GenerateResponse) -> Result<GenerateEvent, CaseFailure> {
    use v1::generate_done::StopReason as Wire;
    let violated = |what: String| Err(CaseFailure::violated(what));
    let done = match message.payload {
        Some(Payload::TokenId(id)) => {
            let logprobs = message.logprobs.map(|found| Box::new(logprobs(found)));
            return Ok(GenerateEvent::Token(GeneratedToken { id, logprobs }));
        }
        Some(Payload::Truncated(notice)) => {
            let dropped = notice.dropped_token_count;
            return Ok(GenerateEvent::Truncated { dropped });
        }
        Some(Payload::Done(done)) => done,
        None => return violated("a message without a payload".to_owned()),
    };
    let reason = match done.stop_reason() {
        Wire::MaxTokens => StopReason::MaxTokens,
        Wire::Eos => StopReason::Eos,
        Wire::Cancelled => StopReason::Cancelled,
        Wire::Truncated => StopReason::Truncated,
        Wire::StopSequence => StopReason::StopSequence,
        Wire::Unspecified => return violated(format!("`done` without a reason: {done:?}")),
    };
    Ok(GenerateEvent::Done(GenerateDone {
        reason,
        generated: done.generated_token_count,
        prefill: Duration::try_from_secs_f64(done.prefill_duration_seconds)?,
        total: Duration::try_from_secs_f64(done.total_duration_seconds)?,
    }))
}

fn logprobs(message: v1::TokenLogprobs) -> TokenLogprobs {
    let entry = |entry: v1::TokenLogprob| TokenLogprob {
        token: entry.token_id,
        logprob: entry.logprob,
    };
    TokenLogprobs {
        logprob: message.logprob,
        top: message.top.into_iter().map(entry).collect(),
    }
}

/// Requires that a call was refused with `code` and a text that has `part` in it.
pub(in crate::suites) fn ensure_status<T>(
    what: &str,
    answer: Result<T, Status>,
    code: Code,
    part: &str,
) -> CaseResult {
    let Err(status) = answer else {
        return Err(CaseFailure::violated(format!(
            "{what} was accepted, and had to be {code:?}"
        )));
    };
    ensure_eq!(
        status.code(),
        code,
        "the status of {what} ({})",
        status.message()
    );
    crate::ensure!(
        status.message().contains(part),
        "the status of {what} does not say `{part}`: {}",
        status.message()
    );
    Ok(())
}

/// Requires that every call that names `id` answers NOT_FOUND.
pub(in crate::suites) async fn ensure_not_found(client: &mut Client, id: &str) -> CaseResult {
    let part = format!("`{id}` not found");
    let params = crate::suites::support::greedy(1);
    let append = client.append(id, &[1]).await;
    ensure_status("AppendTokens", append, Code::NotFound, &part)?;
    let empty = client.append(id, &[]).await;
    ensure_status("an empty AppendTokens", empty, Code::NotFound, &part)?;
    let generate = client.generate(id, params).await.map(|_| ());
    ensure_status("Generate", generate, Code::NotFound, &part)?;
    let info = client.info(id).await;
    ensure_status("GetSessionInfo", info, Code::NotFound, &part)?;
    let close = client.close(id).await;
    ensure_status("CloseSession", close, Code::NotFound, &part)
}

/// Looks again and again, for at most [`PATIENCE`], until `holds`.
pub(in crate::suites) async fn until(
    what: &str,
    mut holds: impl AsyncFnMut() -> Result<bool, CaseFailure>,
) -> CaseResult {
    let start = Instant::now();
    while !holds().await? {
        crate::ensure!(start.elapsed() < PATIENCE, "{what}: not after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// The id that a wire id is.
pub(in crate::suites) fn parsed(id: &str) -> Result<SessionId, CaseFailure> {
    Ok(id.parse()?)
}
