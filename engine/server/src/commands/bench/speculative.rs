//! Decoding with and without a proposer: the same tokens, in turn.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use kakeya_core::{EngineHandle, GenerateEvent, GenerateParams, Sampling, SpeculationStats};
use kakeya_model::Model;
use kakeya_model::tokenizer::Tokenizer;
use kakeya_runtime::{EngineConfig, StepLoopThread};
use serde::Serialize;

use super::super::options::EngineOptions;
use super::super::proposer::Proposing;
use super::super::{Failure, engine};
use super::median;

/// What the proposer was worth.
#[derive(Debug, Serialize)]
pub struct Speculative {
    pub proposer: String,
    /// Tokens before those that were generated.
    pub prompt: usize,
    /// Tokens that were generated in each run, the same with and without.
    pub generated: usize,
    pub plain_tokens_per_second: f64,
    pub tokens_per_second: f64,
    /// Times as fast as plain decoding: the median over pairs of runs.
    pub speedup: f64,
    /// Of the tokens that were verified, the share that was accepted; `null` where none was.
    pub acceptance_rate: Option<f64>,
    /// Tokens that a step with drafts gave; `null` where there was none.
    pub tokens_per_verification: Option<f64>,
    pub drafted: u64,
    pub accepted: u64,
    pub verifications: u64,
}

/// The tokens of a text to continue.
pub(super) fn prompt(path: &Path, tokenizer: &Tokenizer) -> anyhow::Result<Vec<u32>> {
    let named = || format!("--text {}", path.display());
    let text = std::fs::read_to_string(path).with_context(named)?;
    let tokens = tokenizer.encode_prompt(&text, true).with_context(named)?;
    if tokens.is_empty() {
        bail!("{}: the file has no text to continue", named());
    }
    Ok(tokens)
}

/// Generates the same tokens without and with the proposer, `repeat` times in turn.
pub fn measure(
    model: &Arc<Model>,
    options: &EngineOptions,
    (proposer, drafts): (String, usize),
    proposing: &Proposing,
    prompt: &[u32],
    (generated, repeat): (usize, usize),
) -> Result<Speculative, Failure> {
    // Each of the two has threads that wait for work, and the machine is theirs in turn.
    let mut plain = Run::start(model, options, 0, &Proposing::None)?;
    let mut guessed = Run::start(model, options, drafts, proposing)?;
    let (mut times, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
    for round in 0..repeat {
        // Neither is always the second, on a machine that may have warmed up or slowed down by then.
        let first = (round % 2 == 1).then(|| guessed.generate(prompt, generated));
        let (expected, without) = plain.generate(prompt, generated)?;
        let second = first.unwrap_or_else(|| guessed.generate(prompt, generated));
        let (tokens, with) = second?;
        if tokens != expected {
            return Err(anyhow::anyhow!(
                "speculation has changed a token: please report this with the command"
            )
            .into());
        }
        times[0].push(without);
        times[1].push(with);
        ratios.push(with / without);
    }
    let SpeculationStats {
        verifications,
        drafted,
        accepted,
        ..
    } = guessed.counts()?;
    plain.stop()?;
    guessed.stop()?;
    let [without, with] = times.map(median);
    let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
    Ok(Speculative {
        proposer,
        prompt: prompt.len(),
        generated,
        plain_tokens_per_second: without,
        tokens_per_second: with,
        speedup: median(ratios),
        acceptance_rate: share(accepted, drafted),
        tokens_per_verification: share(verifications + accepted, verifications),
        drafted,
        accepted,
        verifications,
    })
}

/// An engine with one session at a time.
struct Run {
    engine: EngineHandle,
    thread: StepLoopThread,
    runtime: tokio::runtime::Runtime,
}

impl Run {
    fn start(
        model: &Arc<Model>,
        options: &EngineOptions,
        drafts: usize,
        proposing: &Proposing,
    ) -> anyhow::Result<Self> {
        let config = EngineConfig {
            capacity: 1,
            active: 1,
            drafts,
            ..engine::config(options)
        };
        let (engine, thread) = engine::start_with(Arc::clone(model), config, proposing)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        Ok(Self {
            engine,
            thread,
            runtime,
        })
    }

    /// The tokens, and how many came in a second after the first.
    fn generate(&mut self, prompt: &[u32], count: usize) -> anyhow::Result<(Vec<u32>, f64)> {
        let sampling = Sampling {
            temperature: 0.0,
            ..Sampling::default()
        };
        let params = GenerateParams::new(u32::try_from(count)?, sampling);
        let engine = &self.engine;
        self.runtime.block_on(async {
            let session = engine.create_session(String::new(), Vec::new()).await?;
            engine.append(session.clone(), prompt.to_vec()).await?;
            let mut events = engine.generate(session.clone(), params).await?;
            let mut tokens = Vec::with_capacity(count);
            loop {
                let event = events
                    .next()
                    .await
                    .context("the generation ended without saying how")?;
                match event.map_err(|error| anyhow::anyhow!("{error}"))? {
                    GenerateEvent::Token(token) => tokens.push(token.id),
                    GenerateEvent::Truncated { .. } => {}
                    GenerateEvent::Done(done) => {
                        engine.close(session).await?;
                        let seconds = (done.total - done.prefill).as_secs_f64();
                        let rate = tokens.len().saturating_sub(1) as f64 / seconds;
                        return Ok((tokens, rate));
                    }
                }
            }
        })
    }

    fn counts(&self) -> anyhow::Result<SpeculationStats> {
        Ok(self.runtime.block_on(self.engine.stats())?.speculation)
    }

    fn stop(self) -> anyhow::Result<()> {
        self.runtime
            .block_on(self.engine.shutdown(Duration::ZERO))?;
        self.thread.join();
        Ok(())
    }
}
