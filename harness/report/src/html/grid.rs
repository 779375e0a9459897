//! INV-3: how a history was cut or run, by which history it was, and how that ended.

use std::collections::BTreeMap;

use kakeya_evidence::{Outcome, TestCase};
use serde::Serialize;

use super::File;
use crate::collection::Entry;
use crate::escape::plain;

/// The suite whose cases are named `<chunking>.<history>`.
const SUITE: &str = "inv3";

/// One record's grid.
#[derive(Debug, Serialize)]
pub(super) struct Grid {
    platform: String,
    file: File,
    histories: Vec<String>,
    rows: Vec<Row>,
    passed: usize,
    cells: usize,
}

#[derive(Debug, Serialize)]
struct Row {
    chunking: String,
    cells: Vec<Cell>,
}

#[derive(Debug, Clone, Serialize)]
struct Cell {
    look: &'static str,
    sign: &'static str,
    words: String,
}

/// The grids of records that have one.
pub(super) fn grids(latest: &[&Entry], folder: &str) -> Vec<Grid> {
    latest
        .iter()
        .map(|entry| grid(entry, folder))
        .filter(|grid| grid.cells > 0)
        .collect()
}

fn grid(entry: &Entry, folder: &str) -> Grid {
    // Both axes keep the order of the cases, which is the suite's.
    let mut histories: Vec<&str> = Vec::new();
    let mut chunkings: Vec<&str> = Vec::new();
    let mut ends: BTreeMap<(&str, &str), Vec<Outcome>> = BTreeMap::new();
    for case in &entry.evidence.cases {
        let Some((chunking, history)) = axes(case) else {
            continue;
        };
        if !histories.contains(&history) {
            histories.push(history);
        }
        if !chunkings.contains(&chunking) {
            chunkings.push(chunking);
        }
        ends.entry((chunking, history))
            .or_default()
            .push(case.outcome);
    }
    let row = |chunking: &&str| Row {
        chunking: plain(chunking).replace('_', " "),
        cells: histories
            .iter()
            .map(|history| Cell::of(ends.get(&(*chunking, *history))))
            .collect(),
    };
    Grid {
        platform: plain(&entry.evidence.platform),
        file: File::of(&entry.name, folder),
        rows: chunkings.iter().map(row).collect(),
        histories: histories.iter().map(|history| plain(history)).collect(),
        passed: ends
            .values()
            .filter(|ends| ***ends == [Outcome::Passed])
            .count(),
        cells: ends.len(),
    }
}

/// The two axes of a case's name, where it has them.
fn axes(case: &TestCase) -> Option<(&str, &str)> {
    let history = case.history.as_deref().filter(|_| case.suite == SUITE)?;
    let chunking = case.name.strip_suffix(history)?.strip_suffix('.')?;
    Some((chunking, history))
}

impl Cell {
    fn of(ends: Option<&Vec<Outcome>>) -> Self {
        let (look, sign) = match ends.map(Vec::as_slice) {
            None => ("open", ""),
            Some([Outcome::Passed]) => ("good", "✓"),
            Some([Outcome::Skipped | Outcome::NotRun]) => ("open", "–"),
            Some(_) => ("bad", "✗"),
        };
        let words: Vec<_> = ends
            .into_iter()
            .flatten()
            .map(ToString::to_string)
            .collect();
        Self {
            look,
            sign,
            words: match words.is_empty() {
                true => "no such case".to_owned(),
                false => words.join(", ").replace('_', " "),
            },
        }
    }
}
