//! One suite, in a process of its own: the other end of [`crate::supervise`].
//!
//! Every report goes out as it happens, so that whatever kills this process, what it had proved is known.

use std::io::{self, Read, Write};
use std::thread;

use kakeya_evidence::Comparison;
use kakeya_suite::{CaseReport, Compared, Measurement, Outcome, Workspace, run_case, select};

use crate::cli::RunSuiteArgs;
use crate::error::HarnessError;
use crate::event::{CaseOutcome, Event, Figure};
use crate::exit::Exit;
use crate::float_modes;
use crate::subject::{Settings, Subject};

/// Runs the suite's selected cases, one after the other.
///
/// The status says only that the process came to its end; how the cases came out is in the reports.
///
/// # Errors
/// When there is no such suite, or a report cannot be sent.
pub fn run<S: Subject>(
    arguments: &RunSuiteArgs,
    subject: &S,
    workspace: &Workspace,
) -> Result<Exit, HarnessError> {
    end_with_parent();
    let suites = subject.suites();
    let suite = suites
        .iter()
        .find(|suite| suite.id() == arguments.suite)
        .ok_or_else(|| HarnessError::UnknownSuite {
            name: arguments.suite.clone(),
            known: suites.iter().map(|suite| suite.id().to_owned()).collect(),
        })?;
    let context = subject.context(Settings {
        model: arguments.model.file(),
        threads: thread::available_parallelism()
            .map_err(HarnessError::system("count processors"))?
            .get(),
        tier: arguments.tier,
        backend: arguments.backend.clone(),
        workspace: workspace.clone(),
    })?;
    send(&Event::Up {
        float_modes: float_modes::observe(),
    })?;
    let mut computed = false;
    for case in select(suite, arguments.tier, arguments.case.as_deref()) {
        send(&Event::Started {
            case: case.name().to_owned(),
        })?;
        let report = run_case(case, &context, || subject.forward_passes());
        send(&finished(case.name(), report))?;
        if let Some(backend) = subject.backend(&context)
            && !computed
        {
            computed = true;
            send(&Event::Computed { backend })?;
        }
    }
    send(&Event::Done {
        forward_passes: subject.forward_passes(),
        float_modes: float_modes::observe(),
        figures: figures(subject.measurements(&context)),
    })?;
    Ok(Exit::Success)
}

fn finished(case: &str, report: CaseReport) -> Event {
    Event::Finished {
        case: case.to_owned(),
        outcome: match report.outcome {
            Outcome::Passed => CaseOutcome::Passed,
            Outcome::Failed => CaseOutcome::Failed,
            Outcome::Skipped => CaseOutcome::Skipped,
        },
        duration_seconds: report.duration.as_secs_f64(),
        forward_passes: report.forward_passes,
        comparisons: comparisons(&report.compared),
        message: report.message,
    }
}

/// Places in memory as numbers, in the order in which they are first seen.
fn comparisons(compared: &[Compared]) -> Vec<Comparison> {
    let mut places = Vec::new();
    let mut number = |at: usize| {
        let known = places.iter().position(|place| *place == at);
        known.unwrap_or_else(|| {
            places.push(at);
            places.len() - 1
        }) as u64
            + 1
    };
    compared
        .iter()
        .map(|compared| Comparison {
            what: compared.what.clone(),
            left: number(compared.found_at),
            right: number(compared.expected_at),
            values: compared.values as u64,
        })
        .collect()
}

fn figures(measurements: Vec<Measurement>) -> Vec<Figure> {
    let of = |figure: Measurement| Figure {
        name: figure.name,
        value: figure.value,
        unit: figure.unit,
    };
    measurements.into_iter().map(of).collect()
}

fn send(event: &Event) -> Result<(), HarnessError> {
    let attempt = || -> io::Result<()> {
        let mut output = io::stdout().lock();
        writeln!(output, "{}", event.to_line()?)?;
        output.flush()
    };
    attempt().map_err(HarnessError::system("report to the gate"))
}

/// Ends this process when the one that started it is gone: its end of our standard input closes then.
pub(crate) fn end_with_parent() {
    thread::spawn(|| {
        let mut ignored = [0_u8; 64];
        while matches!(io::stdin().lock().read(&mut ignored), Ok(count) if count > 0) {}
        std::process::exit(Exit::SuiteDied.code().into());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_lie_in_one_place_have_one_number() {
        let compared = |found_at, expected_at| Compared {
            what: "x".to_owned(),
            found_at,
            expected_at,
            values: 3,
        };
        let numbers: Vec<_> =
            comparisons(&[compared(4096, 8192), compared(512, 8192), compared(64, 64)])
                .into_iter()
                .map(|comparison| (comparison.left, comparison.right))
                .collect();
        assert_eq!(numbers, [(1, 2), (3, 2), (4, 4)]);
    }
}
