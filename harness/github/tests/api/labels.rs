//! What becomes of labels.

use kakeya_github::{
    Change, GithubError, LabelPolicy, LabelReport, LabelRequest, PullRequestEvent, label,
};

use super::support::{Github, RepoLabel, State};
use super::{patience, repo, run, run_on, with};

fn file(path: &str) -> (String, Option<String>) {
    (path.to_owned(), None)
}

fn changes(report: &LabelReport) -> Vec<(&str, Change)> {
    report
        .labels
        .iter()
        .map(|label| (label.name.as_str(), label.change))
        .collect()
}

fn mac() -> RepoLabel {
    RepoLabel {
        name: "Needs-Mac-M4".to_owned(),
        color: "000000".to_owned(),
        description: String::new(),
    }
}

#[test]
fn a_label_is_created_added_kept_and_removed_and_others_are_left_alone() {
    let github = Github::start(State {
        files: vec![file("engine/a.rs"), file("README.md")],
        on_pull: vec!["bug".to_owned()],
        ..State::default()
    });
    let report = run(&github).unwrap();
    assert_eq!(
        changes(&report),
        [
            ("needs-mac-m4", Change::Created),
            ("needs-cuda", Change::Kept)
        ]
    );
    assert_eq!(
        report.labels[0].to_string(),
        "created and added needs-mac-m4: engine/a.rs matches engine/**"
    );
    assert_eq!(report.labels[1].to_string(), "not needed: needs-cuda");
    assert_eq!(report.files, 2);
    let made = github.state().labels[0].clone();
    assert_eq!(
        (made.color.as_str(), made.description.as_str()),
        ("5319e7", "Needs the mac")
    );
    assert_eq!(github.state().on_pull, ["bug", "needs-mac-m4"]);

    let again = run(&github).unwrap();
    assert_eq!(again.labels[0].change, Change::Kept);
    assert!(
        again.labels[0]
            .to_string()
            .starts_with("kept needs-mac-m4: ")
    );

    github.state().files = vec![file("cuda/x.cu")];
    let other = run(&github).unwrap();
    assert_eq!(
        changes(&other),
        [
            ("needs-mac-m4", Change::Removed),
            ("needs-cuda", Change::Created)
        ]
    );
    assert_eq!(
        other.labels[0].to_string(),
        "removed needs-mac-m4: no file needs it"
    );
    assert_eq!(github.state().on_pull, ["bug", "needs-cuda"]);
    // One label at a time, never all of them.
    assert_eq!(github.count("PUT "), 0);
}

#[test]
fn capitals_do_not_make_another_label() {
    let github = Github::start(State {
        files: vec![file("engine/a.rs")],
        labels: vec![mac()],
        ..State::default()
    });
    let report = run(&github).unwrap();
    assert_eq!(report.labels[0].change, Change::Added);
    assert!(
        report.labels[0]
            .to_string()
            .starts_with("added needs-mac-m4: ")
    );
    assert_eq!(github.state().labels.len(), 1);
    github.state().on_pull = vec!["NEEDS-MAC-M4".to_owned()];
    assert_eq!(run(&github).unwrap().labels[0].change, Change::Kept);
}

#[test]
fn every_page_counts_and_so_do_previous_names() {
    let mut files: Vec<_> = (0..250).map(|n| file(&format!("docs/{n}.md"))).collect();
    files.push(("docs/new.md".to_owned(), Some("engine/old.rs".to_owned())));
    let github = Github::start(State {
        files,
        ..State::default()
    });
    let report = run(&github).unwrap();
    assert_eq!(report.files, 251);
    assert_eq!(
        report.labels[0].reason.as_ref().unwrap().to_string(),
        "engine/old.rs (its previous name) matches engine/**"
    );
    assert_eq!(report.labels[1].reason, None);
    assert_eq!(github.count("/pulls/7/files"), 3);
}

#[test]
fn whatever_is_in_doubt_needs_every_label() {
    let docs = |count: usize| {
        (0..count)
            .map(|n| file(&format!("docs/{n}.md")))
            .collect::<Vec<_>>()
    };
    for (state, part) in [
        (
            State {
                files: docs(3000),
                ..State::default()
            },
            "no more than 3000 files",
        ),
        (
            State {
                files: docs(3100),
                ..State::default()
            },
            "no more than 3000 files",
        ),
        (
            State {
                files: docs(5),
                told: Some(6),
                ..State::default()
            },
            "GitHub lists 5 files, and the pull request has 6",
        ),
        (
            State {
                files: docs(5),
                endless: true,
                ..State::default()
            },
            "has no end",
        ),
    ] {
        let github = Github::start(state);
        let report = run(&github).unwrap();
        for label in &report.labels {
            let why = label.reason.as_ref().unwrap().to_string();
            assert!(why.contains(part), "{why}");
        }
        assert_eq!(github.state().on_pull.len(), 2);
        assert!(github.count("/pulls/7/files") <= 31);
    }
}

#[test]
fn a_push_meanwhile_is_read_again_and_a_head_that_never_settles_needs_all() {
    let state = |pushes: &[&str]| State {
        files: vec![file("docs/a.md")],
        pushes: pushes.iter().map(|push| (*push).to_owned()).collect(),
        ..State::default()
    };
    let github = Github::start(state(&["b"]));
    let report = run(&github).unwrap();
    assert_eq!(github.count("/pulls/7/files"), 2);
    assert_eq!(report.labels[0].reason, None);

    let github = Github::start(state(&["b", "c", "d"]));
    let report = run(&github).unwrap();
    let why = report.labels[0].reason.as_ref().unwrap().to_string();
    assert!(why.contains("again and again"), "{why}");
}

#[test]
fn a_base_that_changes_meanwhile_is_read_again() {
    let github = Github::start(State {
        files: vec![file("engine/a.rs")],
        pushes: ["base:release".to_owned()].into(),
        ..State::default()
    });
    run(&github).unwrap();
    assert_eq!(github.count("/pulls/7/files"), 2);
    assert_eq!(github.count("ref=release"), 1);
}

#[test]
fn a_label_that_is_refused_and_a_warning_that_cannot_be_told_hold_nothing_up() {
    let refused = |at: &str| {
        let why = super::support::Fault::Status(422, Vec::new(), "Validation Failed");
        (at.to_owned(), why)
    };
    let github = Github::start(State {
        files: vec![file("engine/a.rs"), file("cuda/a.cu")],
        faults: [
            refused("POST /repos/o/r/issues/7/labels"),
            refused("/git/trees/"),
        ]
        .into(),
        ..State::default()
    });
    let error = run(&github).unwrap_err().to_string();
    assert!(error.contains("Validation Failed"), "{error}");
    assert_eq!(github.state().on_pull, ["needs-cuda"]);

    github.state().faults.push_back(refused("/git/trees/"));
    let report = run(&github).unwrap();
    assert_eq!(github.state().on_pull, ["needs-cuda", "needs-mac-m4"]);
    assert!(report.warnings.is_empty());
    assert!(
        report.notes[0].starts_with("globs that match nothing are not looked for"),
        "{:?}",
        report.notes
    );
}

#[test]
fn a_closed_pull_request_is_left_alone() {
    for state in [
        State {
            open: false,
            ..State::default()
        },
        State {
            pushes: ["closed".to_owned()].into(),
            ..State::default()
        },
        State {
            pushes: ["b", "c", "closed"].map(str::to_owned).into(),
            ..State::default()
        },
    ] {
        let github = Github::start(state);
        let report = run(&github).unwrap();
        assert_eq!(
            report.notes,
            ["pull request #7 is closed, so nothing is changed"]
        );
        assert_eq!(github.count("POST") + github.count("DELETE"), 0);
    }
}

#[test]
fn a_renamed_repository_is_followed_for_reading_and_for_writing() {
    let github = Github::start(State {
        repo: "o/new".to_owned(),
        former: Some("o/r".to_owned()),
        files: vec![file("engine/a.rs")],
        ..State::default()
    });
    let report = run(&github).unwrap();
    assert_eq!(report.notes, ["o/r is called o/new now"]);
    assert_eq!(github.state().on_pull, ["needs-mac-m4"]);
}

#[test]
fn an_enterprise_base_has_a_path() {
    let github = Github::start(State {
        prefix: "/api/v3",
        files: vec![file("engine/a.rs")],
        ..State::default()
    });
    assert_eq!(run(&github).unwrap().labels[0].change, Change::Created);
    assert!(
        github.count("GET /api/v3/repos/o/r/pulls/7") > 0
            || github.count("/api/v3/repos/o/r/pulls/7") > 0
    );
}

#[test]
fn a_policy_is_that_of_the_base_branch_and_must_be_there_and_right() {
    let github = Github::start(State {
        policy: None,
        base: "release/1.x".to_owned(),
        ..State::default()
    });
    let missing = run(&github).unwrap_err();
    assert!(matches!(missing, GithubError::NoPolicy { .. }));
    let text = missing.to_string();
    assert!(
        text.starts_with("the base branch `release/1.x` has no gates/labels.toml"),
        "{text}"
    );
    github.state().policy = Some("label = 1".to_owned());
    let wrong = run(&github).unwrap_err().to_string();
    assert!(
        wrong.starts_with("gates/labels.toml of branch release/1.x is malformed"),
        "{wrong}"
    );
    assert!(github.count("ref=release%2F1.x") > 0);
}

#[test]
fn globs_that_match_nothing_are_warned_of_where_all_paths_are_known() {
    let state = |truncated| State {
        tree: vec!["engine/a.rs".to_owned()],
        tree_truncated: truncated,
        ..State::default()
    };
    let report = run(&Github::start(state(false))).unwrap();
    assert_eq!(
        report.warnings,
        ["label needs-cuda: the glob `cuda/**` matches no file of branch main, nor of this change"]
    );
    assert!(
        run(&Github::start(state(true)))
            .unwrap()
            .warnings
            .is_empty()
    );
}

fn with_event(github: &Github, event: &str, dry_run: bool) -> Result<LabelReport, GithubError> {
    let event = PullRequestEvent::parse(event, "event.json")?;
    let policy = LabelPolicy::parse(super::support::POLICY, "labels.toml")?;
    with(github, patience(), async |client| {
        let request = LabelRequest {
            repo: &repo("o/r"),
            number: 7,
            event: Some(&event),
            policy: Some(policy),
            dry_run,
        };
        label(client, request).await
    })
}

fn event(number: u64, head: &str, repository: &str) -> String {
    serde_json::json!({
        "pull_request": { "number": number, "head": { "sha": head } },
        "repository": { "full_name": repository },
    })
    .to_string()
}

#[test]
fn an_event_must_be_about_the_same_pull_request_and_may_be_old() {
    let github = Github::start(State {
        files: vec![file("engine/a.rs")],
        ..State::default()
    });
    let head = "a".repeat(40);
    let fresh = with_event(&github, &event(7, &head, "O/R"), false).unwrap();
    assert!(fresh.notes.is_empty());
    let old = with_event(&github, &event(7, "b", "o/r"), false).unwrap();
    assert!(
        old.notes[0].starts_with("pull request #7 was pushed to since the event: its head is aaa")
    );
    let other = with_event(&github, &event(8, &head, "o/r"), false).unwrap_err();
    assert_eq!(
        other.to_string(),
        "the event is of pull request #8, and --pr is 7"
    );
    let other = with_event(&github, &event(7, &head, "o/other"), false).unwrap_err();
    assert_eq!(
        other.to_string(),
        "the event is of the repository o/other, and --repo is o/r"
    );
}

#[test]
fn a_dry_run_changes_nothing() {
    let github = Github::start(State {
        files: vec![file("engine/a.rs")],
        on_pull: vec!["needs-cuda".to_owned()],
        ..State::default()
    });
    let report = with_event(&github, &event(7, "b", "o/r"), true).unwrap();
    assert_eq!(
        changes(&report),
        [
            ("needs-mac-m4", Change::Added),
            ("needs-cuda", Change::Removed)
        ]
    );
    assert_eq!(github.state().on_pull, ["needs-cuda"]);
    assert_eq!(github.count("POST") + github.count("DELETE"), 0);
}

#[test]
fn a_repository_or_pull_request_that_is_not_there_is_named() {
    let github = Github::start(State::default());
    let error = run_on(&github, patience(), &repo("o/none"))
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "cannot read the repository o/none: there is none, or the token does not see it (that takes `metadata: read`)"
    );
    github.state().number = 8;
    let error = run(&github).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot read pull request #7 of o/r: there is none"),
        "{error}"
    );
}
