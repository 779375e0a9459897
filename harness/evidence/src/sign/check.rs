//! Whether those have signed a record who should have.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::VerifyingKey;

use super::{Envelope, PAYLOAD_TYPE, pre_authentication_encoding, public_key};
use crate::policy::{Key, Keys};
use crate::record::Evidence;
use crate::verify::Rejection;

/// What is needed to judge signatures.
#[derive(Debug, Clone, Copy)]
pub struct Signers<'a> {
    /// The keys at the base.
    pub keys: &'a Keys,
    /// The keys that the change would have.
    pub changed_keys: &'a Keys,
    /// How many different keys must have signed.
    pub wanted: usize,
}

/// Who has signed a record. `envelope` is the file beside it, where there is one.
///
/// # Errors
/// Every reason why the signatures are not enough. A signature that is no good is a reason also where none is asked
/// for.
pub fn check(
    envelope: Option<&[u8]>,
    record: &[u8],
    evidence: &Evidence,
    signers: Signers<'_>,
) -> Result<Vec<String>, Vec<Rejection>> {
    let Some(envelope) = envelope else {
        return match signers.wanted {
            0 => Ok(Vec::new()),
            _ => Err(vec![Rejection::Unsigned {}]),
        };
    };
    let envelope = read(envelope, record).map_err(|reason| vec![reason])?;
    let signed = pre_authentication_encoding(PAYLOAD_TYPE, record);
    let mut names = Vec::new();
    let mut counted: Vec<VerifyingKey> = Vec::new();
    let mut reasons = Vec::new();
    let mut known = false;
    for (key, public) in usable(signers.keys) {
        if !has_signed(&envelope, &public, &signed) {
            continue;
        }
        known = true;
        match fault(key, evidence) {
            Some(reason) => reasons.push(reason),
            // One key under two names is one key.
            None if counted.contains(&public) => {}
            None => {
                counted.push(public);
                names.push(key.name.clone());
            }
        }
    }
    if !known {
        let added = usable(signers.changed_keys)
            .find(|(_, public)| has_signed(&envelope, public, &signed))
            .map(|(key, _)| key.name.clone());
        reasons.push(match added {
            Some(key) => Rejection::KeyAddedByChange { key },
            None => Rejection::BadSignature {
                keys: signers.keys.key.len(),
            },
        });
    } else if names.len() < signers.wanted {
        reasons.push(Rejection::TooFewSigners {
            found: names.len(),
            wanted: signers.wanted,
        });
    }
    if reasons.is_empty() {
        Ok(names)
    } else {
        Err(reasons)
    }
}

/// Reads an envelope around these bytes.
fn read(envelope: &[u8], record: &[u8]) -> Result<Envelope, Rejection> {
    let malformed = |reason: String| Rejection::EnvelopeMalformed { reason };
    let envelope: Envelope =
        serde_json::from_slice(envelope).map_err(|error| malformed(error.to_string()))?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(Rejection::PayloadType {
            found: envelope.payload_type,
            wanted: PAYLOAD_TYPE.to_owned(),
        });
    }
    let payload = STANDARD
        .decode(&envelope.payload)
        .map_err(|error| malformed(format!("its payload is not base64: {error}")))?;
    if payload != record {
        return Err(Rejection::PayloadDiffers {});
    }
    Ok(envelope)
}

/// The keys that are keys. A malformed one is refused when policy is read.
fn usable(keys: &Keys) -> impl Iterator<Item = (&Key, VerifyingKey)> {
    keys.key
        .iter()
        .filter_map(|key| Some((key, public_key(&key.public).ok()?)))
}

fn has_signed(envelope: &Envelope, key: &VerifyingKey, signed: &[u8]) -> bool {
    envelope.signatures.iter().any(|signature| {
        STANDARD
            .decode(&signature.sig)
            .ok()
            .and_then(|bytes| ed25519_dalek::Signature::from_slice(&bytes).ok())
            .is_some_and(|signature| key.verify_strict(signed, &signature).is_ok())
    })
}

/// Why a key that has signed does not count. A key is judged at the end of the run, which is the earliest that the
/// record can have been signed.
fn fault(key: &Key, evidence: &Evidence) -> Option<Rejection> {
    let name = || key.name.clone();
    if let Some(reason) = &key.revoked {
        let reason = reason.clone();
        return Some(Rejection::KeyRevoked {
            key: name(),
            reason,
        });
    }
    let signed = evidence.ended.unwrap_or(evidence.started);
    if signed < key.from {
        return Some(Rejection::KeyTooYoung {
            key: name(),
            from: key.from.to_string(),
            signed: signed.to_string(),
        });
    }
    (signed >= key.until).then(|| Rejection::KeyExpired {
        key: name(),
        until: key.until.to_string(),
        signed: signed.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::{public_text, sign};
    use crate::{canonical, fixture};
    use ed25519_dalek::SigningKey;

    fn secret(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn key(seed: u8) -> Key {
        Key {
            name: format!("key {seed}"),
            owner: "someone".into(),
            public: public_text(&secret(seed).verifying_key()),
            from: "2026-01-01T00:00:00Z".parse().unwrap(),
            until: "2027-01-01T00:00:00Z".parse().unwrap(),
            revoked: None,
        }
    }

    fn keys(all: impl IntoIterator<Item = Key>) -> Keys {
        Keys {
            key: all.into_iter().collect(),
        }
    }

    /// Signs the good record under some keys and checks it against others.
    fn judged(
        seeds: &[u8],
        known: Keys,
        wanted: usize,
        change: impl FnOnce(&mut Envelope),
    ) -> Result<Vec<String>, Vec<u16>> {
        let evidence = fixture::good();
        let record = canonical::to_bytes(&evidence);
        let secrets: Vec<_> = seeds.iter().map(|seed| secret(*seed)).collect();
        let mut envelope = sign(&record, &secrets);
        change(&mut envelope);
        let changed_keys = keys([key(9)]);
        let signers = Signers {
            keys: &known,
            changed_keys: &changed_keys,
            wanted,
        };
        check(Some(&envelope.to_bytes()), &record, &evidence, signers)
            .map_err(|reasons| reasons.iter().map(|reason| reason.code().0).collect())
    }

    #[test]
    fn a_known_key_counts_whatever_the_keyid_says() {
        let good = judged(&[1], keys([key(1)]), 1, |_| ());
        assert_eq!(good, Ok(vec!["key 1".to_owned()]));
        let good = judged(&[1, 2], keys([key(2)]), 1, |envelope| {
            envelope.signatures[1].keyid = "another".into();
        });
        assert_eq!(good, Ok(vec!["key 2".to_owned()]));
    }

    #[test]
    fn without_an_envelope_a_record_is_unsigned() {
        let evidence = fixture::good();
        let (known, none) = (keys([key(1)]), Keys::default());
        let judge = |wanted| {
            let signers = Signers {
                keys: &known,
                changed_keys: &none,
                wanted,
            };
            check(None, b"", &evidence, signers)
        };
        assert_eq!(judge(0), Ok(Vec::new()));
        assert_eq!(judge(1), Err(vec![Rejection::Unsigned {}]));
    }

    #[test]
    fn an_edited_envelope_is_refused() {
        for (change, code) in [
            (
                (|envelope: &mut Envelope| envelope.payload_type.push('x')) as fn(&mut Envelope),
                183,
            ),
            (|envelope| envelope.payload = STANDARD.encode("{}"), 182),
            (|envelope| envelope.payload.push('!'), 191),
            (
                |envelope| envelope.signatures[0].sig.replace_range(..4, "AAAA"),
                181,
            ),
            (|envelope| envelope.signatures[0].sig.clear(), 181),
            (|envelope| envelope.signatures.clear(), 181),
        ] {
            assert_eq!(
                judged(&[1], keys([key(1)]), 0, change),
                Err(vec![code]),
                "{code}"
            );
        }
        let evidence = fixture::good();
        let known = keys([key(1)]);
        let signers = Signers {
            keys: &known,
            changed_keys: &known,
            wanted: 0,
        };
        let reasons = check(Some(b"{}"), b"", &evidence, signers).unwrap_err();
        assert_eq!(reasons[0].code().0, 191);
    }

    #[test]
    fn keys_that_do_not_count() {
        let with = |change: fn(&mut Key)| {
            let mut key = key(1);
            change(&mut key);
            judged(&[1], keys([key]), 1, |_| ())
        };
        // A reason for the key, and one for the missing signer.
        assert_eq!(
            with(|key| key.revoked = Some("lost".into())),
            Err(vec![186, 188])
        );
        assert_eq!(
            with(|key| key.until = "2026-01-02T00:00:00Z".parse().unwrap()),
            Err(vec![184, 188])
        );
        assert_eq!(
            with(|key| key.from = "2026-01-03T00:00:00Z".parse().unwrap()),
            Err(vec![185, 188])
        );
        assert_eq!(with(|key| key.public = "no key".into()), Err(vec![181]));
        assert_eq!(judged(&[3], keys([key(1)]), 1, |_| ()), Err(vec![181]));
        assert_eq!(judged(&[9], keys([key(1)]), 1, |_| ()), Err(vec![187]));
    }

    #[test]
    fn a_key_counts_once() {
        let twice = keys([
            key(1),
            Key {
                name: "the same".into(),
                ..key(1)
            },
        ]);
        assert_eq!(judged(&[1, 1], twice, 2, |_| ()), Err(vec![188]));
        let both = judged(&[1, 2], keys([key(1), key(2)]), 2, |_| ());
        assert_eq!(both.map(|names| names.len()), Ok(2));
    }
}
