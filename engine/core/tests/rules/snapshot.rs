//! Snapshots as bytes: what is written is read back, and whatever else comes is refused by name.

use std::collections::HashSet;

use kakeya_core::{
    CacheConfig, KvElement, KvStorage, PositionPolicy, SessionImage, SlabShape, Snapshot,
    SnapshotError, SnapshotReader, SnapshotWriter, StateSettings, Window,
};
use sha2::{Digest, Sha256};

const SHAPE: SlabShape = SlabShape {
    kv_heads: 1,
    head_dim: 4,
    slots: 2,
    element: KvElement::F16,
};
const SLAB_BYTES: u64 = 32;
const KV: [u8; 20] = *b"twenty bytes of KV..";

fn settings() -> StateSettings {
    StateSettings::new(
        "ab".repeat(32),
        String::new(),
        1,
        5,
        CacheConfig {
            sink: 4,
            window: Window::Sliding(16),
            positions: PositionPolicy::Streaming,
        },
        KvElement::F16,
    )
}

fn image(history: &[u32]) -> SessionImage {
    let logits = [0.5, -1.0, f32::INFINITY, f32::from_bits(0x7fc0_0001), 0.0];
    SessionImage {
        label: "a \"label\"\n".to_owned(),
        eos_token_ids: vec![2, u32::MAX],
        history: history.to_vec(),
        storage: KvStorage::new(SHAPE).unwrap(),
        next_logits: match history {
            [] => Vec::new(),
            _ => logits.to_vec(),
        },
    }
}

fn written(image: &SessionImage, kv: &[u8]) -> Vec<u8> {
    let mut writer = SnapshotWriter::new(&settings(), image, kv.len());
    for half in kv.chunks(11) {
        writer.push_kv(half);
    }
    writer.finish(&image.next_logits)
}

fn read(bytes: &[u8], piece: usize) -> Result<Snapshot, SnapshotError> {
    let mut reader = SnapshotReader::new(settings(), SLAB_BYTES);
    for part in bytes.chunks(piece) {
        reader.push(part)?;
    }
    reader.finish()
}

fn refused(bytes: &[u8]) -> SnapshotError {
    let errors = [1, 7, bytes.len()].map(|piece| read(bytes, piece).unwrap_err());
    assert_eq!(errors[0], errors[1], "however it is cut");
    assert_eq!(errors[0], errors[2], "however it is cut");
    errors[0].clone()
}

/// A snapshot whose header is `header`, with a digest that is right.
fn with_header(header: &str, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"KAKEYASS\x01\0\0\0".to_vec();
    bytes.extend((header.len() as u32).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(rest);
    sealed(bytes)
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let digest = Sha256::digest(&bytes);
    bytes.extend(&digest[..]);
    bytes
}

/// The header of `image(&[1, 2, 3])` with one text in it replaced.
fn edited(from: &str, to: &str) -> Vec<u8> {
    let bytes = written(&image(&[1, 2, 3]), &KV);
    let length = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[16..16 + length]).unwrap();
    assert!(header.contains(from), "{header}");
    let rest = &bytes[16 + length..bytes.len() - 32];
    with_header(&header.replacen(from, to, 1), rest)
}

#[test]
fn what_is_written_is_read_back_however_it_comes() {
    for history in [&[] as &[u32], &[3], &[0, 4, 1, 1, 2]] {
        let image = image(history);
        let bytes = written(&image, &KV);
        for piece in [1, 2, 13, bytes.len()] {
            let snapshot = read(&bytes, piece).unwrap();
            assert_eq!(snapshot.label(), image.label);
            assert_eq!(snapshot.eos_token_ids(), image.eos_token_ids);
            assert_eq!(snapshot.history(), history);
            assert_eq!(snapshot.kv(), KV);
            let bits = |logits: &mut dyn Iterator<Item = f32>| -> Vec<u32> {
                logits.map(f32::to_bits).collect()
            };
            assert_eq!(
                bits(&mut snapshot.next_logits()),
                bits(&mut image.next_logits.iter().copied())
            );
        }
    }
}

#[test]
fn a_snapshot_that_ends_early_is_told_apart_at_every_byte() {
    let bytes = written(&image(&[1, 2]), &KV);
    let header = 16 + u64::from(u32::from_le_bytes(bytes[12..16].try_into().unwrap()));
    for found in 0..bytes.len() {
        let expected = match found as u64 {
            found if found < 16 => 16,
            found if found < header => header,
            _ => bytes.len() as u64,
        };
        let truncated = SnapshotError::Truncated {
            found: found as u64,
            expected,
        };
        assert_eq!(read(&bytes[..found], 5).unwrap_err(), truncated);
    }
}

#[test]
fn a_snapshot_that_goes_on_after_its_end_is_refused() {
    let mut bytes = written(&image(&[1, 2]), &KV);
    let expected = bytes.len() as u64;
    bytes.push(0);
    assert_eq!(refused(&bytes), SnapshotError::TooLong { expected });
}

#[test]
fn every_changed_byte_is_noticed() {
    let bytes = written(&image(&[1, 2]), &KV);
    for at in 0..bytes.len() {
        let mut bent = bytes.clone();
        bent[at] ^= 1;
        assert!(read(&bent, 64).is_err(), "byte {at}");
    }
    let mut bent = bytes;
    *bent.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&bent), SnapshotError::Damaged);
}

#[test]
fn what_is_no_snapshot_is_refused_at_its_first_bytes() {
    let mut reader = SnapshotReader::new(settings(), SLAB_BYTES);
    assert_eq!(reader.push(b"KAKE"), Ok(()));
    assert_eq!(reader.push(b"X"), Err(SnapshotError::Foreign));
    let found = SnapshotError::Format { found: 2 };
    assert_eq!(refused(b"KAKEYASS\x02\0\0\0more"), found);
}

#[test]
fn a_header_that_cannot_be_one_is_refused_before_more_comes() {
    for (bytes, part) in [
        (
            b"KAKEYASS\x01\0\0\0\xff\xff\xff\xff".to_vec(),
            "4294967295 bytes",
        ),
        (with_header("{}", &[]), "missing field `settings`"),
        (with_header("\u{0}", &[]), "expected value"),
        (
            edited("\"label\"", "\"mood\":1,\"label\""),
            "unknown field `mood`",
        ),
        (
            edited("\"history\":3", "\"history\":67108865"),
            "67108865 tokens, and may have 67108864",
        ),
    ] {
        let error = refused(&bytes);
        assert!(matches!(error, SnapshotError::Header { .. }), "{error:?}");
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
}

#[test]
fn lengths_that_do_not_fit_the_engine_are_refused() {
    let more = edited("\"kv\":20", "\"kv\":33");
    let slab = SnapshotError::Kv {
        found: 33,
        expected: SLAB_BYTES,
    };
    assert_eq!(refused(&more), slab);
    let fewer = SnapshotError::Logits {
        found: 4,
        history: 3,
        expected: 5,
    };
    assert_eq!(refused(&edited("\"logits\":5", "\"logits\":4")), fewer);
    let none = SnapshotError::Logits {
        found: 5,
        history: 0,
        expected: 0,
    };
    assert_eq!(refused(&edited("\"history\":3", "\"history\":0")), none);
}

#[test]
fn tokens_that_the_model_does_not_have_are_refused_by_place() {
    let token = SnapshotError::Token {
        index: 1,
        token: 5,
        vocabulary: 5,
    };
    assert_eq!(refused(&written(&image(&[4, 5, 9]), &KV)), token);
}

#[test]
fn a_state_made_with_another_setting_is_refused_by_its_name() {
    let ours = settings();
    let others = [
        ("model_sha256", "cd".repeat(32)),
        ("quantized", "q8_0".to_owned()),
        ("numerics", "2".to_owned()),
        ("sink", "5".to_owned()),
        ("window", "full".to_owned()),
        ("positions", "global".to_owned()),
        ("kv", "int8".to_owned()),
        ("vocabulary", "6".to_owned()),
    ];
    let mut digests = HashSet::from([ours.digest()]);
    for (setting, value) in others {
        let mut theirs = ours.clone();
        match setting {
            "model_sha256" => theirs.model_sha256.clone_from(&value),
            "quantized" => theirs.quantized.clone_from(&value),
            "numerics" => theirs.numerics = 2,
            "sink" => theirs.sink = 5,
            "window" => theirs.window.clone_from(&value),
            "positions" => theirs.positions.clone_from(&value),
            "kv" => theirs.kv.clone_from(&value),
            _ => theirs.vocabulary = 6,
        }
        let Err(SnapshotError::Setting {
            setting: found,
            snapshot,
            ..
        }) = ours.accept(&theirs)
        else {
            panic!("{setting} is another, and was taken")
        };
        assert_eq!((found, snapshot), (setting, value));
        assert!(
            digests.insert(theirs.digest()),
            "the digest knows {setting}"
        );
    }
    assert_eq!(ours.accept(&settings()), Ok(()));
    assert_eq!(ours.digest(), settings().digest());
    let other = edited("\"sink\":4", "\"sink\":9");
    assert!(matches!(
        refused(&other),
        SnapshotError::Setting {
            setting: "sink",
            ..
        }
    ));
}

#[test]
fn refusals_say_what_would_be_right() {
    for (error, parts) in [
        (
            SnapshotError::Foreign,
            ["`KAKEYASS`", "not a session snapshot"],
        ),
        (
            SnapshotError::Format { found: 7 },
            ["format 7", "reads format 1"],
        ),
        (
            SnapshotError::Truncated {
                found: 3,
                expected: 9,
            },
            ["ends after 3 bytes", "has 9"],
        ),
        (
            SnapshotError::TooLong { expected: 9 },
            ["has 9 bytes", "more came"],
        ),
        (
            SnapshotError::Kv {
                found: 3,
                expected: 4,
            },
            ["3 bytes", "4 would be right"],
        ),
        (
            SnapshotError::NoMemory {
                detail: "none left".to_owned(),
            },
            ["no memory", "none left"],
        ),
        (SnapshotError::Damaged, ["damaged", "SHA-256"]),
        (
            settings()
                .accept(&StateSettings {
                    sink: 7,
                    ..settings()
                })
                .unwrap_err(),
            ["sink `7`", "runs with `4`"],
        ),
    ] {
        for part in parts {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    }
}

#[test]
#[should_panic(expected = "no more keys and values than the header says")]
fn more_keys_and_values_than_were_said_are_a_bug() {
    SnapshotWriter::new(&settings(), &image(&[]), 3).push_kv(&KV);
}

#[test]
#[should_panic(expected = "as many keys and values as the header says")]
fn fewer_keys_and_values_than_were_said_are_a_bug() {
    drop(SnapshotWriter::new(&settings(), &image(&[]), 3).finish(&[]));
}
