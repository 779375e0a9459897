//! What verifying asks of evidence in general (`gates/evidence.toml`).

use std::collections::BTreeMap;

use serde::Deserialize;

/// The requirements.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The name of this repository, which each record carries.
    pub repository: String,
    /// The platforms that a change needs evidence of, unless it is asked for others.
    pub platforms: Vec<String>,
    /// The tier that must have run, unless general availability is asked for.
    pub tier: String,
    /// How many different keys must have signed a record. Zero accepts unsigned ones.
    pub signatures: usize,
    /// The version of the numerics contract.
    pub numerics_version: u32,
    /// Suites of a mode that keeps another version, by their ids: that one.
    #[serde(default)]
    pub numerics_of: BTreeMap<String, u32>,
    /// The optimisation levels that kernels may have been built at.
    pub opt_levels: Vec<String>,
    /// Whether records must hold coverage.
    pub coverage: bool,
    /// What general availability asks for beyond.
    pub ga: GaRequest,
}

impl Request {
    /// The version of the numerics contract that a suite must have computed by.
    #[must_use]
    pub fn numerics_of(&self, suite: &str) -> u32 {
        let own = self.numerics_of.get(suite);
        own.copied().unwrap_or(self.numerics_version)
    }
}

/// What general availability asks for.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GaRequest {
    /// The platforms.
    pub platforms: Vec<String>,
    /// How long the long session must be, in seconds.
    pub long_session_seconds: f64,
    /// How many different keys must have signed.
    pub signatures: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_request_asks_four_hours_for_general_availability() {
        let request: Request =
            toml::from_str(include_str!("../../../../gates/evidence.toml")).unwrap();
        assert_eq!(request.repository, "kakeya");
        assert_eq!(request.ga.long_session_seconds, 4.0 * 3600.0);
        assert_eq!(request.numerics_of("inv3"), 1);
        assert_ne!(request.numerics_of("fast"), 1, "that of the fast mode");
    }
}
