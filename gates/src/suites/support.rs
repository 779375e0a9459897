//! What the session suites share: small engines, token histories, a fresh verifier to compare a session with,
//! and a generation run to its end.
//!
//! Windows are small here, so that a few dozen tokens cross the trim boundary.

use std::time::{Duration, Instant};

use futures::FutureExt;
use kakeya_core::pipeline::bounded;
use kakeya_core::{
    CacheConfig, Consumer, EngineError, GenerateDone, GenerateEvent, GenerateParams,
    PositionPolicy, Sampling, SessionId, SlabPool, Window,
};
use kakeya_model::tokenizer::Tokenizer;
use kakeya_model::{Compute, ComputeOptions, LogitRows, ModelConfig};
use kakeya_runtime::digest::kv_sha256;
use kakeya_runtime::generate::Step;
use kakeya_runtime::{
    AppendCoordinator, Engine, EngineConfig, GenerationCoordinator, SinkWindowVerifier,
};
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

use crate::context::SuiteContext;
use crate::{ensure, ensure_eq, ensure_same_bits, ensure_same_tokens};
use kakeya_suite::{CaseFailure, CaseResult};

/// Sinks and window of the small engines.
pub(super) const SMALL: CacheConfig = CacheConfig {
    sink: 4,
    window: Window::Sliding(32),
    positions: PositionPolicy::Streaming,
};

/// Positions that [`SMALL`] keeps.
pub(super) const SMALL_LIMIT: usize = 4 + 32;

/// Four sessions under [`SMALL`], on the threads and the instruction set of the suite.
pub(super) fn small(context: &SuiteContext) -> EngineConfig {
    EngineConfig {
        cache: SMALL,
        capacity: 4,
        threads: context.threads(),
        isa: context.isa(),
        ..EngineConfig::default()
    }
}

/// An engine over the suite's model.
pub(super) fn engine_with(
    context: &SuiteContext,
    config: EngineConfig,
) -> Result<Engine, CaseFailure> {
    Ok(Engine::new(context.model()?.clone(), config)?)
}

/// An engine as [`small`] says.
pub(super) fn engine(context: &SuiteContext) -> Result<Engine, CaseFailure> {
    engine_with(context, small(context))
}

/// A session without end-of-sequence tokens.
pub(super) fn open(engine: &mut Engine) -> Result<SessionId, EngineError> {
    engine.create_session(Instant::now(), String::new(), Vec::new())
}

/// A session that holds `tokens`.
pub(super) fn open_with(engine: &mut Engine, tokens: &[u32]) -> Result<SessionId, EngineError> {
    let id = open(engine)?;
    AppendCoordinator::append(engine, &id, tokens)?;
    Ok(id)
}

/// The first `count` tokens of the committed English text.
pub(super) fn prose(context: &SuiteContext, count: usize) -> Result<Vec<u32>, CaseFailure> {
    golden_text(context, "history-prose.txt", count)
}

/// The first `count` tokens of a text among the goldens.
pub(super) fn golden_text(
    context: &SuiteContext,
    file: &str,
    count: usize,
) -> Result<Vec<u32>, CaseFailure> {
    let text = std::fs::read_to_string(context.goldens().join(file))?;
    let mut tokens = Tokenizer::of(context.model()?.source())?.encode(&text, false)?;
    ensure!(
        tokens.len() >= count,
        "{file} has {} tokens, and {count} are asked for",
        tokens.len()
    );
    tokens.truncate(count);
    Ok(tokens)
}

/// `count` pseudo-random ids of the model's vocabulary, the same for the same seed.
pub(super) fn random_ids(
    context: &SuiteContext,
    seed: u64,
    count: usize,
) -> Result<Vec<u32>, CaseFailure> {
    let vocabulary = context.model()?.config().vocabulary as u32;
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    Ok((0..count)
        .map(|_| generator.next_u32() % vocabulary)
        .collect())
}

/// The tokens that a cache under `cache` keeps of `history`, by the rule as the design words it.
pub(super) fn kept(cache: &CacheConfig, history: &[u32]) -> Vec<u32> {
    let positions = kept_positions(cache, history.len() as u64);
    positions
        .map(|position| history[position as usize])
        .collect()
}

fn kept_positions(cache: &CacheConfig, length: u64) -> impl Iterator<Item = u64> + use<> {
    let (sink, window) = match cache.window {
        Window::Sliding(window) => (u64::from(cache.sink), u64::from(window)),
        Window::Full => (0, length),
    };
    (0..length).filter(move |position| *position < sink || position + window >= length)
}

/// The positions of a history of `length` that one layer keeps: those of the policy, or of a window of its own.
pub(super) fn kept_in_layer(
    model: &ModelConfig,
    layer: usize,
    cache: &CacheConfig,
    length: u64,
) -> Vec<u64> {
    let own = model.kinds[layer].window.map(|window| CacheConfig {
        sink: 0,
        window: Window::Sliding(window as u32),
        positions: cache.positions,
    });
    kept_positions(&own.unwrap_or(*cache), length).collect()
}

/// Bytes of keys and values that a session of `length` tokens uses, by the same rule; `vector` are those of one key.
pub(super) fn kept_bytes(
    model: &ModelConfig,
    cache: &CacheConfig,
    length: u64,
    vector: usize,
) -> u64 {
    let positions: usize = (0..model.layers)
        .map(|layer| kept_in_layer(model, layer, cache, length).len())
        .sum();
    (positions * model.kv_heads * 2 * vector) as u64
}

/// What a verifier that never saw anything else holds after some tokens.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) logits: Vec<f32>,
    pub(super) kv_sha256: String,
}

/// Runs `tokens` through a verifier of its own, with a slab and threads of its own.
pub(super) fn fresh(
    context: &SuiteContext,
    config: &EngineConfig,
    tokens: &[u32],
) -> Result<Fresh, CaseFailure> {
    let model = context.model()?;
    let layout = SinkWindowVerifier::layout_for(model, &config.cache);
    let slab = SlabPool::new(layout.slab_shape(config.kv), 1)?.acquire()?;
    let mut compute = Compute::new(ComputeOptions {
        threads: config.threads,
        isa: config.isa,
    })?;
    let mut verifier = SinkWindowVerifier::new(model.clone(), config.cache, layout, slab)?;
    verifier.prefill(&mut compute, tokens, LogitRows::Last);
    let logits = match tokens {
        [] => Vec::new(),
        _ => compute.logits(0).to_vec(),
    };
    Ok(Fresh {
        logits,
        kv_sha256: kv_sha256(&verifier),
    })
}

/// Requires that a session holds exactly `tokens`: in its history, in its record of the cache, in its
/// position, and bit for bit in the keys, the values and the next logits of a fresh verifier.
pub(super) fn ensure_holds(
    context: &SuiteContext,
    engine: &Engine,
    id: &SessionId,
    tokens: &[u32],
) -> CaseResult {
    let cache = engine.config().cache;
    let state = engine.state(id)?;
    let expected = fresh(context, engine.config(), tokens)?;
    ensure_eq!(engine.history(id)?, tokens, "the history");
    ensure_eq!(
        engine.cached_tokens(id)?,
        kept(&cache, tokens),
        "the recorded cached tokens"
    );
    ensure_eq!(
        state.verifier.position(),
        tokens.len() as u64,
        "the position"
    );
    ensure_eq!(
        kv_sha256(&state.verifier),
        expected.kv_sha256,
        "the keys and values after {} tokens",
        tokens.len()
    );
    if tokens.is_empty() {
        ensure_eq!(state.next_logits.len(), 0, "logits of an empty session");
        return Ok(());
    }
    let what = format!("the next logits after {} tokens", tokens.len());
    ensure_same_bits(&what, &state.next_logits, &expected.logits)
}

/// All that a session is, except how long it has been idle.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    history: Vec<u32>,
    cached: Vec<u32>,
    position: u64,
    live_bytes: u64,
    kv_sha256: String,
    next_logits: Vec<u32>,
}

/// What a session is now.
pub(super) fn snapshot(engine: &Engine, id: &SessionId) -> Result<Snapshot, CaseFailure> {
    let state = engine.state(id)?;
    Ok(Snapshot {
        history: engine.history(id)?.to_vec(),
        cached: engine.cached_tokens(id)?,
        position: state.verifier.position(),
        live_bytes: state.verifier.kv_live_bytes(),
        kv_sha256: kv_sha256(&state.verifier),
        next_logits: state.next_logits.iter().map(|x| x.to_bits()).collect(),
    })
}

/// Requires that a call was refused with `expected`.
pub(super) fn ensure_refused<T>(
    what: &str,
    answer: Result<T, EngineError>,
    expected: &EngineError,
) -> CaseResult {
    match answer {
        Ok(_) => Err(CaseFailure::violated(format!(
            "{what} was accepted, and had to be refused: {expected}"
        ))),
        Err(error) => {
            ensure_eq!(error, *expected, "the answer to {what}");
            Ok(())
        }
    }
}

/// The answer that an ended session gives.
pub(super) fn not_found(id: &SessionId) -> EngineError {
    EngineError::NotFound { id: id.to_string() }
}

/// Requires that every call on `id` answers that there is no such session.
pub(super) fn ensure_ended(engine: &mut Engine, id: &SessionId) -> CaseResult {
    let now = Instant::now();
    let gone = not_found(id);
    ensure_refused("info", engine.info(id, now), &gone)?;
    ensure_refused("history", engine.history(id).map(<[u32]>::len), &gone)?;
    let append = AppendCoordinator::append(engine, id, &[1]);
    ensure_refused("append", append, &gone)?;
    let empty = AppendCoordinator::append(engine, id, &[]);
    ensure_refused("an empty append", empty, &gone)?;
    let generation = GenerationCoordinator::begin(engine, id, greedy(1), now);
    ensure_refused("generate", generation, &gone)?;
    ensure_refused("close", engine.close_session(id), &gone)
}

/// Greedy decoding.
pub(super) fn greedy(max_tokens: u32) -> GenerateParams {
    GenerateParams::new(max_tokens, Sampling::default())
}

/// Sampling hot enough that two streams that differ in anything differ in their tokens.
pub(super) fn seeded(max_tokens: u32, seed: u64) -> GenerateParams {
    let sampling = Sampling {
        temperature: 1.5,
        seed: Some(seed),
        ..Sampling::default()
    };
    GenerateParams::new(max_tokens, sampling)
}

/// The events of one generation, in the order that the contract asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Generated {
    pub(super) truncated: Option<u64>,
    pub(super) tokens: Vec<u32>,
    pub(super) done: GenerateDone,
}

impl Generated {
    /// Reads events in order: `Truncated` at most once and first, tokens, `Done` once and last with their
    /// count.
    pub(super) fn read(events: &[GenerateEvent]) -> Result<Self, CaseFailure> {
        let (truncated, rest) = match events {
            [GenerateEvent::Truncated { dropped }, rest @ ..] => (Some(*dropped), rest),
            rest => (None, rest),
        };
        let Some((GenerateEvent::Done(done), rest)) = rest.split_last() else {
            return Err(CaseFailure::violated(format!(
                "the last event is not `done`: {events:?}"
            )));
        };
        let mut tokens = Vec::with_capacity(rest.len());
        for event in rest {
            let GenerateEvent::Token(token) = event else {
                return Err(CaseFailure::violated(format!(
                    "{event:?} among the tokens: {events:?}"
                )));
            };
            tokens.push(token.id);
        }
        ensure_eq!(
            done.generated as usize,
            tokens.len(),
            "the count that `done` gives"
        );
        ensure!(
            done.prefill <= done.total,
            "the first token came after {:?}, and all was over after {:?}",
            done.prefill,
            done.total
        );
        Ok(Self {
            truncated,
            tokens,
            done: *done,
        })
    }

    /// Requires the stop reason and the tokens of `expected`.
    pub(super) fn ensure_same_as(&self, what: &str, expected: &Self) -> CaseResult {
        ensure_same_tokens(what, &self.tokens, &expected.tokens)?;
        ensure_eq!(
            self.done.reason,
            expected.done.reason,
            "{what}, the stop reason"
        );
        Ok(())
    }
}

/// What is in the pipeline of a generation that is over, or has been stopped.
pub(super) fn drain(
    consumer: &mut Consumer<GenerateEvent, EngineError>,
) -> Result<Vec<GenerateEvent>, CaseFailure> {
    let mut events = Vec::new();
    loop {
        // Unconstrained, because a task's budget would make a channel with items in it look empty.
        match tokio::task::unconstrained(consumer.next()).now_or_never() {
            Some(Some(Ok(event))) => events.push(event),
            Some(Some(Err(error))) => return Err(error.into()),
            Some(None) | None => return Ok(events),
        }
    }
}

/// What comes of a generation of a step loop, up to its end.
pub(super) async fn finish(
    mut events: Consumer<GenerateEvent, EngineError>,
) -> Result<Generated, CaseFailure> {
    let mut all = Vec::new();
    while let Some(event) = events.next().await {
        all.push(event?);
    }
    Generated::read(&all)
}

/// Runs a generation to its end.
pub(super) fn generate(
    engine: &mut Engine,
    id: &SessionId,
    params: GenerateParams,
) -> Result<Generated, CaseFailure> {
    let (events, mut consumer) = bounded(params.max_tokens as usize + 1);
    let mut generation = GenerationCoordinator::begin(engine, id, params, Instant::now())?;
    let reason = loop {
        match generation.step(engine, &events, Instant::now())? {
            Step::Progress => {}
            Step::Finished(reason) => break reason,
            Step::Blocked => {
                return Err(CaseFailure::violated("blocked with room for every event"));
            }
        }
    };
    events.finish_with(generation.done(reason));
    Generated::read(&drain(&mut consumer)?)
}

/// What a session that is alone in an engine of its own generates after `prompt`.
pub(super) fn solo(
    context: &SuiteContext,
    config: &EngineConfig,
    prompt: &[u32],
    params: GenerateParams,
) -> Result<Generated, CaseFailure> {
    let alone = EngineConfig {
        capacity: 1,
        ..config.clone()
    };
    let mut engine = engine_with(context, alone)?;
    let id = open_with(&mut engine, prompt)?;
    generate(&mut engine, &id, params)
}

/// The longest that a case waits for what must come: long enough for a machine under load.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// Drives a case that awaits. What does not come within [`PATIENCE`] fails it.
pub(super) fn block_on(limit: Duration, case: impl Future<Output = CaseResult>) -> CaseResult {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async { tokio::time::timeout(limit, case).await });
    // What a failed case left running must not hold up the cases after it.
    runtime.shutdown_background();
    ended.unwrap_or_else(|_| {
        Err(CaseFailure::violated(format!(
            "the case did not end within {limit:?}"
        )))
    })
}
