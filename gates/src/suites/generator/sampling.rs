//! Seeds, and temperature 0.

use kakeya_core::{GenerateParams, Sampling};

use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{engine, generate, greedy, open_with, prose, seeded, small, solo};
use crate::{ensure, ensure_same_tokens};
use kakeya_suite::{CaseFailure, CaseResult};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "seeded_sampling_repeats_with_the_seed",
            seeded_sampling_repeats_with_the_seed,
        ),
        Case::fast(
            "sampling_differs_with_another_seed_and_without_one",
            sampling_differs_with_another_seed_and_without_one,
        ),
        Case::fast(
            "temperature_zero_equals_greedy_whatever_else_is_set",
            temperature_zero_equals_greedy_whatever_else_is_set,
        ),
        Case::fast(
            "one_candidate_equals_greedy_at_any_temperature",
            one_candidate_equals_greedy_at_any_temperature,
        ),
        Case::fast(
            "top_k_and_top_p_keep_the_most_likely",
            top_k_and_top_p_keep_the_most_likely,
        ),
    ]
}

const COUNT: u32 = 12;

fn stream(context: &SuiteContext, sampling: Sampling) -> Result<Vec<u32>, CaseFailure> {
    let params = GenerateParams::new(COUNT, sampling);
    let prompt = prose(context, 30)?;
    Ok(solo(context, &small(context), &prompt, params)?.tokens)
}

fn seeded_sampling_repeats_with_the_seed(context: &SuiteContext) -> CaseResult {
    for seed in [0, 1, u64::MAX] {
        let sampling = seeded(COUNT, seed).sampling;
        let (first, second) = (stream(context, sampling)?, stream(context, sampling)?);
        ensure_same_tokens("two streams of one seed", &second, &first)?;
    }
    Ok(())
}

fn sampling_differs_with_another_seed_and_without_one(context: &SuiteContext) -> CaseResult {
    let hot = |seed| Sampling {
        seed,
        ..seeded(COUNT, 0).sampling
    };
    let streams = [Some(1), Some(2), None, None]
        .into_iter()
        .map(|seed| stream(context, hot(seed)))
        .chain([stream(context, Sampling::default())])
        .collect::<Result<Vec<_>, _>>()?;
    for (at, left) in streams.iter().enumerate() {
        for right in &streams[at + 1..] {
            ensure!(
                left != right,
                "two of seed 1, seed 2, no seed, no seed and greedy gave the same stream: {left:?}"
            );
        }
    }
    Ok(())
}

fn temperature_zero_equals_greedy_whatever_else_is_set(context: &SuiteContext) -> CaseResult {
    let expected = stream(context, greedy(COUNT).sampling)?;
    for sampling in [
        Sampling {
            seed: Some(3),
            ..Sampling::default()
        },
        Sampling {
            top_k: 40,
            top_p: 0.5,
            seed: Some(4),
            ..Sampling::default()
        },
        Sampling {
            temperature: -0.0,
            ..Sampling::default()
        },
    ] {
        let found = stream(context, sampling)?;
        ensure_same_tokens(&format!("{sampling:?}"), &found, &expected)?;
    }
    Ok(())
}

fn one_candidate_equals_greedy_at_any_temperature(context: &SuiteContext) -> CaseResult {
    let expected = stream(context, greedy(COUNT).sampling)?;
    let hot = seeded(COUNT, 5).sampling;
    for sampling in [
        Sampling { top_k: 1, ..hot },
        Sampling {
            top_p: f32::MIN_POSITIVE,
            ..hot
        },
        Sampling {
            temperature: 100.0,
            top_k: 1,
            ..hot
        },
    ] {
        let found = stream(context, sampling)?;
        ensure_same_tokens(&format!("{sampling:?}"), &found, &expected)?;
    }
    Ok(())
}

/// For each token drawn with `sampling`, one at a time: how many tokens had larger logits, and how likely
/// those were together.
fn likelier(context: &SuiteContext, sampling: Sampling) -> Result<Vec<(usize, f64)>, CaseFailure> {
    let mut engine = engine(context)?;
    let id = open_with(&mut engine, &prose(context, 30)?)?;
    let one = GenerateParams::new(1, sampling);
    let mut found = Vec::new();
    for _ in 0..COUNT {
        let logits = engine.state(&id)?.next_logits.to_vec();
        let drawn = logits[generate(&mut engine, &id, one.clone())?.tokens[0] as usize];
        let weight =
            |logit: &f32| (f64::from(*logit - drawn) / f64::from(sampling.temperature)).exp();
        let above: Vec<f64> = logits
            .iter()
            .filter(|logit| **logit > drawn)
            .map(weight)
            .collect();
        let all: f64 = logits.iter().map(weight).sum();
        found.push((above.len(), above.iter().sum::<f64>() / all));
    }
    Ok(found)
}

fn top_k_and_top_p_keep_the_most_likely(context: &SuiteContext) -> CaseResult {
    let hot = Sampling {
        temperature: 1.5,
        ..seeded(COUNT, 6).sampling
    };
    let free = likelier(context, hot)?;
    ensure!(
        free.iter().any(|(rank, mass)| *rank >= 5 && *mass > 0.4),
        "nothing unlikely was drawn, so there is nothing to cut: {free:?}"
    );
    let few = likelier(context, Sampling { top_k: 5, ..hot })?;
    ensure!(
        few.iter().all(|(rank, _)| *rank < 5),
        "a token is none of the 5 that top_k keeps: {few:?}"
    );
    let nucleus = likelier(context, Sampling { top_p: 0.4, ..hot })?;
    // The token that reaches the probability is kept; those after it are not.
    ensure!(
        nucleus.iter().all(|(_, mass)| *mass < 0.4 + 1e-9),
        "a token is not among those that reach a probability of 0.4: {nucleus:?}"
    );
    for kept in [few, nucleus] {
        ensure!(
            kept.iter().any(|(rank, _)| *rank > 0),
            "every token is the likeliest one, so nothing was drawn: {kept:?}"
        );
    }
    Ok(())
}
