//! Measurements, coverage, and the long session.

use super::{Rejection, Rejections};
use crate::policy::{CoveragePolicy, Platform, Policy, required};
use crate::record::{Coverage, Evidence, LongSession, Violations};
use crate::verdict::Holds;

pub(super) fn check(
    evidence: &Evidence,
    policy: &Policy,
    platform: &Platform,
    reasons: &mut Rejections,
) {
    measurements(evidence, policy, platform, reasons);
    match &evidence.coverage {
        Some(coverage) => covered(coverage, &policy.coverage, reasons),
        None if policy.request.coverage => reasons.push(Rejection::CoverageMissing {}),
        None => {}
    }
    if let Some(session) = &evidence.long_session
        && let Err(reason) = consistent(session, evidence)
    {
        reasons.push(Rejection::BucketsDisagree { reason });
    }
}

fn measurements(
    evidence: &Evidence,
    policy: &Policy,
    platform: &Platform,
    reasons: &mut Rejections,
) {
    for (index, found) in evidence.measurements.iter().enumerate() {
        let name = || format!("{}::{}", found.suite, found.name);
        if !found.value.is_finite() || found.value < 0.0 {
            reasons.push(Rejection::MeasurementInvalid {
                name: name(),
                value: found.value.to_string(),
            });
        }
        let earlier = &evidence.measurements[..index];
        if earlier
            .iter()
            .any(|other| other.suite == found.suite && other.name == found.name)
        {
            reasons.push(Rejection::MeasurementTwice { name: name() });
        }
    }
    let suites = platform
        .suites
        .iter()
        .filter_map(|id| policy.required.suite(id));
    for suite in suites {
        let of_the_tier = suite
            .measurement
            .iter()
            .filter(|limit| required::runs(&evidence.tier, &limit.tier));
        for limit in of_the_tier {
            let name = format!("{}::{}", suite.id, limit.name);
            let found = evidence
                .measurements
                .iter()
                .find(|found| found.suite == suite.id && found.name == limit.name);
            let Some(found) = found else {
                if !evidence.selection.partial {
                    reasons.push(Rejection::MeasurementMissing { name });
                }
                continue;
            };
            if found.unit != limit.unit {
                reasons.push(Rejection::OtherUnit {
                    name: name.clone(),
                    found: found.unit.clone(),
                    wanted: limit.unit.clone(),
                });
            }
            if !(limit.low..=limit.high).contains(&found.value) {
                reasons.push(Rejection::OutsideLimits {
                    name,
                    value: found.value.to_string(),
                    low: limit.low.to_string(),
                    high: limit.high.to_string(),
                });
            }
        }
    }
}

fn covered(coverage: &Coverage, policy: &CoveragePolicy, reasons: &mut Rejections) {
    for wanted in &policy.module {
        let module = || wanted.path.clone();
        let found = coverage
            .modules
            .iter()
            .find(|module| module.path == wanted.path);
        let Some(found) = found.filter(|found| found.files > 0 && found.lines > 0) else {
            reasons.push(Rejection::CoverageEmpty { module: module() });
            continue;
        };
        let excused = found.excused.min(wanted.excuse.len() as u64);
        let counted = (found.covered.saturating_add(excused)).min(found.lines);
        let share = 100.0 * counted as f64 / found.lines as f64;
        // Written so that a threshold that is no number is never met.
        if found.covered > found.lines || !(wanted.lines..=100.0).contains(&share) {
            reasons.push(Rejection::CoverageLow {
                module: module(),
                found: format!("{} of {}", found.covered, found.lines),
                wanted: format!("{}%", wanted.lines),
            });
        }
    }
}

/// Whether buckets follow each other inside the run and make up the session.
fn consistent(session: &LongSession, evidence: &Evidence) -> Result<(), String> {
    let (Some(first), Some(last)) = (session.buckets.first(), session.buckets.last()) else {
        return Err("there is none".to_owned());
    };
    if first.from < evidence.started || evidence.ended.is_some_and(|ended| last.to > ended) {
        return Err("they reach beyond the run".to_owned());
    }
    let apart = session
        .buckets
        .windows(2)
        .any(|pair| pair[0].to != pair[1].from);
    let backwards = session
        .buckets
        .iter()
        .any(|bucket| bucket.to <= bucket.from);
    if apart || backwards {
        return Err("they do not follow each other".to_owned());
    }
    let turns: u64 = session.buckets.iter().map(|bucket| bucket.turns).sum();
    if turns != session.turns {
        return Err(format!(
            "they have {turns} turns, and the session {}",
            session.turns
        ));
    }
    let seconds = last.to.duration_since(first.from).as_secs_f64();
    if !(seconds - 1.0..=seconds + 1.0).contains(&session.ran_seconds) {
        return Err(format!(
            "they last {seconds:.1} s, and the session {} s",
            session.ran_seconds
        ));
    }
    let numbers = session.buckets.iter().all(|bucket| {
        [bucket.turn_p50_seconds, bucket.turn_p95_seconds]
            .iter()
            .all(|seconds| seconds.is_finite() && *seconds >= 0.0)
    });
    if !numbers {
        return Err("a turn took less than no time".to_owned());
    }
    let percentiles = session
        .buckets
        .iter()
        .all(|bucket| bucket.turn_p50_seconds <= bucket.turn_p95_seconds);
    if !percentiles {
        return Err("a median is above the 95th percentile".to_owned());
    }
    if session.complete && session.fault.is_some() {
        return Err("it came to its end, and says why it did not".to_owned());
    }
    // Counters only grow, and the session's are what they were at the end.
    let counters: Vec<_> = session
        .buckets
        .iter()
        .map(|bucket| bucket.violations)
        .chain([session.violations])
        .collect();
    let grow = |pair: &[Violations]| pair[0].inv1 <= pair[1].inv1 && pair[0].inv2 <= pair[1].inv2;
    if !counters.windows(2).all(grow) || counters[counters.len() - 2] != session.violations {
        return Err("counters of violations went back".to_owned());
    }
    Ok(())
}

/// What general availability asks for beyond a gate: a long session, and that every gate holds.
pub(super) fn generally_available(evidence: &Evidence, policy: &Policy, reasons: &mut Rejections) {
    let wanted = policy.request.ga.long_session_seconds;
    match &evidence.long_session {
        None => reasons.push(Rejection::NoLongSession {}),
        Some(session) => {
            if !session.complete {
                reasons.push(Rejection::LongSessionIncomplete {
                    found: format!("{} s", session.ran_seconds),
                    wanted: format!("{} s", session.asked_seconds),
                });
            }
            if session.ran_seconds < wanted {
                reasons.push(Rejection::LongSessionShort {
                    found: format!("{} s", session.ran_seconds),
                    wanted: format!("{wanted} s"),
                });
            }
        }
    }
    for verdict in &evidence.verdicts {
        if matches!(verdict.holds, Holds::NotMeasured | Holds::Withheld) {
            reasons.push(Rejection::GateDoesNotHold {
                gate: verdict.gate.clone(),
                reason: format!("{}: {}", verdict.holds, verdict.reason),
            });
        }
    }
}
