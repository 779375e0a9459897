//! Evidence files: how they are named, written once, and read.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tempfile::Builder;
use thiserror::Error;

use crate::junit;
use crate::record::Evidence;

/// Where one run's record went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The record.
    pub json: PathBuf,
    /// The same outcomes for tools that read JUnit.
    pub junit: PathBuf,
}

/// Why a record was not written or read.
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
    /// The content is no record.
    #[error("{} is not evidence of a run", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The record could not be put into JSON.
    #[error("the record cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// The record could not be put into JUnit's XML.
    #[error("the record cannot be written as JUnit XML")]
    Junit(#[from] quick_junit::SerializeError),
}

/// The name of a run's files, without extension: platform, Unix time of the start, run id.
pub fn stem(evidence: &Evidence) -> String {
    format!(
        "{}-{}-{}",
        evidence.platform,
        evidence.started.as_second(),
        evidence.run_id
    )
}

/// Writes a run's record and its JUnit form into `directory`, which is created where it is missing.
///
/// Each file appears whole or not at all, and nothing that is there is replaced. The record itself comes
/// last, so that where it exists, all of it does.
///
/// # Errors
/// When the run is recorded already, or the file system refuses.
pub fn write(directory: &Path, evidence: &Evidence) -> Result<Written, StoreError> {
    fs::create_dir_all(directory).map_err(file_error("create", directory))?;
    refuse_recorded(directory, &evidence.run_id)?;
    let mut json = serde_json::to_string_pretty(evidence)?;
    json.push('\n');
    let xml = junit::to_xml(evidence)?;
    let stem = stem(evidence);
    let written = Written {
        json: directory.join(format!("{stem}.json")),
        junit: directory.join(format!("{stem}.junit.xml")),
    };
    write_once(directory, &written.junit, &xml)?;
    write_once(directory, &written.json, &json)?;
    Ok(written)
}

/// Reads a record.
///
/// # Errors
/// When the file cannot be read, or is not a record of a version this crate knows.
pub fn read(path: &Path) -> Result<Evidence, StoreError> {
    let bytes = fs::read(path).map_err(file_error("read", path))?;
    serde_json::from_slice(&bytes).map_err(|source| StoreError::Malformed {
        path: path.to_path_buf(),
        source,
    })
}

fn refuse_recorded(directory: &Path, run_id: &str) -> Result<(), StoreError> {
    let ending = format!("-{run_id}.json");
    for entry in fs::read_dir(directory).map_err(file_error("list", directory))? {
        let path = entry.map_err(file_error("list", directory))?.path();
        if path.to_string_lossy().ends_with(&ending) {
            let run_id = run_id.to_owned();
            return Err(StoreError::RunRecorded { run_id, path });
        }
    }
    Ok(())
}

fn write_once(directory: &Path, path: &Path, text: &str) -> Result<(), StoreError> {
    let attempt = || -> io::Result<()> {
        let mut builder = Builder::new();
        world_readable(&mut builder);
        let mut file = builder.tempfile_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path)?;
        Ok(())
    };
    attempt().map_err(file_error("write", path))
}

/// Evidence is for others to read; a temporary file's own mode would keep it to its writer.
#[cfg(unix)]
fn world_readable(builder: &mut Builder<'_, '_>) {
    use std::os::unix::fs::PermissionsExt;
    builder.permissions(fs::Permissions::from_mode(0o644));
}

#[cfg(not(unix))]
fn world_readable(_builder: &mut Builder<'_, '_>) {}

fn file_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_path_buf();
    move |source| StoreError::File { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;

    #[test]
    fn a_record_is_named_after_its_run_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("results/platform-tests");
        let evidence = sample();
        let written = write(&deep, &evidence).unwrap();
        let name = "linux-cpu-1767323045-9b2f4c1e-0000-4000-8000-000000000001";
        assert_eq!(written.json, deep.join(format!("{name}.json")));
        assert_eq!(written.junit, deep.join(format!("{name}.junit.xml")));
        assert_eq!(read(&written.json).unwrap(), evidence);
        assert_eq!(fs::read_dir(&deep).unwrap().count(), 2);
    }

    #[test]
    fn nothing_is_ever_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let evidence = sample();
        let written = write(directory.path(), &evidence).unwrap();
        let mut later = evidence.clone();
        later.started = "2027-01-01T00:00:00Z".parse().unwrap();
        let error = write(directory.path(), &later).unwrap_err().to_string();
        assert!(error.contains("is recorded already"), "{error}");

        // A stray file under one of the names is not replaced either, and no record appears beside it.
        fs::remove_file(&written.json).unwrap();
        fs::write(&written.junit, "older").unwrap();
        let error = write(directory.path(), &evidence).unwrap_err().to_string();
        assert!(error.starts_with("cannot write "), "{error}");
        assert_eq!(fs::read_to_string(&written.junit).unwrap(), "older");
        assert!(!written.json.exists());
    }

    #[test]
    fn a_directory_that_is_a_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "x").unwrap();
        let error = write(&path, &sample()).unwrap_err().to_string();
        assert!(error.starts_with("cannot create "), "{error}");
    }

    #[test]
    fn what_is_no_record_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("e.json");
        let message = |path: &Path| read(path).unwrap_err().to_string();
        assert!(message(&path).starts_with("cannot read "));
        let written = write(directory.path(), &sample()).unwrap();
        let whole = fs::read_to_string(written.json).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(message(&path).ends_with("e.json is not evidence of a run"));
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let written = write(directory.path(), &sample()).unwrap();
        let mode = fs::metadata(written.json).unwrap().permissions().mode();
        assert_eq!(mode & 0o400, 0o400);
        assert_eq!(mode & 0o111, 0);
    }
}
