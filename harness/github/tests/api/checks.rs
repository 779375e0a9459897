//! What becomes of check runs.

use kakeya_github::{Annotation, BATCH, CheckRun, GithubError, Level, Made, SUMMARY, check};
use serde_json::Value;

use super::support::{Fault, Github, State};
use super::{patience, repo, with};

fn remark(number: usize) -> Annotation {
    Annotation {
        path: "results/a.json".to_owned(),
        start_line: number as u64 + 1,
        end_line: number as u64 + 1,
        annotation_level: [Level::Notice, Level::Warning, Level::Failure][number % 3],
        title: format!("EV-{number:03}"),
        message: "why".to_owned(),
    }
}

fn run_of(remarks: usize, success: bool) -> CheckRun {
    CheckRun {
        name: "kakeya evidence".to_owned(),
        sha: "a".repeat(40),
        external_id: "run-1".to_owned(),
        success,
        title: "title".to_owned(),
        summary: "s".repeat(SUMMARY + 5),
        annotations: (0..remarks).map(remark).collect(),
    }
}

fn make(github: &Github, run: &CheckRun) -> Result<Made, GithubError> {
    with(github, patience(), async |client| {
        check(client, &repo("o/r"), run).await
    })
}

fn annotations(check: &Value) -> Vec<u64> {
    let all = check["output"]["annotations"].as_array().unwrap();
    all.iter()
        .map(|one| one["start_line"].as_u64().unwrap())
        .collect()
}

#[test]
fn a_check_run_is_made_with_its_annotations_in_batches() {
    for (remarks, success) in [
        (0, true),
        (1, false),
        (BATCH, false),
        (BATCH * 2 + 20, false),
    ] {
        let github = Github::start(State::default());
        let made = make(&github, &run_of(remarks, success)).unwrap();
        assert_eq!(made.id, 1);
        assert!(made.url.unwrap().starts_with("https://github.com/"));
        let check = github.state().checks[0].clone();
        assert_eq!(check["status"], "completed");
        assert_eq!(
            check["conclusion"],
            if success { "success" } else { "failure" }
        );
        assert_eq!(annotations(&check), Vec::from_iter(1..=remarks as u64));
        assert_eq!(
            check["output"]["summary"].as_str().unwrap().chars().count(),
            SUMMARY
        );
        assert_eq!(
            github.count("PATCH"),
            remarks.div_ceil(BATCH).saturating_sub(1)
        );
    }
}

#[test]
fn a_verdict_is_not_there_before_its_last_annotation() {
    let github = Github::start(State::default());
    let refused = Fault::Status(410, Vec::new(), "Gone");
    github
        .state()
        .faults
        .push_back(("PATCH".to_owned(), refused));
    let error = make(&github, &run_of(BATCH + 1, true))
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "cannot add annotations to the check run `kakeya evidence`: GitHub refuses it (410): Gone"
    );
    assert_eq!(github.state().checks[0]["status"], "in_progress");
    assert!(github.state().checks[0]["conclusion"].is_null());
}

#[test]
fn what_was_done_though_its_answer_was_lost_is_not_done_twice() {
    let github = Github::start(State::default());
    for at in ["POST", "PATCH", "PATCH"] {
        github
            .state()
            .faults
            .push_back((at.to_owned(), Fault::Lost));
    }
    make(&github, &run_of(BATCH * 2 + 20, false)).unwrap();
    assert_eq!(github.state().checks.len(), 1);
    assert_eq!(
        annotations(&github.state().checks[0]),
        Vec::from_iter(1..=120)
    );
}

#[test]
fn what_was_not_done_is_done_again_and_not_for_ever() {
    let bad = || Fault::Status(502, Vec::new(), "Server Error");
    let github = Github::start(State::default());
    for at in ["POST", "PATCH"] {
        github.state().faults.push_back((at.to_owned(), bad()));
    }
    make(&github, &run_of(BATCH + 1, false)).unwrap();
    assert_eq!(annotations(&github.state().checks[0]).len(), BATCH + 1);
    assert_eq!((github.count("POST"), github.count("PATCH")), (2, 2));

    // A server that asks for time may have done it all the same, so it is looked for as well.
    let github = Github::start(State::default());
    let later = Fault::Status(503, vec![("retry-after", "1".to_owned())], "Unavailable");
    github.state().faults.push_back(("POST".to_owned(), later));
    make(&github, &run_of(1, false)).unwrap();
    assert_eq!(github.count("GET /repos/o/r/commits/"), 1);

    for at in ["POST", "PATCH"] {
        let github = Github::start(State::default());
        for _ in 0..3 {
            github.state().faults.push_back((at.to_owned(), bad()));
        }
        let error = make(&github, &run_of(BATCH + 1, false)).unwrap_err();
        assert!(matches!(error, GithubError::Unreachable { .. }), "{error}");
        assert_eq!(github.count(at), 3);
    }
}

#[test]
fn without_the_permission_there_is_no_check_run() {
    let github = Github::start(State {
        lacks: vec!["checks=write"],
        ..State::default()
    });
    let error = make(&github, &run_of(0, true)).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot create the check run `kakeya evidence`: the token lacks the permission `checks: write`"),
        "{error}"
    );
}
