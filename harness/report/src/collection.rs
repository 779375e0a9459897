//! All records of a folder, read and ordered, for whatever shows them.

use std::path::Path;

use kakeya_evidence::policy::GatePolicy;
use kakeya_evidence::verdict::{Facts, verdicts};
use kakeya_evidence::verify::Record;
use kakeya_evidence::{Evidence, GateVerdict, Holds, canonical};

use crate::folder::{self, Folder, Older};
use crate::store::StoreError;

/// The records of a folder.
#[derive(Debug, Clone, Default)]
pub struct Collection {
    /// Those that can be read, the newest first.
    pub entries: Vec<Entry>,
    /// Those that cannot, by name.
    pub unread: Vec<Unread>,
    /// Those of the first generation, by name.
    pub older: Vec<Older>,
}

/// A record that can be read. Whether it counts is for the verifier to say.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The file, without its folder.
    pub name: String,
    /// The record.
    pub evidence: Evidence,
    /// Whether an envelope lies beside it. Whose signature it holds is for the verifier to say.
    pub has_envelope: bool,
}

impl Entry {
    /// The gates' verdicts, recomputed from the cases.
    #[must_use]
    pub fn verdicts(&self, gates: &GatePolicy) -> Vec<GateVerdict> {
        verdicts(gates, Facts::of(&self.evidence))
    }

    /// The short names of the gates that hold, in the policy's order.
    #[must_use]
    pub fn holding(&self, gates: &GatePolicy) -> Vec<String> {
        let holding = |verdict: &GateVerdict| verdict.holds == Holds::Yes;
        self.verdicts(gates)
            .into_iter()
            .filter(holding)
            .map(|verdict| verdict.gate)
            .collect()
    }
}

/// A file that says it is a record and is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The file, without its folder.
    pub name: String,
    /// Why.
    pub reason: String,
}

impl Collection {
    /// Reads every record of a folder.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        Ok(Self::of(folder::read(directory)?))
    }

    /// Orders what a folder holds.
    #[must_use]
    pub fn of(folder: Folder) -> Self {
        let mut collection = Self::from_records(&folder.records);
        collection.older = folder.older;
        collection
    }

    /// Orders records.
    #[must_use]
    pub fn from_records(records: &[Record]) -> Self {
        let mut collection = Self::default();
        for record in records {
            let read = record
                .bytes
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|bytes| canonical::read(bytes));
            let name = record.name.clone();
            match read {
                Ok(evidence) => collection.entries.push(Entry {
                    name,
                    evidence,
                    has_envelope: record.envelope.is_some(),
                }),
                Err(reason) => collection.unread.push(Unread {
                    name,
                    reason: reason.to_string(),
                }),
            }
        }
        collection.entries.sort_by(|a, b| {
            let started = b.evidence.started.cmp(&a.evidence.started);
            started.then_with(|| a.name.cmp(&b.name))
        });
        collection
    }

    /// The newest record of each platform that may speak for it, by platform: of a whole run where there is one.
    #[must_use]
    pub fn latest(&self) -> Vec<&Entry> {
        let mut latest: Vec<&Entry> = Vec::new();
        let partial = |entry: &&Entry| entry.evidence.selection.partial;
        let (parts, wholes): (Vec<_>, Vec<_>) = self.entries.iter().partition(partial);
        for entry in wholes.into_iter().chain(parts) {
            let platform = &entry.evidence.platform;
            if !latest
                .iter()
                .any(|known| known.evidence.platform == *platform)
            {
                latest.push(entry);
            }
        }
        latest.sort_by(|a, b| a.evidence.platform.cmp(&b.evidence.platform));
        latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use std::fs;

    fn record(name: &str, started: &str, platform: &str, partial: bool) -> Record {
        let mut evidence = fixture::good();
        evidence.started = started.parse().unwrap();
        evidence.platform = platform.into();
        evidence.selection.partial = partial;
        canonical::seal(&mut evidence);
        Record {
            name: name.into(),
            bytes: Ok(canonical::to_bytes(&evidence)),
            envelope: None,
            junit_agrees: true,
        }
    }

    #[test]
    fn the_newest_is_first_and_a_whole_run_speaks_for_its_platform() {
        let collection = Collection::from_records(&[
            record("b", "2026-01-01T00:00:00Z", "linux-cpu", false),
            record("a", "2026-01-01T00:00:00Z", "linux-cpu", false),
            record("c", "2026-01-03T00:00:00Z", "linux-cpu", true),
            record("d", "2026-01-02T00:00:00Z", "aix", true),
        ]);
        let names: Vec<_> = collection.entries.iter().map(|e| &e.name[..]).collect();
        assert_eq!(names, ["c", "d", "a", "b"]);
        let latest: Vec<_> = collection.latest().iter().map(|e| &e.name[..]).collect();
        assert_eq!(latest, ["d", "a"]);
    }

    #[test]
    fn what_is_no_record_is_kept_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a-1-b.json"), "{").unwrap();
        fs::create_dir(directory.path().join("c-1-d.json")).unwrap();
        fs::write(
            directory.path().join("e-1-f.json"),
            "{\"schema_version\":\"1.0\"",
        )
        .unwrap();
        let collection = Collection::open(directory.path()).unwrap();
        let reasons: Vec<_> = collection.unread.iter().map(|u| &u.reason[..]).collect();
        assert_eq!(
            reasons,
            [
                "the JSON ends after 1 bytes, in the middle of a value",
                "the file cannot be read: it is no plain file"
            ]
        );
        assert_eq!(collection.older.len(), 1);
        assert!(Collection::open(&directory.path().join("missing")).is_err());
    }

    #[test]
    fn verdicts_are_recomputed() {
        let mut evidence = fixture::good();
        for verdict in &mut evidence.verdicts {
            verdict.holds = Holds::Yes;
        }
        evidence.long_session = None;
        let entry = Entry {
            name: "a".into(),
            evidence,
            has_envelope: false,
        };
        assert_eq!(entry.holding(&fixture::policy().gates), ["G3"]);
    }
}
