//! SessionService: sessions as things to keep.
//!
//! The step loop hands out images and takes them in, which is a copy of what is in the cache; turning them into bytes,
//! and hashing them, is done on threads of their own.

mod incoming;
mod outgoing;

use std::sync::Arc;

use kakeya_core::{EngineHandle, SessionImage};
use kakeya_proto::v1;
use kakeya_proto::v1::session_service_server::{
    SERVICE_NAME, SessionService, SessionServiceServer,
};
use kakeya_runtime::SnapshotCodec;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::door::access::engine_for;
use crate::wire::Services;
use crate::wire::convert::session_id;
use crate::wire::limits::{ExplainLimit, MAX_REQUEST_BYTES};
use crate::wire::service::answer;
use crate::wire::sessions::{
    fork_count, fork_session_response, list_sessions_response, lost, restore_session_response,
};
use outgoing::SnapshotStream;

/// Sessions whose state may be in memory outside their slabs at once. Each takes about as much as two slabs meanwhile;
/// who comes later waits.
const IN_TRANSIT: usize = 4;

/// [`SessionService`] over the engine's handle.
#[derive(Debug, Clone)]
pub struct SessionServiceImpl {
    engine: EngineHandle,
    codec: Arc<SnapshotCodec>,
    in_transit: Arc<Semaphore>,
}

/// The service in front of `engine`, whose sessions `codec` turns into bytes, for a gRPC port.
#[must_use]
pub fn services(engine: EngineHandle, codec: Arc<SnapshotCodec>) -> Services {
    let service = SessionServiceServer::new(SessionServiceImpl {
        engine,
        codec,
        in_transit: Arc::new(Semaphore::new(IN_TRANSIT)),
    });
    let service = service
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(MAX_REQUEST_BYTES);
    Services {
        routes: Routes::new(ExplainLimit::new(service)),
        names: vec![SERVICE_NAME],
    }
}

impl SessionServiceImpl {
    /// A session's state as it is now, and the right to have it in memory.
    async fn image(
        &self,
        engine: &EngineHandle,
        rpc: &str,
        id: &str,
    ) -> Result<(Box<SessionImage>, OwnedSemaphorePermit), Status> {
        let place = self.place().await?;
        let image = match session_id(id) {
            Ok(id) => engine.export(id).await,
            Err(error) => Err(error),
        };
        Ok((answer(rpc, image)?.into_inner(), place))
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, Status> {
        let place = Arc::clone(&self.in_transit).acquire_owned();
        place.await.map_err(lost)
    }

    /// Does what takes long where it holds nobody up.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&SnapshotCodec) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let codec = Arc::clone(&self.codec);
        let done = tokio::task::spawn_blocking(move || work(&codec));
        done.await.map_err(lost)
    }
}

#[tonic::async_trait]
impl SessionService for SessionServiceImpl {
    type SnapshotSessionStream = SnapshotStream;

    async fn fork_session(
        &self,
        request: Request<v1::ForkSessionRequest>,
    ) -> Result<Response<v1::ForkSessionResponse>, Status> {
        let engine = engine_for(&self.engine, request.extensions());
        let request = request.get_ref();
        let forked = match session_id(&request.session_id) {
            Ok(id) => engine.fork(id, fork_count(request)).await,
            Err(error) => Err(error),
        };
        answer("ForkSession", forked.map(fork_session_response))
    }

    async fn snapshot_session(
        &self,
        request: Request<v1::SnapshotSessionRequest>,
    ) -> Result<Response<SnapshotStream>, Status> {
        let id = &request.get_ref().session_id;
        let engine = engine_for(&self.engine, request.extensions());
        let (image, place) = self.image(&engine, "SnapshotSession", id).await?;
        let bytes = self.aside(move |codec| codec.write(&image)).await?;
        Ok(Response::new(outgoing::send(bytes, place)))
    }

    async fn restore_session(
        &self,
        request: Request<Streaming<v1::SnapshotChunk>>,
    ) -> Result<Response<v1::RestoreSessionResponse>, Status> {
        let engine = engine_for(&self.engine, request.extensions());
        let place = self.place().await?;
        let reader = incoming::receive(request.into_inner(), self.codec.reader()).await?;
        let image = self
            .aside(move |codec| codec.read(&reader.finish()?))
            .await?
            .map_err(incoming::refusal)?;
        let history_length = image.history.len() as u64;
        let restored = engine.import(Box::new(image)).await;
        drop(place);
        let response = restored.map(|id| restore_session_response(id, history_length));
        answer("RestoreSession", response)
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        let engine = engine_for(&self.engine, request.extensions());
        let listed = engine.list().await;
        answer("ListSessions", listed.map(list_sessions_response))
    }

    async fn get_state_digest(
        &self,
        request: Request<v1::GetStateDigestRequest>,
    ) -> Result<Response<v1::GetStateDigestResponse>, Status> {
        let id = &request.get_ref().session_id;
        let engine = engine_for(&self.engine, request.extensions());
        let (image, place) = self.image(&engine, "GetStateDigest", id).await?;
        let digest = self.aside(move |codec| codec.digest(&image)).await?;
        drop(place);
        Ok(Response::new(v1::GetStateDigestResponse {
            history_length: digest.history_length,
            history_sha256: digest.history_sha256,
            kv_sha256: digest.kv_sha256,
            state_sha256: digest.state_sha256,
            settings_sha256: self.codec.settings_sha256(),
        }))
    }
}
