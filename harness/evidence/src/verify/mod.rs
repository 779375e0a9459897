//! Is there fresh, passing, complete evidence for a tree on each platform it needs?
//!
//! Nothing here believes what a record says of itself: outcomes decide counts, cases decide verdicts, the lock
//! decides weights, and the policy, read at the base of the change, decides what is asked for. Each reason to reject
//! is one value of [`Rejection`]. All of them are reported, not the first.
//!
//! It is pure. What git and the file system say comes in as a [`Checkout`] and as [`Record`]s.

mod cases;
mod change;
mod computing;
mod figures;
mod host;
mod rejection;
mod report;
mod run;
mod source;
mod weights;

use std::collections::BTreeMap;

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use crate::canonical;
use crate::case::Outcome;
use crate::environment::Change;
use crate::policy::{Keys, Policy};
use crate::record::Evidence;
use crate::sign::{self, Signers};

pub use rejection::{Code, Page, Rejection, Waivable};
pub use report::{Finding, PlatformReport, RecordReport, Report};

use report::Builder;

type Rejections = Vec<Rejection>;

/// A file that says it is a record.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its name, without its folder.
    pub name: String,
    /// Its bytes, or the reason why they are not read.
    pub bytes: Result<Vec<u8>, Rejection>,
    /// The bytes of the `.dsse.json` beside it.
    pub envelope: Option<Vec<u8>>,
    /// Whether the `.junit.xml` beside it says what the record says.
    pub junit_agrees: bool,
}

/// What is known of the checkout that evidence is asked for.
pub struct Checkout<'a> {
    /// The digest of its guarded files.
    pub tree_sha256: String,
    /// The digest of its Cargo.lock, where that is guarded.
    pub lock_sha256: Option<String>,
    /// Guarded files that differ from its commit.
    pub changes: Vec<Change>,
    /// Of these, the ones that differ in their line endings alone.
    pub line_endings: Vec<String>,
    /// What the base is called.
    pub base: String,
    /// Files that the change edits, guarded or not.
    pub edited: Vec<String>,
    /// Guarded files that the base has edited since the change left it.
    pub base_moved: Vec<String>,
    /// Committed evidence that was edited or deleted later.
    pub rewritten: Vec<Rewritten>,
    /// Whether history is cut off.
    pub shallow: bool,
    /// The keys that the change would have.
    pub keys: Keys,
    /// The digest of a commit's guarded files, where the commit is known here.
    pub tree_of_commit: &'a dyn Fn(&str) -> Option<String>,
}

/// Committed evidence that did not stay as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewritten {
    /// The file.
    pub path: String,
    /// The commit that did it.
    pub commit: String,
    /// Whether the file is gone, rather than another.
    pub deleted: bool,
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// The platforms. None means those that the policy names.
    pub platforms: Vec<String>,
    /// Whether general availability is asked for.
    pub ga: bool,
    /// The time.
    pub now: Timestamp,
}

/// What is wrong with a run that its record alone shows: a tree that no commit has, or one that changed meanwhile, as
/// weights can. Whoever ran it should know before they commit the record.
#[must_use]
pub fn faults_of_the_run(evidence: &Evidence) -> Vec<Rejection> {
    let mut reasons = Vec::new();
    source::own(evidence, &mut reasons);
    weights::changed(evidence, &mut reasons);
    reasons
}

/// A record, judged by itself.
#[derive(Debug, Clone)]
struct Judged {
    file: String,
    evidence: Option<Evidence>,
    reasons: Rejections,
    signed_by: Vec<String>,
}

/// Answers the question from the records at hand.
///
/// Records of other trees are passed over, unless there is none of this tree: then the newest of each platform says
/// why it does not count.
pub fn verify(
    policy: &Policy,
    checkout: &Checkout<'_>,
    records: &[Record],
    question: &Question,
) -> Report {
    let mut judged: Vec<_> = records
        .iter()
        .map(|record| judge(policy, checkout, record, question))
        .collect();
    repeated(&mut judged);
    flakes(&mut judged, &checkout.tree_sha256);
    let mut report = Builder::new(policy, question.now.to_zoned(TimeZone::UTC).date());
    let mut sound = true;
    for reason in change::check(checkout) {
        // Policy may be waived for any one of the platforms; the rest is for none.
        sound &= report.add(&reason, None, platforms(policy, question).first());
    }
    sound &= report.waivers();
    let mut answers = Vec::new();
    for platform in platforms(policy, question) {
        answers.push(report.platform(&platform, &judged, &checkout.tree_sha256));
    }
    // What is no record cannot say which platform and tree it is of. It is nobody's evidence, and is not let pass.
    for record in judged.iter().filter(|record| record.evidence.is_none()) {
        for reason in &record.reasons {
            sound &= report.add(reason, Some(&record.file), None);
        }
    }
    Report {
        accepted: sound && answers.iter().all(|answer| answer.accepted),
        platforms: answers,
        findings: report.into_findings(),
    }
}

fn platforms(policy: &Policy, question: &Question) -> Vec<String> {
    if !question.platforms.is_empty() {
        question.platforms.clone()
    } else if question.ga {
        policy.request.ga.platforms.clone()
    } else {
        policy.request.platforms.clone()
    }
}

/// Judges a record by itself.
fn judge(policy: &Policy, checkout: &Checkout<'_>, record: &Record, question: &Question) -> Judged {
    let mut judged = Judged {
        file: record.name.clone(),
        evidence: None,
        reasons: Vec::new(),
        signed_by: Vec::new(),
    };
    let bytes = match &record.bytes {
        Ok(bytes) => bytes,
        Err(reason) => {
            judged.reasons.push(reason.clone());
            return judged;
        }
    };
    let evidence = match canonical::read(bytes) {
        Ok(evidence) => evidence,
        Err(reason) => {
            judged.reasons.push(reason);
            return judged;
        }
    };
    let reasons = &mut judged.reasons;
    let request = &policy.request;
    let (tier, signatures) = if question.ga {
        ("full", request.ga.signatures.max(request.signatures))
    } else {
        (request.tier.as_str(), request.signatures)
    };
    if !record.junit_agrees {
        reasons.push(Rejection::JunitDiffers {});
    }
    let stem = record.name.strip_suffix(".json").unwrap_or(&record.name);
    run::check(&evidence, stem, tier, question.now, reasons);
    source::check(&evidence, &request.repository, checkout, reasons);
    computing::check(&evidence, &policy.required, reasons);
    match policy.platform(&evidence.platform) {
        Some(platform) => {
            cases::check(&evidence, policy, platform, reasons);
            host::check(&evidence, platform, request, reasons);
            weights::check(&evidence, &policy.lock, platform, reasons);
            figures::check(&evidence, policy, platform, reasons);
        }
        None => reasons.push(Rejection::UnknownPlatform {
            platform: evidence.platform.clone(),
            known: names(policy),
        }),
    }
    if question.ga {
        figures::generally_available(&evidence, policy, reasons);
    }
    let signers = Signers {
        keys: &policy.keys,
        changed_keys: &checkout.keys,
        wanted: signatures,
    };
    match sign::check(record.envelope.as_deref(), bytes, &evidence, signers) {
        Ok(names) => judged.signed_by = names,
        Err(more) => reasons.extend(more),
    }
    reasons.sort_by_key(Rejection::code);
    judged.evidence = Some(evidence);
    judged
}

fn names(policy: &Policy) -> String {
    let names: Vec<_> = policy
        .platforms
        .iter()
        .map(|platform| platform.name.as_str())
        .collect();
    names.join(", ")
}

/// A run that two files record.
fn repeated(judged: &mut [Judged]) {
    let mut first: BTreeMap<String, String> = BTreeMap::new();
    for record in judged {
        let Some(evidence) = &record.evidence else {
            continue;
        };
        match first.get(&evidence.run_id) {
            Some(other) => record.reasons.push(Rejection::RunIdReused {
                run_id: evidence.run_id.clone(),
                other: other.clone(),
            }),
            None => drop(first.insert(evidence.run_id.clone(), record.file.clone())),
        }
    }
}

/// A case that passed in one run of the tree and did not in another one, on the same platform.
fn flakes(judged: &mut [Judged], tree: &str) {
    // A run that was interrupted did not fail: what it had not run, it had not run.
    let failed: Vec<_> = judged
        .iter()
        .filter_map(|record| record.evidence.as_ref())
        .filter(|evidence| evidence.source.tree_sha256 == tree)
        .flat_map(|evidence| {
            let bad = evidence.cases.iter().filter(|case| {
                matches!(
                    case.outcome,
                    Outcome::Failed | Outcome::Crashed | Outcome::TimedOut
                )
            });
            bad.map(|case| {
                let (platform, run_id) = (evidence.platform.clone(), evidence.run_id.clone());
                (platform, run::full_name(case), run_id)
            })
        })
        .collect();
    for record in judged {
        let Some(evidence) = &record.evidence else {
            continue;
        };
        for (platform, case, run_id) in &failed {
            let passed = evidence
                .cases
                .iter()
                .any(|own| own.outcome == Outcome::Passed && run::full_name(own) == *case);
            let same = evidence.platform == *platform && evidence.source.tree_sha256 == tree;
            if same && passed && evidence.run_id != *run_id {
                record.reasons.push(Rejection::Flake {
                    case: case.clone(),
                    run_id: run_id.clone(),
                });
            }
        }
    }
}

/// A value as JSON writes it, without the quotes of a text.
fn word(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    text.trim_matches('"').to_owned()
}
