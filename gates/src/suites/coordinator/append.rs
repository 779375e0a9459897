//! Cold and incremental appends, across the trim boundary.

use std::time::Instant;

use kakeya_core::{CacheConfig, CacheInspector, PositionPolicy, SessionId, Window};
use kakeya_runtime::{AppendCoordinator, Engine, EngineConfig, longest_append};

use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{
    SMALL_LIMIT, engine, engine_with, ensure_holds, generate, greedy, kept, kept_in_layer, open,
    open_with, prose, random_ids, small, snapshot,
};
use crate::{ensure, ensure_different_bits, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "a_cold_append_equals_a_fresh_verifier",
            a_cold_append_equals_a_fresh_verifier,
        ),
        Case::fast(
            "incremental_appends_equal_a_fresh_verifier_after_each",
            incremental_appends_equal_a_fresh_verifier_after_each,
        ),
        Case::fast(
            "the_slices_of_an_append_do_not_show",
            the_slices_of_an_append_do_not_show,
        ),
        Case::fast(
            "an_append_after_a_generation_goes_on_from_its_tokens",
            an_append_after_a_generation_goes_on_from_its_tokens,
        ),
        Case::fast(
            "position_and_cached_tokens_mirror_the_verifier_before_and_after_trim",
            position_and_cached_tokens_mirror_the_verifier_before_and_after_trim,
        ),
        Case::fast(
            "cached_length_is_exactly_history_up_to_sink_plus_window",
            cached_length_is_exactly_history_up_to_sink_plus_window,
        ),
        Case::fast("logits_move_on_each_append", logits_move_on_each_append),
        Case::fast(
            "an_empty_append_to_a_cold_session_changes_nothing",
            an_empty_append_to_a_cold_session_changes_nothing,
        ),
        Case::fast(
            "an_empty_append_to_a_warm_session_changes_nothing",
            an_empty_append_to_a_warm_session_changes_nothing,
        ),
    ]
}

fn a_cold_append_equals_a_fresh_verifier(context: &SuiteContext) -> CaseResult {
    let longest = longest_append(context.isa());
    for length in [
        1,
        SMALL_LIMIT - 1,
        SMALL_LIMIT,
        SMALL_LIMIT + 1,
        longest + 9,
    ] {
        let mut engine = engine(context)?;
        let tokens = prose(context, length)?;
        let id = open(&mut engine)?;
        let history = AppendCoordinator::append(&mut engine, &id, &tokens)?;
        ensure_eq!(history, length as u64, "the answer to a cold append");
        ensure_holds(context, &engine, &id, &tokens)?;
        let passes = engine.stats().forward_passes;
        ensure_eq!(
            passes,
            length.div_ceil(longest) as u64,
            "forward passes of a cold append of {length}"
        );
    }
    Ok(())
}

fn incremental_appends_equal_a_fresh_verifier_after_each(context: &SuiteContext) -> CaseResult {
    let mut engine = engine(context)?;
    let tokens = prose(context, 160)?;
    let id = open(&mut engine)?;
    let mut done = 0;
    for piece in [1, 3, 20, 12, 1, 35, 37, 51] {
        let before = engine.stats();
        let history = AppendCoordinator::append(&mut engine, &id, &tokens[done..done + piece])?;
        done += piece;
        ensure_eq!(history, done as u64, "the answer after {done} tokens");
        ensure_holds(context, &engine, &id, &tokens[..done])?;
        let after = engine.stats();
        ensure_eq!(
            (
                after.forward_passes - before.forward_passes,
                after.tokens_appended - before.tokens_appended
            ),
            (1, piece as u64),
            "passes and tokens of an append of {piece}: a turn costs its new tokens alone"
        );
    }
    ensure_eq!(done, tokens.len(), "tokens appended");
    Ok(())
}

fn the_slices_of_an_append_do_not_show(context: &SuiteContext) -> CaseResult {
    let tokens = random_ids(context, 1, 90)?;
    let whole = {
        let mut engine = engine(context)?;
        let id = open_with(&mut engine, &tokens)?;
        snapshot(&engine, &id)?
    };
    // A slice of 0 still moves on by a token, and one beyond the largest chunk is cut to it.
    for slice in [0, 1, 7, 32, 64, usize::MAX] {
        let mut engine = engine(context)?;
        let id = open(&mut engine)?;
        let now = Instant::now();
        let mut append = AppendCoordinator::begin(&mut engine, &id, tokens.clone(), now)?;
        let mut steps = 0;
        while !append.is_done() {
            append.step(&mut engine, slice, now)?;
            steps += 1;
        }
        ensure_eq!(
            steps,
            tokens
                .len()
                .div_ceil(slice.clamp(1, longest_append(context.isa()))),
            "steps of {slice}"
        );
        ensure_eq!(
            snapshot(&engine, &id)?,
            whole,
            "a session sliced by {slice}"
        );
        append.step(&mut engine, slice, now)?;
        ensure_eq!(
            snapshot(&engine, &id)?,
            whole,
            "a session after a step of an append that was done"
        );
    }
    Ok(())
}

fn an_append_after_a_generation_goes_on_from_its_tokens(context: &SuiteContext) -> CaseResult {
    let mut engine = engine(context)?;
    let prompt = prose(context, 30)?;
    let id = open_with(&mut engine, &prompt)?;
    let generated = generate(&mut engine, &id, greedy(10))?;
    let turn = random_ids(context, 2, 15)?;
    AppendCoordinator::append(&mut engine, &id, &turn)?;
    let all = [prompt, generated.tokens, turn].concat();
    ensure_holds(context, &engine, &id, &all)
}

/// The record and the cache, each asked on its own, and the positions joined to the tokens at them.
fn ensure_mirrors(engine: &Engine, id: &SessionId, history: &[u32]) -> CaseResult {
    let verifier = &engine.state(id)?.verifier;
    let cached = engine.cached_tokens(id)?;
    let length = history.len() as u64;
    ensure_eq!(verifier.position(), length, "the position after {length}");
    ensure_eq!(engine.history(id)?, history, "the history after {length}");
    ensure_eq!(
        cached,
        kept(&engine.config().cache, history),
        "the record and the rule after {length}"
    );
    for layer in 0..verifier.layers() {
        ensure_eq!(
            verifier.cached_positions(layer).collect::<Vec<_>>(),
            kept_in_layer(
                engine.model().config(),
                layer,
                &engine.config().cache,
                length
            ),
            "the cache of layer {layer} and the rule after {length}"
        );
        ensure_eq!(
            (verifier.k_length(layer), verifier.v_length(layer)),
            (cached.len() as u64, cached.len() as u64),
            "keys and values of layer {layer} after {length}"
        );
    }
    Ok(())
}

fn position_and_cached_tokens_mirror_the_verifier_before_and_after_trim(
    context: &SuiteContext,
) -> CaseResult {
    let mut engine = engine(context)?;
    let tokens = random_ids(context, 3, 150)?;
    let id = open(&mut engine)?;
    ensure_mirrors(&engine, &id, &[])?;
    let mut done = 0;
    for piece in [1, 2, 1, 1, 27, 3, 1, 1, 31, 32, 33, 1] {
        AppendCoordinator::append(&mut engine, &id, &tokens[done..done + piece])?;
        done += piece;
        ensure_mirrors(&engine, &id, &tokens[..done])?;
    }
    let generated = generate(&mut engine, &id, greedy(8))?;
    let all = [&tokens[..done], &generated.tokens].concat();
    ensure_mirrors(&engine, &id, &all)
}

/// Sinks and windows for which the trim boundary is crossed within a hundred tokens.
fn policies() -> impl Iterator<Item = CacheConfig> {
    let sliding = |(sink, window)| (sink, Window::Sliding(window));
    [(0, 1), (0, 16), (2, 8), (4, 32), (8, 8), (4, 64)]
        .into_iter()
        .map(sliding)
        .chain([(4, Window::Full)])
        .map(|(sink, window)| CacheConfig {
            sink,
            window,
            positions: PositionPolicy::Streaming,
        })
}

fn cached_length_is_exactly_history_up_to_sink_plus_window(context: &SuiteContext) -> CaseResult {
    let tokens = random_ids(context, 4, 100)?;
    for cache in policies() {
        let config = EngineConfig {
            cache,
            capacity: 1,
            ..small(context)
        };
        let mut engine = engine_with(context, config)?;
        let id = open(&mut engine)?;
        let (sink, window) = match cache.window {
            Window::Sliding(window) => (cache.sink as usize, window as usize),
            Window::Full => (0, usize::MAX),
        };
        let edges = [1, sink, window, sink.saturating_add(window), tokens.len()];
        let mut lengths: Vec<usize> = edges
            .into_iter()
            .flat_map(|edge| [edge.saturating_sub(1), edge, edge.saturating_add(1)])
            .filter(|length| (1..=tokens.len()).contains(length))
            .collect();
        lengths.sort_unstable();
        lengths.dedup();
        let mut done = 0;
        for length in lengths {
            AppendCoordinator::append(&mut engine, &id, &tokens[done..length])?;
            done = length;
            let info = engine.info(&id, Instant::now())?;
            let expected = length.min(sink.saturating_add(window)) as u64;
            let what = format!("with {} + {}, after {length}", cache.sink, cache.window);
            ensure_eq!(info.history_length, length as u64, "history {what}");
            ensure_eq!(info.cached_length, expected, "cached length {what}");
            ensure_eq!(
                engine.cached_tokens(&id)?.len() as u64,
                expected,
                "recorded cached tokens {what}"
            );
        }
        ensure_eq!(done, tokens.len(), "tokens appended");
    }
    Ok(())
}

fn logits_move_on_each_append(context: &SuiteContext) -> CaseResult {
    let mut engine = engine(context)?;
    let tokens = prose(context, 48)?;
    let id = open_with(&mut engine, &tokens[..1])?;
    for piece in tokens[1..].chunks(3) {
        let before = engine.state(&id)?.next_logits.to_vec();
        AppendCoordinator::append(&mut engine, &id, piece)?;
        let after: &[f32] = &engine.state(&id)?.next_logits;
        ensure_different_bits("logits before and after an append", &before, after)?;
        ensure!(
            after.iter().all(|logit| logit.is_finite()),
            "a logit is not finite"
        );
    }
    // Also when the token is the one before it: the position moves.
    let repeated = [tokens[0]; 1];
    for _ in 0..3 {
        let before = engine.state(&id)?.next_logits.to_vec();
        AppendCoordinator::append(&mut engine, &id, &repeated)?;
        let after: &[f32] = &engine.state(&id)?.next_logits;
        ensure_different_bits("logits before and after a repeated token", &before, after)?;
    }
    Ok(())
}

fn empty_append(engine: &mut Engine, id: &SessionId) -> Result<u64, CaseFailure> {
    let passes = engine.stats().forward_passes;
    let length = AppendCoordinator::append(engine, id, &[])?;
    ensure_eq!(
        engine.stats().forward_passes,
        passes,
        "forward passes before and after an empty append"
    );
    Ok(length)
}

fn an_empty_append_to_a_cold_session_changes_nothing(context: &SuiteContext) -> CaseResult {
    let mut engine = engine(context)?;
    let id = open(&mut engine)?;
    ensure_eq!(empty_append(&mut engine, &id)?, 0, "the answer");
    ensure_holds(context, &engine, &id, &[])?;
    let tokens = prose(context, 10)?;
    AppendCoordinator::append(&mut engine, &id, &tokens)?;
    ensure_holds(context, &engine, &id, &tokens)
}

fn an_empty_append_to_a_warm_session_changes_nothing(context: &SuiteContext) -> CaseResult {
    for length in [10, SMALL_LIMIT + 20] {
        let mut engine = engine(context)?;
        let tokens = prose(context, length)?;
        let id = open_with(&mut engine, &tokens)?;
        let before = snapshot(&engine, &id)?;
        ensure_eq!(empty_append(&mut engine, &id)?, length as u64, "the answer");
        ensure_eq!(
            snapshot(&engine, &id)?,
            before,
            "an empty append to {length}"
        );
    }
    Ok(())
}
