//! The record of one gate run, and everything about it that needs no model.
//!
//! Evidence lets a reviewer check a run without the host it ran on, so this crate stays small enough to be
//! read in one sitting and free of network and tensor code: the schema ([`Evidence`]), its form in bytes
//! ([`canonical`], [`statement`]), the policy it is judged by ([`policy`]), the digest that binds it to a tree
//! ([`tree`]), the verdicts recomputed from it ([`verdict`]), signatures on it ([`sign`]), and the verifier
//! ([`verify`]).

#[cfg(test)]
extern crate self as kakeya_evidence;

pub mod canonical;
pub mod case;
pub mod coverage;
pub mod docs;
pub mod environment;
pub mod export;
#[cfg(test)]
#[path = "../tests/support/good.rs"]
mod fixture;
pub mod hex;
pub mod policy;
mod record;
pub mod sign;
pub mod statement;
pub mod tree;
pub mod verdict;
pub mod verify;

pub use case::{Comparison, Counts, Outcome, RequiredCase, TestCase};
pub use environment::{
    Backend, Build, Change, ChangeKind, CommitFrom, Content, FloatModes, Host, ModelFile, Network,
    Place, Rounding, Source,
};
pub use record::{
    Bucket, Client, Coverage, Ending, Evidence, LongSession, Measurement, ModuleCoverage,
    SchemaVersion, Selection, SuiteEnding, SuiteRun, Violations,
};
pub use verdict::{GateVerdict, Holds};
