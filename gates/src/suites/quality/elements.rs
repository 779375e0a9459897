//! What the element type of the cache costs.

use kakeya_core::{CacheConfig, KvElement};

use super::losses::{losses, perplexity, text};
use crate::context::SuiteContext;
use crate::ensure;
use crate::suite::Case;
use kakeya_suite::CaseResult;

/// How far the perplexity over a cache of halves may be from that over one of floats, and over one of 8-bit integers.
const HALVES: f64 = 0.001;
const INTEGERS: f64 = 0.01;

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast("element_types_of_the_cache_keep_perplexity", |ctx| {
            element_types(ctx, 2048)
        }),
        Case::full(
            "element_types_of_the_cache_keep_perplexity_at_length",
            |ctx| element_types(ctx, 16_384),
        ),
        Case::full(
            "element_types_of_the_cache_keep_perplexity.gemma3-270m",
            |ctx| element_types(&ctx.with_model("gemma3-270m")?, 4096),
        ),
    ]
}

fn element_types(ctx: &SuiteContext, length: usize) -> CaseResult {
    let tokens = text(ctx, length)?;
    let of = |element| {
        let losses = losses(ctx, CacheConfig::default(), element, &tokens, 1)?;
        Ok::<_, kakeya_suite::CaseFailure>(perplexity(&losses))
    };
    let floats = of(KvElement::F32)?;
    let name = ctx.model_name();
    ctx.measure(
        &format!("perplexity_of_{length}_f32_kv.{name}"),
        floats,
        "perplexity",
    )?;
    for (element, limit) in [(KvElement::F16, HALVES), (KvElement::Int8, INTEGERS)] {
        let found = of(element)?;
        let ratio = found / floats;
        ctx.measure(
            &format!("perplexity_of_{length}_{element}_kv_over_f32.{name}"),
            ratio,
            "ratio",
        )?;
        ensure!(
            (ratio - 1.0).abs() <= limit,
            "{element} KV changes the perplexity of {length} tokens from {floats} to {found}, by more than {}%",
            limit * 100.0
        );
    }
    Ok(())
}
