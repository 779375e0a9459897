use jiff::civil::date;
use kakeya_evidence::{Ending, Evidence, Measurement, Outcome};

use super::*;
use crate::collection::Unread;
use crate::fixture;
use crate::folder::Older;

const HOSTILE: &str = "<script>alert('x')</script>\"|&\u{202e}";

fn entry(evidence: Evidence) -> Entry {
    Entry {
        name: format!("{}.json", kakeya_evidence::canonical::stem(&evidence)),
        evidence,
        has_envelope: false,
    }
}

/// The n-th run, a day later than the one before.
fn run(number: u32) -> Evidence {
    let mut evidence = fixture::good();
    evidence.run_id = format!("run{number}");
    evidence.started += jiff::SignedDuration::from_hours(24 * i64::from(number));
    evidence.measurements[0].value += f64::from(number);
    evidence
}

fn collection(mut entries: Vec<Entry>) -> Collection {
    entries.reverse();
    Collection {
        entries,
        ..Collection::default()
    }
}

/// The page, with the slashes that the template engine writes as references.
fn made(collection: &Collection, waivers: &Waivers) -> String {
    page(&Inputs {
        collection,
        gates: &fixture::policy().gates,
        waivers,
        folder: "platform-tests",
    })
    .replace("&#x2f;", "/")
}

fn shown(entries: Vec<Entry>) -> String {
    made(&collection(entries), &Waivers::default())
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
}

#[test]
fn an_empty_folder_makes_a_page_that_says_so() {
    has(
        &shown(Vec::new()),
        &[
            "There is no record.",
            "No platform has a record.",
            "No record holds a long session.",
            "No record has cases of this suite.",
            "No record holds figures of the perf suite.",
            "Nothing is waived.",
            "There is none.",
        ],
    );
}

#[test]
fn a_record_is_shown_in_every_section() {
    let mut signed = entry(fixture::good());
    signed.has_envelope = true;
    let text = shown(vec![signed]);
    has(
        &text,
        &[
            "1 record, the newest of <time>2026-01-02T03:04:05Z</time>",
            "<th scope=\"col\">G1 <span class=\"sub\">title of G1</span></th>",
            "<span class=\"state good\"><span aria-hidden=\"true\">✓</span> holds</span>",
            "30 s of 30 s on AMD EPYC 7B13, 2 cores, 8 GiB, driven by kakeya 0.1.0: 30 turns",
            "median: 3 points from 0.5 to 0.5, between 0.5 and 0.5; 95th percentile: 3 points",
            "<tr><th scope=\"row\">0.1667</th><td>10</td><td>320</td><td>0.5</td><td>0.625</td>",
            "3 of 3 pairs passed.",
            "<th scope=\"row\">chunks of 7</th>",
            "<th scope=\"col\">prefill, tokens/s</th>",
            "AMD EPYC 7B13, 2 cores, 8 GiB, cpu avx2, 2 threads",
            "smollm2-135m 93.81 MiB dd44dd44dd44",
            "<td>present</td>",
            "platform-tests/linux-cpu-1767323045-9b2f4c1e00004000800000000000abcd.json",
        ],
    );
    // One run makes no history.
    assert_eq!(text.matches("<svg").count(), 3);
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let text = || shown((0..5).map(|number| entry(run(number))).collect());
    assert_eq!(text(), text());
}

#[test]
fn nothing_a_record_says_becomes_markup() {
    let mut evidence = fixture::good();
    for text in [
        &mut evidence.run_id,
        &mut evidence.platform,
        &mut evidence.tier,
        &mut evidence.build.rustc,
        &mut evidence.source.tree_sha256,
        &mut evidence.models[0].model,
        &mut evidence.measurements[0].name,
        &mut evidence.suites[0].id,
        &mut evidence.host.os,
    ] {
        *text = HOSTILE.into();
    }
    evidence.host.chip = Some(HOSTILE.into());
    evidence.host.os_version = None;
    evidence.measurements[0].unit = HOSTILE.into();
    evidence.source.commit = Some(HOSTILE.into());
    evidence.backend.as_mut().unwrap().isa = HOSTILE.into();
    evidence.long_session.as_mut().unwrap().client.name = HOSTILE.into();
    evidence.cases[0].name = format!("{HOSTILE}.{HOSTILE}");
    evidence.cases[0].history = Some(HOSTILE.into());
    let mut again = evidence.clone();
    again.started += jiff::SignedDuration::from_secs(1);
    let mut all = collection(vec![entry(evidence), entry(again)]);
    all.unread.push(Unread {
        name: HOSTILE.into(),
        reason: HOSTILE.into(),
    });
    all.older.push(Older {
        name: HOSTILE.into(),
        platform: Some(HOSTILE.into()),
        started: "2026-01-02T04:10:05Z".parse().ok(),
    });
    let text = made(&all, &Waivers::default());
    assert!(!text.contains("<script"), "{text}");
    assert!(!text.contains('\u{202e}'));
    assert!(!text.contains("\"|"), "a quote ends no attribute");
    assert!(text.matches("&lt;script&gt;").count() > 10);
    has(
        &text,
        &["platform-tests/%3Cscript%3E", "Files that are no records"],
    );
    has(&text, &["default-src 'none'"]);
}

#[test]
fn many_records_are_cut_and_the_page_says_so() {
    let text = shown((0..150).map(|number| entry(run(number))).collect());
    has(
        &text,
        &[
            "150 records",
            "142 older sessions are not shown.",
            "runs, the oldest first; 90 older ones are not shown",
            "the newest first; 50 older ones are not shown",
            "prefill, tokens/s: 60 points from 730.5 to 789.5, between 730.5 and 789.5",
        ],
    );
    assert_eq!(text.matches("<article").count(), 8);
}

#[test]
fn figures_of_unlike_hosts_share_no_line() {
    let mut other = run(1);
    other.host.logical_cores = 64;
    other.backend = None;
    other.measurements.push(Measurement {
        name: "decode".into(),
        ..other.measurements[0].clone()
    });
    let mut third = run(2);
    third.host.logical_cores = 64;
    third.backend = None;
    third.source.commit = None;
    third.source.dirty = Some(true);
    let mut fourth = run(3);
    fourth.measurements.clear();
    fourth.source.dirty = None;
    fourth.ending = Ending::NoModel;
    let text = shown(vec![
        entry(run(0)),
        entry(other),
        entry(third),
        entry(fourth),
    ]);
    has(
        &text,
        &[
            "2 cores, 8 GiB, cpu avx2, 2 threads",
            "64 cores, 8 GiB, unknown backend",
            "<td><code>none</code></td><td>642.5</td><td>–</td>",
            ", changed</span>",
            ", unknown</span>",
            "<span class=\"sub\">no model</span>",
        ],
    );
    // Of the two on one host, both have prefill, and one alone decode.
    assert_eq!(text.matches("<svg").count(), 4 * 3 + 1);
}

#[test]
fn what_did_not_go_well_is_seen() {
    let mut evidence = fixture::good();
    evidence.cases[0].outcome = Outcome::Failed;
    evidence.cases[1].outcome = Outcome::NotRun;
    evidence.cases[2].name = "whole.random".into();
    let mut nameless = evidence.cases[2].clone();
    nameless.name = "no_history_in_the_name".into();
    evidence.cases.push(nameless);
    evidence.selection.partial = true;
    evidence.source.dirty = Some(true);
    let session = evidence.long_session.as_mut().unwrap();
    session.complete = false;
    session.buckets.clear();
    let text = shown(vec![entry(evidence)]);
    has(
        &text,
        &[
            "1 of 3 pairs passed.",
            "<span class=\"state bad\"><span aria-hidden=\"true\">✗</span> failed</span>",
            "<span aria-hidden=\"true\">–</span> not run</span>",
            "<span aria-hidden=\"true\"></span> no such case</span>",
            "fast tier, a part of it, changed source",
            "<span aria-hidden=\"true\">–</span> withheld</span>",
            "did not run to its end",
        ],
    );
    assert!(!text.contains("<svg"));
}

#[test]
fn a_gate_that_does_not_hold_says_why() {
    let mut evidence = fixture::good();
    evidence.long_session.as_mut().unwrap().violations.inv1 = 2;
    let text = shown(vec![entry(evidence)]);
    has(
        &text,
        &[
            "✗</span> does not hold</span>",
            "2 violations of invariants",
        ],
    );
}

#[test]
fn waivers_are_shown_with_what_is_wrong_with_them() {
    let waiver = |id: &str, expires| Waiver {
        id: id.into(),
        code: "EV-084".into(),
        platform: "linux-cpu".into(),
        subject: String::new(),
        reason: "a small host".into(),
        owner: "someone".into(),
        granted: date(2025, 12, 1),
        expires,
    };
    let waivers = Waivers {
        waiver: vec![
            waiver("W-1", date(2026, 1, 2)),
            waiver("W-2", date(2026, 1, 1)),
        ],
    };
    let text = made(&collection(vec![entry(fixture::good())]), &waivers);
    has(
        &text,
        &[
            "as they stood on the day of the newest record",
            "✓</span> in order</span>",
            "✗</span> waiver W-2 expired on 2026-01-01</span>",
        ],
    );
    has(&made(&Collection::default(), &waivers), &["in order"]);
}

#[test]
fn other_generations_are_listed() {
    let all = Collection {
        older: vec![Older {
            name: "odd.json".into(),
            platform: None,
            started: None,
        }],
        ..Collection::default()
    };
    let text = made(&all, &Waivers::default());
    has(
        &text,
        &["<li><a class=\"file\" href=\"platform-tests/odd.json\">odd.json</a></li>"],
    );
}
