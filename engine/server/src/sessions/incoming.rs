//! A snapshot on its way from a client.

use std::time::Duration;

use kakeya_core::{SnapshotError, SnapshotReader};
use kakeya_proto::v1::SnapshotChunk;
use tonic::{Status, Streaming};

use crate::wire::limits::explained;
use crate::wire::sessions::{snapshot_status, stalled};

/// How long a client may take to send the next message.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads the stream to its end, or to where it can be refused.
///
/// # Errors
/// What the snapshot is refused for, or that nothing came any more.
pub async fn receive(
    mut chunks: Streaming<SnapshotChunk>,
    mut reader: SnapshotReader,
) -> Result<SnapshotReader, Status> {
    loop {
        let next = tokio::time::timeout(PATIENCE, chunks.message());
        match next.await {
            Ok(Ok(Some(chunk))) => reader.push(&chunk.data).map_err(refusal)?,
            Ok(Ok(None)) => return Ok(reader),
            Ok(Err(status)) => return Err(explained(&status).unwrap_or(status)),
            Err(_) => return Err(stalled("no more of the snapshot came", PATIENCE)),
        }
    }
}

/// The status of a snapshot that is refused, once logged.
pub fn refusal(error: SnapshotError) -> Status {
    tracing::warn!(rpc = "RestoreSession", reason = %error, "refused");
    snapshot_status(&error)
}
