//! Which lines a report says ran, and what is no report.

use std::path::Path;

use serde_json::{Value, json};

use super::{A, ROOT, file, function, lines, report};
use crate::coverage::report as reader;

/// How often each line of a file with these segments ran.
fn counts(segments: Value) -> Vec<(usize, u64)> {
    let report = report(&[file(A, segments)], &[]);
    let files = reader::read(&report, Path::new(ROOT)).unwrap();
    files[A].counts.clone().into_iter().collect()
}

fn error(report: &[u8]) -> String {
    let error = reader::read(report, Path::new(ROOT)).err().unwrap();
    error.to_string()
}

#[test]
fn a_count_holds_up_to_the_next_segment() {
    let segments = json!([[2, 5, 7, true, true, false], [5, 2, 0, false, false, false]]);
    assert_eq!(counts(segments), [(2, 7), (3, 7), (4, 7), (5, 7)]);
    assert_eq!(counts(json!([])), []);
}

#[test]
fn a_line_has_the_largest_of_its_counts() {
    let outer = json!([1, 1, 2, true, true, false]);
    let end = json!([3, 2, 0, false, false, false]);
    let larger = json!([[2, 5, 5, true, true, false], [2, 9, 2, true, false, false]]);
    let smaller = json!([[2, 5, 0, true, true, false], [2, 9, 2, true, false, false]]);
    assert_eq!(
        counts(json!([outer, larger[0], larger[1], end])),
        [(1, 2), (2, 5), (3, 2)]
    );
    assert_eq!(
        counts(json!([outer, smaller[0], smaller[1], end])),
        [(1, 2), (2, 2), (3, 2)]
    );
}

#[test]
fn lines_between_regions_and_skipped_ones_cannot_run() {
    let gap = json!([
        [1, 1, 3, true, true, false],
        [1, 9, 0, false, false, false],
        [3, 1, 0, true, true, false],
        [3, 9, 0, false, false, false]
    ]);
    assert_eq!(counts(gap), [(1, 3), (3, 0)]);
    let skipped = json!([
        [1, 1, 3, true, true, false],
        [2, 1, 0, false, true, false],
        [4, 1, 3, true, false, false],
        [5, 2, 0, false, false, false]
    ]);
    // Line 4 starts in what is skipped, and nothing begins on it.
    assert_eq!(counts(skipped), [(1, 3), (5, 3)]);
}

#[test]
fn the_count_of_a_gap_is_not_the_count_of_its_line() {
    let segments = json!([
        [1, 1, 3, true, true, false],
        [1, 9, 0, false, false, false],
        [2, 1, 4, true, true, true],
        [2, 9, 0, false, false, false]
    ]);
    assert_eq!(counts(segments), [(1, 3), (2, 0)]);
}

#[test]
fn what_is_no_report_is_an_error_that_says_what_was_found() {
    assert_eq!(
        error(b"lcov"),
        "the coverage report is not JSON, which `cargo llvm-cov --json` writes"
    );
    for (bytes, found) in [
        ("{}", "missing"),
        ("[]", "missing"),
        (r#"{"type": "lcov"}"#, r#""lcov""#),
    ] {
        assert_eq!(
            error(bytes.as_bytes()),
            format!("the coverage report's type is {found}, not \"llvm.coverage.json.export\"")
        );
    }
    assert_eq!(
        error(br#"{"type": "llvm.coverage.json.export"}"#),
        "the coverage report is not laid out as `cargo llvm-cov --json` writes it"
    );
}

#[test]
fn a_malformed_segment_is_an_error() {
    let first = json!([1, 1, 1, true, true, false]);
    for segment in [
        json!([1, 1, 1, true, true]),
        json!([1, 1, -1, true, true, false]),
        json!(7),
    ] {
        assert_eq!(
            error(&report(&[file(A, json!([first, segment]))], &[])),
            format!(
                "segment 1 of /checkout/core/src/a.rs is {segment}, not [line, column, count, has count, starts \
                 a region, is a gap]"
            )
        );
    }
    let back = json!([[2, 1, 1, true, true, false], first]);
    assert_eq!(
        error(&report(&[file(A, back)], &[])),
        "segment 1 of /checkout/core/src/a.rs starts before the one ahead of it, not after it"
    );
}

#[test]
fn what_contradicts_itself_is_an_error() {
    let mut summary = lines(A, &[1]);
    summary["summary"]["lines"]["covered"] = json!(10);
    assert_eq!(
        error(&report(&[summary], &[])),
        "the summary of /checkout/core/src/a.rs has 10 of 9 lines covered, not at most all"
    );
    assert_eq!(
        error(&report(&[lines(A, &[1]), lines(A, &[1])], &[])),
        "the coverage report has /checkout/core/src/a.rs twice, not once"
    );
    for (field, nothing) in [
        ("regions", json!([])),
        ("regions", json!([[1]])),
        ("filenames", json!([])),
    ] {
        let mut nowhere = function(A, 1, 1, 1);
        nowhere[field] = nothing;
        assert_eq!(
            error(&report(&[], &[nowhere])),
            "function _R1f has no file or no region [line, column, ...], and must have both"
        );
    }
}
