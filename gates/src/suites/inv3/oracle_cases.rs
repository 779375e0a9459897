//! The engine against the plain oracle; and what must be caught by the same comparison: candle's stock
//! llama, and two common ways to get the window wrong.

use std::fs::File;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;
use kakeya_core::KvElement;
use kakeya_model::Model;

use super::super::SMOLLM2;
use super::oracle::{Oracle, Visibility};
use super::run::{HISTORIES, Setting, Trace, cache, history};
use crate::context::SuiteContext;
use crate::suite::{Case, on_model};
use crate::{ensure, ensure_different_bits, ensure_same_bits};
use kakeya_suite::{CaseFailure, CaseResult};

const SINK: usize = 2;
const WINDOW: usize = 8;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in HISTORIES {
        let body = move |ctx: &SuiteContext| plain(ctx, name, KvElement::F16, 24);
        cases.push(
            Case::fast(
                format!("the_engine_has_the_bits_of_the_plain_oracle.{name}"),
                body,
            )
            .history(name),
        );
        let body = move |ctx: &SuiteContext| plain(ctx, name, KvElement::F16, 120);
        cases.push(
            Case::full(
                format!("the_engine_has_the_bits_of_the_plain_oracle_at_length.{name}"),
                body,
            )
            .history(name),
        );
    }
    for element in [KvElement::F32, KvElement::Int8] {
        cases.push(Case::fast(
            format!("the_engine_has_the_bits_of_the_plain_oracle.kv_{element}"),
            move |ctx| plain(ctx, "code", element, 24),
        ));
    }
    cases.push(Case::fast("whole_chunk_visibility_is_caught", |ctx| {
        wrong_rule(ctx, Visibility::WholeChunk)
    }));
    cases.push(Case::fast("evict_before_chunk_is_caught", |ctx| {
        wrong_rule(ctx, Visibility::EvictBeforeChunk)
    }));
    let candle = Case::fast("candles_stock_quantized_llama_is_caught", candle);
    cases.push(candle.within(on_model(SMOLLM2)));
    cases
}

fn plain(ctx: &SuiteContext, name: &str, element: KvElement, length: usize) -> CaseResult {
    let tokens = history(ctx, name, length)?;
    let setting = Setting {
        element,
        ..Setting::new(ctx, cache(SINK as u32, WINDOW as u32))
    };
    let engine = Trace::of(ctx, &setting, &tokens, &[length.div_ceil(2)])?;
    let oracle = Oracle::new(ctx.model()?, (SINK, WINDOW), element, ctx.threads());
    let logits = oracle.logits(&tokens)?;
    ensure_same_bits(
        "logits at every position against the oracle's",
        &engine.logits,
        &logits,
    )
}

/// The last logits under a visibility rule, for a history cut into chunks.
fn under(
    ctx: &SuiteContext,
    rule: Visibility,
    tokens: &[u32],
    chunk: usize,
) -> Result<Vec<f32>, CaseFailure> {
    let model: &Model = ctx.model()?;
    let mut oracle = Oracle::new(model, (SINK, WINDOW), KvElement::F16, ctx.threads());
    let mut logits = Vec::new();
    for (position, token) in tokens.iter().enumerate() {
        let first = position / chunk * chunk;
        logits = oracle.step(*token, rule, (first, (first + chunk).min(tokens.len()) - 1))?;
    }
    Ok(logits)
}

fn wrong_rule(ctx: &SuiteContext, rule: Visibility) -> CaseResult {
    let tokens = history(ctx, "prose", 18)?;
    let singly = under(ctx, rule, &tokens, 1)?;
    let chunked = under(ctx, rule, &tokens, 6)?;
    ensure_different_bits(
        &format!("{rule:?} in chunks of 1 and of 6"),
        &singly,
        &chunked,
    )?;
    ensure!(
        ensure_same_bits("control", &chunked, &singly).is_err(),
        "the comparison that passes the engine must reject {rule:?}"
    );
    Ok(())
}

fn candle(ctx: &SuiteContext) -> CaseResult {
    let tokens = history(ctx, "prose", 32)?;
    let last = |mut logits: Vec<Vec<f32>>| logits.pop().unwrap_or_default();
    let whole = last(candle_logits(ctx, &tokens, tokens.len())?);
    let singly = last(candle_logits(ctx, &tokens, 1)?);
    let changed = whole
        .iter()
        .zip(&singly)
        .filter(|(a, b)| a.to_bits() != b.to_bits())
        .count();
    let furthest = whole
        .iter()
        .zip(&singly)
        .map(|(a, b)| f64::from((a - b).abs()))
        .fold(0.0, f64::max);
    ctx.measure(
        "candle_logits_changed_by_chunking",
        changed as f64,
        "logits of 49152",
    )?;
    ctx.measure("candle_largest_change_by_chunking", furthest, "logit")?;
    ensure!(
        ensure_same_bits("control", &whole, &singly).is_err(),
        "candle's stock llama changed no logit between one chunk of 32 and 32 of one: the comparison proves nothing"
    );
    Ok(())
}

/// The logits of the last position of each chunk, by candle's stock implementation.
pub fn candle_logits(
    ctx: &SuiteContext,
    tokens: &[u32],
    chunk: usize,
) -> Result<Vec<Vec<f32>>, CaseFailure> {
    let mut file = File::open(ctx.model_path())?;
    let content = Content::read(&mut file)?;
    let mut model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
    let mut logits = Vec::new();
    let mut position = 0;
    for chunk in tokens.chunks(chunk) {
        let input = Tensor::new(chunk, &Device::Cpu)?.unsqueeze(0)?;
        logits.push(model.forward(&input, position)?.squeeze(0)?.to_vec1()?);
        position += chunk.len();
    }
    Ok(logits)
}
