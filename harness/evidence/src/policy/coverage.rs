//! How much of which module tests must cover (`gates/coverage.toml`).

use serde::Deserialize;

/// The modules.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoveragePolicy {
    /// The modules.
    #[serde(default)]
    pub module: Vec<CoveredModule>,
}

/// One module.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoveredModule {
    /// A file or folder, relative to the checkout.
    pub path: String,
    /// The least share of its lines that must have run, in percent.
    pub lines: f64,
    /// Lines that are left out of the count.
    #[serde(default)]
    pub excuse: Vec<Excuse>,
}

/// A line that cannot be covered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Excuse {
    /// The file, relative to the checkout.
    pub file: String,
    /// The line, as it stands there, without the blanks around it. A number would move with every edit.
    pub line: String,
    /// Why no test can reach it.
    pub reason: String,
}
