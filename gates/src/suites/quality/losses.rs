//! The loss of every token of a text, in a session of its own.

use kakeya_core::{CacheConfig, KvElement};
use kakeya_model::LogitRows;
use kakeya_runtime::negative_log_likelihood;

use crate::context::SuiteContext;
use crate::ensure;
use crate::suites::inv3::Setting;
use crate::suites::support::golden_text;
use kakeya_suite::CaseFailure;

/// Tokens of one forward pass. It changes no bit.
const BLOCK: usize = 256;

/// The first `count` tokens of the long text.
pub fn text(ctx: &SuiteContext, count: usize) -> Result<Vec<u32>, CaseFailure> {
    golden_text(ctx, "opticks.txt", count)
}

/// The losses of `tokens[first..]`, in nats: the first of them is predicted by the tokens before it.
pub fn losses(
    ctx: &SuiteContext,
    cache: CacheConfig,
    element: KvElement,
    tokens: &[u32],
    first: usize,
) -> Result<Vec<f64>, CaseFailure> {
    let setting = Setting {
        element,
        ..Setting::new(ctx, cache)
    };
    let mut compute = setting.compute()?;
    let mut verifier = setting.verifier(ctx.model()?)?;
    let vocabulary = ctx.model()?.config().vocabulary;
    // The last token is only predicted, and the logits of no position before `first - 1` are wanted.
    let (read, last) = (first - 1, tokens.len() - 1);
    verifier.prefill(&mut compute, &tokens[..read], LogitRows::None);
    let mut losses = Vec::with_capacity(tokens.len() - first);
    for start in (read..last).step_by(BLOCK) {
        let block = &tokens[start..last.min(start + BLOCK)];
        let logits = verifier.forward_block(&mut compute, block, LogitRows::All);
        let targets = &tokens[start + 1..];
        losses.extend(
            logits
                .chunks_exact(vocabulary)
                .zip(targets)
                .map(|(row, target)| negative_log_likelihood(row, *target)),
        );
        verifier.commit_or_truncate(block.len());
    }
    ensure!(
        losses.len() == tokens.len() - first && losses.iter().all(|loss| loss.is_finite()),
        "{} finite losses were made of {} tokens",
        losses.len(),
        tokens.len() - first
    );
    Ok(losses)
}

/// The perplexity that losses amount to.
pub fn perplexity(losses: &[f64]) -> f64 {
    (losses.iter().sum::<f64>() / losses.len() as f64).exp()
}
