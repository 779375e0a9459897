//! `harness required`: the list of what a run must have, for `gates/required.toml`.
//!
//! The list is committed because the code under test must not decide what is asked of it. This command writes it anew
//! when suites change; a test says when it is stale.

use std::io::Write;

use kakeya_evidence::Evidence;
use kakeya_evidence::policy::{Limit, ListedCase, RequiredPolicy, RequiredSuite};
use kakeya_suite::{Suite, Tier, select};

use crate::cli::RequiredArgs;
use crate::compare;
use crate::error::HarnessError;
use crate::exit::Exit;
use crate::subject::Subject;

/// A case must make one in so many of the forward passes of the record. Where streams are cut off and batches form by
/// chance, a busy host makes a third of what a quiet one does.
const SHARE: u64 = 8;
/// How far from the value of the record a measurement may be, in either direction: on other hosts it is another one.
const SPREAD: f64 = 100.0;

const HEADING: &str = "\
# What a run must have: each case, with the fewest forward passes it can take and whether it must have compared two
# computations, and each measurement, with limits on both sides. It is read at the base of a change, so that a change
# cannot ask less of itself. `harness required --from RECORD` writes it, from the suites and what they took in a record.

";

/// Prints the list.
///
/// # Errors
/// When the record cannot be read or is none, or the output cannot be written.
pub fn run<S: Subject>(
    arguments: &RequiredArgs,
    subject: &S,
    output: &mut impl Write,
) -> Result<Exit, HarnessError> {
    let path = &arguments.from;
    let evidence = compare::read(path)?;
    let policy = policy(&subject.suites(), &evidence);
    let text = toml::to_string(&policy).map_err(|error| HarnessError::Policy {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    write!(output, "{HEADING}{text}").map_err(HarnessError::system("write the list"))?;
    Ok(Exit::Success)
}

fn policy<C: 'static>(suites: &[Suite<C>], evidence: &Evidence) -> RequiredPolicy {
    RequiredPolicy {
        suite: suites.iter().map(|suite| listed(suite, evidence)).collect(),
    }
}

fn listed<C: 'static>(suite: &Suite<C>, evidence: &Evidence) -> RequiredSuite {
    let ran: Vec<_> = evidence
        .cases
        .iter()
        .filter(|case| case.suite == suite.id())
        .collect();
    let passes = |name: &str| {
        let case = ran.iter().find(|case| case.name == name);
        // Rounded up: a case that makes any makes one.
        case.and_then(|case| case.forward_passes)
            .map_or(0, |passes| passes.div_ceil(SHARE))
    };
    let compares = |name: &str| {
        let case = ran.iter().find(|case| case.name == name);
        case.is_some_and(|case| !case.comparisons.is_empty())
    };
    RequiredSuite {
        id: suite.id().to_owned(),
        case: select(suite, Tier::Full, None)
            .into_iter()
            .map(|case| ListedCase {
                name: case.name().to_owned(),
                tier: case.tier().to_string(),
                history: case.history_name().map(str::to_owned),
                passes: passes(case.name()),
                compares: compares(case.name()),
            })
            .collect(),
        measurement: evidence
            .measurements
            .iter()
            .filter(|found| found.suite == suite.id())
            .map(|found| Limit {
                name: found.name.clone(),
                tier: evidence.tier.clone(),
                unit: found.unit.clone(),
                low: found.value / SPREAD,
                high: found.value * SPREAD,
            })
            .collect(),
    }
}
