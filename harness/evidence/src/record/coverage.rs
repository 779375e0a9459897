//! What tests covered, as the record keeps it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Line coverage by module, from a report of `cargo llvm-cov --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Coverage {
    /// SHA-256 of the report.
    pub report_sha256: String,
    /// The modules that the policy names, in its order.
    pub modules: Vec<ModuleCoverage>,
}

/// One module's lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModuleCoverage {
    /// A file or folder, relative to the checkout.
    pub path: String,
    /// Files of it with lines that can run.
    pub files: u64,
    /// Lines that can run.
    pub lines: u64,
    /// Of these, lines that ran.
    pub covered: u64,
    /// Lines that did not run, with a reason in the policy.
    pub excused: u64,
}
