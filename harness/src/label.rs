//! `harness label`: the labels that a pull request needs by the files it changes.

use std::fs;
use std::io::Write;

use kakeya_github::{
    Change, GithubError, LabelPolicy, LabelReport, LabelRequest, PullRequestEvent,
};

use crate::cli::LabelArgs;
use crate::error::HarnessError;
use crate::exit::Exit;
use crate::{actions, remote};

/// Labels the pull request, and says why.
///
/// # Errors
/// When the event, the policy or the command makes no sense, or GitHub does not let it be done.
pub fn run(arguments: &LabelArgs, output: &mut impl Write) -> Result<Exit, HarnessError> {
    let event = event(arguments)?;
    let number = arguments
        .pr
        .or(event.as_ref().map(|event| event.number))
        .ok_or_else(|| HarnessError::Request("name a pull request with --pr".to_owned()))?;
    let policy = policy(arguments)?;
    let dry_run = arguments.github.dry_run;
    let report = remote::with_client(&arguments.github, async |client, repo| {
        let request = LabelRequest {
            repo,
            number,
            event: event.as_ref(),
            policy,
            dry_run,
        };
        kakeya_github::label(client, request).await
    });
    let report = report.map_err(|error| match error {
        HarnessError::Github(
            error @ (GithubError::Event(_)
            | GithubError::NoPolicy { .. }
            | GithubError::Policy { .. }),
        ) => remote::usage(error),
        other => other,
    })?;
    show(&report, dry_run, output).map_err(HarnessError::system("write the result"))?;
    Ok(Exit::Success)
}

fn event(arguments: &LabelArgs) -> Result<Option<PullRequestEvent>, HarnessError> {
    let read = |path: &std::path::PathBuf| {
        let place = path.display().to_string();
        let text = fs::read_to_string(path)
            .map_err(|error| HarnessError::Request(format!("cannot read {place}: {error}")))?;
        PullRequestEvent::parse(&text, &place).map_err(remote::usage)
    };
    arguments.event_path.as_ref().map(read).transpose()
}

fn policy(arguments: &LabelArgs) -> Result<Option<LabelPolicy>, HarnessError> {
    let read = |path: &std::path::PathBuf| {
        let text = fs::read_to_string(path).map_err(|source| HarnessError::PolicyFile {
            path: path.clone(),
            source,
        })?;
        LabelPolicy::parse(&text, &path.display().to_string()).map_err(remote::usage)
    };
    arguments.labels.as_ref().map(read).transpose()
}

fn show(report: &LabelReport, dry_run: bool, output: &mut impl Write) -> std::io::Result<()> {
    for note in &report.notes {
        writeln!(output, "note: {}", actions::inert(note))?;
    }
    for warning in &report.warnings {
        if actions::are_here() {
            writeln!(output, "::warning title=labels::{}", actions::data(warning))?;
        } else {
            writeln!(output, "warning: {warning}")?;
        }
    }
    if !report.labels.is_empty() {
        writeln!(output, "{} changed files", report.files)?;
    }
    for label in &report.labels {
        let would = if dry_run && label.change != Change::Kept {
            "dry run, not done: "
        } else {
            ""
        };
        writeln!(output, "{}", actions::inert(&format!("{would}{label}")))?;
    }
    Ok(())
}
