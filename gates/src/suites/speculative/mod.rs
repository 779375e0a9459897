//! Whatever is guessed, and whoever guesses: the tokens, the logits and the cache are those of plain decoding.
//!
//! The proposers of most cases are told what to say: the right tokens, wrong ones, and what no proposer should.

mod blocks;
mod diffusion;
mod draft;
mod head;
mod hostile;
mod support;
mod texts;

use std::time::Duration;

use crate::suite::Suite;

/// The `speculative` suite.
pub fn suite() -> Suite {
    Suite::new(
        "speculative",
        "tokens that are guessed and verified are those of plain decoding, to the last bit",
    )
    .timeout(Duration::from_secs(300))
    .full_timeout(Duration::from_secs(1800))
    .cases(blocks::cases())
    .cases(texts::cases())
    .cases(hostile::cases())
    .cases(draft::cases())
    .cases(diffusion::cases())
    .cases(head::cases())
}
