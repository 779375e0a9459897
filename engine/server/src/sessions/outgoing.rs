//! A snapshot on its way to a client.

use std::time::Duration;

use kakeya_proto::v1::SnapshotChunk;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::wire::sessions::stalled;

/// Bytes of a message.
const CHUNK: usize = 256 * 1024;
/// Messages that wait for the transport.
const IN_FLIGHT: usize = 4;
/// How long a client may take to read a message.
const PATIENCE: Duration = Duration::from_secs(30);

/// What SnapshotSession answers.
pub type SnapshotStream = ReceiverStream<Result<SnapshotChunk, Status>>;

/// Sends `bytes`, whose memory `place` stands for. A client that goes away, or does not read, ends it.
pub fn send(bytes: Vec<u8>, place: OwnedSemaphorePermit) -> SnapshotStream {
    let (sender, stream) = mpsc::channel(IN_FLIGHT);
    tokio::spawn(async move {
        for data in bytes.chunks(CHUNK) {
            let chunk = SnapshotChunk {
                data: data.to_vec(),
            };
            match sender.send_timeout(Ok(chunk), PATIENCE).await {
                Ok(()) => {}
                Err(mpsc::error::SendTimeoutError::Closed(_)) => break,
                Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                    tracing::warn!("a client did not read its snapshot");
                    drop(sender.try_send(Err(stalled("the snapshot was not read", PATIENCE))));
                    break;
                }
            }
        }
        drop(place);
    });
    ReceiverStream::new(stream)
}
