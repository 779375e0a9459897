//! Signatures on a record: a DSSE envelope whose payload is the record's own bytes.
//!
//! A signature says who vouches for a record. It does not say that the tests ran: whoever holds a key can sign
//! anything. Which keys count is policy, read at the base of a change. The `keyid` in an envelope is a hint that
//! nothing depends on: every signature is tried under every key.
//!
//! Sources: DSSE 1.0 (secure-systems-lab/dsse, protocol.md and envelope.md); Ed25519, RFC 8032, verified strictly
//! (no key of small order, no second form of a signature).

mod check;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::hex;

pub use check::{Signers, check};

/// The type of an envelope's payload: an in-toto statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// A signed payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// The payload, in standard base64.
    pub payload: String,
    /// What the payload is.
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// Signatures over both.
    pub signatures: Vec<Signature>,
}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// Which key may have made it. Nothing depends on it.
    #[serde(default)]
    pub keyid: String,
    /// 64 bytes in standard base64.
    pub sig: String,
}

/// The bytes that are signed: DSSE's pre-authentication encoding of a payload and its type.
#[must_use]
pub fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    )
    .into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// Signs the bytes of a record under each key.
#[must_use]
pub fn sign(record: &[u8], keys: &[SigningKey]) -> Envelope {
    let signed = pre_authentication_encoding(PAYLOAD_TYPE, record);
    Envelope {
        payload: STANDARD.encode(record),
        payload_type: PAYLOAD_TYPE.to_owned(),
        signatures: keys
            .iter()
            .map(|key| Signature {
                keyid: key_id(&key.verifying_key()),
                sig: STANDARD.encode(key.sign(&signed).to_bytes()),
            })
            .collect(),
    }
}

impl Envelope {
    /// The envelope as it is kept in a file: one line of JSON.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("an envelope is made of texts");
        bytes.push(b'\n');
        bytes
    }
}

/// A name for a key that follows from it: SHA-256 of its 32 bytes.
#[must_use]
pub fn key_id(key: &VerifyingKey) -> String {
    hex::sha256(key.as_bytes())
}

/// A public key as the policy writes it.
#[must_use]
pub fn public_text(key: &VerifyingKey) -> String {
    STANDARD.encode(key.as_bytes())
}

/// Reads a public key as the policy writes it.
///
/// # Errors
/// What is wrong with the text.
pub fn public_key(text: &str) -> Result<VerifyingKey, String> {
    let bytes = STANDARD
        .decode(text)
        .map_err(|error| format!("`{text}` is not base64: {error}"))?;
    let bytes: [u8; 32] = bytes.try_into().map_err(|bytes: Vec<u8>| {
        format!("`{text}` has {} bytes, and a key has 32", bytes.len())
    })?;
    let key = VerifyingKey::from_bytes(&bytes)
        .map_err(|error| format!("`{text}` is no Ed25519 key: {error}"))?;
    if key.is_weak() {
        return Err(format!("`{text}` is a key that anybody can sign for"));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_the_one_of_the_dsse_specification() {
        // The example of protocol.md.
        let bytes = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
        assert_eq!(
            bytes,
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn a_public_key_is_read_as_it_is_written() {
        let key = SigningKey::from_bytes(&[7; 32]).verifying_key();
        assert_eq!(public_key(&public_text(&key)), Ok(key));
        for (text, why) in [
            ("not base64!", "is not base64"),
            ("AAAA", "has 3 bytes, and a key has 32"),
            // A point that is on no curve, and the point of order one.
            (
                "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
                "is no Ed25519 key",
            ),
            (
                "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
                "is a key that anybody can sign for",
            ),
        ] {
            let error = public_key(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
