//! The sessions of one engine, and the two invariants that are checked after every mutation.
//!
//! The store decides nothing about the cache and repairs nothing. It says which sessions have expired, which
//! one to evict, and whether a session's record and its cache still agree; its caller acts.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::CacheConfig;
use crate::session::{CachedTokens, Session, SessionId};
use crate::tenant::{Limits, Owner, Tenant};

/// What a cache says of itself, so that INV-1 and INV-2 can be checked against it.
pub trait CacheInspector {
    /// Layers of the cache.
    fn layers(&self) -> usize;
    /// Positions for which `layer` holds keys.
    fn k_length(&self, layer: usize) -> u64;
    /// Positions for which `layer` holds values.
    fn v_length(&self, layer: usize) -> u64;
    /// The position the next token takes.
    fn position(&self) -> u64;
}

/// Keys or values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvSide {
    /// Keys.
    Keys,
    /// Values.
    Values,
}

impl fmt::Display for KvSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keys => "keys",
            Self::Values => "values",
        })
    }
}

/// A cache that is not what its session's record says: a bug, never a state to recover from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvariantViolation {
    /// The recorded cached tokens and a layer's keys or values differ in length.
    #[error(
        "INV-1 is violated: {recorded} cached tokens are recorded, but layer {layer} holds {observed} {which}"
    )]
    Inv1 {
        /// The first layer that differs.
        layer: usize,
        /// Its keys or its values.
        which: KvSide,
        /// Length of the record.
        recorded: u64,
        /// Length the cache reports.
        observed: u64,
    },
    /// The position went back.
    #[error("INV-2 is violated: the position was {last} and is now {observed}")]
    Inv2 {
        /// The position at the check before.
        last: u64,
        /// The position now.
        observed: u64,
    },
}

/// Violations since the store was made, over all sessions. A session with a violation ends, so a count per
/// session could never be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ViolationCounts {
    /// INV-1 violations.
    pub inv1: u64,
    /// INV-2 violations.
    pub inv2: u64,
}

/// What the store refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// No live session has the id: it never existed, or it ended.
    #[error("session {id} not found: it never existed, was closed, or was evicted")]
    NotFound {
        /// The id asked for.
        id: SessionId,
    },
    /// There is such a session already.
    #[error("session {id} is there already")]
    Taken {
        /// The id.
        id: SessionId,
    },
    /// Every place is taken.
    #[error("all {capacity} sessions are in use")]
    Full {
        /// Places of the store.
        capacity: usize,
    },
    /// The session's cache broke an invariant.
    #[error(transparent)]
    Invariant(#[from] InvariantViolation),
}

/// How many sessions, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// Sessions that can live at once.
    pub capacity: usize,
    /// A session unused for this long has expired.
    pub idle_ttl: Duration,
}

/// The live sessions. It has no clock: whatever depends on the time is told it.
#[derive(Debug)]
pub struct SessionStore<R> {
    limits: StoreLimits,
    cache: CacheConfig,
    sessions: HashMap<SessionId, Session<R>>,
    violations: ViolationCounts,
    everybody: Arc<Tenant>,
}

impl<R> SessionStore<R> {
    /// An empty store whose sessions cache under the policy `cache`.
    pub fn new(limits: StoreLimits, cache: CacheConfig) -> Self {
        Self {
            limits,
            cache,
            sessions: HashMap::new(),
            violations: ViolationCounts::default(),
            everybody: Arc::new(Tenant::everybody(Limits::default())),
        }
    }

    /// Opens a session under a fresh id. It is everybody's until it is [given](SessionStore::give) to somebody.
    ///
    /// # Errors
    /// [`SessionError::Full`], with the resource handed back. The store does not evict on its own: see
    /// [`SessionStore::least_recently_used`].
    pub fn create(
        &mut self,
        now: Instant,
        label: String,
        eos_token_ids: Vec<u32>,
        resource: R,
    ) -> Result<SessionId, (SessionError, R)> {
        self.create_with_history(now, label, eos_token_ids, Vec::new(), resource)
    }

    /// Opens a session that has a history already, under a fresh id. `resource` stands at its end.
    ///
    /// # Errors
    /// As [`SessionStore::create`].
    pub fn create_with_history(
        &mut self,
        now: Instant,
        label: String,
        eos_token_ids: Vec<u32>,
        history: Vec<u32>,
        resource: R,
    ) -> Result<SessionId, (SessionError, R)> {
        let id = SessionId::random();
        self.restore(id.clone(), now, label, eos_token_ids, history, resource)?;
        Ok(id)
    }

    /// Opens a session that was there before, under the id it had, as it was last used at `last_used`.
    ///
    /// # Errors
    /// As [`SessionStore::create`], and [`SessionError::Taken`].
    pub fn restore(
        &mut self,
        id: SessionId,
        last_used: Instant,
        label: String,
        eos_token_ids: Vec<u32>,
        history: Vec<u32>,
        resource: R,
    ) -> Result<(), (SessionError, R)> {
        let capacity = self.limits.capacity;
        if self.sessions.contains_key(&id) {
            return Err((SessionError::Taken { id }, resource));
        }
        if self.sessions.len() >= capacity {
            return Err((SessionError::Full { capacity }, resource));
        }
        let mut cached = CachedTokens::new(&self.cache);
        cached.extend(&history);
        let session = Session {
            id: id.clone(),
            label,
            eos_token_ids,
            last_position: history.len() as u64,
            history,
            cached,
            resource,
            last_used,
            busy: false,
            tenant: Arc::clone(&self.everybody),
        };
        self.sessions.insert(id, session);
        Ok(())
    }

    /// Makes the session `tenant`'s.
    ///
    /// # Errors
    /// [`SessionError::NotFound`].
    pub fn give(&mut self, id: &SessionId, tenant: Arc<Tenant>) -> Result<(), SessionError> {
        self.get_mut(id)?.tenant = tenant;
        Ok(())
    }

    /// Whether there is a session `id` that `tenant` may know of.
    pub fn reaches(&self, tenant: &Tenant, id: &SessionId) -> bool {
        self.get(id)
            .is_ok_and(|session| tenant.reaches(session.tenant.owner()))
    }

    /// Live sessions of one owner.
    pub fn owned(&self, owner: Owner) -> usize {
        let theirs = |session: &&Session<R>| session.tenant.owner() == owner;
        self.iter().filter(theirs).count()
    }

    /// The session `id`.
    ///
    /// # Errors
    /// [`SessionError::NotFound`].
    pub fn get(&self, id: &SessionId) -> Result<&Session<R>, SessionError> {
        self.sessions.get(id).ok_or_else(|| not_found(id))
    }

    /// The session `id`, to change.
    ///
    /// # Errors
    /// [`SessionError::NotFound`].
    pub fn get_mut(&mut self, id: &SessionId) -> Result<&mut Session<R>, SessionError> {
        self.sessions.get_mut(id).ok_or_else(|| not_found(id))
    }

    /// Appends `tokens` to the session's history and to its record of the cache, and refreshes its idle clock.
    ///
    /// # Errors
    /// [`SessionError::NotFound`].
    pub fn record(
        &mut self,
        id: &SessionId,
        tokens: &[u32],
        now: Instant,
    ) -> Result<(), SessionError> {
        let session = self.get_mut(id)?;
        session.last_used = session.last_used.max(now);
        session.history.extend_from_slice(tokens);
        session.cached.extend(tokens);
        Ok(())
    }

    /// Makes room for `additional` tokens to be recorded without an allocation.
    ///
    /// # Errors
    /// [`SessionError::NotFound`].
    pub fn reserve(&mut self, id: &SessionId, additional: usize) -> Result<(), SessionError> {
        let session = self.get_mut(id)?;
        session.history.reserve(additional);
        session.cached.reserve(additional);
        Ok(())
    }

    /// Refreshes the session's idle clock. The clock never goes back.
    ///
    /// # Errors
    /// [`SessionError::NotFound`].
    pub fn touch(&mut self, id: &SessionId, now: Instant) -> Result<(), SessionError> {
        let session = self.get_mut(id)?;
        session.last_used = session.last_used.max(now);
        Ok(())
    }

    /// Marks the session as having work under way, or none, and says how it was marked. A busy session is never evicted.
    ///
    /// # Errors
    /// [`SessionError::NotFound`].
    pub fn set_busy(&mut self, id: &SessionId, busy: bool) -> Result<bool, SessionError> {
        Ok(std::mem::replace(&mut self.get_mut(id)?.busy, busy))
    }

    /// The sessions that are not busy and have been idle for the TTL or longer, the longest idle first.
    pub fn expired(&self, now: Instant) -> Vec<SessionId> {
        let mut expired: Vec<_> = self
            .evictable()
            .filter(|s| s.idle(now) >= self.limits.idle_ttl)
            .collect();
        expired.sort_by_key(|session| session.last_used);
        expired
            .into_iter()
            .map(|session| session.id.clone())
            .collect()
    }

    /// The session that has been idle longest, busy ones left out.
    pub fn least_recently_used(&self) -> Option<SessionId> {
        self.evictable()
            .min_by_key(|session| session.last_used)
            .map(|session| session.id.clone())
    }

    /// Ends a session and hands it back, with what it held of the engine.
    ///
    /// # Errors
    /// [`SessionError::NotFound`].
    pub fn remove(&mut self, id: &SessionId) -> Result<Session<R>, SessionError> {
        self.sessions.remove(id).ok_or_else(|| not_found(id))
    }

    /// Checks the session against its cache: INV-1, the recorded cached tokens are as many as the keys and as
    /// the values of every layer; INV-2, the position has not gone back since the last check.
    ///
    /// A violation is counted and reported, and nothing is repaired: the caller ends the session. When both
    /// are violated both are counted, and INV-1 is reported.
    ///
    /// # Errors
    /// [`SessionError::Invariant`] or [`SessionError::NotFound`].
    pub fn check(
        &mut self,
        id: &SessionId,
        cache: &dyn CacheInspector,
    ) -> Result<(), SessionError> {
        let session = self.sessions.get_mut(id).ok_or_else(|| not_found(id))?;
        let inv1 = check_lengths(session.cached.len(), cache);
        let inv2 = check_position(&mut session.last_position, cache.position());
        self.violations.inv1 += u64::from(inv1.is_err());
        self.violations.inv2 += u64::from(inv2.is_err());
        Ok(inv1.and(inv2)?)
    }

    /// Violations found so far.
    pub fn violations(&self) -> ViolationCounts {
        self.violations
    }

    /// The live sessions, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Session<R>> {
        self.sessions.values()
    }

    /// Live sessions.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether no session is live.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// How many sessions, and for how long.
    pub fn limits(&self) -> StoreLimits {
        self.limits
    }

    /// Sessions that [`SessionStore::least_recently_used`] could name, one after the other.
    pub fn evictable_count(&self) -> usize {
        self.evictable().count()
    }

    fn evictable(&self) -> impl Iterator<Item = &Session<R>> {
        self.sessions.values().filter(|session| !session.busy)
    }
}

fn not_found(id: &SessionId) -> SessionError {
    SessionError::NotFound { id: id.clone() }
}

fn check_lengths(recorded: u64, cache: &dyn CacheInspector) -> Result<(), InvariantViolation> {
    for layer in 0..cache.layers() {
        for (which, observed) in [
            (KvSide::Keys, cache.k_length(layer)),
            (KvSide::Values, cache.v_length(layer)),
        ] {
            if observed != recorded {
                return Err(InvariantViolation::Inv1 {
                    layer,
                    which,
                    recorded,
                    observed,
                });
            }
        }
    }
    Ok(())
}

fn check_position(last: &mut u64, observed: u64) -> Result<(), InvariantViolation> {
    if observed < *last {
        return Err(InvariantViolation::Inv2 {
            last: *last,
            observed,
        });
    }
    *last = observed;
    Ok(())
}
