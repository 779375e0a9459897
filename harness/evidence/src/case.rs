//! Cases and how they ended.

use std::collections::HashMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How one case ended. Only [`Outcome::Passed`] counts for anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The rule held.
    Passed,
    /// The rule did not hold.
    Failed,
    /// An observed fact ruled the case out.
    Skipped,
    /// It was running when its suite's time was over.
    TimedOut,
    /// It was running when its process died.
    Crashed,
    /// It never started, or the run was stopped while it ran.
    NotRun,
}

impl Outcome {
    /// The name the record uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "failed",
            Outcome::Skipped => "skipped",
            Outcome::TimedOut => "timed_out",
            Outcome::Crashed => "crashed",
            Outcome::NotRun => "not_run",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One case of one suite, as it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestCase {
    /// The suite's id.
    pub suite: String,
    /// The case's name.
    pub name: String,
    /// The tier it belongs to.
    pub tier: String,
    /// The token history it is about, where it is about one.
    #[serde(deserialize_with = "crate::record::present")]
    pub history: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it ran, in seconds. Zero where it never started.
    pub duration_seconds: f64,
    /// Forward passes of the model while it ran, where it ended by itself.
    #[serde(deserialize_with = "crate::record::present")]
    pub forward_passes: Option<u64>,
    /// What it compared, bit for bit, in order.
    pub comparisons: Vec<Comparison>,
    /// Why it did not pass. Absent exactly where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A comparison of two computations, all of whose values agreed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// What was compared.
    pub what: String,
    /// A number for where the one computation's values lay. Values that lay in one place have one number.
    pub left: u64,
    /// A number for where the other's lay.
    pub right: u64,
    /// How many values were compared.
    pub values: u64,
}

/// A case the run's tier asks for, whether or not it was selected.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct RequiredCase {
    /// The suite's id.
    pub suite: String,
    /// The case's name.
    pub name: String,
}

/// How many cases ended in each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[must_use]
pub struct Counts {
    /// Cases whose rule held.
    pub passed: usize,
    /// Cases whose rule did not hold.
    pub failed: usize,
    /// Cases ruled out by the host.
    pub skipped: usize,
    /// Cases cut by a time limit.
    pub timed_out: usize,
    /// Cases whose process died.
    pub crashed: usize,
    /// Cases that never ran to an end.
    pub not_run: usize,
}

impl Counts {
    /// Counts cases by outcome.
    pub fn of(cases: &[TestCase]) -> Self {
        let mut counts = Self::default();
        for case in cases {
            let slot = match case.outcome {
                Outcome::Passed => &mut counts.passed,
                Outcome::Failed => &mut counts.failed,
                Outcome::Skipped => &mut counts.skipped,
                Outcome::TimedOut => &mut counts.timed_out,
                Outcome::Crashed => &mut counts.crashed,
                Outcome::NotRun => &mut counts.not_run,
            };
            *slot += 1;
        }
        counts
    }

    /// Everything that neither passed nor was skipped.
    pub fn not_good(&self) -> usize {
        self.failed + self.timed_out + self.crashed + self.not_run
    }

    /// Cases that got as far as running.
    pub fn started(&self) -> usize {
        self.passed + self.failed + self.skipped + self.timed_out + self.crashed
    }

    /// The last line a gate prints. Timed out, crashed and not run count as failed.
    pub fn last_line(&self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.passed,
            self.not_good(),
            self.skipped
        )
    }
}

/// The required cases that did not pass exactly once, with the reason, in the order they are required.
pub fn shortfalls(required: &[RequiredCase], cases: &[TestCase]) -> Vec<(RequiredCase, String)> {
    let mut outcomes: HashMap<(&str, &str), Vec<Outcome>> = HashMap::new();
    for case in cases {
        outcomes
            .entry((&case.suite, &case.name))
            .or_default()
            .push(case.outcome);
    }
    required
        .iter()
        .filter_map(|case| {
            let found = outcomes
                .get(&(case.suite.as_str(), case.name.as_str()))
                .map(Vec::as_slice);
            let reason = match found {
                None => "is missing from the record".to_owned(),
                Some([Outcome::Passed]) => return None,
                Some([other]) => format!("is {other}, not passed"),
                Some(many) => format!("is recorded {} times", many.len()),
            };
            Some((case.clone(), reason))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Outcome; 6] = [
        Outcome::Passed,
        Outcome::Failed,
        Outcome::Skipped,
        Outcome::TimedOut,
        Outcome::Crashed,
        Outcome::NotRun,
    ];

    fn case(name: &str, outcome: Outcome) -> TestCase {
        TestCase {
            suite: "s".into(),
            name: name.into(),
            tier: "fast".into(),
            history: None,
            outcome,
            duration_seconds: 0.0,
            forward_passes: None,
            comparisons: Vec::new(),
            message: None,
        }
    }

    fn required(name: &str) -> RequiredCase {
        RequiredCase {
            suite: "s".into(),
            name: name.into(),
        }
    }

    #[test]
    fn outcome_names_are_the_ones_written() {
        for outcome in ALL {
            let written = serde_json::to_string(&outcome).unwrap();
            assert_eq!(written, format!("\"{outcome}\""));
        }
        assert!(serde_json::from_str::<Outcome>("\"ok\"").is_err());
    }

    #[test]
    fn every_outcome_is_counted_once_and_only_two_are_not_failures() {
        let cases: Vec<_> = ALL.iter().map(|outcome| case("a", *outcome)).collect();
        let counts = Counts::of(&cases);
        assert_eq!(
            counts,
            Counts {
                passed: 1,
                failed: 1,
                skipped: 1,
                timed_out: 1,
                crashed: 1,
                not_run: 1
            }
        );
        assert_eq!(counts.started(), 5);
        assert_eq!(counts.last_line(), "1 passed, 4 failed, 1 skipped");
    }

    #[test]
    fn only_a_single_pass_meets_a_requirement() {
        let reasons = |cases: &[TestCase]| {
            shortfalls(&[required("a")], cases)
                .into_iter()
                .map(|(case, reason)| format!("{} {reason}", case.name))
                .collect::<Vec<_>>()
        };
        assert_eq!(reasons(&[case("a", Outcome::Passed)]), Vec::<String>::new());
        assert_eq!(reasons(&[]), ["a is missing from the record"]);
        assert_eq!(
            reasons(&[case("b", Outcome::Passed)]),
            ["a is missing from the record"]
        );
        for outcome in &ALL[1..] {
            assert_eq!(
                reasons(&[case("a", *outcome)]),
                [format!("a is {outcome}, not passed")]
            );
        }
        // A retry that went well does not hide the failure before it.
        assert_eq!(
            reasons(&[case("a", Outcome::Failed), case("a", Outcome::Passed)]),
            ["a is recorded 2 times"]
        );
    }

    #[test]
    fn reading_refuses_a_field_it_does_not_know() {
        let mut value = serde_json::to_value(case("a", Outcome::Passed)).unwrap();
        assert!(value.get("message").is_none());
        assert!(serde_json::from_value::<TestCase>(value.clone()).is_ok());
        value["verdict"] = "passed".into();
        assert!(serde_json::from_value::<TestCase>(value).is_err());
    }
}
