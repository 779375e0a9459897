//! Threads, delays, leftovers and other sessions do not show.

use std::sync::Arc;
use std::time::Instant;

use kakeya_core::{CacheConfig, GenerateParams, KvElement, Sampling, pipeline};
use kakeya_model::{Isa, LogitRows};
use kakeya_runtime::digest::kv_sha256;
use kakeya_runtime::{AppendCoordinator, Engine, EngineConfig, GenerationCoordinator};

use super::run::{HISTORIES, Setting, Trace, cache, history, random_tokens};
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::{ensure_eq, ensure_same_bits};
use kakeya_suite::CaseResult;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in HISTORIES {
        let body = move |ctx: &SuiteContext| threads(ctx, name);
        cases.push(Case::fast(format!("threads_do_not_show.{name}"), body).history(name));
        let body = move |ctx: &SuiteContext| poisoned(ctx, name);
        cases.push(
            Case::fast(
                format!("leftovers_in_slots_and_scratch_do_not_show.{name}"),
                body,
            )
            .history(name),
        );
        let body = move |ctx: &SuiteContext| batched(ctx, name);
        cases.push(
            Case::fast(
                format!("other_sessions_in_the_batch_do_not_show.{name}"),
                body,
            )
            .history(name),
        );
    }
    cases.push(Case::fast("injected_delays_do_not_show.random", delays).history("random"));
    cases.push(
        Case::fast("scalar_has_the_bits_of_the_vector_path.random", scalar).history("random"),
    );
    cases.push(
        Case::fast(
            "interleaved_cancelled_and_hostile_sessions_do_not_show.random",
            interleaved,
        )
        .history("random"),
    );
    cases.push(
        Case::fast(
            "a_rejected_block_leaves_nothing_behind.random",
            rejected_block,
        )
        .history("random"),
    );
    cases
}

fn threads(ctx: &SuiteContext, name: &str) -> CaseResult {
    let tokens = history(ctx, name, 96)?;
    let mut setting = Setting::new(ctx, cache(4, 64));
    setting.threads = 1;
    let one = Trace::of(ctx, &setting, &tokens, &[40, 1])?;
    for threads in [2, 3] {
        setting.threads = threads;
        Trace::of(ctx, &setting, &tokens, &[40, 1])?
            .ensure_equals(&one, &format!("{threads} threads against 1"))?;
    }
    Ok(())
}

fn delays(ctx: &SuiteContext) -> CaseResult {
    let tokens = history(ctx, "random", 48)?;
    let mut setting = Setting::new(ctx, cache(2, 8));
    setting.threads = 3;
    let quiet = Trace::of(ctx, &setting, &tokens, &[16, 1])?;
    for seed in [1, 99] {
        setting.delays = seed;
        Trace::of(ctx, &setting, &tokens, &[16, 1])?
            .ensure_equals(&quiet, &format!("delays of seed {seed}"))?;
    }
    Ok(())
}

fn poisoned(ctx: &SuiteContext, name: &str) -> CaseResult {
    let tokens = history(ctx, name, 90)?;
    for (cache, element) in [
        (cache(2, 8), KvElement::F16),
        (cache(4, 64), KvElement::F32),
        (CacheConfig::default(), KvElement::F16),
        (cache(2, 8), KvElement::Int8),
    ] {
        let mut setting = Setting {
            element,
            ..Setting::new(ctx, cache)
        };
        let clean = Trace::of(ctx, &setting, &tokens, &[33, 1, 7])?;
        setting.poisoned = true;
        Trace::of(ctx, &setting, &tokens, &[33, 1, 7])?
            .ensure_equals(&clean, &format!("NaN in unused places, {element} KV"))?;
    }
    Ok(())
}

fn scalar(ctx: &SuiteContext) -> CaseResult {
    let tokens = history(ctx, "random", 14)?;
    let mut setting = Setting::new(ctx, cache(2, 4));
    setting.isa = Isa::detect();
    let vector = Trace::of(ctx, &setting, &tokens, &[5])?;
    setting.isa = Isa::Scalar;
    Trace::of(ctx, &setting, &tokens, &[5])?
        .ensure_equals(&vector, &format!("scalar against {}", Isa::detect()))
}

/// Three sessions in one forward pass, each with other chunk sizes, against the first one alone.
fn batched(ctx: &SuiteContext, name: &str) -> CaseResult {
    let model = ctx.model()?;
    let tokens = history(ctx, name, 60)?;
    let setting = Setting::new(ctx, cache(2, 8));
    let alone = Trace::of(ctx, &setting, &tokens, &[6])?;
    let mut compute = setting.compute()?;
    let mut ours = setting.verifier(model)?;
    let mut others = [
        setting.verifier(model)?,
        Setting::new(ctx, cache(4, 64)).verifier(model)?,
    ];
    let noise = random_tokens(400, model.config().vocabulary as u32, 5);
    let mut logits = Vec::new();
    for (index, chunk) in tokens.chunks(6).enumerate() {
        let before = &noise[index * 3..index * 3 + 1 + index % 3];
        let after = &noise[200 + index * 11..][..11];
        let [first, second] = &mut others;
        compute.forward(
            model,
            &mut [
                first.begin_block(before, LogitRows::Last),
                ours.begin_block(chunk, LogitRows::All),
                second.begin_block(after, LogitRows::None),
            ],
        );
        logits.extend_from_slice(compute.logits(1));
        first.commit_or_truncate(before.len());
        ours.commit_or_truncate(chunk.len());
        second.commit_or_truncate(after.len());
    }
    ensure_same_bits("logits in a batch of three", &logits, &alone.logits)?;
    ensure_eq!(
        kv_sha256(&ours),
        alone.kv_sha256,
        "KV digest in a batch of three"
    );
    Ok(())
}

/// A block that was run and not accepted, across the trim boundary, leaves the session as it was.
fn rejected_block(ctx: &SuiteContext) -> CaseResult {
    let model = ctx.model()?;
    let tokens = history(ctx, "random", 40)?;
    let drafts = random_tokens(64, model.config().vocabulary as u32, 77);
    let setting = Setting::new(ctx, cache(2, 8));
    let plain = Trace::of(ctx, &setting, &tokens, &[1])?;
    let mut compute = setting.compute()?;
    let mut verifier = setting.verifier(model)?;
    let mut logits = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let mut block = vec![*token];
        block.extend_from_slice(&drafts[..index % 17]);
        let made = verifier.forward_block(&mut compute, &block, LogitRows::All);
        logits.extend_from_slice(&made[..made.len() / block.len()]);
        verifier.commit_or_truncate(1);
    }
    ensure_same_bits(
        "logits with a rejected draft behind every token",
        &logits,
        &plain.logits,
    )?;
    ensure_eq!(
        kv_sha256(&verifier),
        plain.kv_sha256,
        "KV digest with a rejected draft behind every token"
    );
    Ok(())
}

/// One engine, many sessions: ours grows token by token between a session that is closed half-way, one whose
/// generation is cancelled, and one that is fed a single token over and over.
fn interleaved(ctx: &SuiteContext) -> CaseResult {
    let model = ctx.model()?;
    let vocabulary = model.config().vocabulary as u32;
    let tokens = history(ctx, "random", 64)?;
    let setting = Setting::new(ctx, cache(2, 8));
    let alone = Trace::from(ctx, &setting, &tokens, &[64], 63)?;
    let config = EngineConfig {
        cache: setting.cache,
        capacity: 3,
        threads: ctx.threads(),
        isa: ctx.isa(),
        ..EngineConfig::default()
    };
    let mut engine = Engine::new(Arc::clone(model), config)?;
    let now = Instant::now();
    let ours = engine.create_session(now, "ours".into(), vec![])?;
    let hostile = engine.create_session(now, "hostile".into(), vec![])?;
    let mut other = engine.create_session(now, "other".into(), vec![])?;
    for (index, token) in tokens.iter().enumerate() {
        AppendCoordinator::append(&mut engine, &ours, &[*token])?;
        AppendCoordinator::append(
            &mut engine,
            &hostile,
            &vec![[0, 17, vocabulary - 1][index % 3]; 1 + index % 20],
        )?;
        let mut append = AppendCoordinator::begin(
            &mut engine,
            &other,
            random_tokens(20, vocabulary, index as u64),
            now,
        )?;
        append.step(&mut engine, 9, now)?;
        if index % 5 == 4 {
            engine.close_session(&other)?;
            other = engine.create_session(now, "another".into(), vec![])?;
            continue;
        }
        append.step(&mut engine, 11, now)?;
        let (events, mut stream) = pipeline::bounded(4);
        let params = GenerateParams::new(9, Sampling::default());
        let mut generation = GenerationCoordinator::begin(&mut engine, &other, params, now)?;
        for _ in 0..3 {
            generation.step(&mut engine, &events, now)?;
            drop(stream.blocking_next());
        }
        stream.cancel();
        generation.step(&mut engine, &events, now)?;
    }
    let state = engine.state(&ours)?;
    ensure_same_bits(
        "logits beside other sessions",
        &state.next_logits,
        &alone.logits,
    )?;
    ensure_eq!(
        kv_sha256(&state.verifier),
        alone.kv_sha256,
        "KV digest beside other sessions"
    );
    Ok(())
}
