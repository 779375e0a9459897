//! Tokens and `done`, the position they advance, and the truncation notice.

use std::time::Instant;

use kakeya_core::pipeline::bounded;
use kakeya_core::{GenerateEvent, StopReason};
use kakeya_runtime::generate::Step;
use kakeya_runtime::{AppendCoordinator, GenerationCoordinator};

use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{
    Generated, SMALL_LIMIT, drain, engine, ensure_holds, fresh, generate, greedy, open, open_with,
    prose, seeded, small, snapshot, solo,
};
use crate::{ensure, ensure_eq, ensure_same_tokens};
use kakeya_suite::CaseResult;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::fast("one_token_then_done", one_token_then_done),
        Case::fast("n_tokens_then_done", n_tokens_then_done),
        Case::fast(
            "each_greedy_token_has_the_largest_logit_of_a_fresh_verifier",
            each_greedy_token_has_the_largest_logit_of_a_fresh_verifier,
        ),
        Case::fast(
            "position_advances_by_exactly_the_tokens_emitted",
            position_advances_by_exactly_the_tokens_emitted,
        ),
        Case::fast(
            "a_generated_history_equals_an_appended_one",
            a_generated_history_equals_an_appended_one,
        ),
        Case::fast(
            "generating_in_two_calls_equals_one",
            generating_in_two_calls_equals_one,
        ),
        Case::fast(
            "no_truncated_event_while_all_is_cached",
            no_truncated_event_while_all_is_cached,
        ),
        Case::fast(
            "exactly_one_truncated_event_comes_first_with_the_dropped_count",
            exactly_one_truncated_event_comes_first_with_the_dropped_count,
        ),
        Case::fast(
            "a_full_pipeline_blocks_and_nothing_moves",
            a_full_pipeline_blocks_and_nothing_moves,
        ),
    ]
}

fn one_token_then_done(context: &SuiteContext) -> CaseResult {
    let mut engine = engine(context)?;
    let prompt = prose(context, 12)?;
    let id = open_with(&mut engine, &prompt)?;
    let (events, mut consumer) = bounded(8);
    let mut generation = GenerationCoordinator::begin(&mut engine, &id, greedy(1), Instant::now())?;
    ensure_eq!(
        drain(&mut consumer)?,
        vec![],
        "events before the first step"
    );
    let step = generation.step(&mut engine, &events, Instant::now())?;
    ensure_eq!(
        step,
        Step::Finished(StopReason::MaxTokens),
        "the one step of one token"
    );
    events.finish_with(generation.done(StopReason::MaxTokens));
    let events = drain(&mut consumer)?;
    ensure!(
        matches!(
            events[..],
            [GenerateEvent::Token(_), GenerateEvent::Done(_)]
        ),
        "not a token and `done`: {events:?}"
    );
    let generated = Generated::read(&events)?;
    ensure_eq!(generated.done.generated, 1, "the count that `done` gives");
    let all = [prompt, generated.tokens].concat();
    ensure_holds(context, &engine, &id, &all)
}

fn n_tokens_then_done(context: &SuiteContext) -> CaseResult {
    let mut engine = engine(context)?;
    let mut all = prose(context, 12)?;
    let id = open_with(&mut engine, &all)?;
    for count in [2, 3, 17] {
        let passes = engine.stats().forward_passes;
        let generated = generate(&mut engine, &id, greedy(count))?;
        ensure_eq!(generated.tokens.len(), count as usize, "tokens of {count}");
        ensure_eq!(
            generated.done.reason,
            StopReason::MaxTokens,
            "the reason to stop after {count}"
        );
        ensure_eq!(
            engine.stats().forward_passes - passes,
            u64::from(count),
            "forward passes of {count} tokens"
        );
        all.extend(&generated.tokens);
        ensure_holds(context, &engine, &id, &all)?;
    }
    ensure_eq!(engine.stats().tokens_generated, 22, "tokens generated");
    Ok(())
}

fn each_greedy_token_has_the_largest_logit_of_a_fresh_verifier(
    context: &SuiteContext,
) -> CaseResult {
    // From inside the window to beyond it.
    let prompt = prose(context, SMALL_LIMIT - 4)?;
    let generated = solo(context, &small(context), &prompt, greedy(9))?;
    let mut history = prompt;
    for token in &generated.tokens {
        let logits = fresh(context, &small(context), &history)?.logits;
        // The first among equals.
        let largest = (0..logits.len()).reduce(|best, next| {
            if logits[next] > logits[best] {
                next
            } else {
                best
            }
        });
        ensure_eq!(
            Some(*token as usize),
            largest,
            "the token at position {}",
            history.len()
        );
        history.push(*token);
    }
    ensure_eq!(history.len(), SMALL_LIMIT + 5, "positions compared");
    Ok(())
}

fn position_advances_by_exactly_the_tokens_emitted(context: &SuiteContext) -> CaseResult {
    let mut engine = engine(context)?;
    let prompt = prose(context, SMALL_LIMIT - 3)?;
    let id = open_with(&mut engine, &prompt)?;
    let (events, mut consumer) = bounded(16);
    let mut generation =
        GenerationCoordinator::begin(&mut engine, &id, seeded(8, 1), Instant::now())?;
    let mut emitted = Vec::new();
    loop {
        let step = generation.step(&mut engine, &events, Instant::now())?;
        for event in drain(&mut consumer)? {
            let GenerateEvent::Token(token) = event else {
                ensure!(false, "{event:?} among the tokens");
                continue;
            };
            emitted.push(token.id);
        }
        // After every step, not only at the end: what was emitted is what the session holds.
        let history = [&prompt[..], &emitted].concat();
        ensure_eq!(engine.history(&id)?, history, "the history after a step");
        ensure_eq!(
            engine.state(&id)?.verifier.position(),
            history.len() as u64,
            "the position after a step"
        );
        if step != Step::Progress {
            ensure_eq!(
                (step, emitted.len()),
                (Step::Finished(StopReason::MaxTokens), 8),
                "the last step and the tokens emitted"
            );
            return ensure_holds(context, &engine, &id, &history);
        }
    }
}

fn a_generated_history_equals_an_appended_one(context: &SuiteContext) -> CaseResult {
    let mut engine = engine(context)?;
    let prompt = prose(context, 20)?;
    let generating = open_with(&mut engine, &prompt)?;
    let generated = generate(&mut engine, &generating, seeded(30, 2))?;
    let appending = open(&mut engine)?;
    let all = [prompt, generated.tokens].concat();
    AppendCoordinator::append(&mut engine, &appending, &all)?;
    ensure_eq!(
        snapshot(&engine, &generating)?,
        snapshot(&engine, &appending)?,
        "a session that generated its tokens, and one that was told them"
    );
    let next = generate(&mut engine, &generating, seeded(10, 3))?;
    let same = generate(&mut engine, &appending, seeded(10, 3))?;
    ensure_same_tokens("the tokens after them", &next.tokens, &same.tokens)
}

fn generating_in_two_calls_equals_one(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 20)?;
    let whole = solo(context, &small(context), &prompt, seeded(30, 4))?;
    let mut engine = engine(context)?;
    let id = open_with(&mut engine, &prompt)?;
    let mut tokens = generate(&mut engine, &id, seeded(13, 4))?.tokens;
    tokens.extend(generate(&mut engine, &id, seeded(17, 4))?.tokens);
    ensure_same_tokens("13 and 17 tokens", &tokens, &whole.tokens)
}

fn no_truncated_event_while_all_is_cached(context: &SuiteContext) -> CaseResult {
    for length in [1, SMALL_LIMIT - 1, SMALL_LIMIT] {
        let prompt = prose(context, length)?;
        // The window turns over while it generates; what was dropped then is not told in this call.
        let generated = solo(context, &small(context), &prompt, greedy(4))?;
        ensure_eq!(
            generated.truncated,
            None,
            "the truncation notice with {length} tokens, all of them cached"
        );
        ensure_eq!(generated.tokens.len(), 4, "tokens after {length}");
    }
    Ok(())
}

fn exactly_one_truncated_event_comes_first_with_the_dropped_count(
    context: &SuiteContext,
) -> CaseResult {
    for beyond in [1, 2, 50] {
        let mut engine = engine(context)?;
        let prompt = prose(context, SMALL_LIMIT + beyond)?;
        let id = open_with(&mut engine, &prompt)?;
        // That it comes once and first is what `Generated::read` asks of every generation.
        let generated = generate(&mut engine, &id, greedy(4))?;
        ensure_eq!(
            generated.truncated,
            Some(beyond as u64),
            "the dropped count with {beyond} tokens beyond the cache"
        );
        ensure_eq!(generated.tokens.len(), 4, "tokens after the notice");
        let generated = generate(&mut engine, &id, greedy(1))?;
        ensure_eq!(
            generated.truncated,
            Some(beyond as u64 + 4),
            "the dropped count of the next generation"
        );
    }
    Ok(())
}

fn a_full_pipeline_blocks_and_nothing_moves(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, SMALL_LIMIT + 3)?;
    let expected = solo(context, &small(context), &prompt, seeded(6, 5))?;
    let mut engine = engine(context)?;
    let id = open_with(&mut engine, &prompt)?;
    let (events, mut consumer) = bounded(1);
    let mut generation =
        GenerationCoordinator::begin(&mut engine, &id, seeded(6, 5), Instant::now())?;
    let mut read = Vec::new();
    let reason = loop {
        let step = generation.step(&mut engine, &events, Instant::now())?;
        if let Step::Finished(reason) = step {
            break reason;
        }
        ensure_eq!(step, Step::Progress, "a step with room");
        // The one place is taken: however often it is tried, nothing is run, and nothing is lost.
        let (session, stats) = (snapshot(&engine, &id)?, engine.stats());
        for _ in 0..3 {
            let step = generation.step(&mut engine, &events, Instant::now())?;
            ensure_eq!(step, Step::Blocked, "a step without room");
        }
        ensure_eq!(
            snapshot(&engine, &id)?,
            session,
            "a session that is blocked"
        );
        ensure_eq!(engine.stats(), stats, "the counts of a blocked engine");
        read.extend(drain(&mut consumer)?);
    };
    events.finish_with(generation.done(reason));
    read.extend(drain(&mut consumer)?);
    let generated = Generated::read(&read)?;
    ensure_eq!(generated.truncated, Some(3), "the dropped count");
    generated.ensure_same_as("a stream that was read one by one", &expected)
}
