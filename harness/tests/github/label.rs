//! `harness label` as a workflow meets it: the real program, against a loopback server that keeps the state of a
//! repository (`../github/tests/support`, which says what of it is true to GitHub).

use std::path::Path;
use std::process::Command;

use crate::support::{Fault, Github, RepoLabel, State};

/// How a run came out.
pub struct Run {
    pub status: i32,
    pub output: String,
    pub error: String,
}

pub fn harness(github: &Github, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command
        .args(arguments)
        .args([
            "--api-base",
            &github.base(),
            "--request-limit",
            "3",
            "--time-limit",
            "20",
        ])
        .env("GITHUB_TOKEN", &github.state().token)
        .env_remove("GITHUB_ACTIONS")
        .env_remove("GITHUB_REPOSITORY")
        .env_remove("GH_TOKEN");
    for (name, value) in variables {
        command.env(name, value);
    }
    let output = command.output().unwrap();
    Run {
        status: output.status.code().unwrap(),
        output: String::from_utf8(output.stdout).unwrap(),
        error: String::from_utf8(output.stderr).unwrap(),
    }
}

pub fn label(github: &Github, more: &[&str]) -> Run {
    let arguments = [&["label", "--repo", "o/r", "--pr", "7"], more].concat();
    harness(github, &arguments, &[])
}

pub fn labelled(github: &Github) -> Run {
    let run = label(github, &[]);
    assert_eq!(run.status, 0, "{}", run.error);
    run
}

/// The error of a run that ends with this status.
pub fn refused(run: Run, status: i32) -> String {
    assert_eq!(run.status, status, "{}{}", run.output, run.error);
    run.error
}

fn file(path: &str) -> (String, Option<String>) {
    (path.to_owned(), None)
}

pub fn engine() -> State {
    State {
        files: vec![file("engine/a.rs")],
        ..State::default()
    }
}

fn docs(count: usize) -> Vec<(String, Option<String>)> {
    (0..count).map(|n| file(&format!("docs/{n}.md"))).collect()
}

pub fn fault(github: &Github, at: &str, fault: Fault) {
    github.state().faults.push_back((at.to_owned(), fault));
}

#[test]
fn a_missing_label_is_created_with_colour_and_description_and_a_second_run_does_nothing() {
    let github = Github::start(engine());
    let run = labelled(&github);
    assert_eq!(
        run.output,
        "1 changed files\ncreated and added needs-mac-m4: engine/a.rs matches engine/**\nnot needed: needs-cuda\n"
    );
    let made = RepoLabel {
        name: "needs-mac-m4".to_owned(),
        color: "5319e7".to_owned(),
        description: "Needs the mac".to_owned(),
    };
    assert_eq!(github.state().labels, [made]);
    let before = github.count("POST");
    assert!(labelled(&github).output.contains("kept needs-mac-m4"));
    assert_eq!(github.count("POST"), before);
}

#[test]
fn a_label_that_is_no_longer_needed_goes_and_others_stay() {
    let github = Github::start(State {
        files: docs(2),
        on_pull: vec!["bug".to_owned(), "needs-cuda".to_owned()],
        ..State::default()
    });
    fault(&github, "DELETE", Fault::Lost);
    assert!(
        labelled(&github)
            .output
            .contains("removed needs-cuda: no file needs it")
    );
    assert_eq!(github.state().on_pull, ["bug"]);
}

#[test]
fn more_than_a_hundred_files_and_previous_names_count() {
    let mut files = docs(230);
    files.push(("docs/new.md".to_owned(), Some("engine/old.rs".to_owned())));
    let github = Github::start(State {
        files,
        ..State::default()
    });
    let run = labelled(&github);
    assert!(run.output.contains("231 changed files"), "{}", run.output);
    assert!(
        run.output
            .contains("engine/old.rs (its previous name) matches engine/**")
    );
    assert_eq!(github.count("/pulls/7/files"), 3);
}

#[test]
fn the_cap_of_files_and_a_count_that_disagrees_need_every_label() {
    let capped = Github::start(State {
        files: docs(3050),
        ..State::default()
    });
    let run = labelled(&capped);
    assert!(
        run.output.contains("GitHub lists no more than 3000 files"),
        "{}",
        run.output
    );
    assert_eq!(capped.state().on_pull, ["needs-mac-m4", "needs-cuda"]);
    let told = Github::start(State {
        files: docs(2),
        told: Some(3),
        ..State::default()
    });
    let run = labelled(&told);
    assert!(
        run.output
            .contains("GitHub lists 2 files, and the pull request has 3")
    );
    assert_eq!(told.state().on_pull.len(), 2);
}

#[test]
fn a_pull_request_that_is_closed_or_pushed_to_meanwhile() {
    let closed = Github::start(State {
        open: false,
        ..engine()
    });
    assert_eq!(
        labelled(&closed).output,
        "note: pull request #7 is closed, so nothing is changed\n"
    );
    let closing = Github::start(State {
        pushes: ["closed".to_owned()].into(),
        ..engine()
    });
    assert!(labelled(&closing).output.contains("is closed"));
    assert!(closing.state().on_pull.is_empty());
    let pushed = Github::start(State {
        pushes: ["b".repeat(40)].into(),
        ..engine()
    });
    assert!(
        labelled(&pushed)
            .output
            .contains("created and added needs-mac-m4")
    );
    assert_eq!(pushed.count("/pulls/7/files"), 2);
    let moving = Github::start(State {
        files: docs(1),
        pushes: ["b", "c", "d"].map(str::to_owned).into(),
        ..State::default()
    });
    assert!(
        labelled(&moving)
            .output
            .contains("pushed to again and again")
    );
    assert_eq!(moving.state().on_pull.len(), 2);
}

fn event(directory: &Path, text: &str) -> String {
    let path = directory.join("event.json");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// An event as GitHub records it, cut to what its documentation shows of such a delivery.
fn recorded(head: &str) -> String {
    include_str!("data/pull_request_target.json").replace("HEAD_SHA", head)
}

#[test]
fn an_event_names_the_pull_request_and_events_of_other_kinds_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let github = Github::start(engine());
    let path = event(folder.path(), &recorded(&"a".repeat(40)));
    let with_event = |more: &[&str]| {
        let arguments = [&["label", "--repo", "o/r", "--event-path", &path], more].concat();
        harness(&github, &arguments, &[])
    };
    let run = with_event(&[]);
    assert_eq!(run.status, 0, "{}", run.error);
    assert!(!run.output.contains("note:"), "{}", run.output);
    let other = refused(with_event(&["--pr", "8"]), 2);
    assert_eq!(
        other,
        "error: the event is of pull request #7, and --pr is 8\n"
    );

    event(folder.path(), &recorded(&"b".repeat(40)));
    let run = with_event(&["--pr", "7"]);
    assert!(
        run.output.contains("was pushed to since the event"),
        "{}",
        run.output
    );

    event(
        folder.path(),
        r#"{"ref": "refs/heads/main", "commits": []}"#,
    );
    let push = refused(with_event(&[]), 2);
    assert!(
        push.contains("is an event of another kind (push)"),
        "{push}"
    );
    event(folder.path(), "");
    assert!(refused(with_event(&[]), 2).contains("is no event"));
    std::fs::remove_file(&path).unwrap();
    assert!(refused(with_event(&[]), 2).contains("cannot read "));
}

#[test]
fn a_renamed_repository_and_an_enterprise_base() {
    let github = Github::start(State {
        repo: "o/new".to_owned(),
        former: Some("o/r".to_owned()),
        prefix: "/api/v3",
        ..engine()
    });
    let run = labelled(&github);
    assert!(
        run.output.starts_with("note: o/r is called o/new now\n"),
        "{}",
        run.output
    );
    assert_eq!(github.state().on_pull, ["needs-mac-m4"]);
}

#[test]
fn globs_that_match_nothing_are_warned_of_in_the_form_that_is_read() {
    let github = Github::start(State {
        tree: vec!["engine/a.rs".to_owned()],
        ..engine()
    });
    let said =
        "label needs-cuda: the glob `cuda/**` matches no file of branch main, nor of this change";
    assert!(
        labelled(&github)
            .output
            .contains(&format!("warning: {said}\n"))
    );
    let arguments = ["label", "--repo", "o/r", "--pr", "7"];
    let run = harness(&github, &arguments, &[("GITHUB_ACTIONS", "true")]);
    assert!(
        run.output
            .contains(&format!("::warning title=labels::{said}\n")),
        "{}",
        run.output
    );
}

#[test]
fn no_file_name_is_a_command_to_the_workflow() {
    let names = [
        "engine/a\n::error title=Mine::by a fork\nx",
        "engine/##[error]mine",
        "engine/a\r::stop-commands::x",
    ];
    for name in names {
        let github = Github::start(State {
            files: vec![file(name)],
            ..State::default()
        });
        let arguments = ["label", "--repo", "o/r", "--pr", "7"];
        let run = harness(&github, &arguments, &[("GITHUB_ACTIONS", "true")]);
        assert_eq!(run.status, 0, "{}", run.error);
        assert!(
            run.output
                .contains("created and added needs-mac-m4: engine/"),
            "{}",
            run.output
        );
        for line in run.output.split(['\n', '\r']).chain(run.error.lines()) {
            let is_command = line.trim_start().starts_with("::") || line.contains("##[");
            assert!(!is_command, "{line}");
        }
    }
    // What GitHub says is not ours either.
    let message = "no\n::error title=Mine::by another\n##[warning]mine";
    let github = Github::start(State {
        faults: [("GET".to_owned(), Fault::Status(422, Vec::new(), message))].into(),
        ..engine()
    });
    let arguments = ["label", "--repo", "o/r", "--pr", "7"];
    let error = harness(&github, &arguments, &[("GITHUB_ACTIONS", "true")]).error;
    assert!(error.contains("by another"), "{error}");
    assert!(
        !error.lines().any(|line| line.starts_with("::")) && !error.contains("##["),
        "{error}"
    );
}

#[test]
fn a_base_branch_without_policy_is_named_and_a_file_can_stand_in() {
    let github = Github::start(State {
        policy: None,
        base: "release/1.x".to_owned(),
        ..engine()
    });
    let error = refused(label(&github, &[]), 2);
    assert!(
        error.contains("the base branch `release/1.x` has no gates/labels.toml"),
        "{error}"
    );
    assert_eq!(github.count("POST"), 0);
    let run = label(&github, &["--labels", "../gates/labels.toml", "--dry-run"]);
    assert_eq!(run.status, 0, "{}", run.error);
    assert!(
        run.output.contains("not needed: needs-cuda"),
        "{}",
        run.output
    );
    let none = refused(label(&github, &["--labels", "none.toml"]), 2);
    assert!(none.contains("cannot read none.toml"), "{none}");
}

#[test]
fn a_dry_run_says_what_it_would_do() {
    let github = Github::start(engine());
    let run = label(&github, &["--dry-run"]);
    assert!(
        run.output.contains("dry run, not done: added needs-mac-m4"),
        "{}",
        run.output
    );
    assert_eq!(github.count("POST"), 0);
}
