//! Between the engine's door and the store.
//!
//! Before a session is used the newest claim is looked at ([`take`]), so that a server that has lost one notices before it
//! says anything of it. A snapshot is made between two of the things that a session does, on a task of its own ([`save`]),
//! and never holds up the step loop longer than the copy takes.

mod homes;
mod save;
mod take;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use kakeya_core::shared::Pending;
use kakeya_core::snapshot::SavedSession;
use kakeya_core::{Ended, EngineError, EngineHandle, Owner, SessionId, SharedSessions, Tenant};
use kakeya_runtime::{Ends, SnapshotCodec};
use prometheus_client::metrics::counter::Counter;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::store::{SharedStore, StoreError};
use crate::metrics::Metrics;
use homes::{Home, Homes};
pub use save::{Flushed, tidy_regularly};

/// Snapshots that are made and written at once. Each takes about as much memory as two slabs meanwhile.
const AT_ONCE: usize = 2;
/// How long it is waited before what the store has refused is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a client that closes a session waits for it to be gone from the store.
const PATIENCE: Duration = Duration::from_secs(10);

/// How sessions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// A session is saved once this many tokens of it may be unsaved: 1 saves it after every turn.
    pub every: u64,
    /// What has not been used for so long has ended.
    pub idle_ttl: Duration,
}

/// What came of sessions and snapshots.
#[derive(Debug, Clone, Default)]
pub struct KeeperCounts {
    /// Sessions that were not here and were gone on with from the store.
    pub fetched: Counter,
    /// Sessions that another server has taken.
    pub taken: Counter,
    /// Snapshots that were written.
    pub written: Counter,
    /// Snapshots that could not be.
    pub failed: Counter,
    /// Bytes of those that were written.
    pub bytes: Counter,
}

/// The sessions of one engine in a store.
pub struct Keeper {
    store: SharedStore,
    engine: EngineHandle,
    codec: Arc<SnapshotCodec>,
    keeping: Keeping,
    counts: KeeperCounts,
    homes: Homes,
    /// Sessions that are taken over at this moment, one at a time each.
    fetching: Mutex<HashMap<SessionId, Arc<tokio::sync::Mutex<()>>>>,
    /// Sessions that are removed at this moment.
    leaving: Mutex<HashMap<SessionId, JoinHandle<()>>>,
    places: Semaphore,
    runtime: Handle,
    /// Itself, for what it starts.
    this: Weak<Self>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Keeper")
            .field("store", &self.store)
            .field("keeping", &self.keeping)
            .finish_non_exhaustive()
    }
}

impl Keeper {
    /// The keeper of the sessions of `engine`, on the tokio runtime that it is made in. The engine must tell it of
    /// sessions that end, by [`Keeper::ends`], and its doors must ask with a handle that is
    /// [sharing](EngineHandle::sharing) it.
    #[must_use]
    pub fn new(
        store: SharedStore,
        engine: EngineHandle,
        codec: Arc<SnapshotCodec>,
        keeping: Keeping,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            store,
            engine,
            codec,
            keeping,
            counts: KeeperCounts::default(),
            homes: Homes::default(),
            fetching: Mutex::default(),
            leaving: Mutex::default(),
            places: Semaphore::new(AT_ONCE),
            runtime: Handle::current(),
            this: this.clone(),
        })
    }

    /// What its engine calls when a session ends. The keeper is made after the engine, and put in `keeper` then.
    #[must_use]
    pub fn ends(keeper: Arc<std::sync::OnceLock<Weak<Self>>>) -> Ends {
        Box::new(move |ended| {
            if let Some(keeper) = keeper.get().and_then(Weak::upgrade) {
                keeper.ended(ended);
            }
        })
    }

    /// What came of sessions and snapshots so far.
    #[must_use]
    pub fn counts(&self) -> &KeeperCounts {
        &self.counts
    }

    /// Puts the counts among what is measured.
    pub fn register(&self, metrics: &mut Metrics) {
        let KeeperCounts {
            fetched,
            taken,
            written,
            failed,
            bytes,
        } = &self.counts;
        let registry = metrics.registry();
        for (name, help, count) in [
            (
                "kakeya_store_sessions_fetched",
                "Sessions that were not here and were gone on with from the store",
                fetched,
            ),
            (
                "kakeya_store_sessions_taken",
                "Sessions that another server has taken",
                taken,
            ),
            (
                "kakeya_store_snapshots_written",
                "Snapshots that were written to the store",
                written,
            ),
            (
                "kakeya_store_snapshots_failed",
                "Snapshots that could not be written to the store",
                failed,
            ),
            (
                "kakeya_store_snapshot_bytes",
                "Bytes of the snapshots that were written to the store",
                bytes,
            ),
        ] {
            registry.register(name, help, count.clone());
        }
    }

    /// A session has ended here. If that is for good, it is removed from the store as well.
    fn ended(&self, Ended { id, displaced }: Ended<'_>) {
        let home = self.homes.lock().remove(id);
        // What is displaced goes on from the store when it is asked for again.
        let (Some(home), false, Some(this)) = (home, displaced, self.this.upgrade()) else {
            return;
        };
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        let task = self.runtime.spawn(this.remove(id.clone(), home));
        leaving.insert(id.clone(), task);
    }

    /// Removes a session that has ended from the store, however long that takes.
    async fn remove(self: Arc<Self>, id: SessionId, home: Home) {
        let owner = home.tenant.owner().number();
        // What is on its way to the store would be left there. What has not begun yet finds no session any more.
        drop(home.writing.lock().await);
        loop {
            match self.store.end(&id, home.epoch, owner).await {
                Ok(true) => break,
                Ok(false) => {
                    tracing::warn!(session = %id, "it ended here, and goes on at the server that has taken it");
                    break;
                }
                Err(error) => {
                    tracing::error!(session = %id, %error, "a session that has ended is still in the store, which is tried again");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.remove(&id);
    }

    /// Waits until a session that has ended is gone from the store.
    async fn gone(&self, id: &SessionId) -> Result<(), EngineError> {
        let task = {
            let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
            leaving.remove(id)
        };
        let Some(task) = task else { return Ok(()) };
        match tokio::time::timeout(PATIENCE, task).await {
            Ok(_) => Ok(()),
            Err(_) => Err(EngineError::Store {
                detail: format!("{id} has ended, and could not be removed from it yet"),
            }),
        }
    }

    /// Puts a new session in the store.
    async fn keep(&self, id: &SessionId, tenant: &Arc<Tenant>) -> Result<(), EngineError> {
        // Before anything is awaited: one that is evicted meanwhile must not stay in the list, nor in the store.
        let home = Home::new(1, tenant);
        let _writing = Arc::clone(&home.writing).try_lock_owned();
        self.homes.lock().insert(id.clone(), home);
        let kept = async {
            let snapshot = self.snapshot(id, tenant).await?;
            let owner = tenant.owner();
            let bytes = saved(id, owner, Duration::ZERO, snapshot);
            let begun = self.store.begin(id, owner.number(), bytes).await;
            begun.map_err(store_error)
        };
        let kept = kept.await;
        let mut homes = self.homes.lock();
        match (&kept, homes.get_mut(id)) {
            (Ok(()), Some(home)) => home.ready = true,
            _ => drop(homes.remove(id)),
        }
        kept
    }

    /// A session as it is between two of the things it does.
    async fn snapshot(&self, id: &SessionId, tenant: &Arc<Tenant>) -> Result<Vec<u8>, EngineError> {
        let engine = self.engine.on_behalf_of(Arc::clone(tenant));
        let image = engine.export(id.clone()).await?;
        let codec = Arc::clone(&self.codec);
        let written = tokio::task::spawn_blocking(move || codec.write(&image));
        written.await.map_err(|error| EngineError::Internal {
            detail: error.to_string(),
        })
    }

    fn is_older(written: SystemTime, limit: Duration) -> bool {
        written.elapsed().is_ok_and(|since| since > limit)
    }
}

impl SharedSessions for Keeper {
    fn made<'a>(
        &'a self,
        id: &'a SessionId,
        tenant: &'a Arc<Tenant>,
    ) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(self.keep(id, tenant))
    }

    fn fetch<'a>(
        &'a self,
        id: &'a SessionId,
        tenant: &'a Arc<Tenant>,
    ) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(self.fetch_one(id, tenant))
    }

    fn changed(&self, id: &SessionId, tokens: u64) {
        self.note(id, tokens);
    }

    fn closed<'a>(&'a self, id: &'a SessionId) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(self.gone(id))
    }
}

fn saved(id: &SessionId, owner: Owner, idle: Duration, snapshot: Vec<u8>) -> Vec<u8> {
    let session = SavedSession {
        id: id.clone(),
        owner: owner.number(),
        idle,
        snapshot,
    };
    session.to_bytes()
}

fn store_error(error: StoreError) -> EngineError {
    EngineError::Store {
        detail: error.to_string(),
    }
}
