//! Gemma 3 270M itself: its logits beside those of `transformers`, and its bits in every chunking.

use serde::Deserialize;

use super::super::inv3;
use super::super::inv3::run::{Setting, Trace, cache};
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

const NAME: &str = "gemma3-270m";
/// How far a logit may be from that of `transformers`, which rounds in another order.
const TOLERANCE: f32 = 1e-3;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::fast(format!("logits_are_those_of_transformers.{NAME}"), logits),
        Case::fast(format!("chunks_do_not_show.{NAME}"), chunks),
    ];
    cases.extend(inv3::cases_on(NAME, |ctx| ctx.with_model(NAME)));
    cases
}

/// What `gates/reference/gguf_logits.py` has left.
#[derive(Deserialize)]
struct Golden {
    model_sha256: String,
    tokens: Vec<u32>,
    sampled: Vec<usize>,
    logits: Vec<Vec<f32>>,
    largest: Vec<usize>,
}

fn golden(ctx: &SuiteContext) -> Result<Golden, CaseFailure> {
    let path = ctx.goldens().join(format!("reference-{NAME}.json"));
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

fn logits(ctx: &SuiteContext) -> CaseResult {
    let golden = golden(ctx)?;
    let ctx = ctx.with_model(NAME)?;
    ensure_eq!(
        ctx.model_sha256(),
        golden.model_sha256,
        "the model of the golden"
    );
    let model = ctx.model()?;
    ensure!(
        model
            .config()
            .kinds
            .iter()
            .any(|kind| kind.window.is_some_and(|own| own < golden.tokens.len())),
        "the text is no longer than the model's own window"
    );
    let mut setting = Setting::new(&ctx, cache(0, golden.tokens.len() as u32));
    setting.element = kakeya_core::KvElement::F32;
    let found = Trace::run(model, &setting, &golden.tokens, &[128], 0)?;
    let vocabulary = model.config().vocabulary;
    let (mut furthest, mut same) = (0.0f32, 0);
    for (position, expected) in golden.logits.iter().enumerate() {
        let found = &found.logits[position * vocabulary..][..vocabulary];
        for (id, expected) in golden.sampled.iter().zip(expected) {
            furthest = furthest.max((found[*id] - expected).abs());
        }
        let largest = (0..vocabulary).max_by(|a, b| found[*a].total_cmp(&found[*b]));
        same += usize::from(largest == Some(golden.largest[position]));
    }
    ctx.measure(
        "gemma3_largest_difference_from_transformers",
        f64::from(furthest),
        "logit",
    )?;
    ensure!(
        furthest <= TOLERANCE,
        "a logit is {furthest} off that of transformers"
    );
    // Two that are nearly as large may change places.
    ensure!(
        same * 100 >= golden.tokens.len() * 99,
        "of {} positions {same} have their largest logit where transformers has it",
        golden.tokens.len()
    );
    Ok(())
}

/// Across the model's own window and the session's.
fn chunks(ctx: &SuiteContext) -> CaseResult {
    let golden = golden(ctx)?;
    let ctx = ctx.with_model(NAME)?;
    let model = ctx.model()?;
    let tokens = &golden.tokens[..560];
    let mut setting = Setting::new(&ctx, cache(4, 64));
    setting.poisoned = true;
    let whole = Trace::run(model, &setting, tokens, &[256], 500)?;
    for sizes in [&[100, 1, 7][..], &[33]] {
        let pieces = Trace::run(model, &setting, tokens, sizes, 500)?;
        pieces.ensure_equals(&whole, &format!("chunks of {sizes:?}"))?;
    }
    Ok(())
}
