//! What every session of one process shares: the model, the compute threads, the slabs and the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kakeya_core::{
    CacheInspector, Ended, EngineError, EngineMetrics, EngineStats, KVSlab, PrefixIndex, SessionId,
    SessionImage, SessionInfo, SessionStore, SessionSummary, SlabPool, StoreLimits, Tenant,
};
use kakeya_model::{Compute, ComputeOptions, KvLayout, Model, SequenceInput};

use crate::config::{EngineConfig, EngineStartError};
use crate::generate::HISTORY_AHEAD;
use crate::pass::Pass;
use crate::prefix::{KeptPrefix, Sharing};
use crate::verifier::{MAX_CHUNK, SinkWindowVerifier, SlabMismatch};

/// What a session holds of the engine.
#[derive(Debug)]
pub struct SessionState {
    /// Its cache and position.
    pub verifier: SinkWindowVerifier,
    /// The logits for its next token; empty while its history is.
    pub next_logits: Vec<f32>,
    /// If it is one of those that begin with what others have left.
    pub(crate) sharing: Option<Sharing>,
}

/// Model, threads, slabs and sessions. Its methods run to their end; the step loop decides who is in a pass.
pub struct Engine {
    model: Arc<Model>,
    config: EngineConfig,
    layout: Arc<KvLayout>,
    pub(crate) compute: Compute,
    pool: SlabPool,
    /// For passes of one session.
    pass: Pass,
    // A session's state is taken out while it is worked on, and put back before the turn ends.
    pub(crate) store: SessionStore<Option<Box<SessionState>>>,
    pub(crate) prefixes: PrefixIndex<KeptPrefix>,
    pub(crate) counts: EngineStats,
    metrics: EngineMetrics,
    ends: Ends,
}

/// Who is told of sessions that end.
pub type Ends = Box<dyn Fn(Ended<'_>) + Send>;

/// Why a session ends, for the count of those that did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Closed,
    Completed,
    Abandoned,
    Expired,
    Evicted,
    Violated,
}

impl Engine {
    /// Allocates every slab and starts the compute threads.
    ///
    /// # Errors
    /// When the policy is invalid, the slabs' size overflows, or a thread cannot start.
    pub fn new(model: Arc<Model>, config: EngineConfig) -> Result<Self, EngineStartError> {
        config.cache.validate()?;
        let layout = SinkWindowVerifier::layout_for(&model, &config.cache);
        let pool = SlabPool::new(layout.slab_shape(config.kv), config.capacity)?;
        let mut compute = Compute::new(ComputeOptions {
            threads: config.threads,
            isa: config.isa,
        })?;
        let (sequences, rows) = largest_pass(&config);
        compute.reserve(&model, &layout, sequences, rows);
        let limits = StoreLimits {
            capacity: config.capacity,
            idle_ttl: config.idle_ttl,
        };
        let store = SessionStore::new(limits, config.cache);
        let prefixes = PrefixIndex::new(config.prefix_cache_bytes);
        Ok(Self {
            model,
            config,
            layout,
            compute,
            pool,
            pass: Pass::default(),
            store,
            prefixes,
            counts: EngineStats::default(),
            metrics: EngineMetrics::default(),
            ends: Box::new(|_| {}),
        })
    }

    /// Tells `ends` of every session that ends from now on, before anybody else can know. It must not take long.
    pub fn tell_ends(&mut self, ends: Ends) {
        self.ends = ends;
    }

    /// What it observes while it works.
    #[must_use]
    pub fn metrics(&self) -> &EngineMetrics {
        &self.metrics
    }

    /// Observes into `metrics` from now on.
    pub(crate) fn observe_into(&mut self, metrics: EngineMetrics) {
        self.metrics = metrics;
    }

    /// Bytes that an engine takes beside the weights and the slabs: the scratch memory of its passes, and what it keeps of
    /// each session, with a history of [`HISTORY_AHEAD`] tokens. Nothing is allocated.
    #[must_use]
    pub fn scratch_bytes(model: &Model, config: &EngineConfig) -> u64 {
        let layout = SinkWindowVerifier::layout_for(model, &config.cache);
        let (sequences, rows) = largest_pass(config);
        let options = ComputeOptions {
            threads: config.threads,
            isa: config.isa,
        };
        let scratch = Compute::scratch_bytes(options, model, &layout, sequences, rows);
        let context = model.config().context as u64;
        let cached = config.cache.cached_limit().unwrap_or(context);
        let logits = model.config().vocabulary as u64;
        let records = 4 * (logits + cached + HISTORY_AHEAD as u64);
        scratch + config.capacity as u64 * records
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// What it was started with.
    #[must_use]
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// How the sessions' slabs are laid out.
    #[must_use]
    pub fn layout(&self) -> &KvLayout {
        &self.layout
    }

    pub(crate) fn shared_layout(&self) -> &Arc<KvLayout> {
        &self.layout
    }

    /// Slabs that no session holds.
    #[must_use]
    pub fn free_slabs(&self) -> usize {
        self.pool.available()
    }

    /// The threads and kernels. For the gates, which delay and poison them.
    pub fn compute_mut(&mut self) -> &mut Compute {
        &mut self.compute
    }

    /// Opens a session. When all places are taken, the one that has been idle longest ends.
    ///
    /// # Errors
    /// [`EngineError::NoSlab`] when every session is at work.
    pub fn create_session(
        &mut self,
        now: Instant,
        label: String,
        eos: Vec<u32>,
    ) -> Result<SessionId, EngineError> {
        let slab = self.slab(now)?;
        let logits = Vec::with_capacity(self.model.config().vocabulary);
        self.open(now, label, eos, Vec::new(), slab, logits)
    }

    /// A slab for a new session. When all are taken, the session that has been idle longest ends.
    pub(crate) fn slab(&mut self, now: Instant) -> Result<KVSlab, EngineError> {
        self.expire(now);
        if self.pool.available() == 0 {
            let capacity = self.config.capacity;
            let Some(victim) = self.store.least_recently_used() else {
                self.counts.refused += 1;
                return Err(EngineError::NoSlab { capacity });
            };
            tracing::info!(session = %victim, "evicted: a new session needs its place");
            self.end(&victim, Ending::Evicted)?;
        }
        Ok(self.pool.acquire()?)
    }

    /// Opens a session whose cache, after `history`, is in `slab`.
    pub(crate) fn open(
        &mut self,
        now: Instant,
        label: String,
        eos: Vec<u32>,
        history: Vec<u32>,
        slab: KVSlab,
        next_logits: Vec<f32>,
    ) -> Result<SessionId, EngineError> {
        let state = self.resume(slab, history.len() as u64, next_logits)?;
        let id = self
            .store
            .create_with_history(now, label, eos, history, state)
            .map_err(|(error, state)| {
                self.release(state);
                EngineError::from(error)
            })?;
        tracing::debug!(session = %id, "opened");
        Ok(id)
    }

    /// Opens a session again that was there before, under the id that it had.
    ///
    /// # Errors
    /// [`EngineError::NoSlab`] when there is no free slab: no other session ends for it. [`EngineError::Internal`] when
    /// there is such a session, or no such image.
    pub fn restore(
        &mut self,
        id: SessionId,
        idle: Duration,
        now: Instant,
        mut image: SessionImage,
    ) -> Result<(), EngineError> {
        self.prepare(&mut image)?;
        let slab = self.pool.acquire()?;
        // A time before the machine began cannot be told; then the session is as good as just used.
        let last_used = now.checked_sub(idle).unwrap_or(now);
        self.reopen(id, last_used, slab, image)
    }

    /// Opens a session under an id that it had before, in `slab`.
    pub(crate) fn reopen(
        &mut self,
        id: SessionId,
        last_used: Instant,
        slab: KVSlab,
        image: SessionImage,
    ) -> Result<(), EngineError> {
        let slab = self.fill(slab, &image);
        let state = self.resume(slab, image.history.len() as u64, image.next_logits)?;
        self.store
            .restore(
                id,
                last_used,
                image.label,
                image.eos_token_ids,
                image.history,
                state,
            )
            .map_err(|(error, state)| {
                self.release(state);
                EngineError::from(error)
            })
    }

    /// What a session holds whose cache, after `committed` tokens, is in `slab`.
    fn resume(
        &self,
        slab: KVSlab,
        committed: u64,
        next_logits: Vec<f32>,
    ) -> Result<Option<Box<SessionState>>, EngineError> {
        let verifier = SinkWindowVerifier::resume(
            Arc::clone(&self.model),
            self.config.cache,
            Arc::clone(&self.layout),
            slab,
            committed,
        )
        .map_err(|SlabMismatch { found, expected }| {
            internal(format!("slab {found:?}, expected {expected:?}"))
        })?;
        Ok(Some(Box::new(SessionState {
            verifier,
            next_logits,
            sharing: None,
        })))
    }

    /// Sessions that a new one could have the places of, free places included.
    pub(crate) fn room(&self) -> usize {
        self.pool.available() + self.store.evictable_count()
    }

    /// Ends a session and frees its slab. Returns its final history length.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn close_session(&mut self, id: &SessionId) -> Result<u64, EngineError> {
        self.end(id, Ending::Closed)
    }

    /// Ends the sessions that have been idle too long.
    pub fn expire(&mut self, now: Instant) {
        for id in self.store.expired(now) {
            tracing::info!(session = %id, "evicted: idle for too long");
            drop(self.end(&id, Ending::Expired));
        }
    }

    /// What is known of a session.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn info(&self, id: &SessionId, now: Instant) -> Result<SessionInfo, EngineError> {
        let session = self.store.get(id)?;
        let verifier = &session
            .resource()
            .as_ref()
            .ok_or_else(|| internal("a session's state is missing"))?
            .verifier;
        let violations = self.store.violations();
        Ok(SessionInfo {
            history_length: session.history().len() as u64,
            cached_length: verifier.cached_length(),
            kv_live_bytes: verifier.kv_live_bytes(),
            inv1_violations: violations.inv1,
            inv2_violations: violations.inv2,
            idle: session.idle(now),
        })
    }

    /// The ids of all sessions, in their order.
    #[must_use]
    pub fn session_ids(&self) -> Vec<SessionId> {
        let mut ids: Vec<_> = self
            .store
            .iter()
            .map(|session| session.id().clone())
            .collect();
        ids.sort();
        ids
    }

    /// What is known of every session that `by` may know of, in the order of their ids.
    ///
    /// # Errors
    /// [`EngineError::Internal`], when a session is worked on.
    pub fn list(&self, by: &Tenant, now: Instant) -> Result<Vec<SessionSummary>, EngineError> {
        let mut sessions = self
            .store
            .iter()
            .filter(|session| by.reaches(session.tenant().owner()))
            .map(|session| {
                Ok(SessionSummary {
                    id: session.id().clone(),
                    label: session.label().to_owned(),
                    busy: session.is_busy(),
                    info: self.info(session.id(), now)?,
                })
            })
            .collect::<Result<Vec<_>, EngineError>>()?;
        sessions.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(sessions)
    }

    /// Counts of the engine. The step loop adds what it alone knows.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        let violations = self.store.violations();
        let states = self
            .store
            .iter()
            .filter_map(|session| session.resource().as_ref());
        EngineStats {
            sessions: self.store.len() as u64,
            kv_live_bytes: states.map(|state| state.verifier.kv_live_bytes()).sum(),
            history_tokens: self
                .store
                .iter()
                .map(|session| session.history().len() as u64)
                .sum(),
            capacity: self.config.capacity as u64,
            free_slabs: self.pool.available() as u64,
            inv1_violations: violations.inv1,
            inv2_violations: violations.inv2,
            prefix: self.prefix_stats(),
            ..self.counts
        }
    }

    /// A session's history.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn history(&self, id: &SessionId) -> Result<&[u32], EngineError> {
        Ok(self.store.get(id)?.history())
    }

    /// The recorded cached tokens of a session, in position order.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn cached_tokens(&self, id: &SessionId) -> Result<Vec<u32>, EngineError> {
        Ok(self.store.get(id)?.cached().iter().collect())
    }

    /// A session's end-of-sequence tokens.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn eos_token_ids(&self, id: &SessionId) -> Result<&[u32], EngineError> {
        Ok(self.store.get(id)?.eos_token_ids())
    }

    /// A session's label.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn label(&self, id: &SessionId) -> Result<&str, EngineError> {
        Ok(self.store.get(id)?.label())
    }

    /// A session's cache and next logits, to read.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn state(&self, id: &SessionId) -> Result<&SessionState, EngineError> {
        self.store
            .get(id)?
            .resource()
            .as_deref()
            .ok_or_else(|| internal("a session's state is missing"))
    }

    pub(crate) fn state_mut(&mut self, id: &SessionId) -> Result<&mut SessionState, EngineError> {
        self.store
            .get_mut(id)?
            .resource_mut()
            .as_deref_mut()
            .ok_or_else(|| internal("a session's state is missing"))
    }

    /// Refreshes a session's idle clock.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn touch(&mut self, id: &SessionId, now: Instant) -> Result<(), EngineError> {
        Ok(self.store.touch(id, now)?)
    }

    /// Makes room for `additional` tokens in a session's records, so that the steps to come allocate nothing.
    pub(crate) fn reserve(&mut self, id: &SessionId, additional: usize) -> Result<(), EngineError> {
        Ok(self.store.reserve(id, additional)?)
    }

    /// Marks a session as having work under way, which keeps it from being evicted, and says how it was marked.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn set_busy(&mut self, id: &SessionId, busy: bool) -> Result<bool, EngineError> {
        Ok(self.store.set_busy(id, busy)?)
    }

    /// Runs one session's tokens in a pass of its own.
    ///
    /// # Errors
    /// As [`Pass::outcome`].
    pub(crate) fn run_alone(
        &mut self,
        id: &SessionId,
        tokens: &[u32],
        last_logits: bool,
        now: Instant,
    ) -> Result<(), EngineError> {
        let mut pass = std::mem::take(&mut self.pass);
        pass.clear();
        pass.push(id, tokens, last_logits);
        self.run(&mut pass, now);
        let outcome = pass.outcome(0);
        self.pass = pass;
        outcome
    }

    pub(crate) fn take_state(&mut self, id: &SessionId) -> Result<Box<SessionState>, EngineError> {
        self.store
            .get_mut(id)?
            .resource_mut()
            .take()
            .ok_or_else(|| internal("a session's state is missing"))
    }

    pub(crate) fn forward(&mut self, batch: &mut [SequenceInput<'_>]) {
        self.compute.forward(&self.model, batch);
        self.counts.forward_passes += 1;
    }

    /// Gives a session its state back, records the tokens it has committed, and checks the invariants.
    pub(crate) fn put_back(
        &mut self,
        id: &SessionId,
        state: Box<SessionState>,
        tokens: &[u32],
        now: Instant,
    ) -> Result<(), EngineError> {
        let recorded = self.store.record(id, tokens, now);
        let checked = self.store.check(id, &state.verifier);
        *self.store.get_mut(id)?.resource_mut() = Some(state);
        recorded?;
        self.settle(id, checked)
    }

    /// Checks a session's invariants against what `inspector` reports of its cache. The engine does so with
    /// the cache itself after every change; the gates pass an inspector of their own to see that a violation
    /// is caught.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], or [`EngineError::Invariant`]: the session has then ended and its slab is
    /// free.
    pub fn check_invariants(
        &mut self,
        id: &SessionId,
        inspector: &dyn CacheInspector,
    ) -> Result<(), EngineError> {
        let checked = self.store.check(id, inspector);
        self.settle(id, checked)
    }

    fn settle(
        &mut self,
        id: &SessionId,
        checked: Result<(), kakeya_core::SessionError>,
    ) -> Result<(), EngineError> {
        let Err(violation) = checked else {
            return Ok(());
        };
        tracing::error!(session = %id, %violation, "the session ends: its cache is not what was recorded");
        self.distrust_prefixes(id);
        self.end(id, Ending::Violated)?;
        Err(violation.into())
    }

    pub(crate) fn end(&mut self, id: &SessionId, ending: Ending) -> Result<u64, EngineError> {
        let session = self.store.remove(id)?;
        let counts = &mut self.counts;
        *match ending {
            Ending::Closed => &mut counts.closed,
            Ending::Completed => &mut counts.completed,
            Ending::Abandoned => &mut counts.abandoned,
            Ending::Expired => &mut counts.evicted_ttl,
            Ending::Evicted => &mut counts.evicted_lru,
            Ending::Violated => &mut counts.violated,
        } += 1;
        let length = session.history().len() as u64;
        self.release(session.into_resource());
        (self.ends)(Ended {
            id,
            displaced: ending == Ending::Evicted,
        });
        Ok(length)
    }

    fn release(&mut self, state: Option<Box<SessionState>>) {
        let Some(state) = state else { return };
        if let Err(rejected) = self.pool.release(state.verifier.into_slab()) {
            tracing::error!(reason = %rejected, "a slab was not taken back");
        }
    }
}

/// The sequences and the rows of the largest pass.
fn largest_pass(config: &EngineConfig) -> (usize, usize) {
    let sequences = config.active.max(1);
    (sequences, MAX_CHUNK + sequences)
}

pub(crate) fn internal(detail: impl Into<String>) -> EngineError {
    EngineError::Internal {
        detail: detail.into(),
    }
}
