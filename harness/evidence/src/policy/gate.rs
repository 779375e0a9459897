//! What each general-availability gate asks (`gates/ga.toml`).

use serde::{Deserialize, Serialize};

/// All gates, in the order they are reported.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatePolicy {
    /// The gates.
    pub gate: Vec<Gate>,
}

/// One gate.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// The short name: `G3`.
    pub id: String,
    /// What it is called.
    pub title: String,
    /// When it holds, for people.
    pub holds_when: String,
    /// When it holds, for programs.
    pub rule: Rule,
}

/// How a gate's verdict is computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "kebab-case",
    rename_all_fields = "snake_case",
    deny_unknown_fields
)]
pub enum Rule {
    /// All required cases of a suite passed, on at least so many distinct token histories.
    Suite {
        /// The suite's id.
        suite: String,
        /// The least number of distinct histories; zero where the suite is not about histories.
        histories: usize,
    },
    /// Over a long session, the memory in use stays what it was in the first bucket, up or down.
    MemoryBounded {
        /// The fewest time buckets.
        buckets: usize,
        /// How far the peak of the KV bytes may be from the first bucket's, in percent.
        kv_percent: f64,
        /// How far the peak of resident memory may be from the first bucket's, in percent.
        resident_percent: f64,
    },
    /// Over a long session, turns do not become slower.
    LatencyBounded {
        /// The median turn of the last bucket over the first's stays below this.
        ratio: f64,
    },
    /// After a long session, no invariant was violated.
    InvariantsClean,
    /// Every Generate of a long session went through an SDK, over the wire.
    ThroughSdk,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_policy_lists_all_six_gates() {
        let policy: GatePolicy = toml::from_str(include_str!("../../../../gates/ga.toml")).unwrap();
        let ids: Vec<_> = policy.gate.iter().map(|gate| gate.id.as_str()).collect();
        assert_eq!(ids, ["G1", "G2", "G3", "G4", "G5", "G6"]);
        assert_eq!(
            policy.gate[2].rule,
            Rule::Suite {
                suite: "inv3".into(),
                histories: 3
            }
        );
    }

    #[test]
    fn a_rule_nobody_knows_is_refused() {
        let text =
            "[[gate]]\nid = 'G9'\ntitle = 't'\nholds_when = 'always'\nrule = { kind = 'trust' }\n";
        let error = toml::from_str::<GatePolicy>(text).unwrap_err().to_string();
        assert!(error.contains("unknown variant `trust`"), "{error}");
    }
}
