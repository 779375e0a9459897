//! Running one case and judging it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::compare::{Compared, take_compared};
use crate::failure::CaseFailure;
use crate::suite::Case;

/// How a case that ran to its end came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The rule held.
    Passed,
    /// The rule did not hold, or the case panicked.
    Failed,
    /// An observed fact ruled the case out.
    Skipped,
}

/// What is known about a case after it ran.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct CaseReport {
    /// How it came out.
    pub outcome: Outcome,
    /// How long it took, the loading of the model included where it was the first to ask.
    pub duration: Duration,
    /// Forward passes of the model while it ran.
    pub forward_passes: u64,
    /// What it compared and found equal, in order.
    pub compared: Vec<Compared>,
    /// Why it did not pass.
    pub message: Option<String>,
}

/// Runs one case. A panic is a failure of that case, not the end of the suite. `passes` says how many forward passes
/// this process has made so far.
pub fn run_case<C: 'static>(case: &Case<C>, context: &C, passes: impl Fn() -> u64) -> CaseReport {
    let passes_before = passes();
    // What another case of this thread left there, if it panicked.
    take_compared();
    let start = Instant::now();
    // A case only sees the context by shared reference, and the context's locks recover from poisoning.
    let result = catch_unwind(AssertUnwindSafe(|| case.call(context)));
    let duration = start.elapsed();
    let (outcome, message) = match result {
        Ok(Ok(())) => (Outcome::Passed, None),
        Ok(Err(CaseFailure::Skipped(reason))) => (Outcome::Skipped, Some(reason)),
        Ok(Err(failure)) => (Outcome::Failed, Some(failure.to_string())),
        Err(payload) => (Outcome::Failed, Some(panic_message(payload.as_ref()))),
    };
    CaseReport {
        outcome,
        duration,
        forward_passes: passes() - passes_before,
        compared: take_compared(),
        message,
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    match text {
        Some(text) => format!("the case panicked: {text}"),
        None => "the case panicked with a value that is no text".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn report(case: &Case<()>) -> (Outcome, Option<String>, u64) {
        let report = run_case(case, &(), || 7);
        (report.outcome, report.message, report.forward_passes)
    }

    #[test]
    fn passes_are_those_of_the_case() {
        let counter = Cell::new(5);
        let passes = || counter.replace(counter.get() + 3);
        let report = run_case(&Case::fast("a", |()| Ok(())), &(), passes);
        assert_eq!(report.forward_passes, 3);
    }

    #[test]
    fn every_ending_has_its_outcome() {
        assert_eq!(
            report(&Case::fast("a", |()| Ok(()))),
            (Outcome::Passed, None, 0)
        );
        assert_eq!(
            report(&Case::fast("a", |()| Err(CaseFailure::skipped(
                "no such unit"
            )))),
            (Outcome::Skipped, Some("no such unit".to_owned()), 0)
        );
        assert_eq!(
            report(&Case::fast("a", |()| Err(CaseFailure::violated("broken")))),
            (Outcome::Failed, Some("broken".to_owned()), 0)
        );
        assert_eq!(
            report(&Case::fast("a", |()| panic!("slot {} is free", 3))),
            (
                Outcome::Failed,
                Some("the case panicked: slot 3 is free".to_owned()),
                0
            )
        );
        assert_eq!(
            report(&Case::fast("a", |()| std::panic::panic_any(7_u8))),
            (
                Outcome::Failed,
                Some("the case panicked with a value that is no text".to_owned()),
                0
            )
        );
    }
}
