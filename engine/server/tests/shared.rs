//! The store that servers share sessions in: of two that want one, one gets it; who has lost it cannot undo what came after;
//! and nothing of one that has ended is left.

use std::fs;
use std::path::Path;

use kakeya_core::SessionId;
use kakeya_server::shared::{SharedStore, StateKey, StoreError};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn store(folder: &Path, server: &str) -> SharedStore {
    let place = folder.to_str().expect("a path of text");
    SharedStore::open(place, [], server.to_owned()).expect("a folder is a place")
}

fn key(epoch: u64, number: u64) -> StateKey {
    StateKey { epoch, number }
}

/// Everything below a folder, as paths relative to it.
fn all(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("read") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("below it");
                found.push(name.display().to_string());
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_session_is_taken_by_one_of_two() {
    let folder = folder();
    let (one, two) = (store(folder.path(), "one"), store(folder.path(), "two"));
    let id = SessionId::random();
    assert_eq!(two.newest(&id).await.expect("asked"), None);
    one.begin(&id, 7, b"first".to_vec()).await.expect("begun");
    let claim = two.newest(&id).await.expect("asked").expect("a claim");
    let found = (claim.epoch, claim.server.as_str(), claim.owner, claim.ended);
    assert_eq!(found, (1, "one", 7, false));
    assert!(one.holds(&id, 1).await.expect("asked"));

    let (a, b) = tokio::join!(two.claim(&id, 2, 7, false), one.claim(&id, 2, 7, false));
    let won = [a.expect("asked"), b.expect("asked")];
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
    assert!(!one.holds(&id, 1).await.expect("asked"));
    assert_eq!(two.ids().await.expect("listed"), [id]);
}

#[tokio::test]
async fn who_has_lost_a_session_cannot_undo_what_came_after() {
    let folder = folder();
    let (old, new) = (store(folder.path(), "old"), store(folder.path(), "new"));
    let id = SessionId::random();
    old.begin(&id, 0, b"first".to_vec()).await.expect("begun");
    for (number, state) in [(1, "a"), (2, "b"), (10, "c")] {
        old.write(&id, key(1, number), state.into())
            .await
            .expect("written");
    }
    assert!(new.claim(&id, 2, 0, false).await.expect("asked"));
    let newest = new
        .newest_state(&id)
        .await
        .expect("asked")
        .expect("a state");
    assert_eq!(newest.key, key(1, 10));
    assert!(newest.written.elapsed().expect("past").as_secs() < 60);
    let state = new.read(&id, newest.key).await.expect("read");
    assert_eq!(state.as_deref(), Some(&b"c"[..]));
    new.write(&id, key(2, 0), b"c".to_vec())
        .await
        .expect("written");
    // It has not noticed yet.
    old.write(&id, key(1, 11), b"stale".to_vec())
        .await
        .expect("written");
    let newest = new
        .newest_state(&id)
        .await
        .expect("asked")
        .expect("a state");
    assert_eq!(newest.key, key(2, 0));
    new.forget_before(&id, key(2, 0)).await.expect("removed");
    let left = all(folder.path());
    let zeros = "0".repeat(19);
    let expected = [
        format!("{id}/claims/{zeros}2"),
        format!("{id}/states/{zeros}2-{zeros}0"),
    ];
    assert_eq!(left, expected);
    assert_eq!(new.read(&id, key(1, 10)).await.expect("asked"), None);
    // And so it cannot end it either.
    assert!(!old.end(&id, 1, 0).await.expect("asked"));
    assert!(new.holds(&id, 2).await.expect("asked"));
}

#[tokio::test]
async fn nothing_is_left_of_a_session_that_has_ended() {
    let folder = folder();
    let (one, two) = (store(folder.path(), "one"), store(folder.path(), "two"));
    let id = SessionId::random();
    one.begin(&id, 0, b"first".to_vec()).await.expect("begun");
    assert!(one.end(&id, 1, 0).await.expect("ended"));
    assert_eq!(all(folder.path()), Vec::<String>::new());
    assert_eq!(two.newest(&id).await.expect("asked"), None);
    assert_eq!(two.newest_state(&id).await.expect("asked"), None);
    assert!(!two.holds(&id, 1).await.expect("asked"));

    // One that was killed in between has said that it ended.
    let id = SessionId::random();
    one.begin(&id, 0, b"first".to_vec()).await.expect("begun");
    assert!(one.claim(&id, 2, 0, true).await.expect("asked"));
    assert!(
        two.newest(&id)
            .await
            .expect("asked")
            .expect("a claim")
            .ended
    );
    two.sweep(&id).await.expect("removed");
    // And one that wanted it at that moment takes its claim back.
    assert!(two.claim(&id, 1, 0, false).await.expect("asked"));
    two.withdraw(&id, 1).await.expect("removed");
    two.withdraw(&id, 1)
        .await
        .expect("there is nothing to remove");
    assert_eq!(two.ids().await.expect("listed"), []);
}

#[tokio::test]
async fn what_others_have_put_there_is_told_or_passed_over() {
    let folder = folder();
    let store = store(folder.path(), "one");
    fs::create_dir(folder.path().join("lost+found")).expect("made");
    assert_eq!(store.ids().await.expect("listed"), []);
    let id = SessionId::random();
    store.begin(&id, 0, b"first".to_vec()).await.expect("begun");
    let claims = folder.path().join(id.to_string()).join("claims");
    let of_seven = claims.join(format!("{:020}", 7));
    for (claim, why) in [
        ("no JSON", "expected"),
        (
            r#"{"format":2,"server":"x","owner":"0","ended":false}"#,
            "has format 2, and this version reads 1",
        ),
        (
            r#"{"format":1,"server":"x","owner":"y","ended":false}"#,
            "invalid digit",
        ),
    ] {
        fs::write(&of_seven, claim).expect("written");
        let error = store.newest(&id).await.expect_err("it cannot be read");
        let told = error.to_string();
        assert!(told.contains(why) && told.contains("claims/"), "{told}");
    }
    fs::write(claims.join("z"), "").expect("written");
    let error = store.newest(&id).await.expect_err("no epoch");
    assert!(error.to_string().contains("it is no epoch"), "{error}");
    assert!(matches!(error, StoreError::Foreign { .. }));
    // A state of another name is none.
    let states = folder.path().join(id.to_string()).join("states");
    fs::write(states.join("z"), "").expect("written");
    let newest = store.newest_state(&id).await.expect("asked").expect("one");
    assert_eq!(newest.key, key(1, 0));
}

#[tokio::test]
async fn a_store_that_fails_is_told() {
    let folder = folder();
    let store = store(folder.path(), "one");
    let id = SessionId::random();
    let session = folder.path().join(id.to_string());
    fs::create_dir(&session).expect("made");
    fs::write(session.join("claims"), "in the way").expect("written");
    let error = store.claim(&id, 1, 0, false).await.expect_err("no folder");
    assert!(matches!(error, StoreError::Store(_)), "{error:?}");
    fs::remove_file(session.join("claims")).expect("removed");
    let in_the_way = session.join("claims").join(format!("{:020}", 3)).join("x");
    fs::create_dir_all(in_the_way).expect("made");
    let error = store.withdraw(&id, 3).await.expect_err("it is a folder");
    assert!(matches!(error, StoreError::Store(_)), "{error:?}");
}

#[tokio::test]
async fn places_are_folders_or_addresses() {
    let parent = folder();
    let inner = parent.path().join("a").join("b");
    let place = format!("file://{}", inner.display());
    let open = |place: &str| SharedStore::open(place, [], "one".to_owned());
    let store = open(&place).expect("a folder");
    let id = SessionId::random();
    store.begin(&id, 0, Vec::new()).await.expect("begun");
    assert_eq!(fs::read_dir(&inner).expect("read").count(), 1);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&inner).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
    let memory = open("memory:///below/here").expect("the process's own memory");
    memory.begin(&id, 0, Vec::new()).await.expect("begun");
    assert_eq!(memory.ids().await.expect("listed"), [id]);
    assert!(memory.to_string().ends_with("/below/here"), "{memory}");

    let file = parent.path().join("file");
    fs::write(&file, "").expect("written");
    for (place, why) in [
        ("://", "without a base"),
        ("gopher://there/x", "gopher"),
        ("file://elsewhere/x", "unable to recognise"),
        ("gs://bucket/x", "gs"),
        (file.to_str().expect("text"), "exists"),
    ] {
        let error = open(place).expect_err("it is none");
        let told = error.to_string();
        assert!(told.contains("is no place for sessions"), "{told}");
        assert!(told.to_lowercase().contains(why), "{place}: {told}");
    }
}
