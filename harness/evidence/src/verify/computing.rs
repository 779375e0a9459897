//! What was computed: that enough was, that it adds up, and that comparisons compared something.

use super::run::full_name;
use super::{Rejection, Rejections};
use crate::case::{Outcome, TestCase};
use crate::policy::{RequiredPolicy, RequiredSuite};
use crate::record::Evidence;

pub(super) fn check(evidence: &Evidence, required: &RequiredPolicy, reasons: &mut Rejections) {
    for suite in &evidence.suites {
        let cases = || evidence.cases.iter().filter(|case| case.suite == suite.id);
        let passed = cases().any(|case| case.outcome == Outcome::Passed);
        let policy = required.suite(&suite.id);
        // A suite none of whose cases takes a pass may have made none.
        let least: u64 =
            policy.map_or(1, |policy| policy.case.iter().map(|case| case.passes).sum());
        if passed && least > 0 && suite.forward_passes == 0 {
            reasons.push(Rejection::NoForwardPasses {
                suite: suite.id.clone(),
            });
        }
        let counted = cases().filter_map(|case| case.forward_passes).sum();
        if suite.forward_passes < counted {
            reasons.push(Rejection::PassesDisagree {
                what: format!("suite {}", suite.id),
                stored: suite.forward_passes,
                counted,
            });
        }
        for case in cases().filter(|case| case.outcome == Outcome::Passed) {
            if let Some(policy) = policy {
                passes(case, policy, reasons);
            }
        }
    }
    let counted = evidence
        .suites
        .iter()
        .map(|suite| suite.forward_passes)
        .sum();
    if evidence.forward_passes != counted {
        reasons.push(Rejection::PassesDisagree {
            what: "the run".to_owned(),
            stored: evidence.forward_passes,
            counted,
        });
    }
    for case in &evidence.cases {
        comparisons(case, reasons);
    }
}

fn passes(case: &TestCase, policy: &RequiredSuite, reasons: &mut Rejections) {
    // A case that is not listed is a reason of its own.
    let Some(listed) = policy.case.iter().find(|listed| listed.name == case.name) else {
        return;
    };
    let found = case.forward_passes.unwrap_or(0);
    if found < listed.passes {
        reasons.push(Rejection::TooFewForwardPasses {
            case: full_name(case),
            found,
            least: listed.passes,
        });
    }
    if listed.compares && case.comparisons.is_empty() {
        reasons.push(Rejection::NoComparison {
            case: full_name(case),
        });
    }
}

fn comparisons(case: &TestCase, reasons: &mut Rejections) {
    for comparison in &case.comparisons {
        if comparison.left == comparison.right {
            reasons.push(Rejection::ComparedWithItself {
                case: full_name(case),
                what: comparison.what.clone(),
            });
        }
        if comparison.values == 0 {
            reasons.push(Rejection::NothingCompared {
                case: full_name(case),
                what: comparison.what.clone(),
            });
        }
    }
}
