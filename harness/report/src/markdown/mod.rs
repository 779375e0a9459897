//! What the verifier found, in Markdown, for a pull request.

use kakeya_evidence::policy::GatePolicy;
use kakeya_evidence::verify::{Finding, PlatformReport, Record, RecordReport, Report};
use kakeya_evidence::{Evidence, Holds};

use crate::collection::{Collection, Entry};
use crate::escape::{clip, code, markdown};
use crate::tables::{bytes, figure, short, table};

/// The most bytes of a summary. A comment on GitHub has at most 65,536 characters.
const LARGEST: usize = 60_000;
/// The most findings and figures that are listed.
const MOST: usize = 60;
/// The most characters of a finding's sentence.
const LONGEST: usize = 300;

/// The verifier's report, with what the records it speaks of say. Verdicts on gates are recomputed from `records`.
#[must_use]
pub fn summary(report: &Report, records: &[Record], gates: &GatePolicy) -> String {
    let collection = Collection::from_records(records);
    let spoken = Spoken::of(report, &collection);
    let mut text = format!("## Evidence\n\n{}\n\n", verdict(report));
    for (name, section) in [
        ("platforms", platforms(&spoken, report, gates)),
        ("findings", findings(&report.findings)),
        ("figures", figures(&spoken)),
        ("provenance", provenance(&spoken)),
    ] {
        if text.len() + section.len() <= LARGEST {
            text.push_str(&section);
        } else {
            let left_out = format!("\nThe {name} are left out: the comment would be too long.\n");
            text.push_str(&left_out);
        }
    }
    text
}

/// A record that the report speaks of, with its content where it can be read.
struct Spoken<'a> {
    platform: &'a PlatformReport,
    record: &'a RecordReport,
    entry: Option<&'a Entry>,
}

impl<'a> Spoken<'a> {
    fn of(report: &'a Report, collection: &'a Collection) -> Vec<Self> {
        let each = |platform: &'a PlatformReport| {
            platform.records.iter().map(move |record| Self {
                platform,
                record,
                entry: collection
                    .entries
                    .iter()
                    .find(|entry| entry.name == record.file),
            })
        };
        report.platforms.iter().flat_map(each).collect()
    }

    fn evidence(&self) -> Option<&'a Evidence> {
        self.entry.map(|entry| &entry.evidence)
    }

    fn signers(&self) -> String {
        if self.record.signed_by.is_empty() {
            return "unsigned".to_owned();
        }
        let names: Vec<_> = self
            .record
            .signed_by
            .iter()
            .map(|name| code(name))
            .collect();
        names.join(", ")
    }
}

fn verdict(report: &Report) -> String {
    let (waived, open): (Vec<_>, Vec<_>) = report
        .findings
        .iter()
        .partition(|finding| finding.waived.is_some());
    let waived = match waived.len() {
        0 => String::new(),
        count => format!(" Waived: {count}."),
    };
    if report.accepted {
        format!("✅ **Accepted**: there is passing evidence for every platform asked for.{waived}")
    } else {
        format!(
            "❌ **Not accepted.** Reasons against it: {}.{waived}",
            open.len()
        )
    }
}

fn word(accepted: bool) -> String {
    if accepted {
        "✅ accepted"
    } else {
        "❌ not accepted"
    }
    .to_owned()
}

fn platforms(spoken: &[Spoken<'_>], report: &Report, gates: &GatePolicy) -> String {
    let ids: Vec<_> = gates.gate.iter().map(|gate| markdown(&gate.id)).collect();
    let mut headings = vec!["platform", "verdict", "record", "tier", "signed by"];
    headings.extend(ids.iter().map(String::as_str));
    let mut rows = Vec::new();
    for each in spoken {
        let tier = each.evidence().map(|evidence| markdown(&evidence.tier));
        let mut row = vec![
            markdown(&each.platform.platform),
            word(each.record.accepted),
            code(&each.record.file),
            tier.unwrap_or_default(),
            each.signers(),
        ];
        match each.entry {
            Some(entry) => row.extend(entry.verdicts(gates).iter().map(|v| sign(v.holds))),
            None => row.extend(ids.iter().map(|_| "?".to_owned())),
        }
        rows.push(row);
    }
    for platform in report
        .platforms
        .iter()
        .filter(|each| each.records.is_empty())
    {
        let mut row = vec![
            markdown(&platform.platform),
            word(platform.accepted),
            "none".to_owned(),
        ];
        row.resize(headings.len(), String::new());
        rows.push(row);
    }
    table(&headings, &rows, "No platform was asked for.")
}

fn sign(holds: Holds) -> String {
    let sign = match holds {
        Holds::Yes => "✅",
        Holds::No => "❌",
        Holds::NotMeasured | Holds::Withheld => "➖",
    };
    format!("{sign} {holds}")
}

fn findings(findings: &[Finding]) -> String {
    let rows: Vec<_> = findings
        .iter()
        .take(MOST)
        .map(|finding| {
            let about = finding.file.as_deref().map(code).unwrap_or_default();
            let waived = finding.waived.as_deref();
            vec![
                code(&finding.code),
                markdown(&clip(&finding.message, LONGEST)),
                about,
                waived.map_or("no".to_owned(), |why| {
                    format!("⚠️ waived, {}", markdown(why))
                }),
            ]
        })
        .collect();
    format!(
        "\n### Findings\n\n{}{}\n`harness explain <code>` says what a code means and what to do.\n",
        table(&["code", "finding", "record", "waived"], &rows, "None."),
        more(findings.len())
    )
}

/// Says how many rows a table left out.
fn more(found: usize) -> String {
    match found.saturating_sub(MOST) {
        0 => String::new(),
        left => format!("\n{left} more are not listed here.\n"),
    }
}

fn figures(spoken: &[Spoken<'_>]) -> String {
    let mut rows = Vec::new();
    for evidence in spoken.iter().filter_map(Spoken::evidence) {
        for measurement in &evidence.measurements {
            let name = format!("{}::{}", measurement.suite, measurement.name);
            rows.push(vec![
                markdown(&evidence.platform),
                code(&name),
                figure(measurement.value),
                markdown(&measurement.unit),
            ]);
        }
    }
    let found = rows.len();
    rows.truncate(MOST);
    format!(
        "\n<details><summary>Figures: {found}</summary>\n\n{}{}\n</details>\n",
        table(&["platform", "figure", "value", "unit"], &rows, "None."),
        more(found)
    )
}

fn provenance(spoken: &[Spoken<'_>]) -> String {
    let rows: Vec<_> = spoken
        .iter()
        .filter_map(Spoken::evidence)
        .map(|evidence| {
            let host = &evidence.host;
            let models: Vec<_> = evidence
                .models
                .iter()
                .map(|model| format!("{} {}", markdown(&model.model), code(&short(&model.sha256))))
                .collect();
            let commit = evidence.source.commit.as_deref();
            vec![
                markdown(&evidence.platform),
                format!("{:.0}", evidence.started),
                markdown(&format!(
                    "{}, {} cores, {}, {} {}",
                    host.chip.as_deref().unwrap_or("unknown chip"),
                    host.logical_cores,
                    bytes(host.memory_bytes),
                    host.os_version.as_deref().unwrap_or(&host.os),
                    host.arch
                )),
                models.join(", "),
                commit.map_or("none".to_owned(), |commit| code(&short(commit))),
                code(&short(&evidence.source.tree_sha256)),
            ]
        })
        .collect();
    format!(
        "\n<details><summary>Host, model and source</summary>\n\n{}\n</details>\n",
        table(
            &["platform", "started", "host", "models", "commit", "tree"],
            &rows,
            "No record."
        )
    )
}

#[cfg(test)]
mod tests;
