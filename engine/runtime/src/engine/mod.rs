//! What every session of one process shares: the model, the compute threads, the slabs and the store.

mod known;
mod lives;
mod steps;

use std::sync::Arc;

use kakeya_core::{
    Ended, EngineError, EngineMetrics, EngineStats, PrefixIndex, SessionStore, SlabPool,
    StoreLimits,
};
use kakeya_model::{Compute, ComputeOptions, CudaError, KeptLogits, KvLayout, Model, PassSize};

use crate::config::{EngineConfig, EngineStartError};
use crate::generate::HISTORY_AHEAD;
use crate::pass::Pass;
use crate::prefix::{KeptPrefix, Sharing};
use crate::speculation::{MAX_DRAFTED_ROWS, Speculation, Speculator};
use crate::verifier::{SinkWindowVerifier, longest_append};
pub(crate) use lives::Ending;

/// What a session holds of the engine.
#[derive(Debug)]
pub struct SessionState {
    /// Its cache and position.
    pub verifier: SinkWindowVerifier,
    /// The logits for its next token; empty while its history is.
    pub next_logits: KeptLogits,
    /// What the last layer made of its last token, where a proposer asks for it; else empty, and in a session that was
    /// restored before its first step.
    pub(crate) last_state: Vec<f32>,
    /// If it is one of those that begin with what others have left.
    pub(crate) sharing: Option<Sharing>,
    /// Who guesses how it goes on, from its first generation on.
    pub(crate) speculator: Option<Box<Speculator>>,
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
    speculation: Option<Speculation>,
}

/// Who is told of sessions that end.
pub type Ends = Box<dyn Fn(Ended<'_>) + Send>;

impl Engine {
    /// Allocates every slab and starts the compute threads.
    ///
    /// # Errors
    /// When the policy is invalid, the slabs' size overflows, or a thread cannot start.
    pub fn new(model: Arc<Model>, config: EngineConfig) -> Result<Self, EngineStartError> {
        config.cache.validate()?;
        let layout = SinkWindowVerifier::layout_for(&model, &config.cache);
        let mut compute = Compute::new(ComputeOptions {
            threads: config.threads,
            isa: config.isa,
        })?;
        let (shape, largest) = (layout.slab_shape(config.kv), largest_pass(&config));
        compute.check_room(&model, shape, config.capacity, largest)?;
        let pool = SlabPool::of(shape, config.capacity, || compute.storage(shape))?;
        compute.reserve(&model, &layout, largest)?;
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
            speculation: None,
        })
    }

    /// Tells `ends` of every session that ends from now on, before anybody else can know. It must not take long.
    pub fn tell_ends(&mut self, ends: Ends) {
        self.ends = ends;
    }

    /// Lets tokens be guessed, as far as [`EngineConfig::drafts`] makes room for it. It changes no token.
    pub fn speculate(&mut self, speculation: Speculation) {
        self.speculation = Some(speculation);
    }

    /// Whether a proposer asks for the model's states.
    pub(crate) fn wants_states(&self) -> bool {
        let speculation = self.speculation.as_ref();
        speculation.is_some_and(|speculation| speculation.proposers.wants_states())
    }

    pub(crate) fn speculation(&self) -> Option<&Speculation> {
        self.speculation.as_ref()
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
        let options = ComputeOptions {
            threads: config.threads,
            isa: config.isa,
        };
        let scratch = Compute::scratch_bytes(options, model, &layout, largest_pass(config));
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

    /// Why the last pass failed, if it did.
    pub(crate) fn fault(&self) -> Option<&CudaError> {
        self.compute.fault()
    }

    /// Why nothing can be computed any more, if a GPU has failed.
    pub(crate) fn lost(&self) -> Option<&CudaError> {
        self.compute.lost()
    }

    /// The threads and kernels. For the gates, which delay and poison them.
    pub fn compute_mut(&mut self) -> &mut Compute {
        &mut self.compute
    }
}

/// The largest pass. One with drafts has no prompts.
fn largest_pass(config: &EngineConfig) -> PassSize {
    let sequences = config.active.max(1);
    PassSize {
        sequences,
        rows: longest_append(config.isa) + sequences,
        logits: sequences + MAX_DRAFTED_ROWS.min(sequences * config.drafts),
    }
}

pub(crate) fn internal(detail: impl Into<String>) -> EngineError {
    EngineError::Internal {
        detail: detail.into(),
    }
}
