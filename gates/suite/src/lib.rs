//! What a gate suite is, whatever its cases run.
//!
//! A [`Suite`] is a stable id, a time limit and an ordered list of [`Case`]s; a case is a function of a context, which is
//! a type of whoever writes the suite: the model it runs, and what else it needs. This crate knows how cases compare, how
//! one is run and judged, and where the policy of a repository lies. It knows no model and no engine, so that a
//! repository with another engine can write suites of its own.

mod compare;
mod failure;
mod measurements;
mod model;
mod run;
mod suite;
mod workspace;

#[doc(hidden)]
pub use compare::shown;
pub use compare::{
    Compared, ensure_different_bits, ensure_same_bits, ensure_same_digest, ensure_same_tokens,
};
pub use failure::{CaseFailure, CaseResult};
pub use measurements::{Measurement, MeasurementError, Measurements};
pub use model::ModelFile;
pub use run::{CaseReport, Outcome, run_case};
pub use suite::{Case, RegistryError, Suite, Tier, UnknownTier, check_registry, select};
pub use workspace::{Workspace, WorkspaceError};
