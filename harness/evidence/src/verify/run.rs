//! The run as a whole: its times, its ending, its status.

use jiff::{SignedDuration, Timestamp};

use super::{Rejection, Rejections};
use crate::case::{Outcome, TestCase};
use crate::record::{Ending, Evidence};
use crate::{canonical, policy::required};

/// By how much clocks may differ.
const CLOCKS: SignedDuration = SignedDuration::from_mins(5);
/// By how much durations that were taken by different clocks may differ, in seconds.
const SLACK: f64 = 0.5;

/// `tier` is the one that is asked for.
pub(super) fn check(
    evidence: &Evidence,
    file_stem: &str,
    tier: &str,
    now: Timestamp,
    reasons: &mut Rejections,
) {
    let expected = canonical::stem(evidence);
    if file_stem != expected {
        reasons.push(Rejection::Misnamed {
            expected: format!("{expected}.json"),
        });
    }
    if !required::runs(&evidence.tier, tier) {
        reasons.push(Rejection::TierTooLow {
            found: evidence.tier.clone(),
            wanted: tier.to_owned(),
        });
    }
    let selected = evidence.cases.len();
    if evidence.selection.partial {
        reasons.push(Rejection::Partial {
            selected,
            required: evidence.required.len(),
        });
    }
    if let Some(filter) = &evidence.selection.case_filter
        && selected == 0
    {
        reasons.push(Rejection::FilterMatchedNothing {
            filter: filter.clone(),
        });
    }
    times(evidence, now, reasons);
    endings(evidence, reasons);
}

fn times(evidence: &Evidence, now: Timestamp, reasons: &mut Rejections) {
    let latest = evidence.ended.unwrap_or(evidence.started);
    if let Some(time) = [evidence.started, latest]
        .into_iter()
        .find(|time| time.duration_since(now) > CLOCKS)
    {
        reasons.push(Rejection::InTheFuture {
            time: time.to_string(),
            now: now.to_string(),
        });
    }
    let Some(ended) = evidence.ended else {
        return;
    };
    let seconds = ended.duration_since(evidence.started).as_secs_f64();
    if seconds < 0.0 {
        reasons.push(Rejection::EndsBeforeStart {
            started: evidence.started.to_string(),
            ended: ended.to_string(),
        });
        return;
    }
    if seconds == 0.0 {
        reasons.push(Rejection::NoDuration {
            what: "the run".to_owned(),
        });
        return;
    }
    for case in &evidence.cases {
        // Written so that a duration that is no number is caught too.
        if !(0.0..=seconds + SLACK).contains(&case.duration_seconds) {
            reasons.push(Rejection::CaseLongerThanRun {
                case: full_name(case),
                seconds: case.duration_seconds.to_string(),
                limit: format!("{seconds:.3}"),
            });
        }
        if case.outcome == Outcome::Passed && case.duration_seconds == 0.0 {
            reasons.push(Rejection::NoDuration {
                what: format!("case {}", full_name(case)),
            });
        }
    }
    for suite in &evidence.suites {
        let of_suite = evidence.cases.iter().filter(|case| case.suite == suite.id);
        let sum: f64 = of_suite.map(|case| case.duration_seconds).sum();
        if !(sum - SLACK..=seconds + SLACK).contains(&suite.duration_seconds) {
            reasons.push(Rejection::CasesLongerThanSuite {
                suite: suite.id.clone(),
                seconds: format!("{sum:.3}"),
                limit: format!("{:.3}", suite.duration_seconds),
            });
        }
    }
}

fn endings(evidence: &Evidence, reasons: &mut Rejections) {
    if evidence.ended.is_none() || evidence.exit_status.is_none() {
        reasons.push(Rejection::NotEnded {});
    }
    if evidence.ending != Ending::Completed {
        reasons.push(Rejection::EndedEarly {
            ending: super::word(&evidence.ending),
        });
    }
    let failed = evidence
        .cases
        .iter()
        .find(|case| case.outcome != Outcome::Passed);
    match (evidence.exit_status, failed) {
        (Some(0), Some(case)) => reasons.push(Rejection::SuccessWithFailure {
            case: full_name(case),
        }),
        (Some(status), None) if status != 0 => {
            reasons.push(Rejection::ExitWithoutFailure { status });
        }
        _ => {}
    }
}

/// `suite::name`.
pub(super) fn full_name(case: &TestCase) -> String {
    format!("{}::{}", case.suite, case.name)
}
