//! Where records come from: host, model, source and build.

use kakeya_evidence::{Counts, Ending, ModelFile};
use serde::Serialize;

use super::{File, host_line};
use crate::collection::Entry;
use crate::escape::plain;
use crate::tables::{bytes, short};

/// The most records that are listed, the newest.
const MOST: usize = 100;

/// The table.
#[derive(Debug, Serialize)]
pub(super) struct Provenance {
    rows: Vec<Row>,
    left_out: usize,
}

#[derive(Debug, Serialize)]
struct Row {
    file: File,
    started: String,
    platform: String,
    tier: String,
    ending: Ending,
    outcomes: String,
    host: String,
    system: String,
    backend: String,
    models: Vec<String>,
    commit: String,
    tree: String,
    dirty: String,
    rustc: String,
    envelope: bool,
}

impl Provenance {
    pub(super) fn of(entries: &[Entry], folder: &str) -> Self {
        Self {
            rows: entries
                .iter()
                .take(MOST)
                .map(|entry| Row::of(entry, folder))
                .collect(),
            left_out: entries.len().saturating_sub(MOST),
        }
    }
}

impl Row {
    fn of(entry: &Entry, folder: &str) -> Self {
        let evidence = &entry.evidence;
        let host = &evidence.host;
        let source = &evidence.source;
        let model = |model: &ModelFile| {
            let size = bytes(model.size_bytes);
            plain(&format!("{} {size} {}", model.model, short(&model.sha256)))
        };
        Self {
            file: File::of(&entry.name, folder),
            started: format!("{:.0}", evidence.started),
            platform: plain(&evidence.platform),
            tier: plain(&evidence.tier),
            ending: evidence.ending,
            outcomes: Counts::of(&evidence.cases).last_line(),
            host: host_line(entry),
            system: plain(&format!(
                "{}, {}",
                host.os_version.as_deref().unwrap_or(&host.os),
                host.arch
            )),
            backend: match &evidence.backend {
                Some(backend) => plain(&format!(
                    "{} {}, {} threads, numerics {}",
                    backend.device, backend.isa, backend.threads, backend.numerics_version
                )),
                None => "unknown".to_owned(),
            },
            models: evidence.models.iter().map(model).collect(),
            commit: match &source.commit {
                Some(commit) => plain(&short(commit)),
                None => "none".to_owned(),
            },
            tree: plain(&short(&source.tree_sha256)),
            dirty: match source.dirty {
                Some(false) => "clean",
                Some(true) => "changed",
                None => "unknown",
            }
            .to_owned(),
            rustc: plain(&evidence.build.rustc),
            envelope: entry.has_envelope,
        }
    }
}
