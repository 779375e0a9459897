//! What a report is judged to be. The reports are as small as a rule needs.

mod format;

use serde_json::{Value, json};

use super::*;

const ROOT: &str = "/checkout";
const A: &str = "core/src/a.rs";

/// A report of files and functions, as `cargo llvm-cov --json` writes it.
fn report(files: &[Value], functions: &[Value]) -> Vec<u8> {
    json!({
        "type": "llvm.coverage.json.export",
        "version": "3.1.0",
        "data": [{ "files": files, "functions": functions, "totals": {} }],
    })
    .to_string()
    .into_bytes()
}

/// A file with these segments; all its lines ran, as far as its summary goes.
fn file(name: &str, segments: Value) -> Value {
    let lines = json!({ "count": 9, "covered": 9, "percent": 100.0 });
    json!({ "filename": format!("{ROOT}/{name}"), "segments": segments, "summary": { "lines": lines } })
}

/// A file with one region a line, from line 1.
fn lines(name: &str, counts: &[u64]) -> Value {
    let segments = counts.iter().zip(1..).flat_map(|(count, line)| {
        [
            json!([line, 1, count, true, true, false]),
            json!([line, 9, 0, false, false, false]),
        ]
    });
    file(name, segments.collect())
}

fn function(name: &str, line: u64, column: u64, count: u64) -> Value {
    json!({
        "name": "_R1f",
        "count": count,
        "filenames": [format!("{ROOT}/{name}")],
        "regions": [[line, column, line, 80, count, 0, 0, 0]],
    })
}

fn module(path: &str, lines: f64, excuses: &[(&str, &str, &str)]) -> CoveredModule {
    let excuse = |&(file, line, reason): &(&str, &str, &str)| Excuse {
        file: file.to_owned(),
        line: line.to_owned(),
        reason: reason.to_owned(),
    };
    CoveredModule {
        path: path.to_owned(),
        lines,
        excuse: excuses.iter().map(excuse).collect(),
    }
}

fn judge(report: &[u8], modules: &[CoveredModule]) -> Outcome {
    let policy = CoveragePolicy {
        module: modules.to_vec(),
    };
    let source = |file: &str| {
        let there = [A, "core/src/b.rs"].contains(&file);
        there.then(|| "fn one() {}\n    panic!()\n\n    panic!()\n}\n".to_owned())
    };
    measure(report, Path::new(ROOT), &policy, &source).unwrap()
}

/// What is wrong when all of `core/src` has to run, apart from these excuses.
fn problems(report: &[u8], excuses: &[(&str, &str, &str)]) -> Vec<String> {
    let outcome = judge(report, &[module("core/src", 100.0, excuses)]);
    outcome.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_function_that_never_ran_uncovers_its_first_line() {
    let ran = lines(A, &[1, 1]);
    let closure = function(A, 2, 20, 0);
    assert_eq!(
        problems(&report(&[ran], &[function(A, 1, 1, 1), closure]), &[]),
        [
            "core/src/a.rs:2: not covered: `panic!()`",
            "core/src: 1 of 2 lines ran and 0 are excused, which is less than 100%",
        ]
    );
}

#[test]
fn a_generic_function_ran_if_one_instance_did() {
    for order in [[0, 4], [4, 0]] {
        let instances = order.map(|count| function(A, 2, 20, count));
        assert!(problems(&report(&[lines(A, &[1, 1])], &instances), &[]).is_empty());
    }
}

#[test]
fn a_summary_that_counts_more_uncovered_lines_is_a_problem() {
    let mut file = lines(A, &[1, 0]);
    file["summary"]["lines"]["covered"] = json!(7);
    let bytes = report(&[file.clone()], &[]);
    let excuse = (A, "panic!()", "so");
    assert_eq!(
        problems(&bytes, &[excuse]),
        [
            "core/src/a.rs: its summary counts 1 more uncovered, on lines that ran in part",
            "core/src: 0 of 2 lines ran and 1 are excused, which is less than 100%",
        ]
    );
    assert_eq!(
        problems(&bytes, &[]),
        [
            "core/src/a.rs:2: not covered: `panic!()`",
            "core/src: 1 of 2 lines ran and 0 are excused, which is less than 100%",
        ]
    );
    file["summary"]["lines"]["covered"] = json!(8);
    assert!(problems(&report(&[file], &[]), &[excuse]).is_empty());
}

#[test]
fn the_record_has_the_modules_in_the_order_of_the_policy() {
    let bytes = report(
        &[
            lines("proto/build.rs", &[1]),
            lines("core/src/b.rs", &[2, 0, 2, 2, 0]),
            lines("core/src/empty.rs", &[]),
            lines(A, &[1, 0, 1]),
            lines("core/srcs/other.rs", &[0]),
        ],
        &[],
    );
    let excuses = [(A, "panic!()", "so")];
    let outcome = judge(
        &bytes,
        &[
            module("proto/", 100.0, &[]),
            module("core/src", 75.0, &excuses),
        ],
    );
    assert_eq!(outcome.problems, []);
    let module = |path: &str, files, lines, covered, excused| ModuleCoverage {
        path: path.to_owned(),
        files,
        lines,
        covered,
        excused,
    };
    assert_eq!(
        outcome.coverage,
        Coverage {
            report_sha256: hex::sha256(&bytes),
            modules: vec![module("proto/", 1, 1, 1, 0), module("core/src", 2, 8, 5, 1)],
        }
    );
}

#[test]
fn a_file_can_be_a_module() {
    let bytes = report(&[lines(A, &[1])], &[]);
    assert_eq!(judge(&bytes, &[module(A, 100.0, &[])]).problems, []);
}

#[test]
fn lines_are_named_where_the_share_is_too_small() {
    let bytes = report(&[lines(A, &[1, 0, 1, 0])], &[]);
    let found = |wanted| {
        judge(&bytes, &[module("core/src", wanted, &[])])
            .problems
            .len()
    };
    assert_eq!(found(50.0), 0);
    assert_eq!(found(50.1), 3);
    assert_eq!(found(f64::NAN), 3);
}

#[test]
fn a_line_of_a_source_that_cannot_be_read_has_its_number() {
    let bytes = report(&[lines("core/src/gone.rs", &[0])], &[]);
    assert_eq!(problems(&bytes, &[])[0], "core/src/gone.rs:1: not covered");
    let bytes = report(&[file(A, json!([[0, 1, 0, true, true, false]]))], &[]);
    assert_eq!(problems(&bytes, &[])[0], "core/src/a.rs:0: not covered");
    let bytes = report(&[lines(A, &[1, 1, 1, 1, 1, 0])], &[]);
    assert_eq!(problems(&bytes, &[])[0], "core/src/a.rs:6: not covered");
}

#[test]
fn files_outside_the_checkout_are_of_no_module() {
    let mut outside = lines(A, &[1]);
    outside["filename"] = json!("/elsewhere/core/src/a.rs");
    let bytes = report(&[outside], &[]);
    assert_eq!(
        problems(&bytes, &[]),
        ["core/src: the report has no line of it"]
    );
}

#[test]
fn an_empty_report_covers_nothing() {
    assert_eq!(
        problems(&report(&[], &[]), &[]),
        ["core/src: the report has no line of it"]
    );
    assert_eq!(
        problems(&report(&[lines(A, &[])], &[]), &[]),
        ["core/src: the report has no line of it"]
    );
}

#[test]
fn a_policy_without_modules_is_a_problem() {
    let outcome = judge(&report(&[lines(A, &[1])], &[]), &[]);
    assert_eq!(
        outcome.problems[0].to_string(),
        "the policy names no module, and must name one at least"
    );
}

#[test]
fn an_excuse_is_for_one_line() {
    let bytes = report(&[lines(A, &[1, 0, 1, 0])], &[]);
    let excuse = (A, "panic!()", "so");
    assert_eq!(problems(&bytes, &[excuse, excuse]), [""; 0]);
    assert_eq!(
        problems(&bytes, &[excuse]),
        [
            "core/src/a.rs:4: not covered: `panic!()`",
            "core/src: 2 of 4 lines ran and 1 are excused, which is less than 100%",
        ]
    );
}

#[test]
fn an_excuse_is_for_one_file() {
    let bytes = report(&[lines(A, &[1, 0]), lines("core/src/b.rs", &[1, 1])], &[]);
    let problems = problems(&bytes, &[("core/src/b.rs", "panic!()", "so")]);
    assert_eq!(problems.len(), 3);
    assert_eq!(problems[1], "core/src/a.rs:2: not covered: `panic!()`");
}

#[test]
fn an_excuse_gives_a_reason() {
    let bytes = report(&[lines(A, &[1, 0])], &[]);
    assert_eq!(
        problems(&bytes, &[(A, "panic!()", " ")]),
        [
            "core/src/a.rs: the excuse for `panic!()` gives no reason",
            "core/src/a.rs:2: not covered: `panic!()`",
            "core/src: 1 of 2 lines ran and 0 are excused, which is less than 100%",
        ]
    );
}

#[test]
fn an_excuse_that_excuses_nothing_is_a_problem() {
    let bytes = report(&[lines(A, &[1, 1])], &[]);
    for (file, line, why) in [
        (
            A,
            "panic!()",
            "each such line ran, cannot run, or has an excuse already",
        ),
        (A, " panic!()", "the file has no such line"),
        (
            "core/src/b.rs",
            "panic!()",
            "the report does not have the file",
        ),
        ("core/src/c.rs", "panic!()", "there is no such file"),
        ("core/b.rs", "panic!()", "the file is not of its module"),
    ] {
        assert_eq!(
            problems(&bytes, &[(file, line, "so")]),
            [format!(
                "{file}: the excuse for `{line}` excuses nothing: {why}"
            )]
        );
    }
}

#[test]
fn the_table_has_every_file_and_those_with_nothing_to_run() {
    let bytes = report(&[lines(A, &[1, 0, 1]), lines("proto/build.rs", &[1])], &[]);
    let outcome = judge(
        &bytes,
        &[module("core/src", 0.0, &[]), module("proto/", 0.0, &[])],
    );
    let files = [
        "proto/a.proto",
        "core/src/lib.rs",
        A,
        "core/src/tests.rs",
        "core/src/tests/b.rs",
        "other.rs",
    ];
    let table = outcome.table.with_unreported(&files.map(str::to_owned));
    assert_eq!(
        table.to_string(),
        "\
file             lines  uncovered  covered
core/src/a.rs        3          1  66.67%
core/src/lib.rs      0          0  nothing to run
proto/build.rs       1          0  100.00%
total                4          1  75.00%
"
    );
    assert_eq!(
        Table::default().to_string(),
        "file   lines  uncovered  covered\ntotal      0          0  nothing to run\n"
    );
}

#[test]
fn the_shipped_policy_asks_for_every_line() {
    let text = include_str!("../../../../../gates/coverage.toml");
    let policy: CoveragePolicy = toml::from_str(text).unwrap();
    let paths: Vec<_> = policy
        .module
        .iter()
        .map(|module| module.path.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            "proto",
            "engine/core/src",
            "harness/evidence/src",
            "harness/report/src",
            "gates/suite/src",
            "harness/github/src",
            "engine/server/src/door",
            "engine/server/src/wire"
        ]
    );
    assert!(policy.module.iter().all(|module| module.lines == 100.0));
}
