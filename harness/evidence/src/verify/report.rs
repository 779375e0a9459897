//! The answer of the verifier, and how findings become one.

use jiff::civil::Date;
use serde::Serialize;

use super::{Judged, Rejection};
use crate::policy::Policy;

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[must_use]
pub struct Report {
    /// Whether there is evidence for every platform, and no reason against it that is not waived.
    pub accepted: bool,
    /// What was found for each platform.
    pub platforms: Vec<PlatformReport>,
    /// Every reason, in the order of records and codes.
    pub findings: Vec<Finding>,
}

/// What was found for a platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlatformReport {
    /// The platform.
    pub platform: String,
    /// The records of this tree.
    pub records: Vec<RecordReport>,
    /// Whether one of them is accepted.
    pub accepted: bool,
}

/// What was found of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordReport {
    /// The file.
    pub file: String,
    /// Whether it is accepted.
    pub accepted: bool,
    /// The names of the keys that vouch for it. Empty means that it is unsigned.
    pub signed_by: Vec<String>,
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its code.
    pub code: String,
    /// What was found and what was expected.
    pub message: String,
    /// The record it is about, where it is about one.
    pub file: Option<String>,
    /// The platform it is about, where it is about one.
    pub platform: Option<String>,
    /// The waiver that excuses it, and why.
    pub waived: Option<String>,
}

/// Collects findings, and knows which of them are waived.
pub(super) struct Builder<'a> {
    policy: &'a Policy,
    today: Date,
    findings: Vec<Finding>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(policy: &'a Policy, today: Date) -> Self {
        Self {
            policy,
            today,
            findings: Vec::new(),
        }
    }

    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }

    /// Adds a reason. Says whether it is waived.
    pub(super) fn add(
        &mut self,
        reason: &Rejection,
        file: Option<&str>,
        platform: Option<&String>,
    ) -> bool {
        let waived = platform.and_then(|platform| {
            let waivers = &self.policy.waivers.waiver;
            waivers
                .iter()
                .filter(|waiver| waiver.faults(self.today).is_empty())
                .find(|waiver| waiver.excuses(reason, platform))
                .map(|waiver| format!("{}: {} ({})", waiver.id, waiver.reason, waiver.owner))
        });
        let is_waived = waived.is_some();
        self.findings.push(Finding {
            code: reason.code().to_string(),
            message: reason.to_string(),
            file: file.map(str::to_owned),
            platform: platform.filter(|_| file.is_some()).cloned(),
            waived,
        });
        is_waived
    }

    /// The faults of the waivers themselves.
    pub(super) fn waivers(&mut self) -> bool {
        let waivers = &self.policy.waivers.waiver;
        let faults: Vec<_> = waivers
            .iter()
            .flat_map(|waiver| waiver.faults(self.today))
            .collect();
        for fault in &faults {
            self.add(fault, None, None);
        }
        faults.is_empty()
    }

    /// What the records say of a platform.
    pub(super) fn platform(
        &mut self,
        platform: &str,
        judged: &[Judged],
        tree: &str,
    ) -> PlatformReport {
        let own = |record: &&Judged| {
            let evidence = record.evidence.as_ref();
            evidence.is_some_and(|evidence| evidence.platform == platform)
        };
        let of_tree = |record: &&Judged| {
            let evidence = record.evidence.as_ref();
            evidence.is_some_and(|evidence| evidence.source.tree_sha256 == tree)
        };
        let platform_name = platform.to_owned();
        let mut records: Vec<_> = judged.iter().filter(own).filter(of_tree).collect();
        if records.is_empty() {
            self.add(
                &Rejection::NoEvidence {
                    platform: platform_name.clone(),
                },
                None,
                Some(&platform_name),
            );
            // The newest of another tree, to say what is wrong with it.
            let started = |record: &&Judged| record.evidence.as_ref().map(|e| e.started);
            records.extend(judged.iter().filter(own).max_by_key(started));
        }
        let whole = |record: &Judged| {
            let evidence = record.evidence.as_ref();
            evidence.is_some_and(|evidence| !evidence.selection.partial)
        };
        // A run of a part claims nothing, and takes nothing from a whole one.
        if records.iter().any(|record| whole(record)) {
            records.retain(|record| whole(record));
        }
        let mut reports = Vec::new();
        for record in records {
            let mut accepted = true;
            for reason in &record.reasons {
                accepted &= self.add(reason, Some(&record.file), Some(&platform_name));
            }
            reports.push(RecordReport {
                file: record.file.clone(),
                accepted,
                signed_by: record.signed_by.clone(),
            });
        }
        PlatformReport {
            accepted: !reports.is_empty() && reports.iter().all(|record| record.accepted),
            platform: platform_name,
            records: reports,
        }
    }
}
