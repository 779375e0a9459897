//! From how the cases ended to the exit status and the summary.

use kakeya_evidence::{
    Counts, Ending, Evidence, GateVerdict, Holds, Outcome, SuiteEnding, SuiteRun, TestCase,
};

use crate::exit::Exit;

/// The exit status of a run. Worse endings hide milder ones: a crash is reported even where a case failed.
///
/// A gate that does not hold is a failure even where every case passed: too few histories were covered, or
/// no forward pass stands behind the cases.
pub fn exit(
    ending: Ending,
    suites: &[SuiteRun],
    cases: &[TestCase],
    verdicts: &[GateVerdict],
) -> Exit {
    if ending == Ending::NoModel {
        return Exit::Model;
    }
    let died = suites
        .iter()
        .any(|suite| suite.ending != SuiteEnding::Completed);
    if ending == Ending::Interrupted || died {
        return Exit::SuiteDied;
    }
    if Counts::of(cases).started() == 0 {
        return Exit::NothingRan;
    }
    let failed = cases.iter().any(|case| case.outcome != Outcome::Passed);
    let refuted = verdicts.iter().any(|verdict| verdict.holds == Holds::No);
    if failed || refuted {
        return Exit::CaseFailed;
    }
    Exit::Success
}

/// The run in prose, for people who read one paragraph.
pub fn summary(evidence: &Evidence) -> String {
    let counts = evidence.counts;
    let ended = evidence.ended.unwrap_or(evidence.started);
    let seconds = ended.duration_since(evidence.started).as_secs_f64();
    let mut text = format!(
        "{} gate, {} tier: {} of {} selected cases passed in {seconds:.1} s.",
        evidence.platform,
        evidence.tier,
        counts.passed,
        evidence.cases.len(),
    );
    let others: Vec<_> = [
        (counts.failed, "failed"),
        (counts.skipped, "skipped"),
        (counts.timed_out, "timed out"),
        (counts.crashed, "crashed"),
        (counts.not_run, "not run"),
    ]
    .iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    if !others.is_empty() {
        text.push_str(&format!(" The others: {}.", others.join(", ")));
    }
    match evidence.ending {
        Ending::Completed => {}
        Ending::Interrupted => text.push_str(" The run was interrupted."),
        Ending::NoModel => text.push_str(" The model could not be had."),
        Ending::Unfinished => text.push_str(" The run has no end."),
    }
    let mut models: Vec<_> = evidence
        .models
        .iter()
        .map(|file| file.model.as_str())
        .collect();
    models.dedup();
    let chip = evidence.host.chip.as_deref().unwrap_or(&evidence.host.arch);
    text.push_str(&format!(
        " {} forward passes of {} on {chip}",
        evidence.forward_passes,
        if models.is_empty() {
            "no model".to_owned()
        } else {
            models.join(", ")
        },
    ));
    match &evidence.backend {
        Some(backend) => text.push_str(&format!(
            " ({}, {}, {} threads).",
            backend.device, backend.isa, backend.threads
        )),
        None => text.push('.'),
    }
    if evidence.selection.partial {
        text.push_str(&format!(
            " This was a partial run ({} of {} required cases selected), so it claims no verdict.",
            evidence.cases.len(),
            evidence.required.len()
        ));
    }
    if !evidence.source.is_unchanged() {
        text.push_str(" The source tree changed during the run, so it claims no verdict.");
    }
    for verdict in &evidence.verdicts {
        if matches!(verdict.holds, Holds::Yes | Holds::No) {
            text.push_str(&format!(
                " {} ({}) {}: {}.",
                verdict.gate, verdict.title, verdict.holds, verdict.reason
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(ending: SuiteEnding) -> SuiteRun {
        SuiteRun {
            id: "inv3".into(),
            ending,
            detail: None,
            duration_seconds: 1.0,
            limit_seconds: 300.0,
            forward_passes: 1,
            backend: None,
            float_modes: None,
        }
    }

    fn case(outcome: Outcome) -> TestCase {
        TestCase {
            suite: "inv3".into(),
            name: "a".into(),
            tier: "fast".into(),
            history: None,
            outcome,
            duration_seconds: 1.0,
            forward_passes: Some(1),
            comparisons: Vec::new(),
            message: None,
        }
    }

    fn status(suites: &[SuiteEnding], cases: &[Outcome]) -> Exit {
        let suites: Vec<_> = suites.iter().copied().map(suite).collect();
        let cases: Vec<_> = cases.iter().copied().map(case).collect();
        exit(Ending::Completed, &suites, &cases, &[])
    }

    #[test]
    fn success_needs_every_case_to_have_passed() {
        use SuiteEnding::Completed;
        assert_eq!(status(&[Completed], &[Outcome::Passed]), Exit::Success);
        for outcome in [Outcome::Failed, Outcome::Skipped, Outcome::NotRun] {
            assert_eq!(
                status(&[Completed], &[Outcome::Passed, outcome]),
                Exit::CaseFailed,
                "{outcome}"
            );
        }
    }

    #[test]
    fn a_gate_that_does_not_hold_is_no_success() {
        let suites = [suite(SuiteEnding::Completed)];
        let cases = [case(Outcome::Passed)];
        for (holds, expected) in [
            (Holds::Yes, Exit::Success),
            (Holds::NotMeasured, Exit::Success),
            (Holds::Withheld, Exit::Success),
            (Holds::No, Exit::CaseFailed),
        ] {
            let verdict = GateVerdict {
                gate: "G3".into(),
                title: "INV-3".into(),
                holds,
                reason: "so".into(),
            };
            let status = exit(Ending::Completed, &suites, &cases, &[verdict]);
            assert_eq!(status, expected, "{holds}");
        }
    }

    #[test]
    fn a_run_of_nothing_is_no_success() {
        assert_eq!(status(&[], &[]), Exit::NothingRan);
        assert_eq!(
            status(&[SuiteEnding::Completed], &[Outcome::NotRun]),
            Exit::NothingRan
        );
    }

    #[test]
    fn a_suite_that_died_is_worse_than_a_case_that_failed() {
        for ending in [
            SuiteEnding::Crashed,
            SuiteEnding::TimedOut,
            SuiteEnding::Interrupted,
            SuiteEnding::NotStarted,
        ] {
            assert_eq!(
                status(&[SuiteEnding::Completed, ending], &[Outcome::Failed]),
                Exit::SuiteDied
            );
            // Even where every case had passed before it.
            assert_eq!(status(&[ending], &[Outcome::Passed]), Exit::SuiteDied);
        }
    }

    #[test]
    fn interrupts_and_missing_models_have_their_own_status() {
        let passed = [case(Outcome::Passed)];
        let suites = [suite(SuiteEnding::Completed)];
        assert_eq!(
            exit(Ending::Interrupted, &suites, &passed, &[]),
            Exit::SuiteDied
        );
        assert_eq!(exit(Ending::NoModel, &[], &passed, &[]), Exit::Model);
    }
}
