//! What is generated after an append does not depend on how the append was chunked.

use std::sync::Arc;
use std::time::Instant;

use kakeya_core::{GenerateEvent, GenerateParams, Sampling, pipeline};
use kakeya_runtime::digest::kv_sha256;
use kakeya_runtime::{AppendCoordinator, Engine, EngineConfig, GenerationCoordinator};

use super::run::{HISTORIES, cache, history};
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::{ensure_eq, ensure_same_tokens};
use kakeya_suite::{CaseFailure, CaseResult};

const TOKENS: u32 = 64;

pub fn cases() -> Vec<Case> {
    let greedy = Sampling::default();
    let seeded = Sampling {
        temperature: 0.9,
        top_p: 0.95,
        top_k: 50,
        seed: Some(2024),
        ..Sampling::default()
    };
    let mut cases = Vec::new();
    for name in HISTORIES {
        for (kind, sampling) in [("greedy", greedy), ("seeded", seeded)] {
            let body = move |ctx: &SuiteContext| streams(ctx, name, sampling);
            cases.push(
                Case::fast(
                    format!("a_{kind}_stream_does_not_depend_on_the_chunks.{name}"),
                    body,
                )
                .history(name),
            );
        }
    }
    cases
}

fn streams(ctx: &SuiteContext, name: &str, sampling: Sampling) -> CaseResult {
    let tokens = history(ctx, name, 70)?;
    let whole = generate(ctx, &tokens, 70, sampling)?;
    ensure_eq!(whole.0.len(), TOKENS as usize, "tokens of the stream");
    for size in [1, 13] {
        let chunked = generate(ctx, &tokens, size, sampling)?;
        ensure_same_tokens(
            &format!("stream after chunks of {size} against one chunk"),
            &chunked.0,
            &whole.0,
        )?;
        ensure_eq!(
            chunked.1,
            whole.1,
            "KV digest after the stream, chunks of {size}"
        );
    }
    Ok(())
}

/// Appends in chunks of `size`, then generates.
fn generate(
    ctx: &SuiteContext,
    tokens: &[u32],
    size: usize,
    sampling: Sampling,
) -> Result<(Vec<u32>, String), CaseFailure> {
    let config = EngineConfig {
        cache: cache(4, 64),
        capacity: 1,
        threads: ctx.threads(),
        isa: ctx.isa(),
        ..EngineConfig::default()
    };
    let mut engine = Engine::new(Arc::clone(ctx.model()?), config)?;
    let now = Instant::now();
    let id = engine.create_session(now, String::new(), vec![])?;
    for chunk in tokens.chunks(size) {
        AppendCoordinator::append(&mut engine, &id, chunk)?;
    }
    let (events, mut stream) = pipeline::bounded(4);
    let params = GenerateParams::new(TOKENS, sampling);
    let mut generation = GenerationCoordinator::begin(&mut engine, &id, params, now)?;
    let mut out = Vec::new();
    while out.len() < TOKENS as usize {
        generation.step(&mut engine, &events, now)?;
        if let Some(Ok(GenerateEvent::Token(token))) = stream.blocking_next() {
            out.push(token.id);
        }
    }
    Ok((out, kv_sha256(&engine.state(&id)?.verifier)))
}
