//! Stop sequences, biases, penalties and log-probabilities.

use std::time::Instant;

use kakeya_core::pipeline::bounded;
use kakeya_core::{GenerateEvent, GenerateParams, GeneratedToken, Sampling, StopReason};
use kakeya_runtime::generate::{Emitted, Step};
use kakeya_runtime::{AppendCoordinator, GenerationCoordinator, Pass};

use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{
    Generated, drain, engine, ensure_holds, generate, greedy, open, open_with, prose, seeded,
    small, solo,
};
use crate::{ensure, ensure_eq, ensure_same_tokens};
use kakeya_suite::{CaseFailure, CaseResult};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "a_stop_sequence_ends_the_stream_and_all_its_tokens_stay",
            a_stop_sequence_ends_the_stream_and_all_its_tokens_stay,
        ),
        Case::fast(
            "eos_comes_before_a_stop_sequence_and_that_before_max_tokens",
            eos_comes_before_a_stop_sequence_and_that_before_max_tokens,
        ),
        Case::fast("a_bias_forbids_and_forces", a_bias_forbids_and_forces),
        Case::fast(
            "each_penalised_greedy_token_has_the_largest_adjusted_logit",
            each_penalised_greedy_token_has_the_largest_adjusted_logit,
        ),
        Case::fast(
            "the_greedy_token_is_the_likeliest_and_log_probabilities_are_the_softmax",
            the_greedy_token_is_the_likeliest_and_log_probabilities_are_the_softmax,
        ),
        Case::fast(
            "a_penalised_stream_does_not_depend_on_the_chunks",
            a_penalised_stream_does_not_depend_on_the_chunks,
        ),
        Case::fast(
            "a_penalised_stream_does_not_depend_on_the_neighbours",
            a_penalised_stream_does_not_depend_on_the_neighbours,
        ),
    ]
}

const COUNT: u32 = 12;
/// Short enough that all of it, and what is generated after it, is cached when a generation begins.
const PROMPT: usize = 24;

fn stopping(stop: &[&[u32]], params: GenerateParams) -> GenerateParams {
    GenerateParams {
        stop: stop.iter().map(|sequence| sequence.to_vec()).collect(),
        ..params
    }
}

/// Every penalty, a bias and `min_p`, over a draw hot enough that a difference shows.
fn penalised(count: u32, seed: u64) -> GenerateParams {
    let sampling = Sampling {
        min_p: 0.001,
        presence_penalty: 0.4,
        frequency_penalty: 0.3,
        repetition_penalty: 1.2,
        ..seeded(count, seed).sampling
    };
    GenerateParams {
        logit_bias: vec![(260, 1.5), (28, -3.0)],
        ..GenerateParams::new(count, sampling)
    }
}

fn a_stop_sequence_ends_the_stream_and_all_its_tokens_stay(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, PROMPT)?;
    let free = solo(context, &small(context), &prompt, seeded(COUNT, 6))?.tokens;
    let last_of_prompt = prompt[PROMPT - 1];
    let absent = [free[3], free[3], free[3], free[3], free[3]];
    // One token; several; two of which the later one is named first; the whole stream; and what must not match:
    // a sequence that begins in the prompt, and one that does not come.
    for sequences in [
        vec![&free[4..5]],
        vec![&free[5..9]],
        vec![&free[6..10], &free[3..5]],
        vec![&free[..]],
        vec![&[last_of_prompt, free[0]][..], &free[7..9]],
        vec![&absent[..]],
    ] {
        let expected = (0..free.len()).find(|at| {
            sequences
                .iter()
                .any(|sequence| free[..=*at].ends_with(sequence))
        });
        let count = expected.map_or(free.len(), |at| at + 1);
        let mut engine = engine(context)?;
        let id = open_with(&mut engine, &prompt)?;
        let params = stopping(&sequences, seeded(COUNT, 6));
        let generated = generate(&mut engine, &id, params)?;
        ensure_same_tokens(
            &format!("the tokens up to and with the end of one of {sequences:?}"),
            &generated.tokens,
            &free[..count],
        )?;
        let reason = match expected {
            Some(_) => StopReason::StopSequence,
            None => StopReason::MaxTokens,
        };
        ensure_eq!(
            (generated.done.reason, generated.done.generated as usize),
            (reason, count),
            "reason and count with the stop sequences {sequences:?}"
        );
        let all = [&prompt, &generated.tokens[..]].concat();
        ensure_holds(context, &engine, &id, &all)?;
        // The session goes on as if nothing had stopped it.
        if count < free.len() {
            let rest = generate(&mut engine, &id, seeded(COUNT - count as u32, 6))?;
            ensure_same_tokens("the tokens after it", &rest.tokens, &free[count..])?;
        }
    }
    Ok(())
}

fn eos_comes_before_a_stop_sequence_and_that_before_max_tokens(
    context: &SuiteContext,
) -> CaseResult {
    let prompt = prose(context, PROMPT)?;
    let first = solo(context, &small(context), &prompt, seeded(1, 6))?.tokens[0];
    for (eos, reason) in [
        (vec![first], StopReason::Eos),
        (vec![], StopReason::StopSequence),
    ] {
        let mut engine = engine(context)?;
        let id = engine.create_session(Instant::now(), String::new(), eos)?;
        AppendCoordinator::append(&mut engine, &id, &prompt)?;
        let params = stopping(&[&[first]], seeded(1, 6));
        let generated = generate(&mut engine, &id, params)?;
        ensure_eq!(
            (generated.done.reason, generated.tokens),
            (reason, vec![first]),
            "reason and tokens where one token ends the stream in several ways"
        );
    }
    Ok(())
}

fn a_bias_forbids_and_forces(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, PROMPT)?;
    let mut engine = engine(context)?;
    let id = open_with(&mut engine, &prompt)?;
    let logits = engine.state(&id)?.next_logits.to_vec();
    let ranked = ranked(&logits);
    let (best, second, last) = (ranked[0], ranked[1], ranked[ranked.len() - 1]);
    for (bias, expected) in [
        (vec![], best),
        (vec![(best, -100.0)], second),
        (vec![(best, -100.0), (second, -100.0)], ranked[2]),
        (vec![(last, 100.0)], last),
    ] {
        let params = GenerateParams {
            logit_bias: bias.clone(),
            ..greedy(1)
        };
        let generated = solo(context, &small(context), &prompt, params)?;
        ensure_same_tokens(
            &format!("the greedy token with the biases {bias:?}"),
            &generated.tokens,
            &[expected],
        )?;
    }
    // It holds for every token, not the first alone.
    let params = GenerateParams {
        logit_bias: vec![(last, 100.0)],
        ..seeded(COUNT, 6)
    };
    let generated = generate(&mut engine, &id, params)?;
    ensure_same_tokens(
        "a stream with one token forced",
        &generated.tokens,
        &[last; COUNT as usize],
    )
}

fn each_penalised_greedy_token_has_the_largest_adjusted_logit(
    context: &SuiteContext,
) -> CaseResult {
    let prompt = prose(context, PROMPT)?;
    let plain = solo(context, &small(context), &prompt, greedy(COUNT))?.tokens;
    let hot = penalised(COUNT, 0);
    let sampling = Sampling {
        temperature: 0.0,
        ..hot.sampling
    };
    let (frequency, presence) = (sampling.frequency_penalty, sampling.presence_penalty);
    let params = GenerateParams { sampling, ..hot };
    let mut history = prompt.clone();
    for (at, (logits, token)) in watched(context, &prompt, &params)?.into_iter().enumerate() {
        let emitted = &history[prompt.len()..];
        let adjusted: Vec<f32> = logits
            .iter()
            .zip(0u32..)
            .map(|(logit, id)| {
                let count = emitted.iter().filter(|other| **other == id).count();
                let bias = params.logit_bias.iter().find(|entry| entry.0 == id);
                let repeated = match (history.contains(&id), *logit > 0.0) {
                    (true, true) => logit / sampling.repetition_penalty,
                    (true, false) => logit * sampling.repetition_penalty,
                    (false, _) => *logit,
                };
                let present = if count > 0 { presence } else { 0.0 };
                repeated - count as f32 * frequency - present + bias.map_or(0.0, |entry| entry.1)
            })
            .collect();
        ensure_eq!(
            token.id,
            ranked(&adjusted)[0],
            "token {at} of a penalised stream"
        );
        history.push(token.id);
    }
    ensure!(
        history[prompt.len()..] != plain,
        "the penalties changed nothing: {plain:?}"
    );
    Ok(())
}

fn the_greedy_token_is_the_likeliest_and_log_probabilities_are_the_softmax(
    context: &SuiteContext,
) -> CaseResult {
    let prompt = prose(context, PROMPT)?;
    let top = |params, count| GenerateParams {
        top_logprobs: Some(count),
        ..params
    };
    for (params, is_greedy) in [
        (top(greedy(COUNT), 5), true),
        (top(penalised(COUNT, 3), 20), false),
        (top(seeded(COUNT, 3), 0), false),
    ] {
        let count = params.top_logprobs.unwrap_or_default() as usize;
        let without = GenerateParams {
            top_logprobs: None,
            ..params.clone()
        };
        let expected = solo(context, &small(context), &prompt, without)?.tokens;
        let watched = watched(context, &prompt, &params)?;
        let tokens: Vec<u32> = watched.iter().map(|(_, token)| token.id).collect();
        ensure_same_tokens("tokens with log-probabilities", &tokens, &expected)?;
        for (logits, token) in watched {
            let Some(logprobs) = token.logprobs else {
                return Err(CaseFailure::violated("a token without log-probabilities"));
            };
            let top: Vec<u32> = logprobs.top.iter().map(|entry| entry.token).collect();
            ensure_eq!(top, ranked(&logits)[..count], "the likeliest tokens");
            if is_greedy {
                ensure_eq!(top[0], token.id, "the likeliest token");
                ensure_eq!(logprobs.top[0].logprob, logprobs.logprob, "its probability");
            }
            let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
            let entries = logprobs
                .top
                .iter()
                .map(|entry| (entry.token, entry.logprob));
            for (id, found) in entries.chain([(token.id, logprobs.logprob)]) {
                let expected = f64::from(logits[id as usize]) - sum.ln();
                ensure!(
                    (found - expected).abs() < 1e-9,
                    "the log-probability of token {id} is {found}, and by the softmax {expected}"
                );
            }
        }
    }
    Ok(())
}

fn a_penalised_stream_does_not_depend_on_the_chunks(context: &SuiteContext) -> CaseResult {
    // Beyond the window, so that the penalty counts tokens that the cache has dropped.
    let prompt = prose(context, 70)?;
    for seed in [1, 2] {
        let expected = solo(context, &small(context), &prompt, penalised(40, seed))?;
        for size in [1, 13] {
            let mut engine = engine(context)?;
            let id = open(&mut engine)?;
            for chunk in prompt.chunks(size) {
                AppendCoordinator::append(&mut engine, &id, chunk)?;
            }
            let found = generate(&mut engine, &id, penalised(40, seed))?;
            found.ensure_same_as(&format!("a stream after chunks of {size}"), &expected)?;
        }
        let unpenalised = solo(context, &small(context), &prompt, seeded(40, seed))?;
        ensure!(
            unpenalised.tokens != expected.tokens,
            "the penalties changed nothing: {:?}",
            expected.tokens
        );
    }
    Ok(())
}

fn a_penalised_stream_does_not_depend_on_the_neighbours(context: &SuiteContext) -> CaseResult {
    let text = prose(context, 90)?;
    let plans = [
        (&text[..50], penalised(30, 1)),
        (&text[20..90], seeded(30, 1)),
        (&text[..50], penalised(30, 2)),
        (
            &text[10..30],
            stopping(&[&[u32::from(u8::MAX)]], greedy(30)),
        ),
    ];
    let mut engine = engine(context)?;
    let mut streams = Vec::new();
    for (prompt, params) in &plans {
        let id = open_with(&mut engine, prompt)?;
        let begun = GenerationCoordinator::begin(&mut engine, &id, params.clone(), Instant::now())?;
        streams.push((begun, bounded(params.max_tokens as usize + 2), None));
    }
    // One pass for all that still generate, until none does.
    let mut pass = Pass::default();
    loop {
        pass.clear();
        let mut members = Vec::new();
        for (at, (generation, (events, _), _)) in streams.iter_mut().enumerate() {
            let emitted = match generation.emit(&engine, events)? {
                Emitted::Notice => generation.emit(&engine, events)?,
                other => other,
            };
            if let Emitted::Token(token) = emitted {
                pass.push(generation.id(), &[token], true);
                members.push(at);
            }
        }
        if members.is_empty() {
            break;
        }
        engine.run(&mut pass, Instant::now());
        for (index, at) in members.into_iter().enumerate() {
            pass.outcome(index)?;
            let (generation, _, ended) = &mut streams[at];
            if let Step::Finished(reason) = generation.advance(&mut engine)? {
                *ended = Some(reason);
            }
        }
    }
    for (at, (generation, (events, mut consumer), ended)) in streams.into_iter().enumerate() {
        let Some(reason) = ended else {
            return Err(CaseFailure::violated(format!("stream {at} did not end")));
        };
        events.finish_with(generation.done(reason));
        let found = Generated::read(&drain(&mut consumer)?)?;
        let (prompt, params) = &plans[at];
        let expected = solo(context, &small(context), prompt, params.clone())?;
        found.ensure_same_as(&format!("stream {at} among four"), &expected)?;
    }
    Ok(())
}

/// Every token id, by falling logit, the lower id first among equals.
fn ranked(logits: &[f32]) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    // Stable, so equals stay in the order of their ids.
    ids.sort_by(|a, b| {
        let (a, b) = (logits[*a as usize], logits[*b as usize]);
        b.partial_cmp(&a).unwrap_or(std::cmp::Ordering::Equal)
    });
    ids
}

/// Each token of a generation after `prompt`, with the logits it was taken from.
fn watched(
    context: &SuiteContext,
    prompt: &[u32],
    params: &GenerateParams,
) -> Result<Vec<(Vec<f32>, GeneratedToken)>, CaseFailure> {
    let mut engine = engine(context)?;
    let id = open_with(&mut engine, prompt)?;
    let (events, mut consumer) = bounded(2);
    let mut generation =
        GenerationCoordinator::begin(&mut engine, &id, params.clone(), Instant::now())?;
    let mut found = Vec::new();
    loop {
        let logits = engine.state(&id)?.next_logits.to_vec();
        let step = generation.step(&mut engine, &events, Instant::now())?;
        for event in drain(&mut consumer)? {
            if let GenerateEvent::Token(token) = event {
                found.push((logits.clone(), token));
            }
        }
        if step != Step::Progress {
            ensure_eq!(
                (step, found.len()),
                (
                    Step::Finished(StopReason::MaxTokens),
                    params.max_tokens as usize
                ),
                "the end of a watched stream, and its tokens"
            );
            return Ok(found);
        }
    }
}
