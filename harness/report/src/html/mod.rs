//! All committed evidence as one page, for people: a file that needs no network, no script and no server.
//!
//! The page shows and does not judge. Gates are recomputed from the cases by the policy given; whether a record
//! counts as evidence, and whose signature it holds, the verifier says.
//!
//! Records are untrusted: every text of theirs goes through the template engine's escaping, charts hold nothing but
//! numbers, and the page forbids itself scripts and fetching by a content security policy. The same input gives
//! the same bytes: the page speaks of no time but that of its newest record.

mod chart;
mod gates;
mod grid;
mod provenance;
mod session;
mod throughput;

use kakeya_evidence::policy::{GatePolicy, Waiver, Waivers};
use minijinja::{Environment, context};
use serde::Serialize;

use crate::collection::{Collection, Entry};
use crate::escape::{link, plain};
use crate::tables::{bytes, figure};

/// What the page is made of.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The records.
    pub collection: &'a Collection,
    /// What each gate asks.
    pub gates: &'a GatePolicy,
    /// The faults that are accepted for a while.
    pub waivers: &'a Waivers,
    /// The records' folder as seen from the page: a relative path such as `platform-tests`, without a slash at its end.
    pub folder: &'a str,
}

/// Makes the page.
#[must_use]
pub fn page(inputs: &Inputs<'_>) -> String {
    let Inputs {
        collection, folder, ..
    } = *inputs;
    let latest = collection.latest();
    let newest = collection.entries.first();
    let older: Vec<_> = collection
        .older
        .iter()
        .map(|older| OlderRow {
            file: File::of(&older.name, folder),
            platform: older.platform.as_deref().map(plain),
            started: older.started.map(|started| format!("{started:.0}")),
        })
        .collect();
    let unread: Vec<_> = collection
        .unread
        .iter()
        .map(|unread| UnreadRow {
            file: File::of(&unread.name, folder),
            reason: plain(&unread.reason),
        })
        .collect();
    let mut environment = Environment::new();
    environment
        .add_template("page.html", include_str!("page.html"))
        .expect("the template is part of this crate, and its tests parse it");
    let template = environment
        .get_template("page.html")
        .expect("the template was added one line above");
    template
        .render(context! {
            style => include_str!("style.css"),
            as_of => newest.map(|entry| format!("{:.0}", entry.evidence.started)),
            records => collection.entries.len(),
            matrix => gates::Matrix::of(&latest, inputs.gates, folder),
            sessions => session::sessions(&collection.entries, folder),
            grids => grid::grids(&latest, folder),
            throughput => throughput::groups(&collection.entries, folder),
            provenance => provenance::Provenance::of(&collection.entries, folder),
            waivers => waivers(inputs.waivers, newest),
            unread => unread,
            older => older,
        })
        .expect("the template asks for nothing but what it is given, and its tests render it")
}

/// A record's file, as a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct File {
    name: String,
    href: String,
}

impl File {
    fn of(name: &str, folder: &str) -> Self {
        Self {
            name: plain(name),
            href: format!("{folder}/{}", link(name)),
        }
    }
}

/// A chart, and what is said of it to those who do not see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Figure {
    /// What is drawn.
    title: String,
    /// What it shows, in a sentence.
    description: String,
    /// What stands along the horizontal axis.
    across: String,
    /// The series' names, in order.
    series: Vec<String>,
    /// The inside of the `svg` element. It holds numbers only.
    drawing: String,
}

impl Figure {
    /// A chart of one or two series over the same axis. Each has a name and points.
    fn of(title: &str, across: &str, series: &[(&str, Vec<(f64, f64)>)]) -> Self {
        let points: Vec<_> = series.iter().map(|(_, points)| points.clone()).collect();
        let described: Vec<_> = series.iter().map(|(name, of)| describe(name, of)).collect();
        Self {
            title: plain(title),
            description: plain(&described.join("; ")),
            across: across.to_owned(),
            series: series.iter().map(|(name, _)| plain(name)).collect(),
            drawing: chart::draw(&points),
        }
    }
}

fn describe(name: &str, points: &[(f64, f64)]) -> String {
    let values = || points.iter().map(|point| point.1);
    let (low, high) = (
        values().fold(f64::INFINITY, f64::min),
        values().fold(0.0, f64::max),
    );
    let first = values().next().unwrap_or_default();
    let last = values().next_back().unwrap_or_default();
    format!(
        "{name}: {} points from {} to {}, between {} and {}",
        points.len(),
        figure(first),
        figure(last),
        figure(low),
        figure(high)
    )
}

#[derive(Debug, Serialize)]
struct OlderRow {
    file: File,
    platform: Option<String>,
    started: Option<String>,
}

#[derive(Debug, Serialize)]
struct UnreadRow {
    file: File,
    reason: String,
}

#[derive(Debug, Serialize)]
struct WaiverRow<'a> {
    waiver: WaiverText<'a>,
    granted: String,
    expires: String,
    /// What is wrong with it on the day of the newest record.
    faults: Vec<String>,
}

#[derive(Debug, Serialize)]
struct WaiverText<'a> {
    id: &'a str,
    code: &'a str,
    platform: &'a str,
    subject: &'a str,
    reason: &'a str,
    owner: &'a str,
}

fn waivers<'a>(waivers: &'a Waivers, newest: Option<&Entry>) -> Vec<WaiverRow<'a>> {
    let today = newest.map(|entry| {
        let utc = entry.evidence.started.to_zoned(jiff::tz::TimeZone::UTC);
        utc.date()
    });
    let row = |waiver: &'a Waiver| WaiverRow {
        waiver: WaiverText {
            id: &waiver.id,
            code: &waiver.code,
            platform: &waiver.platform,
            subject: &waiver.subject,
            reason: &waiver.reason,
            owner: &waiver.owner,
        },
        granted: waiver.granted.to_string(),
        expires: waiver.expires.to_string(),
        faults: waiver
            .faults(today.unwrap_or(waiver.granted))
            .iter()
            .map(ToString::to_string)
            .collect(),
    };
    waivers.waiver.iter().map(row).collect()
}

/// The host of a record, in one line.
fn host_line(entry: &Entry) -> String {
    let host = &entry.evidence.host;
    plain(&format!(
        "{}, {} cores, {}",
        host.chip.as_deref().unwrap_or("unknown chip"),
        host.logical_cores,
        bytes(host.memory_bytes)
    ))
}

#[cfg(test)]
mod tests;
