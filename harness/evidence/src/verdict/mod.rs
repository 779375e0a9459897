//! The gates' verdicts, computed from the cases and never from anything that claims to be a verdict.

mod long_session;

use std::collections::BTreeSet;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::case::{Outcome, RequiredCase, TestCase, shortfalls};
use crate::policy::gate::{Gate, GatePolicy, Rule};
use crate::record::{Evidence, LongSession, SuiteEnding, SuiteRun};

/// What is known about a gate after a run. Only [`Holds::Yes`] is good news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// The gate holds.
    Yes,
    /// The gate does not hold.
    No,
    /// The run did not measure what the gate asks about.
    NotMeasured,
    /// The run was not of a kind that may claim a verdict.
    Withheld,
}

impl fmt::Display for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Holds::Yes => "holds",
            Holds::No => "does not hold",
            Holds::NotMeasured => "not measured",
            Holds::Withheld => "withheld",
        })
    }
}

/// One gate's verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateVerdict {
    /// The gate's short name.
    pub gate: String,
    /// What it is called.
    pub title: String,
    /// What is known.
    pub holds: Holds,
    /// From what.
    pub reason: String,
}

impl fmt::Display for GateVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.holds, self.reason)
    }
}

/// What verdicts are computed from.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Whether required cases were left out by choice.
    pub partial: bool,
    /// Whether the guarded tree was the same at both ends of the run.
    pub tree_unchanged: bool,
    /// How the suites' processes ended.
    pub suites: &'a [SuiteRun],
    /// Every case the tier requires.
    pub required: &'a [RequiredCase],
    /// Every case as it ended.
    pub cases: &'a [TestCase],
    /// The long session, where there was one.
    pub long_session: Option<&'a LongSession>,
}

impl<'a> Facts<'a> {
    /// What a record holds of them.
    pub fn of(evidence: &'a Evidence) -> Self {
        Self {
            partial: evidence.selection.partial,
            tree_unchanged: evidence.source.is_unchanged(),
            suites: &evidence.suites,
            required: &evidence.required,
            cases: &evidence.cases,
            long_session: evidence.long_session.as_ref(),
        }
    }
}

/// Computes every gate's verdict.
pub fn verdicts(policy: &GatePolicy, facts: Facts<'_>) -> Vec<GateVerdict> {
    policy
        .gate
        .iter()
        .map(|gate| {
            let (holds, reason) = judge(gate, facts);
            GateVerdict {
                gate: gate.id.clone(),
                title: gate.title.clone(),
                holds,
                reason,
            }
        })
        .collect()
}

fn judge(gate: &Gate, facts: Facts<'_>) -> (Holds, String) {
    if facts.partial {
        return (Holds::Withheld, "the run was a partial one".to_owned());
    }
    if !facts.tree_unchanged {
        let reason = "the guarded tree changed during the run".to_owned();
        return (Holds::Withheld, reason);
    }
    match &gate.rule {
        Rule::Suite { suite, histories } => judge_suite(suite, *histories, facts),
        rule => match facts.long_session {
            None => (Holds::NotMeasured, "no long session was run".to_owned()),
            Some(session) => long_session::judge(rule, session),
        },
    }
}

fn judge_suite(suite: &str, wanted: usize, facts: Facts<'_>) -> (Holds, String) {
    let required: Vec<_> = facts
        .required
        .iter()
        .filter(|case| case.suite == suite)
        .cloned()
        .collect();
    if required.is_empty() {
        let reason = format!("no case of suite {suite} is required on this platform");
        return (Holds::NotMeasured, reason);
    }
    let missed = shortfalls(&required, facts.cases);
    if let Some((case, reason)) = missed.first() {
        let reason = format!(
            "{} of {} required cases did not pass, the first being {suite}::{}, which {reason}",
            missed.len(),
            required.len(),
            case.name
        );
        return (Holds::No, reason);
    }
    let run = facts.suites.iter().find(|run| run.id == suite);
    match run {
        Some(run) if run.ending != SuiteEnding::Completed => {
            let reason = format!("the process of suite {suite} did not end well");
            return (Holds::No, reason);
        }
        Some(run) if run.forward_passes > 0 => {}
        _ => {
            let reason = format!("no forward pass of the model stands behind suite {suite}");
            return (Holds::No, reason);
        }
    }
    let histories: BTreeSet<_> = facts
        .cases
        .iter()
        .filter(|case| case.suite == suite && case.outcome == Outcome::Passed)
        .filter_map(|case| case.history.as_deref())
        .collect();
    if histories.len() < wanted {
        let reason = format!(
            "passed cases cover {} token histories, and {wanted} are asked for",
            histories.len()
        );
        return (Holds::No, reason);
    }
    let mut reason = format!("all {} required cases passed", required.len());
    if wanted > 0 {
        let names: Vec<_> = histories.into_iter().collect();
        reason.push_str(&format!(", on the histories {}", names.join(", ")));
    }
    (Holds::Yes, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> GatePolicy {
        let gate = |id: &str, rule| Gate {
            id: id.into(),
            title: format!("title of {id}"),
            holds_when: "so".into(),
            rule,
        };
        let suite = |suite: &str, histories| Rule::Suite {
            suite: suite.into(),
            histories,
        };
        GatePolicy {
            gate: vec![
                gate("G1", Rule::InvariantsClean),
                gate("G3", suite("inv3", 2)),
                gate("G6", suite("http", 0)),
            ],
        }
    }

    fn case(suite: &str, name: &str, history: Option<&str>, outcome: Outcome) -> TestCase {
        TestCase {
            suite: suite.into(),
            name: name.into(),
            tier: "fast".into(),
            history: history.map(Into::into),
            outcome,
            duration_seconds: 1.0,
            forward_passes: Some(1),
            comparisons: Vec::new(),
            message: None,
        }
    }

    fn required(cases: &[TestCase]) -> Vec<RequiredCase> {
        let of = |case: &TestCase| RequiredCase {
            suite: case.suite.clone(),
            name: case.name.clone(),
        };
        cases.iter().map(of).collect()
    }

    fn runs() -> Vec<SuiteRun> {
        vec![run("inv3"), run("http")]
    }

    fn judged(facts: Facts<'_>) -> Vec<String> {
        verdicts(&policy(), facts)
            .into_iter()
            .map(|verdict| format!("{} {}: {}", verdict.gate, verdict.holds, verdict.reason))
            .collect()
    }

    fn good() -> Vec<TestCase> {
        vec![
            case("inv3", "a", Some("prose"), Outcome::Passed),
            case("inv3", "b", Some("code"), Outcome::Passed),
            case("inv3", "c", None, Outcome::Passed),
            case("http", "d", None, Outcome::Passed),
        ]
    }

    fn run(id: &str) -> SuiteRun {
        SuiteRun {
            id: id.into(),
            ..crate::fixture::good().suites.remove(0)
        }
    }

    fn facts<'a>(
        suites: &'a [SuiteRun],
        required: &'a [RequiredCase],
        cases: &'a [TestCase],
    ) -> Facts<'a> {
        Facts {
            partial: false,
            tree_unchanged: true,
            suites,
            required,
            cases,
            long_session: None,
        }
    }

    #[test]
    fn a_gate_holds_when_all_its_cases_passed_on_enough_histories() {
        let cases = good();
        assert_eq!(
            judged(facts(&runs(), &required(&cases), &cases)),
            [
                "G1 not measured: no long session was run",
                "G3 holds: all 3 required cases passed, on the histories code, prose",
                "G6 holds: all 1 required cases passed",
            ]
        );
    }

    #[test]
    fn one_case_that_did_not_pass_is_enough_to_fail() {
        let mut cases = good();
        cases[1].outcome = Outcome::Skipped;
        assert_eq!(
            judged(facts(&runs(), &required(&cases), &cases))[1],
            "G3 does not hold: 1 of 3 required cases did not pass, the first being inv3::b, which is \
             skipped, not passed"
        );
        let all = required(&cases);
        cases.remove(1);
        assert_eq!(
            judged(facts(&runs(), &all, &cases))[1],
            "G3 does not hold: 1 of 3 required cases did not pass, the first being inv3::b, which is \
             missing from the record"
        );
    }

    #[test]
    fn too_few_histories_fail_and_repeating_one_does_not_help() {
        let mut cases = good();
        cases[1].history = Some("prose".into());
        assert_eq!(
            judged(facts(&runs(), &required(&cases), &cases))[1],
            "G3 does not hold: passed cases cover 1 token histories, and 2 are asked for"
        );
    }

    #[test]
    fn a_suite_without_required_cases_is_not_measured() {
        let cases = good();
        let verdicts = judged(facts(&runs(), &[], &cases));
        assert_eq!(
            verdicts[1],
            "G3 not measured: no case of suite inv3 is required on this platform"
        );
    }

    #[test]
    fn passes_of_a_process_that_died_or_never_computed_are_not_believed() {
        let cases = good();
        let all = required(&cases);
        let mut suites = runs();
        suites[0].ending = SuiteEnding::Crashed;
        suites[1].forward_passes = 0;
        let verdicts = judged(facts(&suites, &all, &cases));
        assert_eq!(
            verdicts[1],
            "G3 does not hold: the process of suite inv3 did not end well"
        );
        assert_eq!(
            verdicts[2],
            "G6 does not hold: no forward pass of the model stands behind suite http"
        );
        let verdicts = judged(facts(&[], &all, &cases));
        assert_eq!(
            verdicts[1],
            "G3 does not hold: no forward pass of the model stands behind suite inv3"
        );
    }

    #[test]
    fn partial_runs_and_moving_trees_claim_nothing() {
        let cases = good();
        let all = required(&cases);
        let suites = runs();
        let partial = Facts {
            partial: true,
            ..facts(&suites, &all, &cases)
        };
        let moved = Facts {
            tree_unchanged: false,
            ..facts(&suites, &all, &cases)
        };
        for (facts, reason) in [
            (partial, "the run was a partial one"),
            (moved, "the guarded tree changed during the run"),
        ] {
            let all = judged(facts);
            assert_eq!(all.len(), 3);
            for text in all {
                assert!(text.ends_with(&format!("withheld: {reason}")), "{text}");
            }
        }
    }
}
