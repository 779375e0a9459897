//! Which cases a run must have passed, and which figures it must have (`gates/required.toml`).
//!
//! The list is data, not code, because the code under test must not decide what is asked of it: it is read at
//! the base of a change. A test of the gates says when it no longer matches the suites.

use serde::{Deserialize, Serialize};

/// What each suite must show.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequiredPolicy {
    /// The suites.
    #[serde(default)]
    pub suite: Vec<RequiredSuite>,
}

/// What one suite must show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequiredSuite {
    /// The suite's id.
    pub id: String,
    /// Its cases.
    pub case: Vec<ListedCase>,
    /// The figures it must have observed.
    #[serde(default)]
    pub measurement: Vec<Limit>,
}

/// One case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedCase {
    /// Its name.
    pub name: String,
    /// The tier it belongs to. The full tier has the fast one's cases too.
    pub tier: String,
    /// The token history it is about, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<String>,
    /// The fewest forward passes it can take.
    pub passes: u64,
    /// Whether it must have compared two computations.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compares: bool,
}

/// One figure and its limits, both included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Its name.
    pub name: String,
    /// The tier that observes it.
    pub tier: String,
    /// Its unit.
    pub unit: String,
    /// The least it may be.
    pub low: f64,
    /// The most it may be.
    pub high: f64,
}

impl RequiredPolicy {
    /// The suite of that id.
    pub fn suite(&self, id: &str) -> Option<&RequiredSuite> {
        self.suite.iter().find(|suite| suite.id == id)
    }
}

/// Whether a run of tier `ran` has what belongs to tier `of`.
pub fn runs(ran: &str, of: &str) -> bool {
    ran == of || ran == "full"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_tier_has_everything() {
        assert!(runs("fast", "fast") && runs("full", "fast") && runs("full", "full"));
        assert!(!runs("fast", "full"));
    }

    #[test]
    fn a_limit_has_two_sides() {
        let text = "[[suite]]\nid = 's'\ncase = []\n[[suite.measurement]]\nname = 'm'\ntier = 'fast'\n\
            unit = 's'\nhigh = 1.0\n";
        let error = toml::from_str::<RequiredPolicy>(text)
            .unwrap_err()
            .to_string();
        assert!(error.contains("missing field `low`"), "{error}");
        let policy: RequiredPolicy =
            toml::from_str(&text.replace("high = 1.0", "low = 0.5\nhigh = 1.0")).unwrap();
        assert_eq!(policy.suite("s").unwrap().measurement[0].low, 0.5);
        assert!(policy.suite("t").is_none());
    }
}
