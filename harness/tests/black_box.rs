//! The program as a user meets it. Nothing here needs a model: each test stops before one would be loaded.
#![cfg(feature = "engine")]

use std::path::Path;
use std::process::{Command, Output};

use kakeya_evidence::{Ending, Evidence, Holds, Outcome, canonical};

/// The checkout this test was built from.
fn root() -> &'static Path {
    // Cargo runs a test in the folder of its package.
    Path::new("..")
}

/// Runs the program in the checkout, with an empty model cache and the network forbidden.
fn harness(arguments: &[&str]) -> (i32, String, String) {
    harness_in(root(), arguments)
}

fn harness_in(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    let cache = tempfile::tempdir().unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_harness"))
        .current_dir(directory)
        .args(arguments)
        .env("HF_HOME", cache.path())
        .env_remove("HF_HUB_CACHE")
        .env_remove("HUGGINGFACE_HUB_CACHE")
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or_default()
}

fn files_in(directory: &Path) -> usize {
    std::fs::read_dir(directory).map_or(0, Iterator::count)
}

#[test]
fn list_shows_platforms_suites_and_cases_without_a_model() {
    let (status, text, _) = harness(&["list"]);
    assert_eq!(status, 0);
    for part in ["linux-cpu", "mac-m4", "linux-cuda", "inv3::"] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    let (status, json, _) = harness(&["list", "--suite", "inv3", "--format", "json"]);
    assert_eq!(status, 0);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["suites"][0]["id"], "inv3");
    assert!(json["suites"][0]["cases"].as_array().unwrap().len() > 1);
}

#[test]
fn names_nobody_knows_are_usage_errors_that_list_the_known_ones() {
    for arguments in [
        ["gate", "--platform", "linux-cpu", "--suite", "nope"].as_slice(),
        &["list", "--suite", "nope"],
    ] {
        let (status, _, error) = harness(arguments);
        assert_eq!(status, 2, "{error}");
        assert!(error.contains("unknown suite `nope`; known suites: "));
        assert!(error.contains("inv3"), "{error}");
    }
    let (status, _, error) = harness(&["doctor", "--platform", "atari"]);
    assert_eq!(status, 2);
    assert_eq!(
        error,
        "error: unknown platform `atari`; known platforms: linux-cpu, linux-cuda, mac-m4\n"
    );
}

#[test]
fn outside_a_checkout_the_program_says_where_it_looked() {
    let outside = tempfile::tempdir().unwrap();
    let (status, _, error) = harness_in(outside.path(), &["list"]);
    assert_eq!(status, 2);
    assert!(error.contains("run from inside the checkout"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_linux_host_is_not_a_mac_and_leaves_no_evidence_of_one() {
    let (status, text, _) = harness(&["doctor", "--platform", "mac-m4"]);
    assert_eq!(status, 3);
    assert!(
        text.contains("MISMATCH") && text.contains("Apple M4"),
        "{text}"
    );
    assert!(text.ends_with("this host is not mac-m4\n"), "{text}");

    let (status, json, _) = harness(&["doctor", "--platform", "mac-m4", "--format", "json"]);
    assert_eq!(status, 3);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(json["checks"][0]["found"], "linux");

    let out = tempfile::tempdir().unwrap();
    let path = out.path().to_str().unwrap();
    let (status, text, error) = harness(&["gate", "--platform", "mac-m4", "--out", path]);
    assert_eq!(status, 3);
    assert!(text.contains("MISMATCH"), "{text}");
    assert!(
        error.starts_with("error: this host is not mac-m4: "),
        "{error}"
    );
    assert_eq!(files_in(out.path()), 0);
}

#[test]
fn a_filter_that_matches_nothing_is_not_a_pass() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().to_str().unwrap();
    let (status, text, _) = harness(&[
        "gate",
        "--platform",
        "linux-cpu",
        "--case",
        "no_such_case",
        "--out",
        path,
    ]);
    assert_eq!(status, 5);
    assert!(text.contains("no case of the fast tier contains `no_such_case`"));
    assert_eq!(last_line(&text), "0 passed, 0 failed, 0 skipped");
    assert_eq!(files_in(out.path()), 0);
}

#[test]
fn a_missing_model_is_recorded_as_cases_that_did_not_run() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().to_str().unwrap();
    let (status, text, error) = harness(&[
        "gate",
        "--platform",
        "linux-cpu",
        "--suite",
        "inv3",
        "--out",
        path,
    ]);
    assert_eq!(status, 4, "{error}");
    assert!(error.contains("prewarm --model smollm2-135m"), "{error}");
    assert_eq!(files_in(out.path()), 2);
    let record = text
        .lines()
        .find_map(|line| line.strip_prefix("evidence: "))
        .unwrap();
    let evidence: Evidence = canonical::read(&std::fs::read(record).unwrap()).unwrap();
    assert_eq!(evidence.ending, Ending::NoModel);
    assert_eq!(evidence.exit_status, Some(4));
    assert_eq!(evidence.forward_passes, 0);
    assert!(evidence.selection.partial);
    assert!(!evidence.cases.is_empty());
    assert!(evidence.required.len() >= evidence.cases.len());
    assert!(
        evidence
            .cases
            .iter()
            .all(|case| case.outcome == Outcome::NotRun)
    );
    assert!(
        evidence
            .verdicts
            .iter()
            .all(|verdict| verdict.holds == Holds::Withheld)
    );
    let expected = format!("0 passed, {} failed, 0 skipped", evidence.cases.len());
    assert_eq!(last_line(&text), expected);
}
