//! A run in the words of other tools.
//!
//! Source: the in-toto Attestation Framework, predicate Test Result v0.1.

use serde::Serialize;

use crate::case::Outcome;
use crate::record::{Ending, Evidence};
use crate::statement::{self, Digest, STATEMENT_TYPE, Subject};

/// The type of a test-result predicate.
pub const TEST_RESULT_TYPE: &str = "https://in-toto.io/attestation/test-result/v0.1";

/// An in-toto statement that says which tests passed. It says far less than the record, and is no evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestResult {
    #[serde(rename = "_type")]
    kind: &'static str,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: &'static str,
    predicate: Predicate,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Predicate {
    result: &'static str,
    /// What the tests ran with: the dependencies' lock, and the weights.
    configuration: Vec<Subject>,
    passed_tests: Vec<String>,
    warned_tests: Vec<String>,
    failed_tests: Vec<String>,
}

/// Says which cases passed. Every other case failed: the predicate has no word for a case that did not run.
#[must_use]
pub fn test_result(evidence: &Evidence) -> TestResult {
    let named = |passed: bool| {
        evidence
            .cases
            .iter()
            .filter(|case| (case.outcome == Outcome::Passed) == passed)
            .map(|case| format!("{}::{}", case.suite, case.name))
            .collect::<Vec<_>>()
    };
    let failed_tests = named(false);
    let good = failed_tests.is_empty()
        && !evidence.cases.is_empty()
        && evidence.ending == Ending::Completed
        && evidence.exit_status == Some(0);
    let file = |name: &str, sha256: &str| Subject {
        name: name.to_owned(),
        digest: Digest {
            sha256: Some(sha256.to_owned()),
            git_commit: None,
        },
    };
    let weights = evidence
        .models
        .iter()
        .map(|model| file(&model.file, &model.sha256));
    TestResult {
        kind: STATEMENT_TYPE,
        subject: statement::subjects(evidence),
        predicate_type: TEST_RESULT_TYPE,
        predicate: Predicate {
            result: if good { "PASSED" } else { "FAILED" },
            configuration: [file("Cargo.lock", &evidence.build.cargo_lock_sha256)]
                .into_iter()
                .chain(weights)
                .collect(),
            passed_tests: named(true),
            warned_tests: Vec::new(),
            failed_tests,
        },
    }
}

impl TestResult {
    /// The statement as JSON, with a line end.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes =
            serde_json::to_vec_pretty(self).expect("a statement is made of texts and lists");
        bytes.push(b'\n');
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn exported(evidence: &Evidence) -> serde_json::Value {
        serde_json::from_slice(&test_result(evidence).to_bytes()).unwrap()
    }

    #[test]
    fn a_good_run_passed_and_names_its_cases_and_weights() {
        let value = exported(&fixture::good());
        assert_eq!(value["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(
            value["predicateType"],
            "https://in-toto.io/attestation/test-result/v0.1"
        );
        let predicate = &value["predicate"];
        assert_eq!(predicate["result"], "PASSED");
        assert_eq!(predicate["passedTests"][3], "perf::prefill");
        assert_eq!(predicate["configuration"][1]["name"], "weights.gguf");
        assert_eq!(value["subject"][0]["name"], "kakeya/guarded-tree");
    }

    #[test]
    fn whatever_did_not_pass_failed() {
        let mut evidence = fixture::good();
        evidence.cases[3].outcome = Outcome::Skipped;
        let predicate = &exported(&evidence)["predicate"];
        assert_eq!(predicate["result"], "FAILED");
        assert_eq!(predicate["failedTests"][0], "perf::prefill");
        for change in [
            (|evidence| evidence.cases.clear()) as fn(&mut Evidence),
            |evidence| evidence.ending = Ending::Interrupted,
            |evidence| evidence.exit_status = Some(1),
        ] {
            let mut evidence = fixture::good();
            change(&mut evidence);
            assert_eq!(exported(&evidence)["predicate"]["result"], "FAILED");
        }
    }
}
