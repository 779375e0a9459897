//! Sessions on their way from the store.

use std::sync::{Arc, PoisonError};

use kakeya_core::snapshot::SavedSession;
use kakeya_core::{EngineError, Owner, SessionId, SnapshotError, Tenant};

use super::homes::Home;
use super::{Keeper, store_error};
use crate::shared::{Claim, StateKey};

/// How often the newest state is looked for anew, where it was replaced while it was read.
const TRIES: usize = 5;

impl Keeper {
    /// Sees to it that a session is here, if it lives.
    pub(super) async fn fetch_one(
        &self,
        id: &SessionId,
        tenant: &Arc<Tenant>,
    ) -> Result<(), EngineError> {
        if let Some(epoch) = self.homes.epoch_of(id) {
            if self.store.holds(id, epoch).await.map_err(store_error)? {
                return Ok(());
            }
            self.let_go(id).await;
        }
        let turn = {
            let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(fetching.entry(id.clone()).or_default())
        };
        let taken = {
            let _alone = turn.lock().await;
            match self.homes.epoch_of(id) {
                // Somebody has fetched it meanwhile.
                Some(_) => Ok(()),
                None => self.take(id, tenant).await,
            }
        };
        let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's, and this one: nobody else waits.
        if Arc::strong_count(&turn) == 2 {
            fetching.remove(id);
        }
        taken
    }

    /// Ends the copy here of a session that lives elsewhere by now.
    async fn let_go(&self, id: &SessionId) {
        let home = self.homes.lock().remove(id);
        if let Some(home) = home {
            tracing::warn!(session = %id, epoch = home.epoch, "another server has taken this session");
            self.counts.taken.inc();
            self.close(id, &home.tenant).await;
        }
    }

    async fn close(&self, id: &SessionId, tenant: &Arc<Tenant>) {
        let engine = self.engine.on_behalf_of(Arc::clone(tenant));
        drop(engine.close(id.clone()).await);
    }

    /// Takes a session over that is in the store. One that is not is left to the engine, which has some that are in no store.
    async fn take(&self, id: &SessionId, tenant: &Arc<Tenant>) -> Result<(), EngineError> {
        let not_found = || EngineError::NotFound { id: id.to_string() };
        let Some(claim) = self.store.newest(id).await.map_err(store_error)? else {
            return Ok(());
        };
        if claim.ended || !tenant.reaches(Owner::new(claim.owner)) {
            return Err(not_found());
        }
        let epoch = claim.epoch + 1;
        let claimed = self.store.claim(id, epoch, claim.owner, false).await;
        if !claimed.map_err(store_error)? {
            let detail = format!("another server takes {id} at this moment: ask again");
            return Err(EngineError::Store { detail });
        }
        // Its claim stays whatever happens from here on: who asks again, here or elsewhere, takes it from there.
        let Some(state) = self.newest(id, epoch, &claim).await? else {
            return Err(not_found());
        };
        self.homes
            .lock()
            .insert(id.clone(), Home::new(epoch, tenant));
        let opened = self.open(id, tenant, epoch, state).await;
        let mut homes = self.homes.lock();
        match (&opened, homes.get_mut(id)) {
            (Ok(()), Some(home)) => home.ready = true,
            _ => drop(homes.remove(id)),
        }
        drop(homes);
        match &opened {
            Ok(()) => {
                self.counts.fetched.inc();
                tracing::info!(session = %id, epoch, from = claim.server, "a session of the store goes on here");
            }
            Err(error) => {
                tracing::warn!(session = %id, %error, "a session of the store cannot go on here");
            }
        }
        opened
    }

    /// The newest state of a session that was claimed, if it has not ended.
    async fn newest(
        &self,
        id: &SessionId,
        epoch: u64,
        claim: &Claim,
    ) -> Result<Option<Vec<u8>>, EngineError> {
        for _ in 0..TRIES {
            let Some(found) = self.store.newest_state(id).await.map_err(store_error)? else {
                self.store.withdraw(id, epoch).await.map_err(store_error)?;
                return Ok(None);
            };
            if Self::is_older(found.written, self.keeping.idle_ttl) {
                let ended = self.store.end(id, epoch, claim.owner).await;
                ended.map_err(store_error)?;
                return Ok(None);
            }
            let state = self.store.read(id, found.key).await.map_err(store_error)?;
            if state.is_some() {
                return Ok(state);
            }
            // Who had it has written a newer one meanwhile.
        }
        Err(EngineError::Store {
            detail: format!("the state of {id} is replaced faster than it can be read"),
        })
    }

    /// Opens a session with a state, which begins the epoch.
    async fn open(
        &self,
        id: &SessionId,
        tenant: &Arc<Tenant>,
        epoch: u64,
        state: Vec<u8>,
    ) -> Result<(), EngineError> {
        let broken = |why: String| EngineError::Store {
            detail: format!("the state of {id} cannot be gone on with: {why}"),
        };
        let found = SavedSession::from_bytes(&state).map_err(|error| broken(error.to_string()))?;
        if found.id != *id {
            return Err(broken(format!("it is one of {}", found.id)));
        }
        let codec = Arc::clone(&self.codec);
        let image = tokio::task::spawn_blocking(move || {
            let mut reader = codec.reader();
            reader.push(&found.snapshot)?;
            codec.read(&reader.finish()?)
        });
        let image = image.await.map_err(|error| broken(error.to_string()))?;
        let image = image.map_err(|error: SnapshotError| broken(error.to_string()))?;
        let engine = self.engine.on_behalf_of(Arc::clone(tenant));
        engine.adopt(id.clone(), Box::new(image)).await?;
        let key = StateKey { epoch, number: 0 };
        let begun = match self.store.write(id, key, state).await {
            Ok(()) => self.store.forget_before(id, key).await,
            Err(error) => Err(error),
        };
        if let Err(error) = begun {
            // Not for good: the home is taken out first, so it stays in the store.
            self.homes.lock().remove(id);
            self.close(id, tenant).await;
            return Err(store_error(error));
        }
        Ok(())
    }
}
