//! `harness checks`: what `verify` finds, as a check run on the head of a pull request.

use std::fs;
use std::io::Write;

use kakeya_evidence::verify::{Finding, Record, Report};
use kakeya_evidence::{Outcome, canonical};
use kakeya_github::{Annotation, CheckRun, Level};
use kakeya_report::markdown;
use kakeya_suite::Workspace;

use crate::cli::ChecksArgs;
use crate::error::HarnessError;
use crate::exit::Exit;
use crate::verify::{self, Judged};
use crate::{actions, policy, remote};

/// Where evidence is committed, as git names it.
const RESULTS: &str = "results/platform-tests";
/// What a remark is on that is on no record: the file that asks for evidence.
const ASKS: &str = policy::REQUEST;

/// Verifies, and reports it.
///
/// # Errors
/// When policy or the repository cannot be read, or GitHub does not take the check run. That evidence is rejected is no
/// error but a status.
pub fn run(
    arguments: &ChecksArgs,
    workspace: &Workspace,
    output: &mut impl Write,
) -> Result<Exit, HarnessError> {
    let judged = verify::judge(&arguments.question, workspace)?;
    let Judged {
        report,
        records,
        gates,
    } = judged;
    let check = CheckRun {
        name: arguments.name.clone(),
        sha: arguments.sha.clone(),
        external_id: uuid::Uuid::new_v4().simple().to_string(),
        success: report.accepted,
        title: title(&report),
        summary: markdown::summary(&report, &records, &gates),
        annotations: annotations(&report, &records, workspace),
    };
    actions::add_to_summary(&check.summary)?;
    let unwritable = || HarnessError::system("write the result");
    if actions::are_here() {
        commands(&check, output).map_err(unwritable())?;
    }
    let remarks = check.annotations.len();
    let said = if arguments.github.dry_run {
        let verdict = if check.success { "success" } else { "failure" };
        format!(
            "dry run, not made: check run `{}` on {}: {verdict}, {}, {remarks} annotations",
            check.name, check.sha, check.title
        )
    } else {
        let made = remote::with_client(&arguments.github, async |client, repo| {
            kakeya_github::check(client, repo, &check).await
        })?;
        let at = made.url.map_or_else(String::new, |url| format!(": {url}"));
        format!(
            "check run {} `{}`: {}, {remarks} annotations{at}",
            made.id, check.name, check.title
        )
    };
    writeln!(output, "{said}").map_err(unwritable())?;
    Ok(if report.accepted {
        Exit::Success
    } else {
        Exit::CaseFailed
    })
}

fn title(report: &Report) -> String {
    let open = report
        .findings
        .iter()
        .filter(|finding| finding.waived.is_none());
    match open.count() {
        _ if report.accepted => "there is good evidence for this tree".to_owned(),
        1 => "1 reason to reject".to_owned(),
        count => format!("{count} reasons to reject"),
    }
}

/// A remark for each finding, and one for each case that did not pass in a record that the report speaks of.
fn annotations(report: &Report, records: &[Record], workspace: &Workspace) -> Vec<Annotation> {
    let mut remarks: Vec<_> = report.findings.iter().map(of_finding).collect();
    let spoken = report
        .platforms
        .iter()
        .flat_map(|platform| &platform.records);
    for spoken in spoken {
        let path = format!("{RESULTS}/{}", spoken.file);
        let Some(evidence) = records
            .iter()
            .filter(|record| record.name == spoken.file)
            .find_map(|record| canonical::read(record.bytes.as_ref().ok()?).ok())
        else {
            continue;
        };
        let text = fs::read_to_string(workspace.root().join(&path)).unwrap_or_default();
        let failed = evidence
            .cases
            .iter()
            .filter(|case| case.outcome != Outcome::Passed);
        for case in failed {
            let line = line_of(&text, &case.suite, &case.name);
            let name = format!("{}::{}", case.suite, case.name);
            let message = case.message.clone().unwrap_or_default();
            remarks.push(Annotation {
                path: path.clone(),
                start_line: line,
                end_line: line,
                annotation_level: Level::Failure,
                title: format!("{name} {}", case.outcome),
                message: format!("{name} {}: {message}", case.outcome),
            });
        }
    }
    remarks
}

fn of_finding(finding: &Finding) -> Annotation {
    let path = match &finding.file {
        Some(file) => format!("{RESULTS}/{file}"),
        None => ASKS.to_owned(),
    };
    let (annotation_level, waived) = match &finding.waived {
        Some(waiver) => (Level::Warning, format!(" (waived by {waiver})")),
        None => (Level::Failure, String::new()),
    };
    Annotation {
        path,
        start_line: 1,
        end_line: 1,
        annotation_level,
        title: finding.code.clone(),
        message: format!("{}{waived}", finding.message),
    }
}

/// The line of a record that names a case among those that ran; the first where none does.
fn line_of(text: &str, suite: &str, case: &str) -> u64 {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let ran = lines.iter().position(|line| *line == "\"cases\": [");
    let (suite, case) = (
        format!("\"suite\": \"{suite}\","),
        format!("\"name\": \"{case}\","),
    );
    let is_it = |pair: &[&str]| pair[0] == suite && pair[1] == case;
    ran.and_then(|ran| Some(ran + lines[ran..].windows(2).position(is_it)? + 2))
        .map_or(1, |line| line as u64)
}

/// The remarks as workflow commands, which GitHub shows beside the change and in the log.
fn commands(check: &CheckRun, output: &mut impl Write) -> std::io::Result<()> {
    for remark in &check.annotations {
        let level = match remark.annotation_level {
            Level::Failure => "error",
            Level::Warning => "warning",
            Level::Notice => "notice",
        };
        writeln!(
            output,
            "::{level} file={},line={},title={}::{}",
            actions::property(&remark.path),
            remark.start_line,
            actions::property(&remark.title),
            actions::data(&remark.message)
        )?;
    }
    Ok(())
}
