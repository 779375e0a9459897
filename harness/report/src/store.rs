//! Evidence files: how they are named and written once.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use kakeya_evidence::{Evidence, canonical};
use tempfile::{Builder, NamedTempFile};
use thiserror::Error;

use crate::junit;

/// Where one run's record went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The record.
    pub json: PathBuf,
    /// The same outcomes for tools that read JUnit.
    pub junit: PathBuf,
    /// The signatures on it, where there are any.
    pub envelope: Option<PathBuf>,
}

impl Written {
    /// The files of a run of that stem (see [`canonical::stem`]).
    pub(crate) fn of(directory: &Path, stem: &str, signed: bool) -> Self {
        let file = |extension: &str| directory.join(format!("{stem}.{extension}"));
        Self {
            json: file("json"),
            junit: file("junit.xml"),
            envelope: signed.then(|| file("dsse.json")),
        }
    }
}

/// Why a record was not written, or a folder not read.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A record of this run exists already.
    #[error("run {run_id} is recorded already, in {}", path.display())]
    RunRecorded {
        /// The run.
        run_id: String,
        /// The file that is there.
        path: PathBuf,
    },
    /// A checkpoint was given the record of another run.
    #[error("the checkpoint is of {expected}, and the record given to it of {found}")]
    AnotherRun {
        /// The stem of the run given.
        found: String,
        /// The stem of the run that the checkpoint began with.
        expected: String,
    },
    /// A file or the directory could not be used.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The record could not be put into JUnit's XML.
    #[error("the record cannot be written as JUnit XML")]
    Junit(#[from] quick_junit::SerializeError),
}

/// Seals a run's record and writes it and its JUnit form into `directory`, which is created where it is missing.
/// `envelope` holds the bytes of the `.dsse.json` beside it.
///
/// Sealing a sealed record changes nothing: who signs seals first, and signs what [`canonical::to_bytes`] gives.
/// Each file appears whole or not at all, and nothing that is there is replaced. The record itself comes
/// last, so that where it exists, all of it does.
///
/// # Errors
/// When the run is recorded already, or the file system refuses.
pub fn write(
    directory: &Path,
    evidence: &mut Evidence,
    envelope: Option<&[u8]>,
) -> Result<Written, StoreError> {
    fs::create_dir_all(directory).map_err(file_error("create", directory))?;
    refuse_recorded(directory, &evidence.run_id)?;
    canonical::seal(evidence);
    let written = Written::of(directory, &canonical::stem(evidence), envelope.is_some());
    let xml = junit::to_xml(evidence)?;
    if let (Some(path), Some(bytes)) = (&written.envelope, envelope) {
        put(path, bytes, Existing::Keep)?;
    }
    put(&written.junit, xml.as_bytes(), Existing::Keep)?;
    let record = canonical::to_bytes(evidence);
    put(&written.json, &record, Existing::Keep).map(|()| written)
}

/// Writes the envelope of a record that is there already: who vouches for a run may do so later, and elsewhere.
/// Returns the file.
///
/// # Errors
/// When there is an envelope already, or the file system refuses.
pub fn write_envelope(record: &Path, envelope: &[u8]) -> Result<PathBuf, StoreError> {
    let path = record.with_extension("dsse.json");
    put(&path, envelope, Existing::Keep)?;
    Ok(path)
}

/// Writes what a record says in another form, as `.test-result.json` beside it. Returns the file.
///
/// # Errors
/// When there is one already, or the file system refuses.
pub fn write_export(record: &Path, statement: &[u8]) -> Result<PathBuf, StoreError> {
    let path = record.with_extension("test-result.json");
    put(&path, statement, Existing::Keep)?;
    Ok(path)
}

/// What becomes of a file that has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It stays, and writing fails.
    Keep,
    /// It is replaced, in one step.
    Replace,
}

pub(crate) fn refuse_recorded(directory: &Path, run_id: &str) -> Result<(), StoreError> {
    let ending = format!("-{run_id}.json");
    for path in paths(directory)? {
        if path.to_string_lossy().ends_with(&ending) {
            let run_id = run_id.to_owned();
            return Err(StoreError::RunRecorded { run_id, path });
        }
    }
    Ok(())
}

/// What a directory holds, sorted by name.
pub(crate) fn paths(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        let mut paths = fs::read_dir(directory)?
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    };
    list().map_err(file_error("list", directory))
}

/// Writes a file beside its name and then gives it the name, so that no reader ever sees a part of it.
pub(crate) fn put(path: &Path, bytes: &[u8], existing: Existing) -> Result<(), StoreError> {
    let attempt = || -> io::Result<()> {
        let here = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let directory = here.unwrap_or(Path::new("."));
        let mut file = readable(directory)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        match existing {
            Existing::Keep => file.persist_noclobber(path)?,
            Existing::Replace => file.persist(path)?,
        };
        sync_names(directory)
    };
    attempt().map_err(file_error("write", path))
}

/// A temporary file that others may read: evidence is for others, and a temporary file's own mode would keep it to
/// its writer.
fn readable(directory: &Path) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o644));
    }
    builder.tempfile_in(directory)
}

/// Makes a new name last through a loss of power. Only Unix lets a directory be synced, and only there is it needed.
#[cfg(unix)]
fn sync_names(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync_names(_directory: &Path) -> io::Result<()> {
    Ok(())
}

pub(crate) fn file_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_path_buf();
    move |source| StoreError::File { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    const NAME: &str = "linux-cpu-1767323045-9b2f4c1e00004000800000000000abcd";

    #[test]
    fn a_record_is_sealed_named_after_its_run_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("results/platform-tests");
        let mut evidence = fixture::good();
        evidence.content_sha256.clear();
        let written = write(&deep, &mut evidence, Some(b"{}")).unwrap();
        assert_eq!(written.json, deep.join(format!("{NAME}.json")));
        assert_eq!(written.junit, deep.join(format!("{NAME}.junit.xml")));
        let envelope = deep.join(format!("{NAME}.dsse.json"));
        assert_eq!(written.envelope, Some(envelope.clone()));
        assert_eq!(fs::read(envelope).unwrap(), b"{}");
        let bytes = fs::read(&written.json).unwrap();
        assert_eq!(canonical::read(&bytes), Ok(evidence));
        let junit = fs::read_to_string(&written.junit).unwrap();
        assert!(junit::junit_agrees(&bytes, &junit));
        assert_eq!(fs::read_dir(&deep).unwrap().count(), 3);
    }

    #[test]
    fn a_record_without_an_end_is_written_too() {
        let directory = tempfile::tempdir().unwrap();
        let mut evidence = fixture::good();
        evidence.ended = None;
        let written = write(directory.path(), &mut evidence, None).unwrap();
        assert_eq!(written.envelope, None);
        let read = canonical::read(&fs::read(written.json).unwrap()).unwrap();
        assert_eq!(read.ended, None);
    }

    #[test]
    fn nothing_is_ever_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let mut evidence = fixture::good();
        let written = write(directory.path(), &mut evidence, None).unwrap();
        let mut later = evidence.clone();
        later.started = "2027-01-01T00:00:00Z".parse().unwrap();
        let error = write(directory.path(), &mut later, None).unwrap_err();
        assert!(error.to_string().contains("is recorded already"), "{error}");

        // A stray file under one of the names is not replaced either, and no record appears beside it.
        fs::remove_file(&written.json).unwrap();
        fs::write(&written.junit, "older").unwrap();
        let error = write(directory.path(), &mut evidence, None).unwrap_err();
        assert!(error.to_string().starts_with("cannot write "), "{error}");
        assert_eq!(fs::read_to_string(&written.junit).unwrap(), "older");
        assert!(!written.json.exists());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_envelope_may_come_later_and_once() {
        let directory = tempfile::tempdir().unwrap();
        let written = write(directory.path(), &mut fixture::good(), None).unwrap();
        let path = write_envelope(&written.json, b"first").unwrap();
        assert_eq!(path, directory.path().join(format!("{NAME}.dsse.json")));
        let error = write_envelope(&written.json, b"second").unwrap_err();
        assert!(error.to_string().starts_with("cannot write "), "{error}");
        assert_eq!(fs::read(path).unwrap(), b"first");
    }

    #[test]
    fn a_directory_that_is_a_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "x").unwrap();
        let error = write(&path, &mut fixture::good(), None).unwrap_err();
        assert!(error.to_string().starts_with("cannot create "), "{error}");
        let error = paths(&path).unwrap_err();
        assert!(error.to_string().starts_with("cannot list "), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let written = write(directory.path(), &mut fixture::good(), None).unwrap();
        let mode = fs::metadata(written.json).unwrap().permissions().mode();
        assert_eq!(mode & 0o400, 0o400);
        assert_eq!(mode & 0o111, 0);
    }

    #[test]
    fn another_form_is_written_once_and_is_no_record() {
        let directory = tempfile::tempdir().unwrap();
        let written = write(directory.path(), &mut fixture::good(), None).unwrap();
        let path = write_export(&written.json, b"{}\n").unwrap();
        assert!(path.to_string_lossy().ends_with(".test-result.json"));
        assert!(write_export(&written.json, b"{}\n").is_err());
        assert_eq!(crate::folder::records(directory.path()).unwrap().len(), 1);
    }
}
