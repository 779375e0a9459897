//! Finding the records of a folder, without reading more of it than is needed.
//!
//! Evidence is append-only, so a results folder grows for ever, while a question is about one tree. The beginning of
//! a record says which tree it is of. Nothing is decided by that but whether the rest is read: a file that says
//! it is of another tree is nobody's evidence for this one.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use jiff::Timestamp;
use kakeya_evidence::canonical::{Identity, LARGEST};
use kakeya_evidence::verify::{Record, Rejection};
use serde::Serialize;

use crate::junit::junit_agrees;
use crate::store::{StoreError, paths};

/// The largest envelope or JUnit file that is read, in bytes: an envelope holds the record in base64.
const LARGEST_BESIDE: u64 = 2 * LARGEST;

/// What a folder holds.
#[derive(Debug, Clone, Default)]
pub struct Folder {
    /// The records that were read, sorted by name.
    pub records: Vec<Record>,
    /// The records whose beginning alone was read, sorted by name.
    pub passed_over: Vec<PassedOver>,
    /// The files of the first generation, sorted by name.
    pub older: Vec<Older>,
}

/// A record of another tree, of which the beginning alone was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// The file, without its folder.
    pub name: String,
    /// What its beginning says.
    pub identity: Identity,
}

/// A record of the first schema generation. It is listed and never judged: what it meant cannot be guessed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Older {
    /// The file, without its folder.
    pub name: String,
    /// The platform, from the name. Absent where the name is not `<platform>-<unix>-<run id>.json`.
    pub platform: Option<String>,
    /// When the run began, from the name.
    pub started: Option<Timestamp>,
}

impl Older {
    fn of(name: &str) -> Self {
        let parts = name_parts(name);
        Self {
            name: name.to_owned(),
            platform: parts.map(|(platform, _)| platform.to_owned()),
            started: parts.and_then(|(_, second)| Timestamp::from_second(second).ok()),
        }
    }
}

/// Platform and Unix time of a file's name.
fn name_parts(name: &str) -> Option<(&str, i64)> {
    let mut parts = name.rsplitn(3, '-').skip(1);
    let second = parts.next()?.parse().ok()?;
    Some((parts.next()?, second))
}

/// Every record of a folder, of whatever tree. Files of the first generation are left out.
///
/// # Errors
/// When the folder cannot be listed. A file that cannot be read is a record that says why.
pub fn records(directory: &Path) -> Result<Vec<Record>, StoreError> {
    Ok(read(directory)?.records)
}

/// Everything in a folder, with every record read to its end.
///
/// # Errors
/// When the folder cannot be listed. A file that cannot be read is a record that says why.
pub fn read(directory: &Path) -> Result<Folder, StoreError> {
    let mut folder = Folder::default();
    for (name, head) in heads(directory)? {
        if is_older(&head) {
            folder.older.push(Older::of(&name));
        } else {
            folder.records.push(load(directory, name));
        }
    }
    Ok(folder)
}

/// Everything in a folder, with only those records read to their end that matter to a tree: its own; those whose
/// beginning does not say what they are of; those that claim the run of one of its own; and, of a platform without
/// one of its own, the newest by name, which can say what another run was worth.
///
/// # Errors
/// When the folder cannot be listed. A file that cannot be read is a record that says why.
pub fn read_tree(directory: &Path, tree_sha256: &str) -> Result<Folder, StoreError> {
    let mut folder = Folder::default();
    let mut names = Vec::new();
    let mut others = Vec::new();
    let mut runs = BTreeSet::new();
    let mut platforms = BTreeSet::new();
    for (name, head) in heads(directory)? {
        if is_older(&head) {
            folder.older.push(Older::of(&name));
            continue;
        }
        match Identity::of(&head) {
            Some(identity) if identity.tree_sha256 == tree_sha256 => {
                runs.insert(identity.run_id);
                platforms.insert(identity.platform);
                names.push(name);
            }
            Some(identity) => others.push(PassedOver { name, identity }),
            None => names.push(name),
        }
    }
    // From the newest on, so that the first of a platform is its newest.
    others.sort_by_key(|other| name_parts(&other.name).map(|(_, second)| second));
    for other in others.into_iter().rev() {
        let identity = &other.identity;
        if platforms.insert(identity.platform.clone()) || runs.contains(&identity.run_id) {
            names.push(other.name);
        } else {
            folder.passed_over.push(other);
        }
    }
    folder.passed_over.sort_by(|a, b| a.name.cmp(&b.name));
    names.sort();
    folder.records = names
        .into_iter()
        .map(|name| load(directory, name))
        .collect();
    Ok(folder)
}

/// The names of the files that say they are records, sorted, with their beginnings. One that cannot be read begins
/// with nothing.
fn heads(directory: &Path) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let mut heads = Vec::new();
    for path in paths(directory)? {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let beside = [".dsse.json", ".test-result.json"];
        if name.ends_with(".json") && !beside.iter().any(|ending| name.ends_with(ending)) {
            let head = take(&path, Identity::HEAD as u64).unwrap_or_default();
            heads.push((name, head));
        }
    }
    Ok(heads)
}

/// Whether a file begins as records of the first generation do: with their version, in no statement.
fn is_older(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    let mut rest = text.trim_start();
    for token in ["{", "\"schema_version\"", ":", "\"1."] {
        match rest.strip_prefix(token) {
            Some(after) => rest = after.trim_start(),
            None => return false,
        }
    }
    true
}

/// A record, wherever it lies, and what lies beside it.
#[must_use]
pub fn record(path: &Path) -> Record {
    let name = path.file_name().unwrap_or_default();
    let directory = path.parent().unwrap_or(Path::new(""));
    load(directory, name.to_string_lossy().into_owned())
}

/// Reads a record and what lies beside it.
fn load(directory: &Path, name: String) -> Record {
    let path = directory.join(&name);
    let bytes = whole(&path, LARGEST);
    // A file beside the record that is there and cannot be read is no absent one: it is one that says nothing.
    let beside = |extension: &str| {
        let path = path.with_extension(extension);
        path.symlink_metadata()
            .is_ok()
            .then(|| whole(&path, LARGEST_BESIDE).unwrap_or_default())
    };
    let junit = beside("junit.xml").unwrap_or_default();
    let agrees = |record: &Vec<u8>| junit_agrees(record, &String::from_utf8_lossy(&junit));
    Record {
        junit_agrees: bytes.as_ref().is_ok_and(agrees),
        envelope: beside("dsse.json"),
        bytes,
        name,
    }
}

/// A whole file, or the reason why it is not read.
fn whole(path: &Path, limit: u64) -> Result<Vec<u8>, Rejection> {
    let unreadable = |error: io::Error| Rejection::Unreadable {
        reason: error.to_string(),
    };
    let bytes = path.metadata().map_err(unreadable)?.len();
    if bytes > limit {
        return Err(Rejection::TooLarge { bytes, limit });
    }
    take(path, limit).map_err(unreadable)
}

/// The beginning of a plain file. A pipe or a device, which could keep a reader waiting for ever, is not opened.
fn take(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, store};
    use kakeya_evidence::canonical;
    use std::fs;

    /// Writes a record of some tree, and returns its name.
    fn record(directory: &Path, run: &str, tree: &str, second: i64) -> String {
        let mut evidence = fixture::good();
        evidence.run_id = run.into();
        evidence.source.tree_sha256 = tree.into();
        evidence.started = Timestamp::from_second(second).unwrap();
        store::write(directory, &mut evidence, None).unwrap();
        format!("{}.json", canonical::stem(&evidence))
    }

    fn names(records: &[Record]) -> Vec<&str> {
        records.iter().map(|record| record.name.as_str()).collect()
    }

    #[test]
    fn a_record_comes_with_what_lies_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut evidence = fixture::good();
        let written = store::write(directory.path(), &mut evidence, Some(b"{}")).unwrap();
        fs::write(directory.path().join("README.md"), "not a record").unwrap();
        let found = records(directory.path()).unwrap();
        assert_eq!(found.len(), 1);
        let record = &found[0];
        assert_eq!(
            canonical::read(record.bytes.as_ref().unwrap()),
            Ok(evidence)
        );
        assert_eq!(record.envelope.as_deref(), Some(&b"{}"[..]));
        assert!(record.junit_agrees);

        fs::write(&written.junit, "another story").unwrap();
        fs::remove_file(written.envelope.unwrap()).unwrap();
        let found = records(directory.path()).unwrap();
        assert!(!found[0].junit_agrees);
        assert_eq!(found[0].envelope, None);
    }

    #[test]
    fn what_cannot_be_read_is_a_record_that_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir(path("a-1-folder.json")).unwrap();
        let huge = File::create(path("b-2-huge.json")).unwrap();
        huge.set_len(LARGEST + 1).unwrap();
        fs::create_dir(path("b-2-huge.dsse.json")).unwrap();
        for folder in [
            read(directory.path()).unwrap(),
            read_tree(directory.path(), fixture::TREE).unwrap(),
        ] {
            assert_eq!(names(&folder.records), ["a-1-folder.json", "b-2-huge.json"]);
            let reason = |index: usize| {
                let reason = folder.records[index].bytes.clone().unwrap_err();
                reason.to_string()
            };
            assert_eq!(reason(0), "the file cannot be read: it is no plain file");
            assert_eq!(
                reason(1),
                "the file has 8388609 bytes, and a record has at most 8388608"
            );
            assert_eq!(folder.records[1].envelope, Some(Vec::new()));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_nothing_is_a_record_that_says_why() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere", directory.path().join("a-1-b.json")).unwrap();
        let found = records(directory.path()).unwrap();
        let reason = found[0].bytes.clone().unwrap_err().to_string();
        assert!(reason.contains("No such file"), "{reason}");
    }

    #[test]
    fn a_record_is_found_by_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let name = record(directory.path(), "a", "aa", 5);
        let found = super::record(&directory.path().join(&name));
        assert_eq!(found.name, name);
        assert!(found.junit_agrees && found.bytes.is_ok());
        assert!(super::record(Path::new("/")).bytes.is_err());
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        assert!(records(&missing).is_err());
        let error = read_tree(&missing, "t").unwrap_err().to_string();
        assert!(error.starts_with("cannot list "), "{error}");
    }

    #[test]
    fn the_first_generation_is_listed_and_not_read() {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [
            (
                "linux-cpu-1795420295-47f4.json",
                "{\n  \"schema_version\": \"1.0\",\n  \"run",
            ),
            ("odd.json", "{\"schema_version\":\"1.1\"}"),
            ("x-3-new.json", "{\"schema_version\":\"3.0\"}"),
        ] {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let folder = read_tree(directory.path(), fixture::TREE).unwrap();
        assert_eq!(folder.older, read(directory.path()).unwrap().older);
        assert_eq!(
            folder.older,
            [
                Older {
                    name: "linux-cpu-1795420295-47f4.json".into(),
                    platform: Some("linux-cpu".into()),
                    started: Timestamp::from_second(1_795_420_295).ok(),
                },
                Older {
                    name: "odd.json".into(),
                    platform: None,
                    started: None,
                },
            ]
        );
        assert_eq!(names(&folder.records), ["x-3-new.json"]);
    }

    #[test]
    fn records_of_other_trees_are_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let own = record(directory.path(), "own", fixture::TREE, 100);
        let other = record(directory.path(), "other", "ff00", 200);
        // Another file that claims the run of the tree's own record is a fault, and must be seen.
        let copy = "linux-cpu-300-copy.json";
        let text = fs::read_to_string(directory.path().join(&other)).unwrap();
        let text = text.replace("\"run_id\": \"other\"", "\"run_id\": \"own\"");
        fs::write(directory.path().join(copy), text).unwrap();
        let folder = read_tree(directory.path(), fixture::TREE).unwrap();
        assert_eq!(names(&folder.records), [own.as_str(), copy]);
        assert_eq!(folder.passed_over.len(), 1);
        assert_eq!(folder.passed_over[0].name, other);
        assert_eq!(folder.passed_over[0].identity.tree_sha256, "ff00");
    }

    #[test]
    fn the_newest_of_another_tree_speaks_for_a_platform_without_its_own() {
        let directory = tempfile::tempdir().unwrap();
        record(directory.path(), "a", "ff00", 999);
        let newest = record(directory.path(), "b", "ff00", 1000);
        record(directory.path(), "c", "ff11", 200);
        let folder = read_tree(directory.path(), fixture::TREE).unwrap();
        assert_eq!(names(&folder.records), [newest.as_str()]);
        assert_eq!(folder.passed_over.len(), 2);
        assert!(folder.passed_over.is_sorted_by_key(|other| &other.name));
    }

    #[test]
    fn records_of_other_trees_are_known_by_their_beginnings_alone() {
        let directory = tempfile::tempdir().unwrap();
        let text = String::from_utf8(canonical::to_bytes(&fixture::good())).unwrap();
        let of_another = text.replace(fixture::TREE, "ff00");
        // What lies beyond the beginning is never looked at: it is no record.
        let beginning = &of_another[..Identity::HEAD];
        for index in 0..100 {
            let name = format!("linux-cpu-{index}-r.json");
            fs::write(directory.path().join(name), beginning).unwrap();
        }
        let folder = read_tree(directory.path(), fixture::TREE).unwrap();
        // All but the newest, which says why there is none of this tree.
        assert_eq!((folder.records.len(), folder.passed_over.len()), (1, 99));
    }
}
