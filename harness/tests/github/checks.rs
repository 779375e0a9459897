//! `harness checks` as a workflow meets it: the real program, in a repository of its own, against a loopback server.

use std::fs;
use std::process::Command;

use kakeya_evidence::{Outcome, canonical};

use crate::repository::Repository;
use crate::support::{Fault, Github, State};

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

struct Run {
    status: i32,
    output: String,
    error: String,
}

fn checks(repository: &Repository, github: &Github, more: &[&str], in_actions: bool) -> Run {
    let summary = repository.root().join("summary.md");
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command
        .current_dir(repository.root())
        .args([
            "checks",
            "--repo",
            "o/r",
            "--sha",
            SHA,
            "--api-base",
            &github.base(),
        ])
        .args(["--time-limit", "30"])
        .args(more)
        .env("GITHUB_TOKEN", &github.state().token)
        .env("GITHUB_STEP_SUMMARY", &summary)
        .env("GITHUB_ACTIONS", if in_actions { "true" } else { "" });
    let output = command.output().unwrap();
    Run {
        status: output.status.code().unwrap(),
        output: String::from_utf8(output.stdout).unwrap(),
        error: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A repository whose only record has some cases that failed.
fn with_failures(count: usize) -> Repository {
    let repository = Repository::new();
    repository.write("src/b.rs", "// another tree\n");
    repository.commit("edit");
    let mut evidence = repository.evidence();
    let template = evidence.cases[0].clone();
    for number in 0..count {
        let mut case = template.clone();
        case.name = format!("broken_{number}");
        case.outcome = Outcome::Failed;
        case.message = Some("bits differ:\n100%".to_owned());
        evidence.cases.push(case);
    }
    canonical::seal(&mut evidence);
    repository.record_of(evidence);
    repository
}

#[test]
fn good_evidence_is_a_success_with_a_summary() {
    let (repository, github) = (Repository::new(), Github::start(State::default()));
    let run = checks(&repository, &github, &[], false);
    assert_eq!(run.status, 0, "{}{}", run.output, run.error);
    assert!(
        run.output
            .starts_with("check run 1 `kakeya evidence`: there is good evidence"),
        "{}",
        run.output
    );
    let check = github.state().checks[0].clone();
    assert_eq!(
        (&check["conclusion"], &check["head_sha"]),
        (&"success".into(), &SHA.into())
    );
    assert!(
        check["output"]["summary"]
            .as_str()
            .unwrap()
            .starts_with("## Evidence")
    );
    assert!(!repository.root().join("summary.md").exists());
}

#[test]
fn failed_cases_are_annotated_in_batches_at_their_lines() {
    let (repository, github) = (with_failures(120), Github::start(State::default()));
    let run = checks(&repository, &github, &[], true);
    assert_eq!(run.status, 1, "{}{}", run.output, run.error);
    let check = github.state().checks[0].clone();
    assert_eq!(
        (&check["status"], &check["conclusion"]),
        (&"completed".into(), &"failure".into())
    );
    let remarks = check["output"]["annotations"].as_array().unwrap();
    assert!(
        remarks.len() > 120 && github.count("PATCH") >= 2,
        "{}",
        remarks.len()
    );
    let title = "inv3::broken_119 failed";
    let remark = remarks
        .iter()
        .find(|remark| {
            remark["title"]
                .as_str()
                .unwrap()
                .ends_with("::broken_119 failed")
        })
        .unwrap_or_else(|| panic!("no {title}"));
    let path = remark["path"].as_str().unwrap();
    let line = remark["start_line"].as_u64().unwrap() as usize;
    let record = fs::read_to_string(repository.root().join(path)).unwrap();
    assert!(
        record
            .lines()
            .nth(line - 1)
            .unwrap()
            .contains("\"broken_119\"")
    );
    // The same for the job: its summary, and a line for each.
    let summary = fs::read_to_string(repository.root().join("summary.md")).unwrap();
    assert!(summary.starts_with("## Evidence"), "{summary}");
    let command = format!("::error file={path},line={line},title=");
    let said = run
        .output
        .lines()
        .find(|said| said.starts_with(&command))
        .unwrap();
    assert!(said.ends_with("bits differ:%0A100%25"), "{said}");
}

#[test]
fn a_dry_run_and_a_lack_of_permission_make_no_check_run() {
    let (repository, github) = (Repository::new(), Github::start(State::default()));
    let run = checks(&repository, &github, &["--dry-run"], false);
    assert_eq!(run.status, 0, "{}", run.error);
    assert!(
        run.output
            .starts_with("dry run, not made: check run `kakeya evidence` on 0123"),
        "{}",
        run.output
    );
    github.state().lacks = vec!["checks=write"];
    let run = checks(&repository, &github, &[], false);
    assert_eq!(run.status, 7, "{}", run.output);
    assert!(
        run.error
            .contains("the token lacks the permission `checks: write`"),
        "{}",
        run.error
    );
    assert!(github.state().checks.is_empty());
}

#[test]
fn a_check_run_whose_answer_was_lost_is_found_again() {
    let (repository, github) = (Repository::new(), Github::start(State::default()));
    github
        .state()
        .faults
        .push_back(("POST".to_owned(), Fault::Lost));
    let run = checks(&repository, &github, &[], false);
    assert_eq!(run.status, 0, "{}", run.error);
    assert_eq!(github.state().checks.len(), 1);
}

#[test]
fn a_commit_is_named_whole() {
    let (repository, github) = (Repository::new(), Github::start(State::default()));
    let run = checks(&repository, &github, &["--sha", "main"], false);
    assert_eq!(run.status, 2);
    assert!(
        run.error.contains("40 hexadecimal digits")
            || run.error.contains("cannot be used multiple times"),
        "{}",
        run.error
    );
}
