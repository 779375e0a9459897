//! Between the folder and the engine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kakeya_core::snapshot::{SavedError, SavedSession};
use kakeya_core::{EngineError, Owner, SessionId, SnapshotError, Tenant};
use kakeya_runtime::{Engine, SnapshotCodec};

use super::Folder;

/// Why a folder cannot be gone on with.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct StateError {
    path: PathBuf,
    source: io::Error,
}

/// What came of the files that were there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// Sessions that live again.
    pub restored: u64,
    /// Files that were set aside.
    pub set_aside: u64,
}

/// What came of the sessions that lived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    /// Sessions that were put away.
    pub saved: u64,
    /// Sessions that could not be.
    pub lost: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

/// Why one file is set aside.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Saved(#[from] SavedError),
    #[error("it is the file of {id}, under another name")]
    Name { id: SessionId },
    #[error(
        "it belongs to a key that this server does not have, or to everybody where there are keys"
    )]
    Owner,
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Opens the sessions of the folder in a fresh engine, with their ids and their idle times. The time that the server was
/// down does not count as idle, since nobody could have come. Where there are more than the engine has places for, those
/// that were used last get them. Each belongs to whom it did, and `tenant` says who that is. A file that cannot be gone on with is named in the log, set aside and counted.
///
/// # Errors
/// Where the folder cannot be read or written: a file that stayed could bring an ended session back.
pub fn restore(
    folder: &Folder,
    engine: &mut Engine,
    codec: &SnapshotCodec,
    tenant: impl Fn(Owner) -> Option<Arc<Tenant>>,
) -> Result<Restored, StateError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| StateError { path, source }
    };
    let mut files = folder.sessions().map_err(at(Path::new("")))?;
    if files.len() > engine.free_slabs() {
        files.sort_by_cached_key(|file| idle_of(file));
    }
    let mut counts = Restored::default();
    let mut living = Vec::new();
    for file in files {
        let bytes = fs::read(&file).map_err(at(&file))?;
        match open(engine, codec, &tenant, &file, &bytes) {
            Ok(id) => {
                tracing::debug!(session = %id, "restored");
                living.push(file);
                counts.restored += 1;
            }
            Err(reason) => {
                let place = folder.set_aside(&file).map_err(at(&file))?;
                tracing::warn!(file = %file.display(), %reason, place = %place.display(), "set aside");
                counts.set_aside += 1;
            }
        }
    }
    folder.remove(&living).map_err(at(Path::new("")))?;
    Ok(counts)
}

/// How long the session of a file had been idle; what cannot be read comes last.
fn idle_of(file: &Path) -> Duration {
    let saved = fs::read(file)
        .ok()
        .and_then(|bytes| SavedSession::from_bytes(&bytes).ok());
    saved.map_or(Duration::MAX, |saved| saved.idle)
}

fn open(
    engine: &mut Engine,
    codec: &SnapshotCodec,
    tenant: impl Fn(Owner) -> Option<Arc<Tenant>>,
    file: &Path,
    bytes: &[u8],
) -> Result<SessionId, Unusable> {
    let SavedSession {
        id,
        owner,
        idle,
        snapshot,
    } = SavedSession::from_bytes(bytes)?;
    if Folder::id_of(file) != Some(&id.to_string()) {
        return Err(Unusable::Name { id });
    }
    let tenant = tenant(Owner::new(owner)).ok_or(Unusable::Owner)?;
    let mut reader = codec.reader();
    reader.push(&snapshot)?;
    let image = codec.read(&reader.finish()?)?;
    engine.restore(id.clone(), idle, Instant::now(), image)?;
    engine.give(&id, &tenant)?;
    Ok(id)
}

/// Puts away every session of an engine that has stopped. One that cannot be is named in the log, and the others go on.
#[must_use]
pub fn save(folder: &Folder, engine: &Engine, codec: &SnapshotCodec) -> Saved {
    let now = Instant::now();
    let mut counts = Saved::default();
    for id in engine.session_ids() {
        match put(folder, engine, codec, &id, now) {
            Ok(bytes) => {
                counts.saved += 1;
                counts.bytes += bytes;
            }
            Err(error) => {
                tracing::error!(session = %id, %error, "a session could not be saved, and is lost");
                counts.lost += 1;
            }
        }
    }
    counts
}

fn put(
    folder: &Folder,
    engine: &Engine,
    codec: &SnapshotCodec,
    id: &SessionId,
    now: Instant,
) -> io::Result<u64> {
    let idle = engine.info(id, now).map_err(io::Error::other)?.idle;
    let owner = engine
        .tenant(id)
        .map_err(io::Error::other)?
        .owner()
        .number();
    let image = engine.export(id).map_err(io::Error::other)?;
    folder.put(&SavedSession {
        id: id.clone(),
        owner,
        idle,
        snapshot: codec.write(&image),
    })
}
