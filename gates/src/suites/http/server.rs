//! A server for one case, with both the engine and the routes in this process.

use std::sync::Arc;
use std::time::Duration;

use kakeya_core::EngineHandle;
use kakeya_model::tokenizer::Tokenizer;
use kakeya_runtime::{EngineConfig, SnapshotCodec, StepLoop, StepLoopThread};
use kakeya_server::door::Guard;
use kakeya_server::http::shim::{ServedModel, Shim, Slots, serve};
use kakeya_server::metrics::{Build, Metrics};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::context::SuiteContext;
use crate::suites::support::{PATIENCE, block_on};
use crate::{Tier, ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

/// The server of one case.
pub(in crate::suites) struct Served {
    /// Where it listens, as clients write it.
    pub(in crate::suites) base_url: String,
    /// What requests call the model.
    pub(in crate::suites) model: String,
    /// The engine behind the routes, for what they do not tell.
    pub(in crate::suites) engine: EngineHandle,
    /// Says that the server is told to stop.
    pub(in crate::suites) stopping: CancellationToken,
    drained: CancellationToken,
    routes: JoinHandle<()>,
    step_loop: StepLoopThread,
}

/// How long a request may wait for a place, and how many may.
#[derive(Debug, Clone, Copy)]
pub(in crate::suites) struct Queue {
    pub(in crate::suites) cap: usize,
    pub(in crate::suites) max_wait: Duration,
}

impl Queue {
    /// Nobody is turned away.
    pub(in crate::suites) const PATIENT: Self = Self {
        cap: 1000,
        max_wait: PATIENCE,
    };
    /// Nobody waits.
    pub(in crate::suites) const NONE: Self = Self {
        cap: 0,
        max_wait: Duration::ZERO,
    };
}

impl Served {
    /// Starts one, which [`Served::stop`] stops.
    pub(in crate::suites) async fn start(
        context: &SuiteContext,
        config: EngineConfig,
        queue: Queue,
        guard: Guard,
    ) -> Result<Self, CaseFailure> {
        let model = context.model()?;
        let weights = context.model_sha256().to_owned();
        let codec = SnapshotCodec::new(model.clone(), &config, weights, String::new())?;
        // As models are called that have an owner.
        let name = format!("served/{}", context.model_name());
        let tokenizer = Tokenizer::of(model.source())?;
        let served = ServedModel::new(name.clone(), model, tokenizer, codec.settings());
        let slots = Slots::new(config.capacity, queue.cap, queue.max_wait);
        let (engine, step_loop) = StepLoop::spawn(model.clone(), config)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let base_url = format!("http://{}", listener.local_addr()?);
        let (stopping, drained) = (CancellationToken::new(), CancellationToken::new());
        let build = Build {
            model: name.clone(),
            model_sha256: context.model_sha256().to_owned(),
            numerics: codec.settings().numerics,
        };
        let metrics = Metrics::new(engine.clone(), build).with_queue(slots.waiting());
        let shim = Shim {
            engine: engine.clone(),
            model: Arc::new(served),
            slots,
            metrics: Arc::new(metrics),
            stopping: stopping.clone(),
        };
        let flush = Duration::from_secs(5);
        let served = serve(listener, Arc::new(shim), guard, drained.clone(), flush);
        let routes = tokio::spawn(served);
        Ok(Self {
            base_url,
            model: name,
            engine,
            stopping,
            drained,
            routes,
            step_loop,
        })
    }

    /// Waits until no session is left, however long ago its client has gone.
    pub(in crate::suites) async fn ensure_nothing_left(&self) -> CaseResult {
        loop {
            let stats = self.engine.stats().await?;
            if (stats.sessions, stats.queued, stats.active) == (0, 0, 0) {
                ensure_eq!(stats.free_slabs, stats.capacity, "free slabs at the end");
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Closes the sessions that clients have opened and not closed, which is their right: nothing is at work in them soon
    /// after the last client has gone.
    pub(in crate::suites) async fn close_what_is_open(&self) -> CaseResult {
        loop {
            let stats = self.engine.stats().await?;
            if (stats.queued, stats.active) == (0, 0) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for session in self.engine.list().await? {
            ensure!(!session.busy, "session {} is still at work", session.id);
            self.engine.close(session.id).await?;
        }
        Ok(())
    }

    /// Stops it, whatever it is doing.
    pub(in crate::suites) async fn stop(self) -> CaseResult {
        self.stopping.cancel();
        // A case may have stopped it already.
        drop(self.engine.shutdown(PATIENCE).await);
        drop(self.engine);
        self.drained.cancel();
        timeout(PATIENCE, self.routes).await??;
        let joined = tokio::task::spawn_blocking(|| self.step_loop.join());
        timeout(PATIENCE, joined).await??;
        Ok(())
    }
}

/// Runs a case against a server of its own, requires that no session is left behind, and stops the server.
pub(in crate::suites) fn serving(
    context: &SuiteContext,
    config: EngineConfig,
    queue: Queue,
    case: impl AsyncFnOnce(&Served) -> CaseResult,
) -> CaseResult {
    serving_behind(context, config, queue, Guard::default(), case)
}

/// [`serving`], behind a guard.
pub(in crate::suites) fn serving_behind(
    context: &SuiteContext,
    config: EngineConfig,
    queue: Queue,
    guard: Guard,
    case: impl AsyncFnOnce(&Served) -> CaseResult,
) -> CaseResult {
    let limit = match context.tier() {
        Tier::Fast => PATIENCE,
        Tier::Full => PATIENCE * 10,
    };
    serving_within(limit, context, config, (queue, guard), case)
}

/// [`serving_behind`], for a case that may take so long.
pub(in crate::suites) fn serving_within(
    limit: Duration,
    context: &SuiteContext,
    config: EngineConfig,
    (queue, guard): (Queue, Guard),
    case: impl AsyncFnOnce(&Served) -> CaseResult,
) -> CaseResult {
    block_on(limit, async {
        let served = Served::start(context, config, queue, guard).await?;
        case(&served).await?;
        if !served.stopping.is_cancelled() {
            served.ensure_nothing_left().await?;
        }
        served.stop().await
    })
}

/// Four sessions with the default cache, and room for prompts, as `kakeya serve` has.
pub(in crate::suites) fn four(context: &SuiteContext) -> EngineConfig {
    EngineConfig {
        capacity: 4,
        threads: context.threads(),
        isa: context.isa(),
        prefix_cache_bytes: 128 << 20,
        ..EngineConfig::default()
    }
}
