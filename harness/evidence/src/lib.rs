//! The record of one gate run, and everything about it that needs no model.
//!
//! Evidence lets a reviewer check a run without the host it ran on, so this crate stays small enough to be
//! read in one sitting and free of network and tensor code: the schema ([`Evidence`]), the policy it is
//! judged by ([`policy`]), the digest that binds it to a tree ([`tree`]), the verdicts recomputed from its
//! cases ([`verdict`]), and the files it is kept in ([`store`], [`junit`]).

pub mod case;
pub mod environment;
pub mod hex;
pub mod junit;
pub mod policy;
mod record;
pub mod store;
pub mod tree;
pub mod verdict;

pub use case::{Counts, Outcome, RequiredCase, TestCase};
pub use environment::{Backend, Build, FloatModes, Host, ModelDigest, Rounding, Source};
pub use record::{Ending, Evidence, Measurement, SchemaVersion, Selection, SuiteEnding, SuiteRun};
pub use verdict::{GateVerdict, Holds};
