//! Gate suites: the cases that run the real model and say whether the engine keeps its promises.
//!
//! What a suite, a case and a failure are, and how one case is run and judged, is of `kakeya-suite`. Here are what our
//! cases get to work with ([`SuiteContext`]), and the cases themselves (below [`suites`]). Both the
//! `harness` program and `cargo test` drive the same [`registry`], so there is no second list to forget.
//!
//! Listing never loads a model: names and tiers are plain data, and the weights are read by the first case
//! that asks the [`SuiteContext`] for them.

mod checkpoint;
mod context;
pub mod long_session;
mod model_file;
mod packages;
pub mod suites;

/// Suites and cases of our context.
pub mod suite {
    use kakeya_suite::CaseFailure;

    use crate::SuiteContext;

    /// A case that runs our engine.
    pub type Case = kakeya_suite::Case<SuiteContext>;
    /// A suite of such cases.
    pub type Suite = kakeya_suite::Suite<SuiteContext>;

    /// The context with a model of the catalogue, whichever model the platform runs: for what is about that very file.
    pub fn on_model(
        model: &'static str,
    ) -> impl Fn(&SuiteContext) -> Result<SuiteContext, CaseFailure> + Clone + Send + Sync + 'static
    {
        move |context| context.with_model(model)
    }
}

pub use context::{ContextError, SuiteContext, SuiteSettings};
pub use kakeya_suite::{
    CaseFailure, CaseReport, CaseResult, Compared, Measurement, ModelFile, Outcome, RegistryError,
    Tier, UnknownTier, Workspace, WorkspaceError, check_registry, ensure, ensure_different_bits,
    ensure_eq, ensure_same_bits, ensure_same_tokens, select,
};
pub use model_file::{ModelFileError, default_model, load_model, model_file, resolver};
pub use suite::{Case, Suite, on_model};
pub use suites::{OF_A_GPU, registry};

/// Runs one case on the model that this process counts the passes of.
pub fn run_case(case: &Case, context: &SuiteContext) -> CaseReport {
    kakeya_suite::run_case(case, context, kakeya_model::forward_passes)
}
