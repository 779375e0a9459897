//! The routes under /v1/sessions: gRPC's sessions, for clients that speak HTTP alone.
//!
//! They are the same sessions, under the same rules: a history of tokens that only grows, which the client makes from text
//! with POST /tokenize, and one generation at a time. Texts come beside the generated tokens, since a browser has no
//! tokenizer of its own.

use std::sync::Arc;

use axum::Json;
use axum::extract::Path;
use axum::http::{Extensions, StatusCode, Uri};
use axum::response::Response;
use futures::{Stream, stream};
use kakeya_core::{Consumer, EngineError, EngineHandle, GenerateEvent, GenerateParams, SessionId};
use kakeya_model::tokenizer::StreamDecoder;

use super::{ServedModel, Shared, sampling};
use crate::door::access::engine_for;
use crate::http::body::ApiJson;
use crate::http::error::{ApiError, ErrorKind, named_session};
use crate::http::requests::{AppendBody, ContinueBody, HistoryQuery, NewSessionBody};
use crate::http::responses::{History, Session, SessionEvent, SessionList, Tokens};
use crate::http::sse;

type Answer<T> = Result<Json<T>, ApiError>;

pub(super) async fn list(
    axum::extract::State(shim): Shared,
    extensions: Extensions,
) -> Answer<SessionList> {
    let sessions = engine_for(&shim.engine, &extensions).list().await?;
    Ok(Json(SessionList::new(sessions)))
}

pub(super) async fn create(
    axum::extract::State(shim): Shared,
    extensions: Extensions,
    ApiJson(body): ApiJson<NewSessionBody>,
) -> Result<(StatusCode, Json<Session>), ApiError> {
    let wanted = body.validate()?;
    let engine = engine_for(&shim.engine, &extensions);
    let eos = wanted.eos;
    let eos = eos.unwrap_or_else(|| shim.model.tokenizer.end_of_generation().collect());
    let id = engine.create_session(wanted.label, eos).await?;
    let session = told(&engine, &id).await?;
    Ok((StatusCode::CREATED, Json(session)))
}

pub(super) async fn info(
    axum::extract::State(shim): Shared,
    extensions: Extensions,
    Path(id): Path<String>,
) -> Answer<Session> {
    let engine = engine_for(&shim.engine, &extensions);
    told(&engine, &session_id(&id)?).await.map(Json)
}

async fn told(engine: &EngineHandle, id: &SessionId) -> Result<Session, ApiError> {
    let info = engine.info(id.clone()).await.map_err(named_session)?;
    Ok(Session::of(id, &info))
}

pub(super) async fn close(
    axum::extract::State(shim): Shared,
    extensions: Extensions,
    Path(id): Path<String>,
) -> Answer<History> {
    let id = session_id(&id)?;
    let engine = engine_for(&shim.engine, &extensions);
    let length = engine.close(id.clone()).await.map_err(named_session)?;
    Ok(Json(History::of(&id, length)))
}

pub(super) async fn append(
    axum::extract::State(shim): Shared,
    extensions: Extensions,
    Path(id): Path<String>,
    ApiJson(body): ApiJson<AppendBody>,
) -> Answer<History> {
    let tokens = body.validate()?;
    let id = session_id(&id)?;
    let engine = engine_for(&shim.engine, &extensions);
    let appended = engine.append(id.clone(), tokens).await;
    let length = appended.map_err(named_session)?;
    Ok(Json(History::of(&id, length)))
}

pub(super) async fn history(
    axum::extract::State(shim): Shared,
    extensions: Extensions,
    Path(id): Path<String>,
    uri: Uri,
) -> Answer<Tokens> {
    let from = HistoryQuery::read(uri.query())?;
    let id = session_id(&id)?;
    let engine = engine_for(&shim.engine, &extensions);
    let tokens = engine.history(id.clone(), from).await;
    let tokens = tokens.map_err(named_session)?;
    Ok(Json(Tokens::of(&id, from, tokens)))
}

pub(super) async fn generate(
    axum::extract::State(shim): Shared,
    extensions: Extensions,
    Path(id): Path<String>,
    ApiJson(body): ApiJson<ContinueBody>,
) -> Result<Response, ApiError> {
    let wanted = body.validate()?;
    let id = session_id(&id)?;
    let params = GenerateParams {
        max_tokens: wanted.max_tokens,
        sampling: sampling(&wanted.sampling, 0),
        logit_bias: wanted.sampling.logit_bias.into_iter().collect(),
        stop: Vec::new(),
        top_logprobs: None,
        constraint: None,
    };
    let engine = engine_for(&shim.engine, &extensions);
    let events = engine.generate(id, params).await;
    let events = events.map_err(named_session)?;
    let told = Telling {
        events,
        decoder: StreamDecoder::continuing(true),
        model: Arc::clone(&shim.model),
    };
    Ok(sse::respond(told.stream()))
}

/// A text that is not of an id's shape is one that no session has.
fn session_id(text: &str) -> Result<SessionId, ApiError> {
    crate::wire::convert::session_id(text).map_err(named_session)
}

/// A generation, as it is told to a client. Dropping it stops the work.
struct Telling {
    events: Consumer<GenerateEvent, EngineError>,
    decoder: StreamDecoder,
    model: Arc<ServedModel>,
}

impl Telling {
    fn stream(self) -> impl Stream<Item = Result<SessionEvent, ApiError>> + Send {
        stream::unfold(Some(self), async |telling| {
            let mut telling = telling?;
            let event = telling.next().await;
            let more =
                matches!(event, Ok(ref event) if !matches!(event, SessionEvent::Done { .. }));
            Some((event, more.then_some(telling)))
        })
    }

    async fn next(&mut self) -> Result<SessionEvent, ApiError> {
        let lost = |what: String| ApiError::new(ErrorKind::Server, what);
        let event = self.events.next().await;
        let event =
            event.ok_or_else(|| lost("the generation ended without saying how".to_owned()))?;
        match event.map_err(EngineError::from).map_err(named_session)? {
            GenerateEvent::Truncated { dropped } => Ok(SessionEvent::Truncated {
                dropped_token_count: dropped,
            }),
            GenerateEvent::Token(token) => {
                let text = self.decoder.push(&self.model.tokenizer, token.id);
                let text = text.map_err(|error| lost(error.to_string()))?;
                Ok(SessionEvent::Token {
                    token_id: token.id,
                    text,
                })
            }
            GenerateEvent::Done(done) => {
                let decoder = std::mem::replace(&mut self.decoder, StreamDecoder::continuing(true));
                Ok(SessionEvent::done(&done, decoder.finish()))
            }
        }
    }
}
