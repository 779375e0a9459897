//! How an engine runs, and why it cannot.

use std::time::Duration;

use kakeya_core::{AdmissionPolicy, CacheConfig, ConfigError, KvElement, SlabError};
use kakeya_model::{Isa, ModelError};
use thiserror::Error;

/// How an engine runs.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineConfig {
    /// Sinks, window and positions.
    pub cache: CacheConfig,
    /// Element type of the KV cache.
    pub kv: KvElement,
    /// Sessions that can live at once; each has a slab from the start.
    pub capacity: usize,
    /// Compute threads.
    pub threads: usize,
    /// Instruction set of the kernels.
    pub isa: Isa,
    /// A session unused for this long ends.
    pub idle_ttl: Duration,
    /// Appends and generations at work at once, in shared passes.
    pub active: usize,
    /// What happens to those beyond.
    pub admission: AdmissionPolicy,
    /// The most bytes that beginnings of prompts are cached in, besides the slabs; 0 for no such cache. See
    /// [`crate::prefix`].
    pub prefix_cache_bytes: u64,
    /// Drafted tokens that a session may have in a pass, at most [`MAX_DRAFTS`](crate::speculation::MAX_DRAFTS): room is
    /// made for their logits. Who drafts is said by [`Engine::speculate`](crate::Engine::speculate).
    pub drafts: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            cache: CacheConfig::default(),
            kv: KvElement::F16,
            capacity: 16,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            isa: Isa::detect(),
            idle_ttl: Duration::from_secs(1800),
            active: 16,
            admission: AdmissionPolicy::Queue {
                max_wait: Duration::from_secs(60),
                cap: 256,
            },
            prefix_cache_bytes: 0,
            drafts: 0,
        }
    }
}

/// Why an engine cannot start.
#[derive(Debug, Error)]
pub enum EngineStartError {
    /// The cache policy makes no sense.
    #[error(transparent)]
    Cache(#[from] ConfigError),
    /// The slabs cannot be allocated.
    #[error(transparent)]
    Slabs(#[from] SlabError),
    /// The compute threads cannot start.
    #[error(transparent)]
    Compute(#[from] ModelError),
    /// The step loop's thread cannot start.
    #[error("cannot start the step loop: {0}")]
    Thread(#[from] std::io::Error),
}
