//! A session on the server, and its generations.

use kakeya_proto::v1;
use kakeya_proto::v1::generate_response::Payload;
use tonic::Streaming;

use crate::{
    Client, ClientError, GenerateDone, GenerateOptions, SessionInfo, StateDigest, TokenLogprobs,
};

/// A session on the server. Dropping it leaves it there.
#[derive(Debug, Clone)]
pub struct Session {
    client: Client,
    id: String,
    route: String,
}

impl Session {
    pub(crate) fn new(client: Client, id: String, route: String) -> Self {
        Self { client, id, route }
    }

    /// Its id, which [`Client::attach`] takes.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What is sent as `kakeya-route` with each of its calls, for a proxy in front of several servers to choose one by: to be
    /// kept beside the id. Empty for none.
    #[must_use]
    pub fn route(&self) -> &str {
        &self.route
    }

    /// Appends tokens, all or none, and says how long the history is then.
    ///
    /// # Errors
    /// When the server refuses, or the connection breaks; then the append may have been done.
    pub async fn append(&self, token_ids: Vec<u32>) -> Result<u64, ClientError> {
        let request = v1::AppendTokensRequest {
            session_id: self.id.clone(),
            token_ids,
        };
        let mut runtime = self.client.runtime.clone();
        let appended = runtime
            .append_tokens(self.client.routed(request, &self.route))
            .await;
        Ok(self.client.answer(appended)?.history_length)
    }

    /// Begins to generate.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn generate(
        &self,
        max_tokens: u32,
        options: GenerateOptions,
    ) -> Result<Generation, ClientError> {
        let request = GenerateOptions {
            session_id: self.id.clone(),
            max_tokens,
            ..options
        };
        let mut runtime = self.client.runtime.clone();
        let stream = runtime
            .generate(self.client.routed(request, &self.route))
            .await;
        Ok(Generation {
            address: self.client.address.clone(),
            stream: self.client.answer(stream)?,
            done: None,
            dropped: 0,
            logprobs: None,
        })
    }

    /// How long it is, what its cache uses, and how long it has been idle.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn info(&self) -> Result<SessionInfo, ClientError> {
        let request = v1::GetSessionInfoRequest {
            session_id: self.id.clone(),
        };
        let mut runtime = self.client.runtime.clone();
        let info = runtime
            .get_session_info(self.client.routed(request, &self.route))
            .await;
        self.client.answer(info)
    }

    /// Makes sessions that go on from where this one is, with the same bits. All or none.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn fork(&self, count: u32) -> Result<Vec<Session>, ClientError> {
        let request = v1::ForkSessionRequest {
            session_id: self.id.clone(),
            count: Some(count),
        };
        let mut sessions = self.client.sessions.clone();
        let forked = sessions
            .fork_session(self.client.routed(request, &self.route))
            .await;
        let ids = self.client.answer(forked)?.session_ids;
        let fork = |id| Self::new(self.client.clone(), id, self.route.clone());
        Ok(ids.into_iter().map(fork).collect())
    }

    /// Its whole state, for [`Client::restore`]. It holds the history in plain token ids: keep it as you would that.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn snapshot(&self) -> Result<Vec<u8>, ClientError> {
        let request = v1::SnapshotSessionRequest {
            session_id: self.id.clone(),
        };
        let mut sessions = self.client.sessions.clone();
        let stream = sessions
            .snapshot_session(self.client.routed(request, &self.route))
            .await;
        let mut stream = self.client.answer(stream)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream
            .message()
            .await
            .map_err(|status| ClientError::of(&self.client.address, status))?
        {
            bytes.extend_from_slice(&chunk.data);
        }
        Ok(bytes)
    }

    /// Digests of its state: sessions with the same tokens have the same, wherever and however they came.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn digest(&self) -> Result<StateDigest, ClientError> {
        let request = v1::GetStateDigestRequest {
            session_id: self.id.clone(),
        };
        let mut sessions = self.client.sessions.clone();
        let digest = sessions
            .get_state_digest(self.client.routed(request, &self.route))
            .await;
        self.client.answer(digest)
    }

    /// Ends the session, and says how long its history was.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn close(&self) -> Result<u64, ClientError> {
        let request = v1::CloseSessionRequest {
            session_id: self.id.clone(),
        };
        let mut runtime = self.client.runtime.clone();
        let closed = runtime
            .close_session(self.client.routed(request, &self.route))
            .await;
        Ok(self.client.answer(closed)?.final_history_length)
    }
}

/// The tokens of one generation, as they come. Dropping it stops the work within a step; the session's history is longer by
/// exactly the tokens that were emitted.
#[derive(Debug)]
pub struct Generation {
    address: String,
    stream: Streaming<v1::GenerateResponse>,
    done: Option<GenerateDone>,
    dropped: u64,
    logprobs: Option<TokenLogprobs>,
}

impl Generation {
    /// The next token; `None` after the last one.
    ///
    /// # Errors
    /// When the server fails, the connection breaks, or the stream ends without saying how.
    pub async fn next(&mut self) -> Result<Option<u32>, ClientError> {
        loop {
            let message = self.stream.message().await;
            let message = message.map_err(|status| ClientError::of(&self.address, status))?;
            let Some(message) = message else {
                return match self.done {
                    Some(_) => Ok(None),
                    None => Err(ClientError::Contract(
                        "the generation ended without saying how".to_owned(),
                    )),
                };
            };
            match message.payload {
                Some(Payload::TokenId(token)) => {
                    self.logprobs = message.logprobs;
                    return Ok(Some(token));
                }
                Some(Payload::Done(done)) => self.done = Some(done),
                Some(Payload::Truncated(truncated)) => {
                    self.dropped = truncated.dropped_token_count;
                }
                None => {}
            }
        }
    }

    /// Reads it to its end, and answers its tokens.
    ///
    /// # Errors
    /// As [`Generation::next`].
    pub async fn tokens(&mut self) -> Result<Vec<u32>, ClientError> {
        let mut tokens = Vec::new();
        while let Some(token) = self.next().await? {
            tokens.push(token);
        }
        Ok(tokens)
    }

    /// How it ended, once it has.
    #[must_use]
    pub fn done(&self) -> Option<&GenerateDone> {
        self.done.as_ref()
    }

    /// Tokens of the history that it cannot see, known with the first token.
    #[must_use]
    pub fn dropped_token_count(&self) -> u64 {
        self.dropped
    }

    /// What the model thought of the latest token, where `top_logprobs` was given.
    #[must_use]
    pub fn logprobs(&self) -> Option<&TokenLogprobs> {
        self.logprobs.as_ref()
    }
}
