//! Envelopes and statements as programs see them that were written elsewhere: the `dsse` crate, and the types of
//! sigstore's.

use dsse::{Ed25519Signer, Ed25519Verifier, Verifier};
use ed25519_dalek::SigningKey;
use kakeya_evidence::policy::{Key, Keys};
use kakeya_evidence::sign::{self, PAYLOAD_TYPE, Signers};
use kakeya_evidence::verify::Rejection;
use kakeya_evidence::{canonical, export};
use sigstore_types::Statement;

#[path = "support/good.rs"]
mod good;

const SEEDS: [[u8; 32]; 2] = [[1; 32], [2; 32]];

fn verifier(seed: &[u8; 32]) -> Ed25519Verifier {
    let signer = Ed25519Signer::from_bytes(seed).unwrap();
    // It counts keys by these names.
    signer.with_key_id(seed[0].to_string()).verifier()
}

/// The keys of a policy that trusts the seeds.
fn keys(seeds: &[[u8; 32]]) -> Keys {
    let key = |seed: &[u8; 32]| Key {
        name: format!("key {}", seed[0]),
        owner: "someone".into(),
        public: sign::public_text(&SigningKey::from_bytes(seed).verifying_key()),
        from: "2026-01-01T00:00:00Z".parse().unwrap(),
        until: "2027-01-01T00:00:00Z".parse().unwrap(),
        revoked: None,
    };
    Keys {
        key: seeds.iter().map(key).collect(),
    }
}

#[test]
fn the_dsse_crate_reads_our_envelope() {
    let record = canonical::to_bytes(&good::good());
    let secrets = SEEDS.map(|seed| SigningKey::from_bytes(&seed));
    let envelope = sign::sign(&record, &secrets).to_bytes();
    let envelope: dsse::Envelope = serde_json::from_slice(&envelope).unwrap();
    let verifiers = SEEDS.each_ref().map(verifier);
    let verifiers = verifiers.each_ref().map(|one| one as &dyn Verifier);
    let verified = dsse::verify(&envelope, &verifiers, 2).unwrap();
    assert_eq!(verified.payload, record);
    assert_eq!(verified.payload_type, PAYLOAD_TYPE);

    // And it does not take it from another key, or with another payload.
    let stranger = verifier(&[3; 32]);
    assert!(dsse::verify(&envelope, &[&stranger], 1).is_err());
    let mut edited = record;
    edited[20] ^= 1;
    let mut envelope = sign::sign(&edited, &[]);
    envelope.signatures = sign::sign(&canonical::to_bytes(&good::good()), &secrets).signatures;
    let envelope: dsse::Envelope = serde_json::from_slice(&envelope.to_bytes()).unwrap();
    assert!(dsse::verify(&envelope, &verifiers, 1).is_err());
}

#[test]
fn we_read_an_envelope_of_the_dsse_crate() {
    let evidence = good::good();
    let record = canonical::to_bytes(&evidence);
    let judged = |payload_type: &str, seed: &[u8; 32], trusted: &[[u8; 32]]| {
        let signer = Ed25519Signer::from_bytes(seed).unwrap();
        let envelope = dsse::sign(payload_type, &record, &signer).unwrap();
        let envelope = serde_json::to_vec(&envelope).unwrap();
        let (keys, none) = (keys(trusted), Keys::default());
        let signers = Signers {
            keys: &keys,
            changed_keys: &none,
            wanted: 1,
        };
        sign::check(Some(&envelope), &record, &evidence, signers)
    };
    assert_eq!(
        judged(PAYLOAD_TYPE, &SEEDS[0], &SEEDS),
        Ok(vec!["key 1".to_owned()])
    );
    let codes = |reasons: Result<_, Vec<Rejection>>| -> Vec<_> {
        let reasons = reasons.unwrap_err();
        reasons
            .iter()
            .map(|reason| reason.code().to_string())
            .collect()
    };
    assert_eq!(codes(judged(PAYLOAD_TYPE, &[3; 32], &SEEDS)), ["EV-181"]);
    assert_eq!(codes(judged("text/plain", &SEEDS[0], &SEEDS)), ["EV-183"]);
}

#[test]
fn a_record_is_a_statement_to_the_sigstore_types() {
    let evidence = good::good();
    let statement: Statement = serde_json::from_slice(&canonical::to_bytes(&evidence)).unwrap();
    assert_eq!(statement.type_, "https://in-toto.io/Statement/v1");
    assert_eq!(statement.predicate_type, "urn:kakeya:evidence:v2");
    let [tree, commit] = &statement.subject[..] else {
        panic!("{:?}", statement.subject);
    };
    let digest = tree.digest.sha256.as_ref().map(|hash| hash.to_hex());
    assert_eq!(digest, Some(evidence.source.tree_sha256));
    assert_eq!(
        commit.digest.other.get("gitCommit"),
        evidence.source.commit.as_ref()
    );
    assert_eq!(statement.predicate["run_id"], evidence.run_id);
}

#[test]
fn the_export_is_a_statement_too() {
    let evidence = good::good();
    let bytes = export::test_result(&evidence).to_bytes();
    let statement: Statement = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(
        statement.predicate_type,
        "https://in-toto.io/attestation/test-result/v0.1"
    );
    let passed = statement.predicate["passedTests"].as_array().unwrap();
    assert_eq!(passed.len(), evidence.cases.len());
}
