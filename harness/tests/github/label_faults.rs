//! `harness label` where GitHub, the network or the command line is at fault.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::label::{engine, fault, harness, label, labelled, refused};
use crate::support::{Fault, Github, State};

fn status(status: u16, headers: &[(&'static str, &str)], message: &'static str) -> Fault {
    let headers = headers
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    Fault::Status(status, headers.collect(), message)
}

#[test]
fn the_missing_permission_is_named() {
    for (lacks, permission) in [
        ("pull_requests=read", "pull-requests: read"),
        ("contents=read", "contents: read"),
        ("issues=write", "issues: write` or `pull-requests: write"),
    ] {
        let github = Github::start(State {
            lacks: vec![lacks],
            ..engine()
        });
        let error = refused(label(&github, &[]), 7);
        let part = format!("the token lacks the permission `{permission}`");
        assert!(error.contains(&part), "{error}");
    }
    let github = Github::start(engine());
    let arguments = ["label", "--repo", "o/r", "--pr", "7"];
    let none = harness(&github, &arguments, &[("GITHUB_TOKEN", "")]);
    assert!(refused(none, 2).contains("there is no token: set GITHUB_TOKEN"));
    let bad = harness(&github, &arguments, &[("GITHUB_TOKEN", "other")]);
    assert!(refused(bad, 7).contains("the token is not valid, or has expired"));
}

#[test]
fn what_passes_is_tried_again_within_the_time_limit() {
    let github = Github::start(engine());
    fault(&github, "/pulls/7/files", status(502, &[], "Server Error"));
    fault(&github, "/pulls/7/files", Fault::Hangs);
    fault(&github, "POST /repos/o/r/labels", Fault::Lost);
    fault(
        &github,
        "POST /repos/o/r/issues",
        status(
            403,
            &[("retry-after", "1")],
            "You have exceeded a secondary rate limit",
        ),
    );
    fault(
        &github,
        "POST /repos/o/r/issues",
        status(429, &[("retry-after", "0")], "Too many requests"),
    );
    let began = Instant::now();
    let run = labelled(&github);
    assert!(began.elapsed() >= Duration::from_secs(4));
    assert!(
        run.error
            .contains("note: a rate limit of GitHub asks to wait 1 s"),
        "{}",
        run.error
    );
    assert_eq!(github.state().on_pull, ["needs-mac-m4"]);

    fault(
        &github,
        "/pulls/7",
        status(
            403,
            &[
                ("x-ratelimit-remaining", "0"),
                ("x-ratelimit-reset", "99999999999"),
            ],
            "API rate limit exceeded",
        ),
    );
    let error = refused(label(&github, &[]), 7);
    assert!(error.contains("a rate limit asks to wait"), "{error}");
    for _ in 0..9 {
        fault(&github, "/pulls/7", Fault::Hangs);
    }
    let began = Instant::now();
    let error = refused(label(&github, &[]), 7);
    assert!(error.contains("no answer within 3.0 s"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(40));
}

#[test]
fn refusals_and_things_that_are_not_there_are_told_apart() {
    let github = Github::start(engine());
    fault(
        &github,
        "POST /repos/o/r/issues",
        status(422, &[], "Validation Failed"),
    );
    let error = refused(label(&github, &[]), 7);
    assert!(
        error.contains("GitHub refuses it (422): Validation Failed"),
        "{error}"
    );
    for broken in [Fault::Garbled, Fault::Cut] {
        fault(&github, "GET /repos/o/r/pulls/7", broken);
    }
    let error = refused(label(&github, &[]), 7);
    assert!(
        error.contains("the answer is not what GitHub documents"),
        "{error}"
    );
    fault(&github, "GET /repos/o/r/pulls/7", Fault::Huge);
    let error = refused(label(&github, &[]), 7);
    assert!(error.contains("it has more than 64 MiB"), "{error}");
    assert_eq!(label(&github, &[]).status, 0);
    github.state().number = 9;
    let error = refused(label(&github, &[]), 7);
    assert!(
        error.contains(
            "cannot read pull request #7 of o/r: there is none, or the token does not see it"
        ),
        "{error}"
    );
    fault(
        &github,
        "GET",
        status(301, &[("location", "https://elsewhere.example/")], "Moved"),
    );
    let error = refused(label(&github, &[]), 7);
    assert!(
        error.contains("another host, and the token does not go there"),
        "{error}"
    );
}

#[test]
fn a_command_line_that_makes_no_sense_asks_nothing_of_github() {
    let github = Github::start(engine());
    for (arguments, part) in [
        (
            &["label", "--repo", "o", "--pr", "7"][..],
            "`o` is no repository",
        ),
        (&["label", "--repo", "o/r"], "--pr"),
        (&["label", "--repo", "o/r", "--pr", "0"], "--pr"),
    ] {
        let error = refused(harness(&github, arguments, &[]), 2);
        assert!(error.contains(part), "{error}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_harness"))
        .args([
            "label",
            "--repo",
            "o/r",
            "--pr",
            "7",
            "--api-base",
            "http://ghe.example/api/v3",
        ])
        .env("GITHUB_TOKEN", "x")
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        error.contains("the token would travel in the clear"),
        "{error}"
    );
    assert!(github.state().log.is_empty());
}
