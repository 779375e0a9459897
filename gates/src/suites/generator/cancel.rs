//! Cancelling: the events stop, the session holds what was emitted, and goes on as if nothing had happened.

use std::time::Instant;

use kakeya_core::pipeline::bounded;
use kakeya_core::{GenerateEvent, StopReason};
use kakeya_runtime::GenerationCoordinator;
use kakeya_runtime::generate::Step;

use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{
    Generated, SMALL_LIMIT, drain, engine, ensure_holds, generate, open_with, prose, seeded, small,
    snapshot, solo,
};
use crate::{ensure_eq, ensure_same_tokens};
use kakeya_suite::CaseResult;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "events_stop_on_cancel_and_nothing_more_is_run",
            events_stop_on_cancel_and_nothing_more_is_run,
        ),
        Case::fast(
            "a_cancelled_session_goes_on_as_if_never_cancelled",
            a_cancelled_session_goes_on_as_if_never_cancelled,
        ),
        Case::fast("a_dropped_consumer_cancels", a_dropped_consumer_cancels),
        Case::fast(
            "a_generation_cancelled_while_blocked_keeps_the_emitted_tokens",
            a_generation_cancelled_while_blocked_keeps_the_emitted_tokens,
        ),
    ]
}

const ALL: u32 = 16;

/// Lengths of prompt before which nothing is dropped, and after which something is.
const PROMPTS: [usize; 2] = [20, SMALL_LIMIT + 20];

fn events_stop_on_cancel_and_nothing_more_is_run(context: &SuiteContext) -> CaseResult {
    for length in PROMPTS {
        // Before the first event, after it (the truncation notice, where there is one), and half-way.
        for steps in [0, 1, 2, 7] {
            let mut engine = engine(context)?;
            let id = open_with(&mut engine, &prose(context, length)?)?;
            let (events, mut consumer) = bounded(ALL as usize + 1);
            let mut generation =
                GenerationCoordinator::begin(&mut engine, &id, seeded(ALL, 7), Instant::now())?;
            for _ in 0..steps {
                let step = generation.step(&mut engine, &events, Instant::now())?;
                ensure_eq!(step, Step::Progress, "a step before the cancellation");
            }
            let (session, stats) = (snapshot(&engine, &id)?, engine.stats());
            consumer.cancel();
            for _ in 0..2 {
                let step = generation.step(&mut engine, &events, Instant::now())?;
                ensure_eq!(
                    step,
                    Step::Finished(StopReason::Cancelled),
                    "the first step after a cancellation, and the next"
                );
            }
            ensure_eq!(snapshot(&engine, &id)?, session, "a cancelled session");
            ensure_eq!(engine.stats(), stats, "the counts after a cancellation");
            events.finish_with(generation.done(StopReason::Cancelled));
            // What was emitted before is still delivered, and then how it ended.
            let read = drain(&mut consumer)?;
            ensure_eq!(read.len(), steps + 1, "events of {steps} steps and `done`");
            let generated = Generated::read(&read)?;
            ensure_eq!(
                generated.done.reason,
                StopReason::Cancelled,
                "the reason of a cancelled stream"
            );
        }
    }
    Ok(())
}

fn a_cancelled_session_goes_on_as_if_never_cancelled(context: &SuiteContext) -> CaseResult {
    for length in PROMPTS {
        let prompt = prose(context, length)?;
        let whole = solo(context, &small(context), &prompt, seeded(ALL, 8))?;
        let mut engine = engine(context)?;
        let id = open_with(&mut engine, &prompt)?;
        let mut tokens = Vec::new();
        // Cancelled three times over, at other places each.
        for steps in [1, 4, 6] {
            let (events, mut consumer) = bounded(ALL as usize + 1);
            let mut generation =
                GenerationCoordinator::begin(&mut engine, &id, seeded(ALL, 8), Instant::now())?;
            for _ in 0..steps {
                generation.step(&mut engine, &events, Instant::now())?;
            }
            consumer.cancel();
            generation.step(&mut engine, &events, Instant::now())?;
            events.finish_with(generation.done(StopReason::Cancelled));
            tokens.extend(Generated::read(&drain(&mut consumer)?)?.tokens);
            let all = [&prompt[..], &tokens].concat();
            ensure_holds(context, &engine, &id, &all)?;
        }
        let rest = ALL - tokens.len() as u32;
        tokens.extend(generate(&mut engine, &id, seeded(rest, 8))?.tokens);
        ensure_same_tokens("a stream that was cancelled thrice", &tokens, &whole.tokens)?;
    }
    Ok(())
}

fn a_dropped_consumer_cancels(context: &SuiteContext) -> CaseResult {
    let mut engine = engine(context)?;
    let prompt = prose(context, 20)?;
    let id = open_with(&mut engine, &prompt)?;
    let (events, mut consumer) = bounded(ALL as usize + 1);
    let mut generation =
        GenerationCoordinator::begin(&mut engine, &id, seeded(ALL, 9), Instant::now())?;
    for _ in 0..5 {
        generation.step(&mut engine, &events, Instant::now())?;
    }
    let emitted: Vec<u32> = drain(&mut consumer)?
        .into_iter()
        .filter_map(|event| match event {
            GenerateEvent::Token(token) => Some(token.id),
            _ => None,
        })
        .collect();
    drop(consumer);
    let step = generation.step(&mut engine, &events, Instant::now())?;
    ensure_eq!(
        step,
        Step::Finished(StopReason::Cancelled),
        "the step after the consumer was dropped"
    );
    ensure_eq!(emitted.len(), 5, "tokens of five steps");
    let all = [prompt, emitted].concat();
    ensure_holds(context, &engine, &id, &all)
}

fn a_generation_cancelled_while_blocked_keeps_the_emitted_tokens(
    context: &SuiteContext,
) -> CaseResult {
    let mut engine = engine(context)?;
    let prompt = prose(context, 20)?;
    let id = open_with(&mut engine, &prompt)?;
    let (events, mut consumer) = bounded(3);
    let mut generation =
        GenerationCoordinator::begin(&mut engine, &id, seeded(ALL, 10), Instant::now())?;
    let mut steps = Vec::new();
    for _ in 0..5 {
        steps.push(generation.step(&mut engine, &events, Instant::now())?);
    }
    ensure_eq!(
        steps,
        [[Step::Progress; 3].as_slice(), &[Step::Blocked; 2]].concat(),
        "five steps with room for three"
    );
    consumer.cancel();
    let step = generation.step(&mut engine, &events, Instant::now())?;
    ensure_eq!(
        step,
        Step::Finished(StopReason::Cancelled),
        "the step after the cancellation"
    );
    events.finish_with(generation.done(StopReason::Cancelled));
    let generated = Generated::read(&drain(&mut consumer)?)?;
    ensure_eq!(generated.tokens.len(), 3, "tokens emitted");
    let all = [prompt, generated.tokens].concat();
    ensure_holds(context, &engine, &id, &all)
}
