//! The five RPCs: convert, ask the engine, convert back. No decision is taken here.

use kakeya_core::{Consumer, EngineError, EngineHandle, GenerateEvent, SessionInfo};
use kakeya_proto::v1;
use kakeya_proto::v1::runtime_service_server::RuntimeService;
use tonic::{Code, Request, Response, Status};

use super::convert;
use super::events::GenerateStream;
use super::status::status;
use crate::door::access::engine_for;

/// What one generation says.
type Events = Consumer<GenerateEvent, EngineError>;

/// [`RuntimeService`] over the engine's handle.
#[derive(Debug, Clone)]
pub struct RuntimeServiceImpl {
    engine: EngineHandle,
}

impl RuntimeServiceImpl {
    /// The service in front of `engine`.
    pub fn new(engine: EngineHandle) -> Self {
        Self { engine }
    }

    /// The engine, asked as whom the request comes from.
    fn engine<T>(&self, request: &Request<T>) -> EngineHandle {
        engine_for(&self.engine, request.extensions())
    }
}

async fn append(engine: &EngineHandle, id: &str, tokens: Vec<u32>) -> Result<u64, EngineError> {
    engine.append(convert::session_id(id)?, tokens).await
}

async fn start(
    engine: &EngineHandle,
    request: &v1::GenerateRequest,
) -> Result<Events, EngineError> {
    let id = convert::session_id(&request.session_id)?;
    let params = convert::generate_params(request)?;
    engine.generate(id, params).await
}

async fn close(engine: &EngineHandle, id: &str) -> Result<u64, EngineError> {
    engine.close(convert::session_id(id)?).await
}

async fn info(engine: &EngineHandle, id: &str) -> Result<SessionInfo, EngineError> {
    engine.info(convert::session_id(id)?).await
}

#[tonic::async_trait]
impl RuntimeService for RuntimeServiceImpl {
    type GenerateStream = GenerateStream;

    async fn create_session(
        &self,
        request: Request<v1::CreateSessionRequest>,
    ) -> Result<Response<v1::CreateSessionResponse>, Status> {
        let engine = self.engine(&request);
        let request = request.into_inner();
        let created = engine.create_session(request.client_label, request.eos_token_ids);
        let created = created.await;
        answer(
            "CreateSession",
            created.map(convert::create_session_response),
        )
    }

    async fn append_tokens(
        &self,
        request: Request<v1::AppendTokensRequest>,
    ) -> Result<Response<v1::AppendTokensResponse>, Status> {
        let engine = self.engine(&request);
        let request = request.into_inner();
        let appended = append(&engine, &request.session_id, request.token_ids).await;
        answer(
            "AppendTokens",
            appended.map(convert::append_tokens_response),
        )
    }

    async fn generate(
        &self,
        request: Request<v1::GenerateRequest>,
    ) -> Result<Response<GenerateStream>, Status> {
        let events = start(&self.engine(&request), request.get_ref()).await;
        answer("Generate", events.map(GenerateStream::new))
    }

    async fn close_session(
        &self,
        request: Request<v1::CloseSessionRequest>,
    ) -> Result<Response<v1::CloseSessionResponse>, Status> {
        let closed = close(&self.engine(&request), &request.get_ref().session_id).await;
        answer("CloseSession", closed.map(convert::close_session_response))
    }

    async fn get_session_info(
        &self,
        request: Request<v1::GetSessionInfoRequest>,
    ) -> Result<Response<v1::GetSessionInfoResponse>, Status> {
        let info = info(&self.engine(&request), &request.get_ref().session_id).await;
        answer("GetSessionInfo", info.map(convert::session_info_response))
    }
}

/// The answer to `rpc`, or its refusal, which is logged.
pub(crate) fn answer<T>(rpc: &str, result: Result<T, EngineError>) -> Result<Response<T>, Status> {
    result
        .map(Response::new)
        .map_err(|error| refusal(rpc, error))
}

/// Turns an engine error into its status, and logs it. A client's mistake, or its limit, is its own to read about, so
/// it is logged for those who ask; a status that means trouble on this side is a warning.
fn refusal(rpc: &str, error: EngineError) -> Status {
    let limited = matches!(error, EngineError::Limit(_));
    let refused = status(error);
    let (code, reason) = (refused.code(), refused.message());
    match code {
        Code::NotFound | Code::InvalidArgument => tracing::debug!(rpc, ?code, reason, "refused"),
        _ if limited => tracing::debug!(rpc, ?code, reason, "refused"),
        _ => tracing::warn!(rpc, ?code, reason, "refused"),
    }
    refused
}

#[cfg(test)]
mod tests {
    use kakeya_core::LimitError;

    use super::*;

    #[test]
    fn an_answer_passes_and_a_refusal_becomes_its_status() {
        assert_eq!(
            answer("CloseSession", Ok(7))
                .expect("an answer")
                .into_inner(),
            7
        );
        // Refusals are logged, at levels that are off by default.
        let log = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_test_writer()
            .finish();
        tracing::subscriber::with_default(log, || {
            let (id, who) = ("sess-0".to_owned(), "key `app`".to_owned());
            for (error, code) in [
                (EngineError::Draining, Code::Unavailable),
                (EngineError::NotFound { id }, Code::NotFound),
                (
                    LimitError::Streams { who, limit: 1 }.into(),
                    Code::ResourceExhausted,
                ),
            ] {
                let refused = answer::<()>("CloseSession", Err(error));
                assert_eq!(refused.expect_err("a refusal").code(), code);
            }
        });
    }
}
