//! What the weights on this host are, as found: before the suites ran, and after.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use kakeya_evidence::policy::Platform;
use kakeya_evidence::{Content, ModelFile, Network, Place, hex};
use kakeya_suite::Workspace;

use crate::error::HarnessError;
use crate::subject::{FoundModel, Subject};

/// The platform's models, fetched where they were missing, all checked.
pub struct Weights {
    /// The one that suites run.
    pub first: kakeya_suite::ModelFile,
    /// As resolved.
    pub models: Vec<FoundModel>,
    /// Their files, as found.
    pub files: Vec<ModelFile>,
    /// What was fetched for them.
    pub network: Network,
}

/// Why there are none.
pub enum NoWeights {
    /// They cannot be had. The run is recorded without them.
    Absent(String),
    /// They are there, and the system does not let them be read.
    Unreadable(HarnessError),
}

impl Weights {
    /// Fetches what is missing, and observes all.
    ///
    /// # Errors
    /// Why there are none.
    pub fn ensure<S: Subject>(
        platform: &Platform,
        subject: &S,
        workspace: &Workspace,
    ) -> Result<Self, NoWeights> {
        let absent = |error: HarnessError| NoWeights::Absent(error.to_string());
        let known = subject.models(workspace).map_err(absent)?;
        let mut network = Network {
            offline: known.is_offline(),
            fetched: Vec::new(),
        };
        let (mut models, mut files) = (Vec::new(), Vec::new());
        for name in &platform.models {
            let model = known.ensure(name).map_err(absent)?;
            if model.fetched {
                network.fetched.push(name.clone());
            }
            let found = observe(&model, known.cache());
            files.extend(found.map_err(NoWeights::Unreadable)?);
            models.push(model);
        }
        // Policy is refused when it is read if a platform has no model.
        let first = models.first().map(|model| model.file.clone());
        Ok(Self {
            first: first
                .ok_or_else(|| NoWeights::Absent("the platform names no model".to_owned()))?,
            models,
            files,
            network,
        })
    }

    /// Hashes every file once more, after the suites.
    ///
    /// # Errors
    /// When one cannot be read any more.
    pub fn observe_again(&mut self) -> Result<(), HarnessError> {
        let paths = self.models.iter().flat_map(|model| &model.files);
        for (found, file) in self.files.iter_mut().zip(paths) {
            found.sha256_at_end = Some(sha256(&file.1)?);
        }
        Ok(())
    }
}

/// Observes a model's files. Nothing is taken from the catalogue but their names.
///
/// # Errors
/// When a file cannot be read.
fn observe(model: &FoundModel, cache: &Path) -> Result<Vec<ModelFile>, HarnessError> {
    let of = |(name, path): &(String, PathBuf)| {
        let unreadable = |source| HarnessError::System {
            what: format!("read {}", path.display()),
            source,
        };
        let mut head = Vec::with_capacity(Content::HEAD);
        File::open(path)
            .and_then(|file| file.take(Content::HEAD as u64).read_to_end(&mut head))
            .map_err(unreadable)?;
        let real = path.canonicalize().map_err(unreadable)?;
        let cache = cache.canonicalize().map_err(unreadable)?;
        Ok(ModelFile {
            model: model.file.name.clone(),
            revision: revision(path),
            file: name.clone(),
            size_bytes: fs::metadata(path).map_err(unreadable)?.len(),
            sha256: sha256(path)?,
            sha256_at_end: None,
            place: if real.starts_with(cache) {
                Place::Cache
            } else {
                Place::OutsideCache
            },
            content: Content::of(&head),
        })
    };
    model.files.iter().map(of).collect()
}

/// The digest of a file.
///
/// # Errors
/// When it cannot be read.
fn sha256(path: &Path) -> Result<String, HarnessError> {
    hex::sha256_file(path).map_err(HarnessError::system(format!("read {}", path.display())))
}

/// The revision of the snapshot that a path lies in: the folder below `snapshots`.
fn revision(path: &Path) -> String {
    let mut parts = path.iter().skip_while(|part| *part != "snapshots");
    let below = parts.nth(1).unwrap_or_default();
    below.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_is_the_folder_of_the_snapshot() {
        let path = Path::new("/c/models--o--n/snapshots/0.1.2/weights.gguf");
        assert_eq!(revision(path), "0.1.2");
        assert_eq!(revision(Path::new("/elsewhere/weights.gguf")), "");
    }
}
