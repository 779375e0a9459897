//! Running one case and judging it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::compare::{Compared, take_compared};
use crate::context::SuiteContext;
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

/// Runs one case. A panic is a failure of that case, not the end of the suite.
pub fn run_case(case: &Case, context: &SuiteContext) -> CaseReport {
    let passes_before = kakeya_model::forward_passes();
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
        forward_passes: kakeya_model::forward_passes() - passes_before,
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
    use crate::context::SuiteSettings;
    use crate::model_file::ModelFile;
    use crate::suite::Tier;

    fn report(case: &Case) -> (Outcome, Option<String>, u64) {
        let context = SuiteContext::new(SuiteSettings {
            model: ModelFile {
                name: "absent".to_owned(),
                path: "absent.gguf".into(),
                sha256: "0".repeat(64),
            },
            threads: 1,
            isa: kakeya_model::Isa::Scalar,
            tier: Tier::Fast,
            goldens: "goldens".into(),
        });
        let report = run_case(case, &context);
        (report.outcome, report.message, report.forward_passes)
    }

    #[test]
    fn every_ending_has_its_outcome() {
        assert_eq!(
            report(&Case::fast("a", |_| Ok(()))),
            (Outcome::Passed, None, 0)
        );
        assert_eq!(
            report(&Case::fast("a", |_| Err(CaseFailure::skipped(
                "no such unit"
            )))),
            (Outcome::Skipped, Some("no such unit".to_owned()), 0)
        );
        assert_eq!(
            report(&Case::fast("a", |_| Err(CaseFailure::violated("broken")))),
            (Outcome::Failed, Some("broken".to_owned()), 0)
        );
        assert_eq!(
            report(&Case::fast("a", |_| panic!("slot {} is free", 3))),
            (
                Outcome::Failed,
                Some("the case panicked: slot 3 is free".to_owned()),
                0
            )
        );
        assert_eq!(
            report(&Case::fast("a", |_| std::panic::panic_any(7_u8))),
            (
                Outcome::Failed,
                Some("the case panicked with a value that is no text".to_owned()),
                0
            )
        );
    }
}
