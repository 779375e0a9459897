//! Starting an engine: checked against the machine first.

use std::sync::Arc;

use kakeya_core::EngineHandle;
use kakeya_model::Model;
use kakeya_runtime::{Engine, EngineConfig, SinkWindowVerifier, StepLoop, StepLoopThread};

use super::memory::{self, MemoryLimit, MemoryNeed};
use super::options::EngineOptions;
use super::output::bytes;
use super::proposer::Proposing;

/// The engine settings that the shared flags give; the rest is the engine's default.
pub fn config(options: &EngineOptions) -> EngineConfig {
    EngineConfig {
        cache: options.cache,
        kv: options.kv,
        threads: options.compute.threads,
        isa: options.compute.isa,
        ..EngineConfig::default()
    }
}

/// Makes an engine that fits in so much memory, with all of its sessions in use, and says so in the log.
///
/// # Errors
/// The arithmetic, when they do not fit; or what the engine says.
pub fn within(
    limit: MemoryLimit,
    model: Arc<Model>,
    config: EngineConfig,
    proposing: &Proposing,
) -> anyhow::Result<Engine> {
    let need = proposing.need(need(&model, &config)?, &config)?;
    let room = limit.in_bytes()?;
    need.check_limit(room)?;
    tracing::info!(
        "memory: {need}, of {} (--memory-limit {limit})",
        bytes(room)
    );
    warn_beyond_context(&model, &config);
    let mut engine = Engine::new(model, config)?;
    proposing.start(&mut engine)?;
    Ok(engine)
}

/// Starts an engine whose sessions fit into this machine's memory, all of them.
///
/// # Errors
/// The arithmetic, when they do not fit; or what the engine says.
pub fn start(
    model: Arc<Model>,
    config: EngineConfig,
) -> anyhow::Result<(EngineHandle, StepLoopThread)> {
    start_with(model, config, &Proposing::None)
}

/// As [`start`], with a proposer.
///
/// # Errors
/// As [`start`], or what the proposer says.
pub fn start_with(
    model: Arc<Model>,
    config: EngineConfig,
    proposing: &Proposing,
) -> anyhow::Result<(EngineHandle, StepLoopThread)> {
    let need = proposing.need(need(&model, &config)?, &config)?;
    need.check(memory::machine_bytes()?)?;
    warn_beyond_context(&model, &config);
    let mut engine = Engine::new(model, config)?;
    proposing.start(&mut engine)?;
    Ok(StepLoop::start(engine)?)
}

/// What an engine with this configuration needs when all is in use.
///
/// # Errors
/// When a session's cache is larger than the address space.
pub fn need(model: &Model, config: &EngineConfig) -> anyhow::Result<MemoryNeed> {
    let shape = SinkWindowVerifier::layout_for(model, &config.cache).slab_shape(config.kv);
    Ok(MemoryNeed {
        capacity: config.capacity,
        slab_bytes: shape.bytes()? as u64,
        model_bytes: model.weight_bytes() as u64,
        scratch_bytes: Engine::scratch_bytes(model, config),
        prefix_bytes: config.prefix_cache_bytes,
        on_device: config.isa.is_gpu(),
    })
}

/// A cache longer than what the model was trained for works, and makes the model talk nonsense.
fn warn_beyond_context(model: &Model, config: &EngineConfig) {
    let context = model.config().context as u64;
    if let Some(cached) = config
        .cache
        .cached_limit()
        .filter(|cached| *cached > context)
    {
        tracing::warn!(
            cached,
            context,
            "--sink and --window keep more positions than the model was trained for"
        );
    }
}
