//! The cases: that each that must run did, once, and passed, and that what is said of them is so.

use std::collections::BTreeMap;

use super::run::full_name;
use super::{Rejection, Rejections, word};
use crate::case::{Counts, Outcome, TestCase};
use crate::policy::{Platform, Policy, required};
use crate::record::{Evidence, SuiteEnding};
use crate::verdict::{Facts, Holds, verdicts};

pub(super) fn check(
    evidence: &Evidence,
    policy: &Policy,
    platform: &Platform,
    reasons: &mut Rejections,
) {
    if evidence.cases.is_empty() {
        reasons.push(Rejection::NoCases {});
    } else if evidence
        .cases
        .iter()
        .all(|case| case.outcome == Outcome::Skipped)
    {
        reasons.push(Rejection::AllSkipped {
            count: evidence.cases.len(),
        });
    }
    presence(evidence, policy, platform, reasons);
    for case in &evidence.cases {
        outcome(case, reasons);
        definition(case, policy, reasons);
    }
    suites(evidence, platform, reasons);
    for suite in &evidence.suites {
        if suite.ending != SuiteEnding::Completed || suite.detail.is_some() {
            reasons.push(Rejection::SuiteDied {
                suite: suite.id.clone(),
                ending: word(&suite.ending),
            });
        }
    }
    let counted = Counts::of(&evidence.cases);
    if evidence.counts != counted {
        reasons.push(Rejection::CountsDisagree {
            stored: word(&evidence.counts),
            counted: word(&counted),
        });
    }
    gates(evidence, policy, reasons);
}

/// The cases that the policy asks for, against those that are there.
fn presence(evidence: &Evidence, policy: &Policy, platform: &Platform, reasons: &mut Rejections) {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for case in &evidence.cases {
        *times.entry(full_name(case)).or_default() += 1;
    }
    let claimed: Vec<_> = evidence
        .required
        .iter()
        .map(|case| format!("{}::{}", case.suite, case.name))
        .collect();
    let mut listed = Vec::new();
    for id in &platform.suites {
        let cases = policy
            .required
            .suite(id)
            .map_or(&[][..], |suite| &suite.case);
        let of_the_tier = cases
            .iter()
            .filter(|case| required::runs(&evidence.tier, &case.tier));
        for case in of_the_tier {
            let name = format!("{id}::{}", case.name);
            if !times.contains_key(&name) && !evidence.selection.partial {
                reasons.push(Rejection::CaseMissing { case: name.clone() });
            }
            if !claimed.contains(&name) {
                reasons.push(Rejection::RequirementsLowered { case: name.clone() });
            }
            listed.push(name);
        }
    }
    for (case, times) in times {
        if times > 1 {
            reasons.push(Rejection::CaseDuplicated {
                case: case.clone(),
                times,
            });
        }
        if !listed.contains(&case) {
            reasons.push(Rejection::CaseNotRequired { case });
        }
    }
}

/// What a case says of itself, against what the policy says of it.
fn definition(case: &TestCase, policy: &Policy, reasons: &mut Rejections) {
    let suite = policy.required.suite(&case.suite);
    let listed = suite.and_then(|suite| suite.case.iter().find(|listed| listed.name == case.name));
    let Some(listed) = listed else {
        return;
    };
    let say = |tier: &str, history: Option<&str>| match history {
        Some(history) => format!("{tier} on history {history}"),
        None => format!("{tier} on no history"),
    };
    let found = say(&case.tier, case.history.as_deref());
    let expected = say(&listed.tier, listed.history.as_deref());
    if found != expected {
        reasons.push(Rejection::CaseRedefined {
            case: full_name(case),
            found,
            expected,
        });
    }
}

/// That suites, cases and the run as a whole belong together.
fn suites(evidence: &Evidence, platform: &Platform, reasons: &mut Rejections) {
    let mut disagree = |what: String| reasons.push(Rejection::SuitesDisagree { what });
    let ran: Vec<_> = evidence.suites.iter().map(|suite| &suite.id).collect();
    for case in &evidence.cases {
        let processes = ran.iter().filter(|id| **id == &case.suite).count();
        if processes != 1 {
            disagree(format!(
                "case {} belongs to a suite of {processes} processes",
                full_name(case)
            ));
        }
    }
    for id in &platform.suites {
        if !evidence.selection.partial && !ran.contains(&id) {
            disagree(format!("suite {id} of the platform has no process"));
        }
    }
    if !ran.iter().copied().eq(&evidence.selection.suites) {
        disagree("the suites that ran are not those that were selected".to_owned());
    }
    let backend = Evidence::agreed(&evidence.suites, |suite| suite.backend.as_ref());
    let modes = Evidence::agreed(&evidence.suites, |suite| suite.float_modes.as_ref());
    if evidence.backend != backend || evidence.float_modes != modes {
        disagree("what computed the run is not what computed its suites".to_owned());
    }
}

fn outcome(case: &TestCase, reasons: &mut Rejections) {
    let name = full_name(case);
    let reason = case.message.clone().unwrap_or_default();
    if (case.outcome == Outcome::Passed) != case.message.is_none() {
        reasons.push(Rejection::Unexplained { case: name.clone() });
    }
    match case.outcome {
        Outcome::Passed => {}
        Outcome::Skipped => reasons.push(Rejection::CaseSkipped { case: name, reason }),
        Outcome::Failed => reasons.push(Rejection::CaseFailed { case: name, reason }),
        Outcome::TimedOut | Outcome::Crashed | Outcome::NotRun => {
            reasons.push(Rejection::CaseDied {
                case: name,
                outcome: case.outcome.to_string(),
                reason,
            });
        }
    }
}

/// The verdicts, computed anew. A gate that the run did not measure is for general availability to ask about.
fn gates(evidence: &Evidence, policy: &Policy, reasons: &mut Rejections) {
    let computed = verdicts(&policy.gates, Facts::of(evidence));
    for verdict in &computed {
        let stored = evidence
            .verdicts
            .iter()
            .find(|stored| stored.gate == verdict.gate);
        if stored != Some(verdict) {
            reasons.push(Rejection::VerdictDisagrees {
                gate: verdict.gate.clone(),
                stored: stored.map_or_else(|| "absent".to_owned(), |stored| stored.to_string()),
                computed: verdict.to_string(),
            });
        }
        // What a partial run withholds is said once, by its being partial.
        if verdict.holds == Holds::No {
            reasons.push(Rejection::GateDoesNotHold {
                gate: verdict.gate.clone(),
                reason: verdict.reason.clone(),
            });
        }
    }
    for stored in &evidence.verdicts {
        if computed.iter().all(|verdict| verdict.gate != stored.gate) {
            reasons.push(Rejection::VerdictDisagrees {
                gate: stored.gate.clone(),
                stored: stored.to_string(),
                computed: "no such gate".to_owned(),
            });
        }
    }
}
