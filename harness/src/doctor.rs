//! `harness doctor`: is this host what the platform asks for?

use std::io::Write;

use kakeya_evidence::Host;
use kakeya_evidence::policy::{Check, Observed, Platform, check_host};
use kakeya_suite::Workspace;
use serde::Serialize;

use crate::build_facts::RUSTC;
use crate::cli::{DoctorArgs, Format};
use crate::error::HarnessError;
use crate::exit::Exit;
use crate::host::{self, BACKENDS};
use crate::subject::Subject;
use crate::{policy, table};

#[derive(Debug, Serialize)]
struct Report<'a> {
    platform: &'a str,
    ok: bool,
    checks: &'a [Check],
    models: Vec<ModelState>,
    host: &'a Host,
}

/// Whether a model is in the cache. Told, not judged: a gate fetches what is missing.
#[derive(Debug, Serialize)]
struct ModelState {
    name: String,
    cached: bool,
    detail: String,
}

/// Compares an observed host, as this build sees it, with a platform.
pub fn compare(platform: &Platform, host: &Host) -> Vec<Check> {
    let observed = Observed {
        host,
        rustc: RUSTC,
        backends: BACKENDS,
    };
    check_host(platform, observed)
}

/// The error of a host that does not match, if it does not.
pub fn refusal(platform: &Platform, checks: &[Check]) -> Option<HarnessError> {
    let mismatches: Vec<_> = checks
        .iter()
        .filter(|check| !check.ok)
        .map(|check| {
            format!(
                "{} is {}, and it asks for {}",
                check.fact.as_str(),
                check.found,
                check.wanted
            )
        })
        .collect();
    (!mismatches.is_empty()).then(|| HarnessError::HostMismatch {
        platform: platform.name.clone(),
        mismatches,
    })
}

/// Prints the comparison.
///
/// # Errors
/// When the platform is unknown, policy is malformed, or the output cannot be written.
pub fn run<S: Subject>(
    arguments: &DoctorArgs,
    subject: &S,
    workspace: &Workspace,
    output: &mut impl Write,
) -> Result<Exit, HarnessError> {
    let platform = policy::platform(workspace, &arguments.platform)?;
    let host = host::observe(workspace.root())?;
    let checks = compare(&platform, &host);
    let ok = checks.iter().all(|check| check.ok);
    let report = Report {
        platform: &platform.name,
        ok,
        checks: &checks,
        models: model_states(&platform, subject, workspace),
        host: &host,
    };
    match arguments.format {
        Format::Text => write!(output, "{}", text(&report, &platform)),
        Format::Json => serde_json::to_writer_pretty(&mut *output, &report)
            .map_err(Into::into)
            .and_then(|()| writeln!(output)),
    }
    .map_err(HarnessError::system("write the report"))?;
    Ok(if ok {
        Exit::Success
    } else {
        Exit::HostMismatch
    })
}

fn text(report: &Report<'_>, platform: &Platform) -> String {
    let mut text = format!(
        "{}: {}\n{}\n",
        platform.name,
        platform.about,
        table::checks(report.checks)
    );
    for model in &report.models {
        text.push_str(&format!("model {}: {}\n", model.name, model.detail));
    }
    text.push_str(&if report.ok {
        format!("this host is {}\n", platform.name)
    } else {
        format!("this host is not {}\n", platform.name)
    });
    text
}

fn model_states<S: Subject>(
    platform: &Platform,
    subject: &S,
    workspace: &Workspace,
) -> Vec<ModelState> {
    let models = subject.models(workspace);
    let state = |name: &String| {
        let located = match &models {
            Ok(models) => models.locate(name).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        ModelState {
            name: name.clone(),
            cached: located.is_ok(),
            detail: match located {
                Ok(model) => format!("in the cache at {}", model.file.path.display()),
                Err(reason) => reason,
            },
        }
    };
    platform.models.iter().map(state).collect()
}
