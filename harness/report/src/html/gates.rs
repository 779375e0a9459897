//! Platform by gate: what the newest record of each platform shows.

use kakeya_evidence::policy::{Gate, GatePolicy};
use kakeya_evidence::{GateVerdict, Holds};
use serde::Serialize;

use super::File;
use crate::collection::Entry;
use crate::escape::plain;

/// The matrix.
#[derive(Debug, Serialize)]
pub(super) struct Matrix {
    gates: Vec<Heading>,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Heading {
    id: String,
    title: String,
    holds_when: String,
}

#[derive(Debug, Serialize)]
struct Row {
    platform: String,
    file: File,
    started: String,
    tier: String,
    partial: bool,
    dirty: bool,
    cells: Vec<Cell>,
}

#[derive(Debug, Serialize)]
struct Cell {
    gate: String,
    /// The class of its look.
    look: &'static str,
    sign: &'static str,
    words: String,
    reason: String,
}

impl Matrix {
    pub(super) fn of(latest: &[&Entry], gates: &GatePolicy, folder: &str) -> Self {
        let heading = |gate: &Gate| Heading {
            id: gate.id.clone(),
            title: gate.title.clone(),
            holds_when: gate.holds_when.clone(),
        };
        let row = |entry: &&Entry| {
            let evidence = &entry.evidence;
            Row {
                platform: plain(&evidence.platform),
                file: File::of(&entry.name, folder),
                started: format!("{:.0}", evidence.started),
                tier: plain(&evidence.tier),
                partial: evidence.selection.partial,
                dirty: evidence.source.dirty != Some(false),
                cells: entry.verdicts(gates).iter().map(Cell::of).collect(),
            }
        };
        Self {
            gates: gates.gate.iter().map(heading).collect(),
            rows: latest.iter().map(row).collect(),
        }
    }
}

impl Cell {
    fn of(verdict: &GateVerdict) -> Self {
        let (look, sign) = match verdict.holds {
            Holds::Yes => ("good", "✓"),
            Holds::No => ("bad", "✗"),
            Holds::NotMeasured | Holds::Withheld => ("open", "–"),
        };
        Self {
            gate: verdict.gate.clone(),
            look,
            sign,
            words: verdict.holds.to_string(),
            reason: plain(&verdict.reason),
        }
    }
}
