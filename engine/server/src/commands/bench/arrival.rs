//! How long streams wait for their tokens while somebody else's prompt is read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kakeya_model::Model;
use kakeya_runtime::EngineConfig;
use serde::Serialize;

use super::super::engine;
use super::super::options::EngineOptions;
use super::streams::{Streams, WARM};

/// Streams that wait.
pub(super) const STREAMS: usize = 4;
/// Tokens of each stream that are timed before the prompt arrives.
const QUIET: usize = 64;

/// Times between two tokens of one stream, in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Arrival {
    /// Streams that decode.
    pub(super) streams: usize,
    /// Tokens of the prompt that arrives.
    pub(super) prompt: usize,
    /// Seconds until it was read.
    pub(super) prompt_seconds: f64,
    /// Without the prompt.
    pub(super) quiet: Gaps,
    /// While it is read.
    pub(super) beside: Gaps,
    /// `beside` over `quiet`, both in the median.
    pub(super) slowdown: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Gaps {
    pub(super) median_ms: f64,
    pub(super) p95_ms: f64,
    pub(super) longest_ms: f64,
}

impl Gaps {
    /// `seconds` has at least one.
    fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let last = seconds.len() - 1;
        // The nearest rank: the least value with so many at or below it.
        let at = |share: f64| 1e3 * seconds[(share * seconds.len() as f64).ceil() as usize - 1];
        Self {
            median_ms: at(0.5),
            p95_ms: at(0.95),
            longest_ms: 1e3 * seconds[last],
        }
    }
}

/// Starts an engine, lets [`STREAMS`] sessions stream, and appends `prompt` to another meanwhile.
pub(super) fn measure(
    model: &Arc<Model>,
    options: &EngineOptions,
    prompt: &[u32],
) -> anyhow::Result<Arrival> {
    let config = EngineConfig {
        capacity: STREAMS + 1,
        active: STREAMS + 1,
        ..engine::config(options)
    };
    let (engine, thread) = engine::start(Arc::clone(model), config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let mut streams = Streams::open(&runtime, &engine, prompt, STREAMS)?;
    let reader = runtime.block_on(engine.create_session(String::new(), Vec::new()))?;
    streams.gaps(WARM)?;
    let quiet = streams.gaps(QUIET)?;

    let (other, tokens) = (engine.clone(), prompt.to_vec());
    let begun = Instant::now();
    let append = std::thread::spawn(move || -> anyhow::Result<Duration> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(other.append(reader, tokens))?;
        Ok(begun.elapsed())
    });
    let mut beside = Vec::new();
    while !append.is_finished() {
        beside.extend(streams.gaps(1)?);
    }
    let took = append
        .join()
        .map_err(|_| anyhow::anyhow!("the thread that appends has panicked"))??;
    drop(streams);
    runtime.block_on(engine.shutdown(Duration::ZERO))?;
    thread.join();
    anyhow::ensure!(
        !beside.is_empty(),
        "--arriving {}: the prompt was read before a stream had a token",
        prompt.len()
    );
    let (quiet, beside) = (Gaps::of(quiet), Gaps::of(beside));
    Ok(Arrival {
        streams: STREAMS,
        prompt: prompt.len(),
        prompt_seconds: took.as_secs_f64(),
        slowdown: beside.median_ms / quiet.median_ms,
        quiet,
        beside,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_told_by_nearest_rank() {
        let gaps = Gaps::of((1..=20).rev().map(|ms| f64::from(ms) / 1e3).collect());
        assert_eq!(gaps.median_ms.round(), 10.0);
        assert_eq!(gaps.p95_ms.round(), 19.0);
        assert_eq!(gaps.longest_ms.round(), 20.0);
        assert_eq!(Gaps::of(vec![0.5]).p95_ms, 500.0);
    }
}
