//! Sessions put away: what is written is read, and anything else is refused by a reason.

use std::time::Duration;

use kakeya_core::snapshot::{SavedError, SavedSession};
use sha2::{Digest, Sha256};

fn saved() -> SavedSession {
    SavedSession {
        id: "sess-0000000000000000000000000000002a".parse().unwrap(),
        owner: u128::MAX - 1,
        idle: Duration::from_millis(61_500),
        snapshot: (0..=255).collect(),
    }
}

/// Bytes with a digest that fits.
fn sealed(header: &str, length: u32) -> Vec<u8> {
    let mut bytes = b"KAKEYAST\x01\0\0\0".to_vec();
    bytes.extend(length.to_le_bytes());
    bytes.extend(header.as_bytes());
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    bytes
}

#[test]
fn what_is_written_is_read() {
    let saved = saved();
    assert_eq!(
        SavedSession::from_bytes(&saved.to_bytes()),
        Ok(saved.clone())
    );
    let nobodys = SavedSession {
        owner: 0,
        idle: Duration::MAX,
        snapshot: Vec::new(),
        ..saved
    };
    let read = SavedSession::from_bytes(&nobodys.to_bytes()).unwrap();
    assert_eq!((read.owner, read.snapshot.len()), (0, 0));
    assert_eq!(read.idle, Duration::from_millis(u64::MAX));
}

#[test]
fn a_cut_or_a_changed_bit_anywhere_is_noticed() {
    let bytes = saved().to_bytes();
    for place in 0..bytes.len() {
        assert!(
            SavedSession::from_bytes(&bytes[..place]).is_err(),
            "cut at {place}"
        );
        let mut bent = bytes.clone();
        bent[place] ^= 0x20;
        assert!(SavedSession::from_bytes(&bent).is_err(), "byte {place}");
    }
}

#[test]
fn every_refusal_says_why() {
    let id = saved().id;
    for (bytes, told) in [
        (
            b"GGUF".to_vec(),
            "it is not a saved session: it does not begin with KAKEYAST",
        ),
        (
            b"KAKEYAST\x01".to_vec(),
            "it is damaged or cut short: its SHA-256 is not the one it ends with",
        ),
        (
            b"KAKEYAST\x01\0\0\0".to_vec(),
            "it is damaged or cut short: its SHA-256 is not the one it ends with",
        ),
        (
            b"KAKEYAST\x09\0\0\0".to_vec(),
            "it has format 9, and this version reads 1",
        ),
        (
            sealed("{}", 90),
            "its header cannot be read: it is longer than all of it",
        ),
        (
            sealed("", 0),
            "its header cannot be read: EOF while parsing a value at line 1 column 0",
        ),
        (
            sealed(r#"{"id":"x","owner":"0","idle_ms":1}"#, 34),
            "its header cannot be read: `x` is not a session id: `sess-` and 32 lowercase hexadecimal digits",
        ),
        (
            sealed(&format!(r#"{{"id":"{id}","owner":"x","idle_ms":1}}"#), 70),
            "its header cannot be read: `x` is no owner",
        ),
    ] {
        let error = SavedSession::from_bytes(&bytes).unwrap_err();
        assert_eq!(error.to_string(), told);
    }
    assert_eq!(SavedSession::from_bytes(b""), Err(SavedError::Foreign));
}
