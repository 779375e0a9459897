//! Why a generation stops, and what it refuses to start.

use std::time::Instant;

use kakeya_core::{
    EngineError, GenerateParams, InvalidArgument, LogitBiasError, Sampling, SamplingError,
    SessionId, StopError, StopReason, Window,
};
use kakeya_runtime::{AppendCoordinator, EngineConfig, GenerationCoordinator};

use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{
    SMALL, engine, engine_with, ensure_holds, ensure_refused, generate, greedy, not_found, open,
    open_with, prose, random_ids, seeded, small, snapshot, solo,
};
use crate::{ensure, ensure_eq, ensure_same_tokens};
use kakeya_suite::CaseResult;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "eos_is_emitted_and_stops_with_its_reason_and_count",
            eos_is_emitted_and_stops_with_its_reason_and_count,
        ),
        Case::fast(
            "eos_as_the_last_token_asked_for_is_eos",
            eos_as_the_last_token_asked_for_is_eos,
        ),
        Case::fast(
            "eos_in_the_prompt_does_not_stop",
            eos_in_the_prompt_does_not_stop,
        ),
        Case::fast(
            "the_session_goes_on_after_eos",
            the_session_goes_on_after_eos,
        ),
        Case::fast(
            "bad_arguments_are_refused_and_leave_the_session",
            bad_arguments_are_refused_and_leave_the_session,
        ),
        Case::fast(
            "a_generation_whose_session_ends_half_way_is_not_found",
            a_generation_whose_session_ends_half_way_is_not_found,
        ),
        Case::full(
            "a_full_window_stops_at_the_context_with_truncated",
            a_full_window_stops_at_the_context_with_truncated,
        ),
    ]
}

/// A stream of twelve tokens after `prompt`, and the index and id of one of them that had not come before,
/// in the stream or in the prompt: it can serve as the end of sequence.
fn stream_with_an_end(
    context: &SuiteContext,
    prompt: &[u32],
) -> Result<(Vec<u32>, usize, u32), crate::CaseFailure> {
    let stream = solo(context, &small(context), prompt, seeded(12, 6))?.tokens;
    let is_new =
        |at: &usize| !prompt.contains(&stream[*at]) && !stream[..*at].contains(&stream[*at]);
    match (3..stream.len()).find(is_new) {
        Some(at) => {
            let token = stream[at];
            Ok((stream, at, token))
        }
        None => Err(crate::CaseFailure::violated(
            "the stream has no token of its own to end it with",
        )),
    }
}

fn eos_is_emitted_and_stops_with_its_reason_and_count(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 30)?;
    let (stream, at, token) = stream_with_an_end(context, &prompt)?;
    let absent = *prompt
        .iter()
        .find(|token| !stream.contains(token))
        .ok_or_else(|| crate::CaseFailure::violated("the stream has every token of the prompt"))?;
    // Any of several ids ends it, and the first token can be the one.
    for (eos, expected) in [
        (vec![token], at),
        (vec![absent, token], at),
        (vec![token, stream[0]], 0),
    ] {
        let mut engine = engine(context)?;
        let id = engine.create_session(Instant::now(), String::new(), eos)?;
        AppendCoordinator::append(&mut engine, &id, &prompt)?;
        let generated = generate(&mut engine, &id, seeded(12, 6))?;
        ensure_same_tokens(
            "the tokens up to and with EOS",
            &generated.tokens,
            &stream[..=expected],
        )?;
        ensure_eq!(
            (generated.done.reason, generated.done.generated as usize),
            (StopReason::Eos, expected + 1),
            "reason and count of a stream that EOS ended"
        );
        let all = [&prompt, &generated.tokens[..]].concat();
        ensure_holds(context, &engine, &id, &all)?;
    }
    Ok(())
}

fn eos_as_the_last_token_asked_for_is_eos(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 30)?;
    let (_, at, token) = stream_with_an_end(context, &prompt)?;
    for (max_tokens, reason) in [
        (at as u32, StopReason::MaxTokens),
        (at as u32 + 1, StopReason::Eos),
    ] {
        let mut engine = engine(context)?;
        let id = engine.create_session(Instant::now(), String::new(), vec![token])?;
        AppendCoordinator::append(&mut engine, &id, &prompt)?;
        let generated = generate(&mut engine, &id, seeded(max_tokens, 6))?;
        ensure_eq!(
            (generated.done.reason, generated.done.generated),
            (reason, max_tokens),
            "reason and count of {max_tokens} tokens, EOS after {at}"
        );
    }
    Ok(())
}

fn eos_in_the_prompt_does_not_stop(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 30)?;
    let expected = solo(context, &small(context), &prompt, seeded(3, 6))?;
    let mut engine = engine(context)?;
    let eos: Vec<u32> = prompt
        .iter()
        .copied()
        .filter(|token| !expected.tokens.contains(token))
        .collect();
    ensure!(!eos.is_empty(), "the prompt has no token of its own");
    let id = engine.create_session(Instant::now(), String::new(), eos)?;
    AppendCoordinator::append(&mut engine, &id, &prompt)?;
    generate(&mut engine, &id, seeded(3, 6))?
        .ensure_same_as("a stream after a prompt full of EOS", &expected)
}

fn the_session_goes_on_after_eos(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 30)?;
    let (stream, at, token) = stream_with_an_end(context, &prompt)?;
    let mut engine = engine(context)?;
    let id = engine.create_session(Instant::now(), String::new(), vec![token])?;
    AppendCoordinator::append(&mut engine, &id, &prompt)?;
    generate(&mut engine, &id, seeded(12, 6))?;
    let rest = (stream.len() - at - 1) as u32;
    ensure!(rest > 0, "EOS is the last token of the stream");
    let generated = generate(&mut engine, &id, seeded(rest, 6))?;
    let next = stream[at + 1..]
        .iter()
        .position(|id| *id == token)
        .map_or(stream.len(), |again| at + 2 + again);
    ensure_same_tokens(
        "the tokens after EOS",
        &generated.tokens,
        &stream[at + 1..next],
    )
}

fn bad_arguments_are_refused_and_leave_the_session(context: &SuiteContext) -> CaseResult {
    let mut engine = engine(context)?;
    let now = Instant::now();
    let empty = open(&mut engine)?;
    let warm = open_with(&mut engine, &prose(context, 50)?)?;
    let with = |temperature: f32, top_p: f32| {
        let sampling = Sampling {
            temperature,
            top_p,
            ..Sampling::default()
        };
        GenerateParams::new(4, sampling)
    };
    let vocabulary = context.model()?.config().vocabulary as u32;
    let biased = |logit_bias: &[(u32, f32)]| GenerateParams {
        logit_bias: logit_bias.to_vec(),
        ..greedy(4)
    };
    let stopping = |stop: &[&[u32]]| GenerateParams {
        stop: stop.iter().map(|sequence| sequence.to_vec()).collect(),
        ..greedy(4)
    };
    let temperature = |value| InvalidArgument::from(SamplingError::Temperature { value });
    let top_p = |value| InvalidArgument::from(SamplingError::TopP { value });
    let refusals = [
        (&warm, greedy(0), InvalidArgument::ZeroMaxTokens),
        (&warm, with(-0.5, 1.0), temperature(-0.5)),
        (&warm, with(f32::INFINITY, 1.0), temperature(f32::INFINITY)),
        (&warm, with(1.0, 0.0), top_p(0.0)),
        (&warm, with(1.0, 1.01), top_p(1.01)),
        (
            &warm,
            biased(&[(3, 1.0), (3, 2.0)]),
            LogitBiasError::Duplicate { token: 3 }.into(),
        ),
        (
            &warm,
            biased(&[(vocabulary - 1, 1.0), (vocabulary, 1.0)]),
            LogitBiasError::OutOfVocabulary {
                token: vocabulary,
                vocabulary,
            }
            .into(),
        ),
        (
            &warm,
            stopping(&[&[1], &[]]),
            StopError::Length {
                index: 1,
                length: 0,
            }
            .into(),
        ),
        (
            &warm,
            stopping(&[&[vocabulary - 1], &[1, u32::MAX]]),
            StopError::OutOfVocabulary {
                index: 1,
                token: u32::MAX,
                vocabulary,
            }
            .into(),
        ),
        (
            &warm,
            GenerateParams {
                top_logprobs: Some(21),
                ..greedy(4)
            },
            InvalidArgument::TopLogprobs { value: 21 },
        ),
        (
            &empty,
            greedy(4),
            InvalidArgument::EmptySession { id: empty.clone() },
        ),
    ];
    for (id, params, expected) in refusals {
        let (session, stats) = (snapshot(&engine, id)?, engine.stats());
        let begun = GenerationCoordinator::begin(&mut engine, id, params.clone(), now);
        ensure_refused(&format!("{params:?}"), begun, &expected.into())?;
        ensure_eq!(snapshot(&engine, id)?, session, "after {params:?}");
        ensure_eq!(engine.stats(), stats, "the counts after {params:?}");
    }
    // Not a number equals nothing, so its refusal is told by its text.
    for params in [with(f32::NAN, 1.0), with(1.0, f32::NAN)] {
        let begun = GenerationCoordinator::begin(&mut engine, &warm, params.clone(), now);
        ensure!(
            matches!(
                begun,
                Err(EngineError::InvalidArgument(InvalidArgument::Sampling(_)))
            ),
            "{params:?} was accepted"
        );
    }
    let unknown = SessionId::random();
    let begun = GenerationCoordinator::begin(&mut engine, &unknown, greedy(1), now);
    ensure_refused("an unknown session", begun, &not_found(&unknown))
}

fn a_generation_whose_session_ends_half_way_is_not_found(context: &SuiteContext) -> CaseResult {
    let mut engine = engine(context)?;
    let id = open_with(&mut engine, &prose(context, 20)?)?;
    let (events, _consumer) = kakeya_core::pipeline::bounded(8);
    let mut generation = GenerationCoordinator::begin(&mut engine, &id, greedy(5), Instant::now())?;
    generation.step(&mut engine, &events, Instant::now())?;
    ensure_eq!(engine.close_session(&id)?, 21, "the final history length");
    let passes = engine.stats().forward_passes;
    let step = generation.step(&mut engine, &events, Instant::now());
    ensure_refused("a step after the close", step, &not_found(&id))?;
    ensure_eq!(
        (engine.stats().forward_passes, engine.free_slabs()),
        (passes, 4),
        "passes and free slabs after a step that found no session"
    );
    Ok(())
}

fn a_full_window_stops_at_the_context_with_truncated(context: &SuiteContext) -> CaseResult {
    let limit = context.model()?.config().context;
    let mut cache = SMALL;
    cache.window = Window::Full;
    let config = EngineConfig {
        cache,
        capacity: 1,
        ..small(context)
    };
    let mut engine = engine_with(context, config)?;
    let id = open_with(&mut engine, &random_ids(context, 50, limit - 3)?)?;
    let generated = generate(&mut engine, &id, greedy(10))?;
    ensure_eq!(
        (
            generated.done.reason,
            generated.tokens.len(),
            generated.truncated
        ),
        (StopReason::Truncated, 3, None),
        "reason, count and notice at the end of the context"
    );
    let full = snapshot(&engine, &id)?;
    let generated = generate(&mut engine, &id, greedy(10))?;
    ensure_eq!(
        (generated.done.reason, generated.tokens.len()),
        (StopReason::Truncated, 0),
        "reason and count with no context left"
    );
    let appended = AppendCoordinator::append(&mut engine, &id, &[1]);
    let (history, appended_tokens, limit) = (limit as u64, 1, limit as u64);
    let expected = InvalidArgument::ContextExceeded {
        history,
        appended: appended_tokens,
        limit,
    };
    ensure_refused("an append to a full context", appended, &expected.into())?;
    ensure_eq!(
        snapshot(&engine, &id)?,
        full,
        "a session whose context is used up"
    );
    Ok(())
}
