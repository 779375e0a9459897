//! Gate suites: the cases that run the real model and say whether the engine keeps its promises.
//!
//! The crate has two halves. The *framework* (this level) knows what a suite, a case and a failure are, and
//! how one case is run and judged. The *suites* (below [`suites`]) are the cases themselves. Both the
//! `harness` program and `cargo test` drive the same [`registry`], so there is no second list to forget.
//!
//! Listing never loads a model: names and tiers are plain data, and the weights are read by the first case
//! that asks the [`SuiteContext`] for them.

mod checkpoint;
mod compare;
mod context;
mod failure;
pub mod long_session;
mod model_file;
mod packages;
mod run;
mod suite;
pub mod suites;
mod workspace;

#[doc(hidden)]
pub use compare::shown;
pub use compare::{Compared, ensure_different_bits, ensure_same_bits, ensure_same_tokens};
pub use context::{ContextError, Measurement, SuiteContext, SuiteSettings};
pub use failure::{CaseFailure, CaseResult};
pub use model_file::{ModelFile, ModelFileError, default_model, resolver};
pub use run::{CaseReport, Outcome, run_case};
pub use suite::{Case, RegistryError, Suite, Tier, UnknownTier, check_registry, select};
pub use suites::registry;
pub use workspace::{Workspace, WorkspaceError};
