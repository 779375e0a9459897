//! Sessions that share passes get the bits they get alone.

use std::time::Instant;

use kakeya_core::SessionId;
use kakeya_model::LogitRows;
use kakeya_runtime::digest::kv_sha256;
use kakeya_runtime::sampler::greedy;
use kakeya_runtime::{AppendCoordinator, Engine, EngineConfig, Pass};

use super::run::{Setting, cache, history, random_tokens};
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::{ensure_eq, ensure_same_bits};
use kakeya_suite::{CaseFailure, CaseResult};

/// Sessions at once: more than the rows of any register tile leave over.
const SESSIONS: usize = 9;
const PASSES: usize = 12;

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "decoding_and_prompts_in_shared_passes_do_not_show.random",
            shared_passes,
        )
        .history("random"),
        Case::fast("rows_without_logits_do_not_show.random", wanted_rows).history("random"),
    ]
}

/// Every session first reads a prompt of its own length and then decodes greedily, all in the same passes, against
/// the tokens it came to, appended at once to a session that is alone. The window is passed by most.
fn shared_passes(ctx: &SuiteContext) -> CaseResult {
    let config = EngineConfig {
        cache: cache(2, 24),
        capacity: SESSIONS,
        threads: ctx.threads(),
        isa: ctx.isa(),
        ..EngineConfig::default()
    };
    let mut engine = Engine::new(ctx.model()?.clone(), config.clone())?;
    let vocabulary = ctx.model()?.config().vocabulary as u32;
    let now = Instant::now();
    let mut prompts = Vec::new();
    for index in 0..SESSIONS {
        let id = engine.create_session(now, String::new(), Vec::new())?;
        let prompt = random_tokens(1 + 8 * index, vocabulary, index as u64);
        prompts.push((
            id.clone(),
            AppendCoordinator::begin(&mut engine, &id, prompt, now)?,
        ));
    }
    let mut pass = Pass::default();
    for round in 0..PASSES {
        pass.clear();
        let mut joined = Vec::new();
        for (index, (id, append)) in prompts.iter_mut().enumerate() {
            joined.push(if append.is_done() {
                let token = greedy(&engine.state(id)?.next_logits);
                pass.push(id, &[token], true);
                0
            } else {
                append.join(&mut pass, 1 + (7 * round + 5 * index) % 13)
            });
        }
        engine.run(&mut pass, now);
        for (index, rows) in joined.into_iter().enumerate() {
            pass.outcome(index)?;
            if rows > 0 {
                prompts[index].1.advance(&mut engine, rows);
            }
        }
    }
    for (index, (id, _)) in prompts.iter().enumerate() {
        let (logits, digest, tokens) = state(&engine, id)?;
        let alone = EngineConfig {
            capacity: 1,
            ..config.clone()
        };
        let mut alone = Engine::new(ctx.model()?.clone(), alone)?;
        let solo = alone.create_session(now, String::new(), Vec::new())?;
        AppendCoordinator::append(&mut alone, &solo, &tokens)?;
        let (expected, expected_digest, _) = state(&alone, &solo)?;
        ensure_same_bits(&format!("logits of session {index}"), &logits, &expected)?;
        ensure_eq!(digest, expected_digest, "KV digest of session {index}");
    }
    Ok(())
}

/// The last layer runs for the rows that make logits only. A chunk gives its last row the logits it has where every
/// row's are made, and leaves the same cache, alone and beside chunks that want other rows.
fn wanted_rows(ctx: &SuiteContext) -> CaseResult {
    let model = ctx.model()?;
    let vocabulary = model.config().vocabulary;
    let tokens = history(ctx, "random", 75)?;
    let setting = Setting::new(ctx, cache(2, 24));
    let mut compute = setting.compute()?;
    let mut all = setting.verifier(model)?;
    let mut last = setting.verifier(model)?;
    let mut batched = setting.verifier(model)?;
    let mut others = [setting.verifier(model)?, setting.verifier(model)?];
    for (index, chunk) in tokens.chunks(25).enumerate() {
        let expected = all
            .forward_block(&mut compute, chunk, LogitRows::All)
            .to_vec();
        let expected = &expected[expected.len() - vocabulary..];
        let found = last
            .forward_block(&mut compute, chunk, LogitRows::Last)
            .to_vec();
        ensure_same_bits(&format!("the last row of chunk {index}"), &found, expected)?;
        let [before, after] = &mut others;
        compute.forward(
            model,
            &mut [
                before.begin_block(&chunk[..7], LogitRows::None),
                batched.begin_block(chunk, LogitRows::Last),
                after.begin_block(&chunk[..3], LogitRows::All),
            ],
        );
        let found = compute.logits(1).to_vec();
        ensure_same_bits(
            &format!("that row in a batch, chunk {index}"),
            &found,
            expected,
        )?;
        let width = compute.logits(2).len();
        ensure_eq!(width, 3 * vocabulary, "logits of the three rows after it");
        for verifier in [&mut all, &mut last, &mut batched] {
            verifier.commit_or_truncate(chunk.len());
        }
        let [before, after] = &mut others;
        before.commit_or_truncate(7);
        after.commit_or_truncate(3);
        let digest = kv_sha256(&all);
        ensure_eq!(kv_sha256(&last), digest, "KV digest, the last row's logits");
        ensure_eq!(kv_sha256(&batched), digest, "KV digest in a batch");
    }
    Ok(())
}

fn state(engine: &Engine, id: &SessionId) -> Result<(Vec<f32>, String, Vec<u32>), CaseFailure> {
    let state = engine.state(id)?;
    Ok((
        state.next_logits.to_vec(),
        kv_sha256(&state.verifier),
        engine.history(id)?.to_vec(),
    ))
}
