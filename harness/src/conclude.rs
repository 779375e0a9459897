//! From how the cases ended to the exit status and the summary.

use kakeya_evidence::{Counts, Ending, Evidence, Holds, Outcome, SuiteEnding};

use crate::exit::Exit;

/// The exit status of a run. Worse endings hide milder ones: a crash is reported even where a case failed.
///
/// A gate that does not hold is a failure even where every case passed: too few histories were covered, or
/// no forward pass stands behind the cases.
pub fn exit(evidence: &Evidence) -> Exit {
    if evidence.ending == Ending::NoModel {
        return Exit::Model;
    }
    let died = evidence
        .suites
        .iter()
        .any(|suite| suite.ending != SuiteEnding::Completed);
    let cut = evidence
        .long_session
        .as_ref()
        .is_some_and(|session| !session.complete);
    if evidence.ending == Ending::Interrupted || died || cut {
        return Exit::SuiteDied;
    }
    if Counts::of(&evidence.cases).started() == 0 {
        return Exit::NothingRan;
    }
    let failed = evidence
        .cases
        .iter()
        .any(|case| case.outcome != Outcome::Passed);
    let refuted = evidence
        .verdicts
        .iter()
        .any(|verdict| verdict.holds == Holds::No);
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
    if let Some(session) = &evidence.long_session {
        text.push_str(&format!(
            " A long session of {:.0} s took {} turns over the wire{}.",
            session.ran_seconds,
            session.turns,
            match &session.fault {
                Some(fault) => format!(", and ended early: {fault}"),
                None => String::new(),
            }
        ));
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
    use crate::fixture;

    fn status(change: impl FnOnce(&mut Evidence)) -> Exit {
        let mut evidence = fixture::good();
        change(&mut evidence);
        exit(&evidence)
    }

    #[test]
    fn success_needs_every_case_to_have_passed() {
        assert_eq!(status(|_| ()), Exit::Success);
        for outcome in [Outcome::Failed, Outcome::Skipped, Outcome::NotRun] {
            let status = status(|evidence| evidence.cases[1].outcome = outcome);
            assert_eq!(status, Exit::CaseFailed, "{outcome}");
        }
    }

    #[test]
    fn a_gate_that_does_not_hold_is_no_success() {
        for (holds, expected) in [
            (Holds::Yes, Exit::Success),
            (Holds::NotMeasured, Exit::Success),
            (Holds::Withheld, Exit::Success),
            (Holds::No, Exit::CaseFailed),
        ] {
            let status = status(|evidence| evidence.verdicts[0].holds = holds);
            assert_eq!(status, expected, "{holds}");
        }
    }

    #[test]
    fn a_run_of_nothing_is_no_success() {
        assert_eq!(status(|evidence| evidence.cases.clear()), Exit::NothingRan);
        let not_run = status(|evidence| {
            for case in &mut evidence.cases {
                case.outcome = Outcome::NotRun;
            }
        });
        assert_eq!(not_run, Exit::NothingRan);
    }

    #[test]
    fn a_suite_that_died_is_worse_than_a_case_that_failed() {
        for ending in [
            SuiteEnding::Crashed,
            SuiteEnding::TimedOut,
            SuiteEnding::Interrupted,
            SuiteEnding::NotStarted,
        ] {
            // Even where every case had passed before it.
            let status = status(|evidence| evidence.suites[0].ending = ending);
            assert_eq!(status, Exit::SuiteDied);
        }
    }

    #[test]
    fn a_long_session_that_was_cut_short_is_no_success_and_says_why() {
        let mut evidence = fixture::good();
        let session = evidence.long_session.as_mut().unwrap();
        session.complete = false;
        session.fault = Some("the server went away".to_owned());
        assert_eq!(exit(&evidence), Exit::SuiteDied);
        let text = summary(&evidence);
        assert!(
            text.contains("took 30 turns over the wire, and ended early: the server went away."),
            "{text}"
        );
    }

    #[test]
    fn interrupts_and_missing_models_have_their_own_status() {
        let interrupted = status(|evidence| evidence.ending = Ending::Interrupted);
        assert_eq!(interrupted, Exit::SuiteDied);
        let no_model = status(|evidence| evidence.ending = Ending::NoModel);
        assert_eq!(no_model, Exit::Model);
    }
}
