//! What the perf suite measured, run after run.
//!
//! Figures of unlike hosts say nothing of each other, so runs are grouped by platform, host and backend.

use std::collections::BTreeMap;

use kakeya_evidence::Measurement;
use serde::Serialize;

use super::{Figure, File, host_line};
use crate::collection::Entry;
use crate::escape::plain;
use crate::tables::{figure, short};

/// The suite whose figures are throughput.
const SUITE: &str = "perf";
/// The most runs of a group that are shown, the newest.
const MOST: usize = 60;

/// Runs that can be compared.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    platform: String,
    host: String,
    /// Names of the figures, with their units.
    names: Vec<String>,
    runs: Vec<Run>,
    left_out: usize,
    figures: Vec<Figure>,
}

#[derive(Debug, Serialize)]
struct Run {
    number: usize,
    file: File,
    started: String,
    commit: String,
    values: Vec<String>,
}

/// A figure's name and unit.
type Key<'a> = (&'a str, &'a str);

pub(super) fn groups(entries: &[Entry], folder: &str) -> Vec<Group> {
    let mut groups: BTreeMap<(String, String), Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        if measured(entry).next().is_some() {
            let key = (plain(&entry.evidence.platform), machine(entry));
            groups.entry(key).or_default().push(entry);
        }
    }
    groups
        .into_iter()
        .map(|((platform, host), runs)| group(platform, host, &runs, folder))
        .collect()
}

fn machine(entry: &Entry) -> String {
    let backend = entry.evidence.backend.as_ref().map(|backend| {
        let (device, isa, threads) = (&backend.device, &backend.isa, backend.threads);
        plain(&format!("{device} {isa}, {threads} threads"))
    });
    let backend = backend.unwrap_or_else(|| "unknown backend".to_owned());
    format!("{}, {backend}", host_line(entry))
}

fn measured(entry: &Entry) -> impl Iterator<Item = &Measurement> {
    let all = entry.evidence.measurements.iter();
    all.filter(|each| each.suite == SUITE && each.value.is_finite())
}

fn value(entry: &Entry, (name, unit): Key<'_>) -> Option<f64> {
    measured(entry)
        .find(|each| each.name == name && each.unit == unit)
        .map(|each| each.value)
}

/// A group of runs, given the newest first and shown the oldest first.
fn group(platform: String, host: String, newest_first: &[&Entry], folder: &str) -> Group {
    let mut runs: Vec<_> = newest_first.iter().copied().take(MOST).collect();
    runs.reverse();
    let mut keys: Vec<Key<'_>> = Vec::new();
    for each in runs.iter().flat_map(|entry| measured(entry)) {
        let key = (each.name.as_str(), each.unit.as_str());
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let row = |(index, entry): (usize, &&Entry)| Run {
        number: index + 1,
        file: File::of(&entry.name, folder),
        started: format!("{:.0}", entry.evidence.started),
        commit: match &entry.evidence.source.commit {
            Some(commit) => plain(&short(commit)),
            None => "none".to_owned(),
        },
        values: keys
            .iter()
            .map(|key| value(entry, *key).map_or("–".to_owned(), figure))
            .collect(),
    };
    Group {
        figures: keys.iter().filter_map(|key| history(*key, &runs)).collect(),
        names: keys.iter().map(|key| label(*key)).collect(),
        runs: runs.iter().enumerate().map(row).collect(),
        left_out: newest_first.len() - runs.len(),
        platform,
        host,
    }
}

/// A figure over the runs that have it. One point makes no history.
fn history(key: Key<'_>, runs: &[&Entry]) -> Option<Figure> {
    let points: Vec<_> = runs
        .iter()
        .enumerate()
        .filter_map(|(index, entry)| Some(((index + 1) as f64, value(entry, key)?)))
        .collect();
    let name = label(key);
    (points.len() > 1).then(|| Figure::of(&name, "run", &[(&name, points)]))
}

fn label((name, unit): Key<'_>) -> String {
    plain(&format!("{}, {unit}", name.replace('_', " ")))
}
