//! What can be recalled: a number told once, asked for after so many tokens of other text.

use kakeya_core::{CacheConfig, KvElement, Window};
use kakeya_model::LogitRows;
use kakeya_model::tokenizer::Tokenizer;
use kakeya_runtime::sampler::greedy;

use super::losses::text;
use crate::context::SuiteContext;
use crate::ensure;
use crate::suite::Case;
use crate::suites::inv3::Setting;
use kakeya_suite::{CaseFailure, CaseResult};

/// Tokens between the number and the question: within a window of 1024 with all that is around them, and beyond it.
const DISTANCES: [usize; 8] = [32, 128, 512, 900, 1100, 1500, 2048, 4096];
const WINDOW: u32 = 1024;
/// Tokens of text before the number is told, so that the number is not a sink.
const BEFORE: usize = 300;
/// What is told, and who it belongs to.
const NEEDLES: [(&str, &str); 6] = [
    ("Margaret", "40718"),
    ("Leonard", "92653"),
    ("Cecilia", "17384"),
    ("Barnabas", "65029"),
    ("Theodora", "38146"),
    ("Ambrose", "81570"),
];

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast("a_number_is_recalled_inside_the_window", |ctx| {
            let recalled = recalled(ctx, Window::Sliding(WINDOW), 128)?;
            ensure!(
                recalled * 2 > NEEDLES.len(),
                "{recalled} of {} numbers were recalled at 128 tokens",
                NEEDLES.len()
            );
            Ok(())
        }),
        Case::full("recall_by_distance", by_distance),
    ]
}

/// Reported as it is: the only demand is that what the window holds is recalled more often than what it has lost.
fn by_distance(ctx: &SuiteContext) -> CaseResult {
    let count = NEEDLES.len();
    let mut sides = [0usize; 2];
    for (name, window) in [
        ("window_1024", Window::Sliding(WINDOW)),
        ("full", Window::Full),
    ] {
        for distance in DISTANCES {
            let found = recalled(ctx, window, distance)?;
            ctx.measure(
                &format!("recall.{name}.{distance:04}"),
                found as f64 / count as f64,
                "share of the numbers",
            )?;
            if window != Window::Full {
                sides[usize::from(distance > WINDOW as usize)] += found;
            }
        }
    }
    let [inside, outside] = sides;
    ensure!(
        inside > outside,
        "{inside} numbers were recalled inside the window and {outside} outside"
    );
    Ok(())
}

/// How many of the numbers are given back, digit by digit, `distance` tokens after they were told.
fn recalled(ctx: &SuiteContext, window: Window, distance: usize) -> Result<usize, CaseFailure> {
    let cache = CacheConfig {
        window,
        ..CacheConfig::default()
    };
    let tokenizer = Tokenizer::of(ctx.model()?.source())?;
    let filler = text(ctx, BEFORE + distance + 1000 * NEEDLES.len())?;
    let mut found = 0;
    for (index, (name, number)) in NEEDLES.into_iter().enumerate() {
        let filler = &filler[1000 * index..];
        let told = tokenizer.encode(
            &format!("\n\nThe secret number of {name} is {number}.\n\n"),
            false,
        )?;
        let asked = tokenizer.encode(&format!("\n\nThe secret number of {name} is"), false)?;
        let answer = tokenizer.encode(&format!(" {number}."), false)?;
        let mut tokens = filler[..BEFORE].to_vec();
        tokens.extend(told);
        tokens.extend(&filler[BEFORE..BEFORE + distance]);
        tokens.extend(asked);
        found += usize::from(continues(ctx, cache, &tokens, &answer)?);
    }
    Ok(found)
}

/// Whether the likeliest continuation of `tokens` is `answer`, token by token.
fn continues(
    ctx: &SuiteContext,
    cache: CacheConfig,
    tokens: &[u32],
    answer: &[u32],
) -> Result<bool, CaseFailure> {
    let setting = Setting {
        element: KvElement::F16,
        ..Setting::new(ctx, cache)
    };
    let mut compute = setting.compute()?;
    let mut verifier = setting.verifier(ctx.model()?)?;
    verifier.prefill(&mut compute, tokens, LogitRows::Last);
    for (index, expected) in answer.iter().enumerate() {
        if greedy(compute.logits(0)) != *expected {
            return Ok(false);
        }
        if index + 1 < answer.len() {
            verifier.prefill(&mut compute, &[*expected], LogitRows::Last);
        }
    }
    Ok(true)
}
