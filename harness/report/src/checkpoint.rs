//! The record of a run that goes on: written now, replaced by its own later versions, left behind by a kill.
//!
//! Evidence is append-only, and this is the one place where a file is replaced. Only the run that began a file
//! replaces it, and only until it is finished.

use std::fs;
use std::path::{Path, PathBuf};

use kakeya_evidence::{Evidence, canonical};

use crate::junit;
use crate::store::{Existing, StoreError, Written, file_error, put, refuse_recorded};

/// The file of a run that goes on.
///
/// A kill at any moment leaves the last version whole. Between the two files of one version it can leave a JUnit
/// form that is one version ahead; the record is unfinished then, and counts for nothing either way.
#[derive(Debug)]
#[must_use = "a checkpoint that is dropped leaves an unfinished record"]
pub struct Checkpoint {
    directory: PathBuf,
    stem: String,
}

impl Checkpoint {
    /// Seals and writes the first version of a record. `directory` is created where it is missing.
    ///
    /// # Errors
    /// When the run is recorded already, or the file system refuses.
    pub fn begin(directory: &Path, evidence: &mut Evidence) -> Result<Self, StoreError> {
        fs::create_dir_all(directory).map_err(file_error("create", directory))?;
        refuse_recorded(directory, &evidence.run_id)?;
        let checkpoint = Self {
            directory: directory.to_path_buf(),
            stem: canonical::stem(evidence),
        };
        checkpoint.save(evidence, Existing::Keep)?;
        Ok(checkpoint)
    }

    /// The record's file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Written::of(&self.directory, &self.stem, false).json
    }

    /// Seals the record as it is now, and puts it in the place of its last version.
    ///
    /// # Errors
    /// When the record is of another run, or the file system refuses.
    pub fn update(&self, evidence: &mut Evidence) -> Result<(), StoreError> {
        self.save(evidence, Existing::Replace)
    }

    /// Seals and writes the last version, with the bytes of the envelope beside it. Nothing replaces it after that.
    ///
    /// # Errors
    /// When the record is of another run, there is an envelope already, or the file system refuses.
    pub fn finish(
        self,
        evidence: &mut Evidence,
        envelope: Option<&[u8]>,
    ) -> Result<Written, StoreError> {
        let written = Written::of(&self.directory, &self.stem, envelope.is_some());
        self.refuse_another(evidence)?;
        if let (Some(path), Some(bytes)) = (&written.envelope, envelope) {
            put(path, bytes, Existing::Keep)?;
        }
        self.save(evidence, Existing::Replace)?;
        Ok(written)
    }

    fn refuse_another(&self, evidence: &Evidence) -> Result<(), StoreError> {
        let found = canonical::stem(evidence);
        let expected = self.stem.clone();
        if found == expected {
            Ok(())
        } else {
            Err(StoreError::AnotherRun { found, expected })
        }
    }

    fn save(&self, evidence: &mut Evidence, existing: Existing) -> Result<(), StoreError> {
        self.refuse_another(evidence)?;
        canonical::seal(evidence);
        let written = Written::of(&self.directory, &self.stem, false);
        let xml = junit::to_xml(evidence)?;
        put(&written.junit, xml.as_bytes(), existing)?;
        put(&written.json, &canonical::to_bytes(evidence), existing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use kakeya_evidence::Ending;

    fn unfinished() -> Evidence {
        Evidence {
            ended: None,
            exit_status: None,
            ending: Ending::Unfinished,
            ..fixture::good()
        }
    }

    fn read(path: &Path) -> Evidence {
        canonical::read(&fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn a_kill_leaves_the_last_version_and_the_end_replaces_it() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("a/b");
        let mut evidence = unfinished();
        let checkpoint = Checkpoint::begin(&deep, &mut evidence).unwrap();
        assert_eq!(read(&checkpoint.path()), evidence);
        evidence.forward_passes += 1;
        checkpoint.update(&mut evidence).unwrap();
        assert_eq!(read(&checkpoint.path()), evidence);

        let path = checkpoint.path();
        let mut last = fixture::good();
        let written = checkpoint.finish(&mut last, Some(b"{}")).unwrap();
        assert_eq!(written.json, path);
        assert_eq!(read(&path), last);
        let xml = fs::read_to_string(written.junit).unwrap();
        assert!(junit::junit_agrees(&fs::read(&path).unwrap(), &xml));
        assert_eq!(fs::read(written.envelope.unwrap()).unwrap(), b"{}");
        assert_eq!(fs::read_dir(&deep).unwrap().count(), 3);
    }

    #[test]
    fn a_run_that_is_recorded_is_not_begun_again() {
        let directory = tempfile::tempdir().unwrap();
        let first = Checkpoint::begin(directory.path(), &mut unfinished()).unwrap();
        let error = Checkpoint::begin(directory.path(), &mut unfinished()).unwrap_err();
        assert!(error.to_string().contains("is recorded already"), "{error}");
        let written = first.finish(&mut fixture::good(), None).unwrap();
        assert_eq!(written.envelope, None);
    }

    #[test]
    fn a_checkpoint_takes_no_other_run() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::begin(directory.path(), &mut unfinished()).unwrap();
        let before = read(&checkpoint.path());
        let mut other = unfinished();
        other.run_id = "another".into();
        let error = checkpoint.update(&mut other).unwrap_err().to_string();
        assert!(error.ends_with("linux-cpu-1767323045-another"), "{error}");
        let path = checkpoint.path();
        assert!(checkpoint.finish(&mut other, Some(b"{}")).is_err());
        assert_eq!(read(&path), before);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
