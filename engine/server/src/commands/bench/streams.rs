//! Streams of a real engine: its step loop, and somebody who reads what it sends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use kakeya_core::pipeline::Consumer;
use kakeya_core::{EngineError, EngineHandle, GenerateEvent, GenerateParams, Sampling};
use kakeya_model::Model;
use kakeya_runtime::EngineConfig;
use serde::Serialize;

use super::super::engine;
use super::super::options::EngineOptions;
use super::measure::HostTime;
use super::median;

/// Tokens of each stream's own prompt.
const STARTED_WITH: usize = 16;
/// Tokens of each stream before anything is timed.
pub(super) const WARM: usize = 16;

/// The figures of one number of streams.
#[derive(Debug, Serialize)]
pub(super) struct StreamsRow {
    pub(super) streams: usize,
    /// Of all streams together.
    pub(super) tokens_per_second: f64,
    /// The part of the time in which no GPU was at work on a pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host_share: Option<f64>,
}

/// Lets `count` streams generate `generated` tokens each, `repeat` times over, one after the other.
pub(super) fn measure(
    model: &Arc<Model>,
    options: &EngineOptions,
    prompt: &[u32],
    count: usize,
    (generated, repeat): (usize, usize),
) -> anyhow::Result<StreamsRow> {
    let config = EngineConfig {
        capacity: count,
        active: count,
        ..engine::config(options)
    };
    let (engine, thread) = engine::start(Arc::clone(model), config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let mut streams = Streams::open(&runtime, &engine, prompt, count)?;
    streams.gaps(WARM)?;
    let mut host = HostTime::default();
    let speeds = (0..repeat).map(|_| {
        let seconds: f64 = host.during(|| streams.gaps(generated))?.iter().sum();
        Ok((count * generated) as f64 / seconds)
    });
    let speeds = speeds.collect::<anyhow::Result<_>>()?;
    drop(streams);
    runtime.block_on(engine.shutdown(Duration::ZERO))?;
    thread.join();
    Ok(StreamsRow {
        streams: count,
        tokens_per_second: median(speeds),
        host_share: host.share(),
    })
}

/// Streams that are read in turn.
pub(super) struct Streams(Vec<Consumer<GenerateEvent, EngineError>>);

impl Streams {
    /// Opens `count` sessions that generate, greedily and without end.
    pub(super) fn open(
        runtime: &tokio::runtime::Runtime,
        engine: &EngineHandle,
        prompt: &[u32],
        count: usize,
    ) -> anyhow::Result<Self> {
        let prompt = &prompt[..prompt.len().min(STARTED_WITH)];
        let streams = (0..count).map(|_| runtime.block_on(stream(engine, prompt)));
        Ok(Self(streams.collect::<Result<_, _>>()?))
    }

    /// Reads `tokens` more of every stream. Returns the seconds between one token of the first and the next.
    pub(super) fn gaps(&mut self, tokens: usize) -> anyhow::Result<Vec<f64>> {
        let mut gaps = Vec::with_capacity(tokens);
        for _ in 0..tokens {
            let asked = Instant::now();
            for events in &mut self.0 {
                let event = events
                    .blocking_next()
                    .context("a stream ended while it was timed")??;
                anyhow::ensure!(
                    matches!(
                        event,
                        GenerateEvent::Token(_) | GenerateEvent::Truncated { .. }
                    ),
                    "a stream ended while it was timed: its session is as long as it can be"
                );
            }
            gaps.push(asked.elapsed().as_secs_f64());
        }
        Ok(gaps)
    }
}

async fn stream(
    engine: &EngineHandle,
    tokens: &[u32],
) -> Result<Consumer<GenerateEvent, EngineError>, EngineError> {
    let id = engine.create_session(String::new(), Vec::new()).await?;
    engine.append(id.clone(), tokens.to_vec()).await?;
    let params = GenerateParams::new(u32::MAX, Sampling::default());
    engine.generate(id, params).await
}
