//! What Prometheus reads: `GET /metrics`, on the HTTP port and on one of its own.
//!
//! The engine is asked for its counts when somebody looks, so they are as they are at that moment, and the step loop
//! does nothing for them in between. Durations and sizes are histograms that it fills as it goes.

mod counts;
mod routes;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kakeya_core::{EngineHandle, EngineStats};
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use counts::Counts;
pub use routes::{router, serve};

/// How long the engine may take to tell its counts: a pass runs to its end first. After that the last ones are told.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is served, as labels of `kakeya_build_info`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Build {
    /// What the model is called.
    pub model: String,
    /// SHA-256 of its weights, in hex.
    pub model_sha256: String,
    /// The version of the numerics contract.
    pub numerics: u32,
}

/// All that is measured, to be read by many.
#[derive(Debug)]
pub struct Metrics {
    engine: EngineHandle,
    registry: Registry,
    counts: Arc<Mutex<Counts>>,
    /// Requests that wait before the engine has them.
    queues: Vec<Arc<AtomicUsize>>,
}

impl Metrics {
    /// What `engine` observes and counts, and what is served.
    #[must_use]
    pub fn new(engine: EngineHandle, build: Build) -> Self {
        let mut registry = Registry::default();
        let counts = Arc::<Mutex<Counts>>::default();
        engine.metrics().register(&mut registry);
        registry.register_collector(Box::new(counts::Collecting(Arc::clone(&counts))));
        let labels = vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("numerics", build.numerics.to_string()),
            ("model", build.model),
            ("model_sha256", build.model_sha256),
        ];
        registry.register(
            "kakeya_build",
            "What is served, and by what",
            Info::new(labels),
        );
        Self {
            engine,
            registry,
            counts,
            queues: Vec::new(),
        }
    }

    /// Counts requests that wait elsewhere among those that wait.
    #[must_use]
    pub fn with_queue(mut self, waiting: Arc<AtomicUsize>) -> Self {
        self.queues.push(waiting);
        self
    }

    /// Where more can be registered.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// All of it, in the Prometheus text format, version 0.0.4.
    pub async fn text(&self) -> String {
        let stats = tokio::time::timeout(PATIENCE, self.engine.stats()).await;
        let stats: Option<EngineStats> = stats.ok().and_then(Result::ok);
        let waiting: usize = self
            .queues
            .iter()
            .map(|queue| queue.load(Ordering::Relaxed))
            .sum();
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .renew(stats, waiting as u64);
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry).expect("a text takes everything");
        text
    }
}
