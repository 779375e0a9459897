//! One suite, in a process of its own: the other end of [`crate::supervise`].
//!
//! Every report goes out as it happens, so that whatever kills this process, what it had proved is known.

use std::io::{self, Read, Write};
use std::thread;

use kakeya_evidence::{Backend, Comparison};
use kakeya_gates::{
    CaseReport, Compared, Outcome, SuiteContext, SuiteSettings, Workspace, registry, run_case,
    select,
};
use kakeya_model::{Isa, NUMERICS_VERSION, forward_passes, forward_passes_on};

use crate::cli::RunSuiteArgs;
use crate::error::HarnessError;
use crate::event::{CaseOutcome, Event, Figure};
use crate::exit::Exit;
use crate::float_modes;

/// Runs the suite's selected cases, one after the other.
///
/// The status says only that the process came to its end; how the cases came out is in the reports.
///
/// # Errors
/// When there is no such suite, or a report cannot be sent.
pub fn run(arguments: &RunSuiteArgs, workspace: &Workspace) -> Result<Exit, HarnessError> {
    end_with_parent();
    let suites = registry();
    let suite = suites
        .iter()
        .find(|suite| suite.id() == arguments.suite)
        .ok_or_else(|| HarnessError::UnknownSuite {
            name: arguments.suite.clone(),
            known: suites.iter().map(|suite| suite.id().to_owned()).collect(),
        })?;
    let context = SuiteContext::new(SuiteSettings {
        model: arguments.model.file(),
        threads: thread::available_parallelism()
            .map_err(HarnessError::system("count processors"))?
            .get(),
        isa: Isa::from_env()?,
        tier: arguments.tier,
        goldens: workspace.goldens(),
    });
    send(&Event::Up {
        float_modes: float_modes::observe(),
    })?;
    let mut computed = false;
    for case in select(suite, arguments.tier, arguments.case.as_deref()) {
        send(&Event::Started {
            case: case.name().to_owned(),
        })?;
        let report = run_case(case, &context);
        send(&finished(case.name(), report))?;
        // What ran, not what was asked for: the instruction set of most of the passes so far.
        let busiest = Isa::ALL
            .into_iter()
            .max_by_key(|isa| forward_passes_on(*isa));
        if let Some(isa) = busiest
            && !computed
            && forward_passes_on(isa) > 0
        {
            computed = true;
            send(&Event::Computed {
                backend: Backend {
                    device: "cpu".to_owned(),
                    isa: isa.to_string(),
                    threads: context.threads(),
                    numerics_version: NUMERICS_VERSION,
                },
            })?;
        }
    }
    send(&Event::Done {
        forward_passes: forward_passes(),
        float_modes: float_modes::observe(),
        figures: figures(&context),
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

fn figures(context: &SuiteContext) -> Vec<Figure> {
    let of = |figure: kakeya_gates::Measurement| Figure {
        name: figure.name,
        value: figure.value,
        unit: figure.unit,
    };
    context.measurements().into_iter().map(of).collect()
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
