//! What this server knows of the sessions that it has.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kakeya_core::{SessionId, Tenant};

use crate::shared::StateKey;

/// A session that is at home here.
#[derive(Debug)]
pub(super) struct Home {
    /// The epoch of this server's claim.
    pub epoch: u64,
    pub tenant: Arc<Tenant>,
    /// It is in the engine and in the store, and not on its way.
    pub ready: bool,
    /// Tokens that may have come since the last snapshot.
    pub unsaved: u64,
    /// Somebody sees to its snapshots.
    pub saving: bool,
    /// Held while a state of it is on its way to the store, so that whoever removes the session comes after.
    pub writing: Arc<tokio::sync::Mutex<()>>,
    number: u64,
}

impl Home {
    pub(super) fn new(epoch: u64, tenant: &Arc<Tenant>) -> Self {
        Self {
            epoch,
            tenant: Arc::clone(tenant),
            ready: false,
            unsaved: 0,
            saving: false,
            writing: Arc::default(),
            number: 0,
        }
    }

    /// The name of the state to write next, of which nothing is unsaved then.
    pub(super) fn next_state(&mut self) -> StateKey {
        self.unsaved = 0;
        self.number += 1;
        StateKey {
            epoch: self.epoch,
            number: self.number,
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Homes(Mutex<HashMap<SessionId, Home>>);

impl Homes {
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Home>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The epoch in which a session is here.
    pub(super) fn epoch_of(&self, id: &SessionId) -> Option<u64> {
        let homes = self.lock();
        homes
            .get(id)
            .filter(|home| home.ready)
            .map(|home| home.epoch)
    }
}
