//! The folder that sessions are put away in: nothing half-written is read, nothing is written over, and one has it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use kakeya_core::snapshot::SavedSession;
use kakeya_server::state::{Folder, FolderError};

fn saved(id: &str, bytes: usize) -> SavedSession {
    SavedSession {
        id: id.parse().expect("an id"),
        owner: 0,
        idle: Duration::from_secs(1),
        snapshot: vec![7; bytes],
    }
}

const ONE: &str = "sess-00000000000000000000000000000001";
const TWO: &str = "sess-00000000000000000000000000000002";

#[test]
fn what_is_put_away_is_found_once_the_folder_is_free_again() {
    let parent = tempfile::tempdir().expect("a folder");
    let path = parent.path().join("a/b");
    let folder = Folder::open(&path).expect("made");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
    let size = folder.put(&saved(TWO, 100)).expect("put");
    folder.put(&saved(ONE, 10)).expect("put");
    folder.put(&saved(ONE, 20)).expect("put again");
    let taken = Folder::open(&path).expect_err("it is in use");
    assert!(matches!(taken, FolderError::Taken { .. }), "{taken:?}");
    assert!(
        taken.to_string().contains("is in use by another server"),
        "{taken}"
    );
    drop(folder);

    let folder = Folder::open(&path).expect("free");
    let files = folder.sessions().expect("listed");
    let ids: Vec<_> = files.iter().map(|file| Folder::id_of(file)).collect();
    assert_eq!(ids, [Some(ONE), Some(TWO)]);
    let bytes = fs::read(&files[1]).expect("read");
    assert_eq!(bytes.len() as u64, size);
    assert_eq!(SavedSession::from_bytes(&bytes), Ok(saved(TWO, 100)));
    let bytes = fs::read(&files[0]).expect("read");
    assert_eq!(SavedSession::from_bytes(&bytes), Ok(saved(ONE, 20)));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&files[0]).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    folder.remove(&files).expect("removed");
    assert_eq!(folder.sessions().expect("listed").len(), 0);
    assert!(folder.remove(&files).is_err(), "they are gone");
}

#[test]
fn what_was_not_finished_is_no_session_and_goes() {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = Folder::open(parent.path()).expect("taken");
    folder.put(&saved(ONE, 10)).expect("put");
    drop(folder);
    let unfinished = parent.path().join(".unfinished-abc");
    fs::write(&unfinished, "half").expect("written");
    let folder = Folder::open(parent.path()).expect("taken");
    assert!(!unfinished.exists());
    assert_eq!(folder.sessions().expect("listed").len(), 1);
}

#[test]
fn what_is_set_aside_is_kept_beside_what_was_before() {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = Folder::open(parent.path()).expect("taken");
    for (number, place) in ["", ".1", ".2"].into_iter().enumerate() {
        let file = parent.path().join(format!("{ONE}.session"));
        fs::write(&file, number.to_string()).expect("written");
        let found = folder.set_aside(&file).expect("moved");
        assert_eq!(
            found,
            parent.path().join(format!("aside/{ONE}.session{place}"))
        );
        assert_eq!(fs::read_to_string(found).expect("kept"), number.to_string());
        assert!(!file.exists());
    }
    assert_eq!(folder.sessions().expect("listed").len(), 0);
    assert!(folder.set_aside(Path::new("/nowhere/x")).is_err());
    assert_eq!(Folder::id_of(Path::new("x.toml")), None);
}

#[test]
fn a_folder_that_cannot_be_is_named() {
    let parent = tempfile::tempdir().expect("a folder");
    let file = parent.path().join("file");
    fs::write(&file, "").expect("written");
    let error = Folder::open(&file).expect_err("a file");
    assert!(matches!(error, FolderError::Io { .. }));
    assert!(error.to_string().contains("file: "), "{error}");
    fs::create_dir_all(parent.path().join("x/lock")).expect("made");
    let error = Folder::open(&parent.path().join("x")).expect_err("the lock is a folder");
    assert!(error.to_string().contains("lock: "), "{error}");
    fs::create_dir_all(parent.path().join("y/.unfinished-x")).expect("made");
    let error = Folder::open(&parent.path().join("y")).expect_err("a folder in the way");
    assert!(error.to_string().contains(".unfinished-x: "), "{error}");
}
