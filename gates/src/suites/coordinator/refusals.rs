//! What is refused is refused before anything is touched.

use std::time::Instant;

use kakeya_core::{EngineError, InvalidArgument, SessionId, Window};
use kakeya_runtime::{AppendCoordinator, Engine, EngineConfig};

use crate::context::SuiteContext;
use crate::ensure_eq;
use crate::suite::Case;
use crate::suites::support::{
    SMALL, SMALL_LIMIT, engine, engine_with, ensure_ended, ensure_holds, ensure_refused, not_found,
    open, open_with, random_ids, small, snapshot,
};
use kakeya_suite::{CaseFailure, CaseResult};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "an_unknown_session_is_not_found_and_nothing_runs",
            an_unknown_session_is_not_found_and_nothing_runs,
        ),
        Case::fast(
            "an_id_outside_the_vocabulary_leaves_everything_unchanged",
            an_id_outside_the_vocabulary_leaves_everything_unchanged,
        ),
        Case::fast(
            "an_append_past_the_context_of_a_full_window_leaves_everything_unchanged",
            an_append_past_the_context_of_a_full_window_leaves_everything_unchanged,
        ),
        Case::fast(
            "a_sliding_window_has_no_limit_of_context",
            a_sliding_window_has_no_limit_of_context,
        ),
        Case::fast(
            "an_append_whose_session_ends_half_way_is_not_found",
            an_append_whose_session_ends_half_way_is_not_found,
        ),
    ]
}

fn an_unknown_session_is_not_found_and_nothing_runs(context: &SuiteContext) -> CaseResult {
    let mut engine = engine(context)?;
    let before = engine.stats();
    ensure_ended(&mut engine, &SessionId::random())?;
    let other = open(&mut engine)?;
    ensure_ended(&mut engine, &SessionId::random())?;
    let after = engine.stats();
    ensure_eq!(
        (after.forward_passes, after.tokens_appended, after.sessions),
        (before.forward_passes, before.tokens_appended, 1),
        "passes, tokens and sessions after calls on unknown sessions"
    );
    ensure_holds(context, &engine, &other, &[])
}

/// An append that must be refused with `expected` and change nothing at all.
fn ensure_refused_untouched(
    engine: &mut Engine,
    id: &SessionId,
    tokens: &[u32],
    expected: InvalidArgument,
) -> Result<(), CaseFailure> {
    let (session, stats) = (snapshot(engine, id)?, engine.stats());
    let what = format!("an append of {} tokens", tokens.len());
    let answer = AppendCoordinator::append(engine, id, tokens);
    ensure_refused(&what, answer, &EngineError::InvalidArgument(expected))?;
    ensure_eq!(snapshot(engine, id)?, session, "the session after {what}");
    ensure_eq!(engine.stats(), stats, "the engine's counts after {what}");
    Ok(())
}

fn an_id_outside_the_vocabulary_leaves_everything_unchanged(context: &SuiteContext) -> CaseResult {
    let vocabulary = context.model()?.config().vocabulary as u32;
    let tokens = random_ids(context, 10, SMALL_LIMIT + 30)?;
    // Cold, with room left, and with the window turning over.
    for held in [0, 20, SMALL_LIMIT + 10] {
        let mut engine = engine(context)?;
        let (history, more) = tokens.split_at(held);
        let id = open_with(&mut engine, history)?;
        let last = more.len() - 1;
        for (index, token) in [
            (0, vocabulary),
            (last / 2, vocabulary + 1),
            (last, u32::MAX),
        ] {
            let mut wrong = more.to_vec();
            wrong[index] = token;
            let expected = InvalidArgument::TokenOutOfVocabulary {
                index,
                token,
                vocabulary,
            };
            ensure_refused_untouched(&mut engine, &id, &wrong, expected)?;
        }
        AppendCoordinator::append(&mut engine, &id, &[vocabulary - 1])?;
        AppendCoordinator::append(&mut engine, &id, more)?;
        let all = [history, &[vocabulary - 1], more].concat();
        ensure_holds(context, &engine, &id, &all)?;
    }
    Ok(())
}

fn an_append_past_the_context_of_a_full_window_leaves_everything_unchanged(
    context: &SuiteContext,
) -> CaseResult {
    let limit = context.model()?.config().context as u64;
    let mut cache = SMALL;
    cache.window = Window::Full;
    let config = EngineConfig {
        cache,
        capacity: 1,
        ..small(context)
    };
    let mut engine = engine_with(context, config)?;
    let tokens = random_ids(context, 11, limit as usize + 1)?;
    let (held, more) = tokens.split_at(40);
    let cold = open(&mut engine)?;
    let expected = InvalidArgument::ContextExceeded {
        history: 0,
        appended: limit + 1,
        limit,
    };
    ensure_refused_untouched(&mut engine, &cold, &tokens, expected)?;
    AppendCoordinator::append(&mut engine, &cold, held)?;
    let expected = InvalidArgument::ContextExceeded {
        history: 40,
        appended: limit - 39,
        limit,
    };
    ensure_refused_untouched(&mut engine, &cold, more, expected)?;
    // One less would fit.
    AppendCoordinator::begin(&mut engine, &cold, more[1..].to_vec(), Instant::now())?;
    ensure_holds(context, &engine, &cold, held)
}

fn a_sliding_window_has_no_limit_of_context(context: &SuiteContext) -> CaseResult {
    let limit = context.model()?.config().context;
    let mut engine = engine(context)?;
    let id = open(&mut engine)?;
    let tokens = random_ids(context, 12, limit + 1)?;
    AppendCoordinator::begin(&mut engine, &id, tokens, Instant::now())?;
    // It was only begun: nothing is in the cache before the first step.
    ensure_holds(context, &engine, &id, &[])
}

fn an_append_whose_session_ends_half_way_is_not_found(context: &SuiteContext) -> CaseResult {
    let mut engine = engine(context)?;
    let id = open(&mut engine)?;
    let (tokens, now) = (random_ids(context, 13, 60)?, Instant::now());
    let mut append = AppendCoordinator::begin(&mut engine, &id, tokens, now)?;
    append.step(&mut engine, 32, now)?;
    ensure_eq!(engine.close_session(&id)?, 32, "the final history length");
    let passes = engine.stats().forward_passes;
    let step = append.step(&mut engine, 32, now);
    ensure_refused("a step after the close", step, &not_found(&id))?;
    ensure_eq!(
        (engine.stats().forward_passes, engine.free_slabs()),
        (passes, 4),
        "passes and free slabs after a step that found no session"
    );
    Ok(())
}
