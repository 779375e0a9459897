//! Prefill and decode of one session, and of several together.

use std::time::Instant;

use kakeya_core::{CacheConfig, SessionId, Window};
use kakeya_runtime::sampler::greedy;
use kakeya_runtime::{AppendCoordinator, Engine, EngineConfig, Pass};

use crate::context::SuiteContext;
use crate::ensure_same_tokens;
use crate::suite::Case;
use crate::suites::support::{engine_with, open, open_with, random_ids};
use kakeya_suite::{CaseFailure, CaseResult};

/// The lengths that llama.cpp's own benchmarks are mostly quoted at.
const PROMPT: usize = 512;
const GENERATED: usize = 64;
const DEEP: usize = 2048;
const SESSIONS: usize = 8;
const BATCH_PROMPT: usize = 128;

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast("prefill_and_decode", |ctx: &SuiteContext| at_depth(ctx, 0)),
        Case::fast("prefill_and_decode_at_depth_2048", |ctx: &SuiteContext| {
            at_depth(ctx, DEEP)
        }),
        Case::fast("eight_sessions_in_the_same_passes", batched),
    ]
}

/// Everything is seen, as in other engines.
fn config(ctx: &SuiteContext) -> EngineConfig {
    EngineConfig {
        cache: CacheConfig {
            window: Window::Full,
            ..CacheConfig::default()
        },
        capacity: SESSIONS,
        threads: ctx.threads(),
        isa: ctx.isa(),
        ..EngineConfig::default()
    }
}

fn at_depth(ctx: &SuiteContext, depth: usize) -> CaseResult {
    let mut engine = engine_with(ctx, config(ctx))?;
    let tokens = random_ids(ctx, 301, depth + PROMPT)?;
    // Once before the clock runs, so that slab and weights are in memory as they are in a server that has begun.
    let warm = open_with(&mut engine, &tokens)?;
    engine.close_session(&warm)?;
    let id = open_with(&mut engine, &tokens[..depth])?;
    let prompt = &tokens[tokens.len() - PROMPT..];
    let start = Instant::now();
    AppendCoordinator::append(&mut engine, &id, prompt)?;
    record(ctx, &format!("prefill_{PROMPT}_at_{depth}"), PROMPT, start)?;
    // A session of its own, so that decode begins at the depth and not after the prompt. It needs logits to begin with.
    let id = open_with(&mut engine, &tokens[..depth.max(1)])?;
    let start = Instant::now();
    decode_together(&mut engine, &[id], GENERATED)?;
    record(
        ctx,
        &format!("decode_{GENERATED}_at_{depth}"),
        GENERATED,
        start,
    )
}

/// Sessions with prompts of their own, one after the other and then in the same passes.
fn batched(ctx: &SuiteContext) -> CaseResult {
    let mut engine = engine_with(ctx, config(ctx))?;
    let prompts = (0..SESSIONS)
        .map(|index| random_ids(ctx, 310 + index as u64, BATCH_PROMPT))
        .collect::<Result<Vec<_>, _>>()?;
    let mut alone = Vec::new();
    let mut solo_seconds = 0.0;
    for prompt in &prompts {
        let id = open_with(&mut engine, prompt)?;
        let start = Instant::now();
        alone.extend(decode_together(
            &mut engine,
            std::slice::from_ref(&id),
            GENERATED,
        )?);
        solo_seconds += start.elapsed().as_secs_f64();
        engine.close_session(&id)?;
    }
    let mut ids = Vec::new();
    for prompt in &prompts {
        let id = open(&mut engine)?;
        AppendCoordinator::append(&mut engine, &id, prompt)?;
        ids.push(id);
    }
    let start = Instant::now();
    let together = decode_together(&mut engine, &ids, GENERATED)?;
    let seconds = start.elapsed().as_secs_f64();
    for (index, (found, expected)) in together.iter().zip(&alone).enumerate() {
        ensure_same_tokens(&format!("session {index} among eight"), found, expected)?;
    }
    record(
        ctx,
        "decode_of_8_sessions_batched",
        SESSIONS * GENERATED,
        start,
    )?;
    ctx.measure(
        "decode_of_8_sessions_batched_over_one_by_one",
        solo_seconds / seconds,
        "times as fast",
    )
}

/// Generates greedily in shared passes. Returns each session's tokens.
fn decode_together(
    engine: &mut Engine,
    ids: &[SessionId],
    tokens: usize,
) -> Result<Vec<Vec<u32>>, CaseFailure> {
    let mut generated = vec![Vec::with_capacity(tokens); ids.len()];
    let mut pass = Pass::default();
    for _ in 0..tokens {
        pass.clear();
        for (id, generated) in ids.iter().zip(&mut generated) {
            let token = greedy(&engine.state(id)?.next_logits);
            generated.push(token);
            pass.push(id, &[token], true);
        }
        engine.run(&mut pass, Instant::now());
        for index in 0..ids.len() {
            pass.outcome(index)?;
        }
    }
    Ok(generated)
}

fn record(ctx: &SuiteContext, name: &str, tokens: usize, start: Instant) -> CaseResult {
    let rate = tokens as f64 / start.elapsed().as_secs_f64();
    ctx.measure(name, rate, "tokens/s")
}
