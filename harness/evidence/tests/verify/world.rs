//! A tree with good evidence, and all that can be changed about it.

use std::collections::HashMap;

use ed25519_dalek::SigningKey;
use kakeya_evidence::policy::{Key, Keys, Policy, Waiver};
use kakeya_evidence::sign::{Envelope, public_text, sign};
use kakeya_evidence::verify::{Checkout, Question, Record, Rejection, Report, Rewritten, verify};
use kakeya_evidence::{Change, ChangeKind, Evidence, canonical};

use crate::good;

/// What the verifier is given.
pub struct World {
    pub policy: Policy,
    pub evidence: Evidence,
    /// Other records of the folder.
    pub others: Vec<Record>,
    pub checkout: OwnedCheckout,
    pub question: Question,
    pub file_name: String,
    pub junit_agrees: bool,
    /// Who signs the record.
    pub signers: Vec<SigningKey>,
    /// What happens to the envelope after signing.
    pub envelope: fn(&mut Envelope),
    /// What happens to the record's text after it was written.
    pub text: Box<dyn Fn(String) -> String>,
    pub unreadable: bool,
}

/// A [`Checkout`] that owns what it knows of commits.
pub struct OwnedCheckout {
    pub tree: String,
    pub lock: Option<String>,
    pub changes: Vec<Change>,
    pub line_endings: Vec<String>,
    pub edited: Vec<String>,
    pub base_moved: Vec<String>,
    pub rewritten: Vec<Rewritten>,
    pub shallow: bool,
    pub keys: Keys,
    pub commits: HashMap<String, String>,
}

impl World {
    pub fn good() -> Self {
        let evidence = good::good();
        Self {
            policy: good::policy(),
            file_name: format!("{}.json", canonical::stem(&evidence)),
            evidence,
            others: Vec::new(),
            checkout: OwnedCheckout {
                tree: good::TREE.into(),
                lock: Some("cc33".repeat(16)),
                changes: Vec::new(),
                line_endings: Vec::new(),
                edited: Vec::new(),
                base_moved: Vec::new(),
                rewritten: Vec::new(),
                shallow: false,
                keys: Keys::default(),
                commits: HashMap::from([(good::COMMIT.to_owned(), good::TREE.to_owned())]),
            },
            question: Question {
                platforms: Vec::new(),
                ga: false,
                // An hour after the run.
                now: "2026-01-02T04:10:05Z".parse().unwrap(),
            },
            junit_agrees: true,
            signers: Vec::new(),
            envelope: |_| (),
            text: Box::new(|text| text),
            unreadable: false,
        }
    }

    /// A world that general availability is asked of, and that has all it takes.
    pub fn generally_available() -> Self {
        let mut world = Self::good();
        world.question.ga = true;
        world.policy.request.ga.long_session_seconds = 30.0;
        world.evidence.tier = "full".into();
        world.sign(1);
        good::reseal(&mut world.evidence);
        world
    }

    /// Signs with a key that the policy knows.
    pub fn sign(&mut self, seed: u8) {
        self.signers.push(secret(seed));
        self.policy.keys.key.push(key(seed));
    }

    /// The record as it lies in the folder.
    pub fn record(&self) -> Record {
        let written = String::from_utf8(canonical::to_bytes(&self.evidence)).unwrap();
        let bytes = (self.text)(written).into_bytes();
        let envelope = (!self.signers.is_empty()).then(|| {
            let mut envelope = sign(&bytes, &self.signers);
            (self.envelope)(&mut envelope);
            envelope.to_bytes()
        });
        Record {
            name: self.file_name.clone(),
            bytes: if self.unreadable {
                Err(Rejection::Unreadable {
                    reason: "permission denied".into(),
                })
            } else {
                Ok(bytes)
            },
            envelope,
            junit_agrees: self.junit_agrees,
        }
    }

    pub fn verify(&self) -> Report {
        let mut records = self.others.clone();
        records.push(self.record());
        self.verify_these(&records)
    }

    pub fn verify_these(&self, records: &[Record]) -> Report {
        let own = &self.checkout;
        let tree_of_commit = |commit: &str| own.commits.get(commit).cloned();
        let checkout = Checkout {
            tree_sha256: own.tree.clone(),
            lock_sha256: own.lock.clone(),
            changes: own.changes.clone(),
            line_endings: own.line_endings.clone(),
            base: "main".into(),
            edited: own.edited.clone(),
            base_moved: own.base_moved.clone(),
            rewritten: own.rewritten.clone(),
            shallow: own.shallow,
            keys: own.keys.clone(),
            tree_of_commit: &tree_of_commit,
        };
        verify(&self.policy, &checkout, records, &self.question)
    }

    /// The codes of all findings that no waiver excuses.
    pub fn codes(&self) -> Vec<String> {
        let report = self.verify();
        let mut codes: Vec<_> = report
            .findings
            .into_iter()
            .filter(|finding| finding.waived.is_none())
            .map(|finding| finding.code)
            .collect();
        codes.dedup();
        codes
    }
}

pub fn secret(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub fn key(seed: u8) -> Key {
    Key {
        name: format!("key {seed}"),
        owner: "someone".into(),
        public: public_text(&secret(seed).verifying_key()),
        from: "2026-01-01T00:00:00Z".parse().unwrap(),
        until: "2027-01-01T00:00:00Z".parse().unwrap(),
        revoked: None,
    }
}

pub fn change(path: &str, kind: ChangeKind) -> Change {
    Change {
        path: path.into(),
        kind,
    }
}

/// A waiver for one case of the good run.
pub fn a_waiver() -> Waiver {
    Waiver {
        id: "W-1".into(),
        code: "EV-046".into(),
        platform: "linux-cpu".into(),
        subject: "perf::prefill".into(),
        reason: "known".into(),
        owner: "someone".into(),
        granted: "2026-01-01".parse().unwrap(),
        expires: "2026-02-01".parse().unwrap(),
    }
}
