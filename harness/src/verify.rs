//! `harness verify`: is there good evidence for this tree?

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Write;

use jiff::Timestamp;
use kakeya_evidence::policy::{GatePolicy, GuardedFiles, Policy};
use kakeya_evidence::verify::{self, Checkout, Finding, Question, Rejection, Report};
use kakeya_evidence::{hex, tree};
use kakeya_report::folder;
use kakeya_suite::Workspace;

use crate::actions::{data, inert, property};
use crate::cli::{QuestionArgs, VerifyArgs, VerifyFormat};
use crate::error::HarnessError;
use crate::exit::Exit;
use crate::repository::{Commit, Repository};
use crate::{policy, source};

/// Where evidence is committed, as git names it.
const RESULTS: &str = "results/platform-tests";

/// Verifies evidence for the tree of the checkout.
///
/// # Errors
/// When policy or the repository cannot be read. That evidence is rejected is no error but a status.
pub fn run(
    arguments: &VerifyArgs,
    workspace: &Workspace,
    output: &mut impl Write,
) -> Result<Exit, HarnessError> {
    if arguments.question.base.is_none() && arguments.format == VerifyFormat::Text {
        eprintln!(
            "note: policy is read at HEAD; name the branch that the change goes into with --base"
        );
    }
    let Judged { report, .. } = judge(&arguments.question, workspace)?;
    show(&report, arguments.format, output).map_err(HarnessError::system("write the report"))?;
    Ok(if report.accepted {
        Exit::Success
    } else {
        Exit::CaseFailed
    })
}

/// What verifying comes to.
pub struct Judged {
    /// The answer.
    pub report: Report,
    /// The records that it is about.
    pub records: Vec<verify::Record>,
    /// The gates of the base, which the change has no say in; none where there is no base.
    pub gates: GatePolicy,
}

/// Verifies, and says of which records.
///
/// # Errors
/// As for [`run`].
pub fn judge(arguments: &QuestionArgs, workspace: &Workspace) -> Result<Judged, HarnessError> {
    let refused = |rejection| {
        Ok(Judged {
            report: refusal(&rejection),
            records: Vec::new(),
            gates: GatePolicy { gate: Vec::new() },
        })
    };
    match Repository::at(workspace.root()) {
        Ok(repository) => match base(arguments, &repository) {
            Ok(base) => answer(arguments, workspace, &repository, &base),
            Err(rejection) => refused(rejection),
        },
        Err(rejection) => refused(rejection),
    }
}

/// The base of the change.
struct Base {
    /// What it is called.
    name: String,
    /// Its commit.
    commit: Commit,
    /// Where the change left it.
    fork: Commit,
    /// The commit that is checked out.
    head: Commit,
}

fn base(arguments: &QuestionArgs, repository: &Repository) -> Result<Base, Rejection> {
    let head = repository.commit("HEAD")?;
    let name = arguments.base.clone().unwrap_or_else(|| "HEAD".to_owned());
    let commit = repository.commit(&name)?;
    let fork = repository.merge_base(&commit, &head)?;
    if repository.file(&commit, policy::REQUEST).is_none() {
        return Err(Rejection::BaseWithoutPolicy {
            base: name,
            path: policy::REQUEST.to_owned(),
        });
    }
    Ok(Base {
        name,
        commit,
        fork,
        head,
    })
}

fn answer(
    arguments: &QuestionArgs,
    workspace: &Workspace,
    repository: &Repository,
    base: &Base,
) -> Result<Judged, HarnessError> {
    let at_base = policy::load(policy::Place::Commit(repository, &base.commit))?;
    let guarded = &at_base.guarded;
    let mut base_moved = repository.edited(&base.fork, &base.commit)?;
    base_moved.retain(|path| guarded.contains(path));
    let status = source::changes(workspace.root(), guarded).unwrap_or_default();
    let differences = repository.differences(&base.head, guarded, status)?;
    let tree = tree::digest(workspace.root(), guarded)?;
    let trees = RefCell::new(HashMap::new());
    let tree_of_commit = |commit: &str| {
        let mut trees = trees.borrow_mut();
        let tree = || {
            let commit = repository.commit(commit).ok()?;
            let entries = repository.entries(&commit, guarded).ok()?;
            tree::digest_of(entries).map(|digest| digest.sha256)
        };
        trees.entry(commit.to_owned()).or_insert_with(tree).clone()
    };
    let checkout = Checkout {
        changes: differences.changes,
        line_endings: differences.line_endings,
        base: base.name.clone(),
        edited: repository.edited(&base.fork, &base.head)?,
        base_moved,
        rewritten: repository.rewritten(&base.head, RESULTS)?,
        shallow: repository.is_shallow(),
        keys: changed_keys(workspace),
        tree_of_commit: &tree_of_commit,
        lock_sha256: lock_sha256(workspace, guarded),
        tree_sha256: tree.sha256,
    };
    let question = Question {
        platforms: arguments.platform.clone(),
        ga: arguments.ga,
        now: Timestamp::now(),
    };
    check_platforms(&question, &at_base)?;
    let records = records(arguments, workspace, &checkout.tree_sha256)?;
    let report = verify::verify(&at_base, &checkout, &records, &question);
    let gates = at_base.gates;
    Ok(Judged {
        report,
        records,
        gates,
    })
}

/// The digest of the checkout's lock, where the policy guards one.
fn lock_sha256(workspace: &Workspace, guarded: &GuardedFiles) -> Option<String> {
    let name = "Cargo.lock";
    let path = workspace.root().join(name);
    guarded
        .contains(name)
        .then(|| hex::sha256_file(&path).ok())?
}

/// A platform that nobody declares is a mistake of the command line.
fn check_platforms(question: &Question, policy: &Policy) -> Result<(), HarnessError> {
    let unknown = question
        .platforms
        .iter()
        .find(|name| policy.platform(name).is_none());
    match unknown {
        None => Ok(()),
        Some(name) => Err(HarnessError::UnknownPlatform {
            name: name.clone(),
            known: policy
                .platforms
                .iter()
                .map(|platform| platform.name.clone())
                .collect(),
        }),
    }
}

/// The keys of the checkout, which count for nothing but a better reason.
fn changed_keys(workspace: &Workspace) -> kakeya_evidence::policy::Keys {
    policy::load(policy::Place::Checkout(workspace))
        .map(|policy| policy.keys)
        .unwrap_or_default()
}

fn records(
    arguments: &QuestionArgs,
    workspace: &Workspace,
    tree: &str,
) -> Result<Vec<verify::Record>, HarnessError> {
    if arguments.files.is_empty() {
        return Ok(folder::read_tree(&workspace.results(), tree)?.records);
    }
    Ok(arguments
        .files
        .iter()
        .map(|path| folder::record(path))
        .collect())
}

/// The answer where there is nothing to verify against.
fn refusal(rejection: &Rejection) -> Report {
    Report {
        accepted: false,
        platforms: Vec::new(),
        findings: vec![Finding {
            code: rejection.code().to_string(),
            message: rejection.to_string(),
            file: None,
            platform: None,
            waived: None,
        }],
    }
}

fn show(report: &Report, format: VerifyFormat, output: &mut impl Write) -> std::io::Result<()> {
    match format {
        VerifyFormat::Text => {
            let mut said = Vec::new();
            text(report, &mut said)?;
            output.write_all(inert(&String::from_utf8_lossy(&said)).as_bytes())
        }
        VerifyFormat::Json => {
            serde_json::to_writer_pretty(&mut *output, report)?;
            writeln!(output)
        }
        VerifyFormat::Github => github(report, output),
    }
}

fn text(report: &Report, output: &mut impl Write) -> std::io::Result<()> {
    for finding in &report.findings {
        let file = finding
            .file
            .as_ref()
            .map(|file| format!("{file}: "))
            .unwrap_or_default();
        let waived = finding
            .waived
            .as_ref()
            .map(|waiver| format!(" (waived by {waiver})"))
            .unwrap_or_default();
        writeln!(output, "{} {file}{}{waived}", finding.code, finding.message)?;
    }
    for platform in &report.platforms {
        for record in &platform.records {
            let verdict = if record.accepted {
                "accepted"
            } else {
                "rejected"
            };
            let signed = if record.signed_by.is_empty() {
                "unsigned".to_owned()
            } else {
                format!("signed by {}", record.signed_by.join(", "))
            };
            writeln!(
                output,
                "{}: {verdict}, {signed}: {}",
                platform.platform, record.file
            )?;
        }
    }
    let open = report
        .findings
        .iter()
        .filter(|finding| finding.waived.is_none())
        .count();
    if report.accepted {
        writeln!(output, "accepted: there is good evidence for this tree")
    } else {
        writeln!(
            output,
            "rejected: {open} reason{}; `harness explain CODE` says what each means",
            if open == 1 { "" } else { "s" }
        )
    }
}

/// Workflow commands, which GitHub shows beside the change.
fn github(report: &Report, output: &mut impl Write) -> std::io::Result<()> {
    for finding in &report.findings {
        let level = if finding.waived.is_some() {
            "warning"
        } else {
            "error"
        };
        let file = finding
            .file
            .as_ref()
            .map(|file| format!("file={RESULTS}/{},", property(file)))
            .unwrap_or_default();
        writeln!(
            output,
            "::{level} {file}title={}::{}",
            finding.code,
            data(&finding.message)
        )?;
    }
    let verdict = if report.accepted {
        "accepted"
    } else {
        "rejected"
    };
    writeln!(output, "::notice title=evidence::{verdict}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = refusal(&Rejection::Shallow {});
        report.findings.push(Finding {
            code: "EV-046".to_owned(),
            message: "case a was skipped:\n100%".to_owned(),
            file: Some("a,b.json".to_owned()),
            platform: Some("linux-cpu".to_owned()),
            waived: Some("W-1: known (someone)".to_owned()),
        });
        report
    }

    fn shown(format: VerifyFormat) -> String {
        let mut output = Vec::new();
        show(&report(), format, &mut output).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn text_names_code_file_and_waiver() {
        let text = shown(VerifyFormat::Text);
        assert!(text.starts_with("EV-211 this clone is shallow"), "{text}");
        assert!(
            text.contains(
                "EV-046 a,b.json: case a was skipped:\n100% (waived by W-1: known (someone))"
            ),
            "{text}"
        );
        assert!(
            text.ends_with("rejected: 1 reason; `harness explain CODE` says what each means\n")
        );
    }

    #[test]
    fn workflow_commands_are_escaped() {
        let text = shown(VerifyFormat::Github);
        assert!(
            text.contains(
                "::warning file=results/platform-tests/a%2Cb.json,title=EV-046::case a was skipped:%0A100%25\n"
            ),
            "{text}"
        );
        assert!(text.ends_with("::notice title=evidence::rejected\n"));
    }

    #[test]
    fn json_is_the_report() {
        let value: serde_json::Value = serde_json::from_str(&shown(VerifyFormat::Json)).unwrap();
        assert_eq!(value["accepted"], false);
        assert_eq!(value["findings"][1]["waived"], "W-1: known (someone)");
    }
}
