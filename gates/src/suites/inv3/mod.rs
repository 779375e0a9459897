//! INV-3: what a session computes depends on its tokens, its settings and the model file, and on nothing
//! else. Every case compares bits: of the logits at every position, and of the cached keys and values.

mod chunking;
mod kernels;
mod neighbours;
pub(super) mod oracle;
mod oracle_cases;
mod passes;
pub(super) mod run;
mod streams;
mod trim;

pub(super) use oracle_cases::candle_logits;
pub(super) use run::{Setting, Trace};

use std::time::Duration;

use crate::suite::Suite;

/// The suite behind gate G3.
pub fn suite() -> Suite {
    Suite::new(
        "inv3",
        "logits and KV bits do not depend on chunks, threads, neighbours or leftovers",
    )
    .timeout(Duration::from_secs(600))
    .full_timeout(Duration::from_secs(3600))
    .cases(chunking::cases())
    .cases(trim::cases())
    .cases(neighbours::cases())
    .cases(passes::cases())
    .cases(streams::cases())
    .cases(kernels::cases())
    .cases(oracle_cases::cases())
}
