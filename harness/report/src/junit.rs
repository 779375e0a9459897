//! A run's outcomes as JUnit XML, for tools that read nothing else.
//!
//! JUnit knows passed, failed, errored and skipped. A case that timed out, crashed or never ran is an error
//! there, never a skip: most readers treat a skip as harmless.

use std::time::Duration;

use kakeya_evidence::{Evidence, Outcome, canonical};
use quick_junit::{NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

/// The report's text.
///
/// # Errors
/// When a message cannot be put into XML.
pub fn to_xml(evidence: &Evidence) -> Result<String, SerializeError> {
    let mut report = Report::new(format!("{} gate", evidence.platform));
    for run in &evidence.suites {
        let mut suite = TestSuite::new(run.id.clone());
        suite.add_property(("run_id", evidence.run_id.as_str()));
        suite.add_property(("tree_sha256", evidence.source.tree_sha256.as_str()));
        for case in evidence.cases.iter().filter(|case| case.suite == run.id) {
            let mut status = match case.outcome {
                Outcome::Passed => TestCaseStatus::success(),
                Outcome::Skipped => TestCaseStatus::skipped(),
                Outcome::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
                Outcome::TimedOut | Outcome::Crashed | Outcome::NotRun => {
                    TestCaseStatus::non_success(NonSuccessKind::Error)
                }
            };
            if case.outcome != Outcome::Passed {
                status.set_type(case.outcome.as_str());
            }
            if let Some(message) = &case.message {
                status.set_message(message.as_str());
            }
            let mut entry = TestCase::new(case.name.clone(), status);
            entry.set_classname(run.id.clone());
            let seconds = Duration::try_from_secs_f64(case.duration_seconds).unwrap_or_default();
            entry.set_time(seconds);
            suite.add_test_case(entry);
        }
        report.add_test_suite(suite);
    }
    report.to_string()
}

/// Whether a JUnit text is the one that these bytes of a record make. Bytes that hold no record make none.
#[must_use]
pub fn junit_agrees(record: &[u8], junit: &str) -> bool {
    canonical::parse(record)
        .ok()
        .and_then(|statement| to_xml(&statement.predicate).ok())
        .is_some_and(|made| made == junit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn every_case_is_there_with_its_outcome() {
        let mut evidence = fixture::good();
        for (index, outcome, message) in [
            (1, Outcome::Failed, "found <1>, expected \"2\" & more\u{1}"),
            (2, Outcome::Skipped, "no such unit"),
            (3, Outcome::Crashed, "killed by signal 9"),
        ] {
            evidence.cases[index].outcome = outcome;
            evidence.cases[index].message = Some(message.into());
        }
        let text = to_xml(&evidence).unwrap();
        for part in [
            "<testsuites name=\"linux-cpu gate\" tests=\"4\" skipped=\"1\" failures=\"1\" errors=\"1\">",
            "<testsuite name=\"inv3\" tests=\"3\" skipped=\"1\" errors=\"0\" failures=\"1\"",
            &format!(
                "<property name=\"tree_sha256\" value=\"{}\"/>",
                fixture::TREE
            ),
            "<testcase name=\"chunks_of_7.prose\" classname=\"inv3\" time=\"0.250\"/>",
            "<failure message=\"found &lt;1&gt;, expected &quot;2&quot; &amp; more\" type=\"failed\"/>",
            "<skipped message=\"no such unit\" type=\"skipped\"/>",
            "<error message=\"killed by signal 9\" type=\"crashed\"/>",
        ] {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
    }

    #[test]
    fn only_the_text_that_the_record_makes_agrees_with_it() {
        let evidence = fixture::good();
        let bytes = canonical::to_bytes(&evidence);
        let text = to_xml(&evidence).unwrap();
        assert!(junit_agrees(&bytes, &text));
        assert!(!junit_agrees(&bytes, &text.replace("0.250", "0.251")));
        assert!(!junit_agrees(b"{}", &text));
    }
}
