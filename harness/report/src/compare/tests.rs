use kakeya_evidence::{Measurement, Outcome};

use super::*;
use crate::fixture;

fn figure(name: &str, value: f64, unit: &str) -> Measurement {
    Measurement {
        suite: "perf".into(),
        name: name.into(),
        value,
        unit: unit.into(),
    }
}

fn compared(a: &Evidence, b: &Evidence) -> Comparison {
    compare(a, b, Options::default()).unwrap()
}

#[test]
fn cases_are_gained_lost_and_changed() {
    let a = fixture::good();
    let mut b = a.clone();
    b.cases[0].outcome = Outcome::Failed;
    b.cases[1].name = "new".into();
    let retry = b.cases[2].clone();
    b.cases.push(retry);
    let found = compared(&a, &b);
    let change = |case: &str, b: &str| Change {
        case: case.into(),
        a: "passed".into(),
        b: b.into(),
    };
    assert_eq!(
        found.changed,
        [
            change("inv3::chunks_of_7.prose", "failed"),
            change("inv3::chunks_of_7.random", "passed, passed"),
        ]
    );
    assert_eq!(found.lost[0].case, "inv3::chunks_of_7.code");
    assert_eq!(found.gained[0].case, "inv3::new");
    assert_eq!(found.gained[0].outcome, "passed");
    assert_eq!(found.unchanged, 1);
    assert_eq!(found.a.seconds, 41.0);
    let text = found.to_markdown();
    for line in [
        "1 ended in the same way, 2 in another, 1 are in A alone, 1 in B alone.",
        "| <code>inv3&#58;&#58;chunks&#95;of&#95;7.prose</code> | passed | failed |",
        "| <code>inv3&#58;&#58;chunks&#95;of&#95;7.code</code> | passed | absent |",
        "| <code>inv3&#58;&#58;new</code> | absent | passed |",
    ] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
}

#[test]
fn a_figure_is_inside_the_noise_band_or_outside_whichever_run_is_first() {
    for (a, b, ratio, inside) in [
        (100.0, 109.0, Some(1.09), true),
        (109.0, 100.0, Some(100.0 / 109.0), true),
        (100.0, 112.0, Some(1.12), false),
        (112.0, 100.0, Some(100.0 / 112.0), false),
        (0.0, 0.0, None, true),
        (0.0, 1.0, None, false),
        (1.0, 0.0, None, false),
        (-1.0, 1.0, None, false),
        (-2.0, -2.0, Some(1.0), true),
    ] {
        let of = |value| {
            let mut evidence = fixture::good();
            evidence.measurements = vec![figure("decode", value, "tokens/s")];
            evidence
        };
        let found = compared(&of(a), &of(b)).measurements.remove(0);
        assert_eq!((found.ratio, found.inside), (ratio, inside), "{a} {b}");
    }
}

#[test]
fn the_band_is_the_callers() {
    let a = fixture::good();
    let mut b = a.clone();
    b.measurements[0].value *= 1.15;
    let inside = |noise_percent| {
        let options = Options {
            noise_percent,
            ..Options::default()
        };
        compare(&a, &b, options).map(|found| found.measurements[0].inside)
    };
    assert_eq!(inside(10.0), Ok(false));
    assert_eq!(inside(20.0), Ok(true));
    for (bad, found) in [(f64::NAN, "NaN"), (-1.0, "-1")] {
        let error = inside(bad).unwrap_err().to_string();
        let expected = format!("the noise band is {found}%, and should be a number from 0 up");
        assert_eq!(error, expected);
    }
}

#[test]
fn a_figure_in_another_unit_is_another_figure() {
    let mut a = fixture::good();
    let mut b = a.clone();
    a.measurements = vec![figure("decode", 1.0, "tokens/s"), figure("old", 2.0, "s")];
    b.measurements = vec![figure("decode", 1.0, "tokens/ms")];
    let found = compared(&a, &b);
    assert!(found.measurements.is_empty());
    let once: Vec<_> = found
        .measured_once
        .iter()
        .map(|each| (each.name.as_str(), each.of))
        .collect();
    assert_eq!(
        once,
        [
            ("perf::decode", 'A'),
            ("perf::old", 'A'),
            ("perf::decode", 'B')
        ]
    );
    let text = found.to_markdown();
    assert!(text.contains("The runs share no figure."), "{text}");
    assert!(
        text.contains("| <code>perf&#58;&#58;old</code> | s | 2 | A |"),
        "{text}"
    );
}

#[test]
fn refuses_to_compare_unlike_hosts() {
    let a = fixture::good();
    let mut b = a.clone();
    b.host.chip = Some("Apple M4".into());
    b.host.logical_cores = 10;
    b.models[0].sha256 = "0".repeat(64);
    b.backend = None;
    let error = compare(&a, &b, Options::default()).unwrap_err();
    let differences = alike::differences(&a, &b);
    assert_eq!(
        error,
        CompareError::Unlike {
            differences: differences.clone()
        }
    );
    let what: Vec<_> = differences.iter().map(|each| each.what).collect();
    assert_eq!(
        what,
        [
            "chip",
            "logical cores",
            "models",
            "device",
            "instruction set",
            "threads",
            "numerics version"
        ]
    );
    let text = error.to_string();
    let named = "chip is `AMD EPYC 7B13` against `Apple M4`; logical cores is `2` against `10`; ";
    assert!(text.contains(named), "{text}");

    let options = Options {
        unlike: true,
        ..Options::default()
    };
    let found = compare(&a, &b, options).unwrap();
    assert_eq!(found.differences, differences);
    assert!(found.to_markdown().contains("**The runs are not alike.**"));
}

#[test]
fn each_fact_that_figures_depend_on_must_be_the_same() {
    type Change = fn(&mut Evidence);
    let changes: [(&str, Change); 7] = [
        ("platform", |e| e.platform = "x".into()),
        ("tier", |e| e.tier = "full".into()),
        ("operating system", |e| e.host.os = "macos".into()),
        ("architecture", |e| e.host.arch = "aarch64".into()),
        ("chip", |e| e.host.chip = None),
        ("threads", |e| e.backend.as_mut().unwrap().threads = 1),
        ("numerics version", |e| {
            e.backend.as_mut().unwrap().numerics_version = 2
        }),
    ];
    for (what, change) in changes {
        let mut b = fixture::good();
        change(&mut b);
        let error = compare(&fixture::good(), &b, Options::default()).unwrap_err();
        let expected = format!("of each other: {what} is `");
        assert!(error.to_string().contains(&expected), "{error}");
    }
}

#[test]
fn a_comparison_is_data_too() {
    let mut a = fixture::good();
    a.source.commit = None;
    let mut b = a.clone();
    b.measurements[0].value = 1281.0;
    let found = compared(&a, &b);
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["measurements"][0]["ratio"], 2.0);
    assert_eq!(json["measurements"][0]["inside"], false);
    assert_eq!(json["a"]["seconds"], 41.0);
    let text = found.to_markdown();
    assert!(
        text.contains(
            "| <code>perf&#58;&#58;prefill</code> | tokens/s | 640.5 | 1281 | 2 | **outside** |"
        ),
        "{text}"
    );
    assert!(text.contains("No case differs."), "{text}");
    assert!(
        text.contains("| 2026-01-02T03:04:05Z | none | 41 s |"),
        "{text}"
    );
}
