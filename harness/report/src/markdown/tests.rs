use super::*;
use crate::fixture;
use kakeya_evidence::canonical;

fn record(evidence: &mut Evidence) -> Record {
    canonical::seal(evidence);
    Record {
        name: format!("{}.json", canonical::stem(evidence)),
        bytes: Ok(canonical::to_bytes(evidence)),
        envelope: None,
        junit_agrees: true,
    }
}

fn finding(message: &str, waived: Option<&str>) -> Finding {
    Finding {
        code: "EV-043".into(),
        message: message.into(),
        file: Some("linux-cpu-1-a.json".into()),
        platform: Some("linux-cpu".into()),
        waived: waived.map(Into::into),
    }
}

fn report(record: &Record, accepted: bool, findings: Vec<Finding>) -> Report {
    Report {
        accepted,
        platforms: vec![PlatformReport {
            platform: "linux-cpu".into(),
            records: vec![RecordReport {
                file: record.name.clone(),
                accepted,
                signed_by: Vec::new(),
            }],
            accepted,
        }],
        findings,
    }
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
}

#[test]
fn an_accepted_record_shows_its_gates_figures_and_origin() {
    let record = record(&mut fixture::good());
    let mut report = report(&record, true, Vec::new());
    report.platforms[0].records[0].signed_by = vec!["ci@example.org".into()];
    let gates = fixture::policy().gates;
    has(
        &summary(&report, &[record], &gates),
        &[
            "✅ **Accepted**: there is passing evidence for every platform asked for.\n",
            "| platform | verdict | record | tier | signed by | G1 | G2 | G3 | G4 | G5 |",
            "| linux-cpu | ✅ accepted | <code>linux-cpu-1767323045-",
            "| fast | <code>ci&#64;\u{200b}example.org</code> | ✅ holds |",
            "### Findings\n\nNone.\n",
            "| linux-cpu | <code>perf&#58;&#58;prefill</code> | 640.5 | tokens/s |",
            "| linux-cpu | 2026-01-02T03:04:05Z | AMD EPYC 7B13, 2 cores, 8 GiB, Debian GNU/Linux 13 x86&#95;64 |",
            "| smollm2-135m <code>dd44dd44dd44</code> | <code>c0ffeec0ffee</code> | <code>aa11aa11aa11</code> |",
        ],
    );
}

#[test]
fn findings_are_listed_and_waived_ones_say_by_what() {
    let record = record(&mut fixture::good());
    let findings = vec![
        finding("case perf::a did not pass", None),
        finding("case perf::b did not pass", Some("W-1: no unit (someone)")),
    ];
    let report = report(&record, false, findings);
    has(
        &summary(&report, &[record], &fixture::policy().gates),
        &[
            "❌ **Not accepted.** Reasons against it: 1. Waived: 1.",
            "| ❌ not accepted |",
            "| unsigned |",
            "| <code>EV-043</code> | case perf&#58;&#58;a did not pass | <code>linux-cpu-1-a.json</code> | no |",
            "| ⚠️ waived, W-1&#58; no unit &#40;someone&#41; |",
        ],
    );
}

#[test]
fn a_platform_without_a_record_and_a_record_that_cannot_be_read_are_shown() {
    let unreadable = Record {
        name: "linux-cpu-1-x.json".into(),
        bytes: Err(kakeya_evidence::verify::Rejection::Unreadable {
            reason: "no permission".into(),
        }),
        envelope: None,
        junit_agrees: false,
    };
    let mut report = report(&unreadable, false, Vec::new());
    report.platforms.push(PlatformReport {
        platform: "mac-m4".into(),
        records: Vec::new(),
        accepted: false,
    });
    has(
        &summary(&report, &[unreadable], &fixture::policy().gates),
        &[
            "<code>linux-cpu-1-x.json</code> |  | unsigned | ? | ? | ? | ? | ? |",
            "| mac-m4 | ❌ not accepted | none |  |",
            "No record.",
        ],
    );
}

#[test]
fn gates_say_what_is_known_of_them() {
    let mut evidence = fixture::good();
    evidence.long_session = None;
    evidence.cases.remove(0);
    evidence.source.commit = None;
    evidence.host.chip = None;
    let record = record(&mut evidence);
    let report = report(&record, false, Vec::new());
    has(
        &summary(&report, &[record], &fixture::policy().gates),
        &[
            "| ➖ not measured | ➖ not measured | ❌ does not hold |",
            "| unknown chip, 2 cores",
            "| none | <code>aa11aa11aa11</code> |",
        ],
    );
}

#[test]
fn what_a_record_says_stays_in_its_cell_and_the_comment_in_its_limit() {
    let mut evidence = fixture::good();
    evidence.measurements[0].unit = "|\n# <img src=x onerror=alert(1)> @all".into();
    let figure = evidence.measurements[0].clone();
    evidence.measurements = vec![figure; 500];
    let record = record(&mut evidence);
    let gates = fixture::policy().gates;
    let findings = vec![finding("<b>`x`</b>|", None); 500];
    let text = summary(
        &report(&record, false, findings),
        std::slice::from_ref(&record),
        &gates,
    );
    for sign in ["<img", "<b>", "@all", "\n# "] {
        assert!(!text.contains(sign), "{sign}");
    }
    has(&text, &["440 more are not listed here.", "Figures: 500"]);

    let findings = vec![finding(&"<b>`x`</b>|".repeat(1000), None); 500];
    let text = summary(&report(&record, false, findings), &[record], &gates);
    assert!(text.len() < 65_536, "{}", text.len());
    has(
        &text,
        &[
            "The findings are left out: the comment would be too long.",
            "Figures: 500",
        ],
    );
}

#[test]
fn a_question_about_no_platform_has_an_empty_answer() {
    let report = Report {
        accepted: false,
        platforms: Vec::new(),
        findings: Vec::new(),
    };
    let text = summary(&report, &[], &fixture::policy().gates);
    has(&text, &["No platform was asked for."]);
}
