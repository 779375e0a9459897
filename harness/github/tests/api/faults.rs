//! What the network and GitHub do to a request, and which permission is missing.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use kakeya_github::{ApiBase, Change, Client, GithubError, LabelRequest, Patience, label};

use super::support::{Fault, Github, State};
use super::{patience, run, run_with};

fn files() -> Vec<(String, Option<String>)> {
    vec![("engine/a.rs".to_owned(), None)]
}

/// A server with one file of the engine, on which these faults come.
fn faulty(faults: &[(&str, Fault)]) -> Github {
    Github::start(State {
        files: files(),
        faults: faults
            .iter()
            .map(|(at, fault)| ((*at).to_owned(), fault.clone()))
            .collect(),
        ..State::default()
    })
}

fn status(status: u16, headers: &[(&'static str, &str)], message: &'static str) -> Fault {
    let headers = headers
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    Fault::Status(status, headers.collect(), message)
}

#[test]
fn what_fails_by_chance_is_tried_again_and_writes_are_not_doubled() {
    let github = faulty(&[
        (
            "GET /repos/o/r/pulls/7/files",
            status(502, &[], "Server Error"),
        ),
        ("GET /repos/o/r/pulls/7/files", Fault::Hangs),
        ("POST /repos/o/r/labels", Fault::Lost),
        ("POST /repos/o/r/issues/7/labels", Fault::Lost),
    ]);
    let report = run(&github).unwrap();
    // The answer to its making was lost, so it was there when it was made again.
    assert_eq!(report.labels[0].change, Change::Added);
    assert_eq!(github.state().on_pull, ["needs-mac-m4"]);
    assert_eq!(github.state().labels.len(), 1);
    assert_eq!(github.count("GET /repos/o/r/pulls/7/files"), 3);

    github.state().files.clear();
    let lost = ("DELETE".to_owned(), Fault::Lost);
    github.state().faults.push_back(lost);
    // Gone when it is asked for again, which is as good.
    assert_eq!(run(&github).unwrap().labels[0].change, Change::Removed);
    assert!(github.state().on_pull.is_empty());
    assert_eq!(github.count("DELETE"), 2);
}

#[test]
fn retries_have_an_end() {
    let bad = || ("GET /repos/o/r/pulls/7", status(503, &[], "Unavailable"));
    let github = faulty(&[bad(), bad(), bad(), bad(), bad()]);
    let error = run(&github).unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot read pull request #7 of o/r: tried 4 times, the last time: status 503: Unavailable"
    );
    assert_eq!(github.count("GET /repos/o/r/pulls/7"), 4);
}

#[test]
fn the_total_time_is_capped() {
    let hang = || ("GET /repos/o/r/pulls/7", Fault::Hangs);
    let github = faulty(&[hang(), hang(), hang(), hang()]);
    let began = Instant::now();
    let short = Patience {
        request: Duration::from_millis(300),
        total: Duration::from_millis(700),
    };
    let error = run_with(&github, short).unwrap_err().to_string();
    assert!(error.contains("the time limit of 0 s is over"), "{error}");
    assert!(error.contains("no answer within"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
    // An attempt is not begun when there is no time for it.
    let none = Patience {
        request: Duration::ZERO,
        total: Duration::ZERO,
    };
    let error = run_with(&github, none).unwrap_err().to_string();
    assert!(error.contains("the last attempt: none was made"), "{error}");
}

#[test]
fn rate_limits_are_waited_for_where_there_is_time() {
    let github = faulty(&[
        (
            "/pulls/7",
            status(
                403,
                &[("retry-after", "1")],
                "You have exceeded a secondary rate limit.",
            ),
        ),
        (
            "/pulls/7",
            status(429, &[("retry-after", "0")], "Too many requests"),
        ),
        (
            "/labels",
            status(
                403,
                &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "5")],
                "API rate limit exceeded",
            ),
        ),
    ]);
    let began = Instant::now();
    assert_eq!(run(&github).unwrap().labels[0].change, Change::Created);
    assert!(began.elapsed() >= Duration::from_secs(1));

    let github = faulty(&[(
        "/pulls/7",
        status(403, &[("retry-after", "3600")], "secondary rate limit"),
    )]);
    let error = run(&github).unwrap_err().to_string();
    assert!(
        error.starts_with(
            "cannot read pull request #7 of o/r: a rate limit asks to wait 3600 s, and 19 s are left"
        ),
        "{error}"
    );
}

#[test]
fn a_limit_that_never_ends_is_not_hammered() {
    let again = || {
        (
            "/pulls/7",
            status(429, &[("retry-after", "0")], "Too many requests"),
        )
    };
    let github = faulty(&[again(), again(), again(), again()]);
    let short = Patience {
        total: Duration::from_secs(5),
        ..patience()
    };
    let error = run_with(&github, short).unwrap_err().to_string();
    // After a second, and two more, four do not fit any more.
    assert!(error.contains("a rate limit asks to wait 4 s"), "{error}");
    assert_eq!(github.count("/pulls/7"), 3);
}

#[test]
fn an_answer_that_is_too_long_is_read_once() {
    let github = faulty(&[("/pulls/7/files", Fault::Huge)]);
    let error = run(&github).unwrap_err().to_string();
    assert!(error.ends_with("it has more than 64 MiB"), "{error}");
    assert_eq!(github.count("/pulls/7/files"), 1);
}

#[test]
fn the_permission_that_is_missing_is_named() {
    for (lacks, part) in [
        (
            "pull_requests=read",
            "cannot read pull request #7 of o/r: the token lacks the permission `pull-requests: read`",
        ),
        (
            "contents=read",
            "cannot read gates/labels.toml of branch main: the token lacks the permission `contents: read`",
        ),
        (
            "issues=write",
            "cannot create the label needs-mac-m4: the token lacks the permission `issues: write` or `pull-requests: write`",
        ),
    ] {
        let github = Github::start(State {
            files: files(),
            lacks: vec![lacks],
            ..State::default()
        });
        let error = run(&github).unwrap_err().to_string();
        assert!(error.starts_with(part), "{error}");
        assert!(
            error.ends_with("Resource not accessible by integration"),
            "{error}"
        );
    }
    // Where GitHub does not say, what its documentation says.
    let github = faulty(&[(
        "POST /repos/o/r/issues/7/labels",
        status(403, &[], "Must have write access"),
    )]);
    let error = run(&github).unwrap_err().to_string();
    assert!(
        error.contains("the permission `pull-requests: write`: Must have"),
        "{error}"
    );
}

#[test]
fn a_token_that_is_bad_is_told_from_one_that_is_weak() {
    let github = Github::start(State::default());
    github
        .state()
        .faults
        .push_back(("GET".to_owned(), status(401, &[], "Bad credentials")));
    let error = run(&github).unwrap_err().to_string();
    assert!(
        error.contains("the token is not valid, or has expired: Bad credentials"),
        "{error}"
    );
    let base: ApiBase = github.base().parse().unwrap();
    for bad in ["", "with space", "line\nbreak"] {
        let error = Client::new(base.clone(), bad, patience()).err();
        assert_eq!(error, Some(GithubError::BadToken));
    }
}

#[test]
fn refusals_repeat_what_github_says() {
    let github = faulty(&[(
        "POST /repos/o/r/labels",
        status(422, &[], "Validation Failed"),
    )]);
    let error = run(&github).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot create the label needs-mac-m4: GitHub refuses it (422): "),
        "{error}"
    );
    let github = faulty(&[("/pulls/7", status(410, &[], "Gone"))]);
    let error = run(&github).unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot read pull request #7 of o/r: GitHub refuses it (410): Gone"
    );
    let github = faulty(&[("/pulls/7", Fault::Garbled)]);
    let error = run(&github).unwrap_err().to_string();
    assert!(error.contains("is not what GitHub documents"), "{error}");
}

#[test]
fn the_token_goes_to_no_other_host() {
    for (to, why) in [
        ("https://elsewhere.example/x", "which is another host"),
        ("/repos/o/r/pulls/7", "after it did so several times"),
    ] {
        let on = || ("/pulls/7", status(301, &[("location", to)], "Moved"));
        let github = faulty(&[on(), on(), on(), on()]);
        let error = run(&github).unwrap_err().to_string();
        assert!(error.contains(to) && error.contains(why), "{error}");
    }
    let github = faulty(&[(
        "/pulls/7",
        status(301, &[("location", "/not an address")], "Moved"),
    )]);
    let error = run(&github).unwrap_err().to_string();
    assert!(
        error.contains("is not what GitHub documents: invalid uri"),
        "{error}"
    );
    // To repeat a write as a read would do nothing, and look like success.
    let github = faulty(&[("POST", status(302, &[("location", "/x")], "Found"))]);
    let error = run(&github).unwrap_err().to_string();
    assert!(
        error.contains("with a status that changes nothing there"),
        "{error}"
    );
    let github = Github::start(State {
        files: files(),
        elsewhere: Some("https://elsewhere.example/next".to_owned()),
        ..State::default()
    });
    let error = run(&github).unwrap_err().to_string();
    assert!(
        error.contains("for the next page, which is another host"),
        "{error}"
    );
}

#[test]
fn a_server_that_is_not_there_is_unreachable() {
    let github = Github::start(State::default());
    // Nothing listens on a port that was just given back.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let error = runtime.block_on(async {
        let client = Client::new(
            nowhere.parse().unwrap(),
            &github.state().token.clone(),
            patience(),
        )
        .unwrap();
        let request = kakeya_github::LabelRequest {
            repo: &super::repo("o/r"),
            number: 7,
            event: None,
            policy: None,
            dry_run: false,
        };
        kakeya_github::label(&client, request)
            .await
            .unwrap_err()
            .to_string()
    });
    assert!(error.contains("tried 4 times"), "{error}");
}

#[test]
fn an_answer_that_breaks_off_is_tried_again() {
    let github = faulty(&[("GET /repos/o/r/pulls/7", Fault::Cut)]);
    assert_eq!(run(&github).unwrap().labels[0].change, Change::Created);
}

/// A server that promises more of an answer than it sends, each time.
fn broken_off() -> ApiBase {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let _ = socket.read(&mut [0; 4096]);
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{";
            let _ = socket.write_all(head.as_bytes());
        }
    });
    base.parse().unwrap()
}

#[test]
fn an_answer_that_breaks_off_is_tried_again_and_told() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let error = runtime.block_on(async {
        let client = Client::new(broken_off(), "token", patience()).unwrap();
        let request = LabelRequest {
            repo: &"o/r".parse().unwrap(),
            number: 7,
            event: None,
            policy: None,
            dry_run: true,
        };
        label(&client, request).await.unwrap_err().to_string()
    });
    assert!(error.contains("the answer broke off"), "{error}");
}
