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
pub(super) use run::{Setting, Trace, cache, history, random_tokens};

use std::time::Duration;

use crate::context::SuiteContext;
use crate::suite::{Case, Suite};
use kakeya_suite::CaseFailure;

/// The suite behind gate G3.
pub fn suite() -> Suite {
    Suite::new(
        "inv3",
        "logits and KV bits do not depend on chunks, threads, neighbours or leftovers",
    )
    .timeout(Duration::from_secs(600))
    .full_timeout(Duration::from_secs(3600))
    .cases(cases_of_any_model())
    .case(Case::fast(
        "what_computes_has_the_golden_digest",
        super::isa::of_what_computes,
    ))
    .cases(kernels::cases())
    .cases(oracle_cases::cases())
}

/// The suite on another model, in the full tier.
pub(super) fn cases_on(
    model: &str,
    on: impl Fn(&SuiteContext) -> Result<SuiteContext, CaseFailure> + Copy + Send + Sync + 'static,
) -> impl Iterator<Item = Case> {
    cases_of_any_model().into_iter().map(move |case| {
        let name = format!("inv3.{}.{model}", case.name());
        Case::full(name, move |ctx| case.call(&on(ctx)?))
    })
}

/// Those that say something about the model they run, whichever it is.
fn cases_of_any_model() -> Vec<Case> {
    [
        chunking::cases(),
        trim::cases(),
        neighbours::cases(),
        passes::cases(),
        streams::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
