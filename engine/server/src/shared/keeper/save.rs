//! Snapshots on their way to the store, and what is removed from it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kakeya_core::{EngineError, Owner, SessionId, Tenant};
use kakeya_runtime::Engine;

use super::{AGAIN, Keeper, saved};
use crate::shared::{StateKey, StoreError};

/// What came of the sessions of an engine that has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flushed {
    /// Sessions whose last tokens were saved.
    pub saved: u64,
    /// Sessions whose last tokens were not.
    pub lost: u64,
}

impl Keeper {
    /// A session gets up to `tokens` more.
    pub(super) fn note(&self, id: &SessionId, tokens: u64) {
        let mut homes = self.homes.lock();
        let Some(home) = homes.get_mut(id) else {
            return;
        };
        // One that was merely touched is saved as well: its age in the store says how long it has been idle.
        home.unsaved = home.unsaved.saturating_add(tokens.max(1));
        if home.saving || home.unsaved < self.keeping.every {
            return;
        }
        if let Some(this) = self.this.upgrade() {
            home.saving = true;
            self.runtime.spawn(this.save(id.clone()));
        }
    }

    /// Saves a session until little enough of it is unsaved, or it has gone.
    async fn save(self: Arc<Self>, id: SessionId) {
        loop {
            let (key, tenant, writing, unsaved) = {
                let mut homes = self.homes.lock();
                let Some(home) = homes.get_mut(&id) else {
                    return;
                };
                let unsaved = home.unsaved;
                if unsaved < self.keeping.every {
                    home.saving = false;
                    return;
                }
                let (tenant, writing) = (Arc::clone(&home.tenant), Arc::clone(&home.writing));
                (home.next_state(), tenant, writing, unsaved)
            };
            let saved = {
                // Before the lock, for which whoever removes the session waits.
                let _place = self.places.acquire().await;
                let _writing = writing.lock().await;
                self.save_once(&id, &tenant, key).await
            };
            let Err(error) = saved else {
                continue;
            };
            self.counts.failed.inc();
            tracing::warn!(session = %id, %error, "a snapshot could not be written to the store, which is tried again");
            if let Some(home) = self.homes.lock().get_mut(&id) {
                home.unsaved = home.unsaved.saturating_add(unsaved);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn save_once(
        &self,
        id: &SessionId,
        tenant: &Arc<Tenant>,
        key: StateKey,
    ) -> Result<(), Unsaved> {
        let snapshot = match self.snapshot(id, tenant).await {
            // It has ended; who ends it sees to the rest.
            Err(EngineError::NotFound { .. }) => return Ok(()),
            snapshot => snapshot?,
        };
        self.write(id, tenant.owner(), Duration::ZERO, key, snapshot)
            .await?;
        tracing::debug!(session = %id, epoch = key.epoch, number = key.number, "saved to the store");
        Ok(())
    }

    /// Writes a state, and removes those before it.
    async fn write(
        &self,
        id: &SessionId,
        owner: Owner,
        idle: Duration,
        key: StateKey,
        snapshot: Vec<u8>,
    ) -> Result<(), StoreError> {
        let bytes = saved(id, owner, idle, snapshot);
        let length = bytes.len() as u64;
        self.store.write(id, key, bytes).await?;
        self.store.forget_states(id, key).await?;
        self.counts.written.inc();
        self.counts.bytes.inc_by(length);
        Ok(())
    }

    /// Saves what is not saved yet of the sessions of an engine that has stopped, so that another server loses nothing of
    /// them.
    pub async fn flush(&self, engine: &Engine) -> Flushed {
        let mut flushed = Flushed::default();
        let now = Instant::now();
        for id in engine.session_ids() {
            let (owner, key) = {
                let mut homes = self.homes.lock();
                let home = homes.get_mut(&id);
                let Some(home) = home.filter(|home| home.unsaved > 0 || home.saving) else {
                    continue;
                };
                (home.tenant.owner(), home.next_state())
            };
            let written = async {
                let idle = engine.info(&id, now)?.idle;
                let snapshot = self.codec.write(&engine.export(&id)?);
                Ok::<_, Unsaved>(self.write(&id, owner, idle, key, snapshot).await?)
            };
            match written.await {
                Ok(()) => flushed.saved += 1,
                Err(error) => {
                    tracing::error!(session = %id, %error, "the last tokens of a session could not be saved");
                    flushed.lost += 1;
                }
            }
        }
        flushed
    }

    /// Removes what is left of sessions that have ended, and those that nobody has used for twice as long as they may be
    /// idle: their server is gone, and nobody came back to them. Returns how many.
    ///
    /// # Errors
    /// What the store says.
    pub async fn tidy(&self) -> Result<u64, StoreError> {
        let limit = 2 * self.keeping.idle_ttl;
        let mut removed = 0;
        for id in self.store.ids().await? {
            if self.homes.lock().contains_key(&id) {
                continue;
            }
            let claim = self.store.newest(&id).await?;
            let state = self.store.newest_state(&id).await?;
            let forgotten = state.is_some_and(|state| Self::is_older(state.written, limit));
            let gone = match claim {
                Some(claim) if claim.ended => true,
                Some(claim) => forgotten && self.store.end(&id, claim.epoch, claim.owner).await?,
                // Its server was killed while it made it.
                None => forgotten,
            };
            if gone {
                self.store.sweep(&id).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// Tidies the store now and then, for as long as there is a keeper.
pub fn tidy_regularly(keeper: &Arc<Keeper>) {
    let keeper = Arc::downgrade(keeper);
    tokio::spawn(async move {
        while let Some(this) = keeper.upgrade() {
            let every = this.keeping.idle_ttl.max(Duration::from_secs(60));
            match this.tidy().await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(
                    removed,
                    "sessions that nobody came back to are gone from the store"
                ),
                Err(error) => tracing::warn!(%error, "the store could not be tidied"),
            }
            drop(this);
            tokio::time::sleep(every).await;
        }
    });
}

/// Why a session is not saved.
#[derive(Debug, thiserror::Error)]
enum Unsaved {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}
