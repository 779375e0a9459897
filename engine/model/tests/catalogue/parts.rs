//! A file that several wheels hold in parts.

use std::fs;
use std::path::PathBuf;

use kakeya_model::catalogue::{Catalogue, ResolveError};

use crate::support::{Fixture, Log, sha256, write_wheel_of};

const PARTS: [&[u8]; 3] = [b"one,", b"two and,", b"three"];
const WHOLE: &[u8] = b"one,two and,three";

fn repo(fixture: &Fixture) -> PathBuf {
    fixture.cache().join("models--pypi--kakeya-tiny")
}

/// Writes what a killed download of the model left.
fn leave_partial(fixture: &Fixture, bytes: &[u8]) {
    let blobs = repo(fixture).join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(
        blobs.join(format!("{}.kakeya-partial", sha256(WHOLE))),
        bytes,
    )
    .unwrap();
}

fn prewarmed(fixture: &Fixture) -> Vec<u8> {
    let resolver = fixture.resolver();
    let model = resolver.prewarm("tiny", &mut Log::default()).unwrap();
    resolver.verify(&model).unwrap();
    fs::read(model.path).unwrap()
}

fn refused(fixture: &Fixture) -> ResolveError {
    let error = fixture
        .resolver()
        .prewarm("tiny", &mut Log::default())
        .unwrap_err();
    assert!(fixture.resolver().locate("tiny").is_err());
    let ResolveError::AllSourcesFailed { mut failures, .. } = error else {
        panic!("{error}");
    };
    failures.remove(0).reason
}

#[test]
fn the_parts_are_joined_in_order_and_nothing_else_is_left() {
    let fixture = Fixture::pip_parts(&PARTS);
    assert_eq!(prewarmed(&fixture), WHOLE);
    assert!(!repo(&fixture).join(".kakeya-staging").exists());
    assert_eq!(
        fs::read_dir(repo(&fixture).join("blobs")).unwrap().count(),
        1
    );
}

#[test]
fn a_killed_download_goes_on_with_the_part_it_had_come_to() {
    for there in [b"one,".len(), b"one,tw".len(), b"one,two and,".len()] {
        let fixture = Fixture::pip_parts(&PARTS);
        leave_partial(&fixture, &WHOLE[..there]);
        fs::remove_file(fixture.part_wheel(0)).unwrap();
        assert_eq!(prewarmed(&fixture), WHOLE, "after {there} bytes");
    }
}

#[test]
fn a_whole_file_left_without_a_name_needs_no_source() {
    let mut fixture = Fixture::pip_parts(&PARTS);
    leave_partial(&fixture, WHOLE);
    fixture.settings.python = "no-such-python".into();
    assert_eq!(prewarmed(&fixture), WHOLE);
}

#[test]
fn a_wheel_kept_by_a_killed_extraction_is_used_if_it_is_right() {
    let fixture = Fixture::pip_parts(&PARTS);
    let staging = repo(&fixture).join(".kakeya-staging");
    fs::create_dir_all(&staging).unwrap();
    let kept = staging.join("kakeya-tiny0-1.0.whl");
    write_wheel_of("kakeya_tiny0", &kept, PARTS[0]);
    fs::remove_file(fixture.part_wheel(0)).unwrap();
    assert_eq!(prewarmed(&fixture), WHOLE);

    let fixture = Fixture::pip_parts(&PARTS);
    let staging = repo(&fixture).join(".kakeya-staging");
    fs::create_dir_all(&staging).unwrap();
    fs::write(staging.join("kakeya-tiny0-1.0.whl"), b"PK\x03\x04").unwrap();
    assert_eq!(prewarmed(&fixture), WHOLE);
}

#[test]
fn a_wrong_beginning_left_by_an_earlier_download_is_fetched_again() {
    let fixture = Fixture::pip_parts(&PARTS);
    leave_partial(&fixture, b"0ne,t");
    assert_eq!(prewarmed(&fixture), WHOLE);
}

#[test]
fn a_part_of_another_length_is_named_and_a_later_attempt_starts_anew() {
    let fixture = Fixture::pip_parts(&PARTS);
    fixture.write_part(1, b"two and more,");
    let reason = refused(&fixture).to_string();
    assert!(
        reason.contains("member `kakeya_tiny1/tiny.gguf` has 13 bytes, expected 8"),
        "{reason}"
    );
    fixture.write_part(1, PARTS[1]);
    assert_eq!(prewarmed(&fixture), WHOLE);
}

#[test]
fn parts_that_join_to_other_bytes_are_refused_and_nothing_is_kept() {
    let fixture = Fixture::pip_parts(&PARTS);
    fixture.write_part(1, b"tw0 and,");
    let reason = refused(&fixture);
    assert!(
        matches!(reason, ResolveError::WrongContent { .. }),
        "{reason}"
    );
    assert_eq!(
        fs::read_dir(repo(&fixture).join("blobs")).unwrap().count(),
        0
    );
}

#[test]
fn a_missing_part_keeps_those_before_it() {
    let fixture = Fixture::pip_parts(&PARTS);
    fs::remove_file(fixture.part_wheel(2)).unwrap();
    let reason = refused(&fixture).to_string();
    assert!(reason.contains("kakeya-tiny2==1.0"), "{reason}");
    for number in [0, 1] {
        fs::remove_file(fixture.part_wheel(number)).unwrap();
    }
    fixture.write_part(2, PARTS[2]);
    assert_eq!(prewarmed(&fixture), WHOLE);
}

#[test]
fn parts_that_cannot_make_the_file_are_refused_with_the_sum() {
    let fixture = Fixture::pip_parts(&PARTS);
    for (from, to, expected) in [
        (
            "size = 8",
            "size = 9",
            "come to 18 bytes, and the file has 17",
        ),
        (
            "\"kakeya-tiny1\"",
            "\"../tiny1\"",
            "package `../tiny1` must be letters",
        ),
        (
            "version = \"1.0\"",
            "version = \"../1\"",
            "version `../1` must be letters",
        ),
    ] {
        let message = Catalogue::parse(&fixture.text().replace(from, to))
            .unwrap_err()
            .to_string();
        assert!(message.contains(expected), "{message}");
    }
}
