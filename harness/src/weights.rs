//! What the weights on this host are, as found: before the suites ran, and after.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use kakeya_evidence::policy::Platform;
use kakeya_evidence::{Content, ModelFile, Network, Place, hex};
use kakeya_gates::{self as gates, ModelFileError, Workspace, resolver};
use kakeya_model::catalogue::{CacheSettings, ResolvedModel, TerminalProgress};

use crate::error::HarnessError;

/// The platform's models, fetched where they were missing, all checked.
pub struct Weights {
    /// The one that suites run.
    pub first: gates::ModelFile,
    /// As resolved.
    pub models: Vec<ResolvedModel>,
    /// Their files, as found.
    pub files: Vec<ModelFile>,
    /// What was fetched for them.
    pub network: Network,
}

/// Why there are none.
pub enum NoWeights {
    /// They cannot be had. The run is recorded without them.
    Absent(ModelFileError),
    /// They are there, and the system does not let them be read.
    Unreadable(HarnessError),
}

impl Weights {
    /// Fetches what is missing, and observes all.
    ///
    /// # Errors
    /// Why there are none.
    pub fn ensure(platform: &Platform, workspace: &Workspace) -> Result<Self, NoWeights> {
        let resolver = resolver(workspace).map_err(NoWeights::Absent)?;
        let mut network = Network {
            offline: resolver.settings().offline,
            fetched: Vec::new(),
        };
        let (mut models, mut files) = (Vec::new(), Vec::new());
        for name in &platform.models {
            let model = resolver
                .ensure(name, &mut TerminalProgress::stderr())
                .map_err(|error| NoWeights::Absent(error.into()))?;
            if model.fetched {
                network.fetched.push(name.clone());
            }
            let found = observe(&model, resolver.settings());
            files.extend(found.map_err(NoWeights::Unreadable)?);
            models.push(model);
        }
        // Policy is refused when it is read if a platform has no model.
        let first = models.first().map(gates::ModelFile::from);
        Ok(Self {
            first: first.ok_or(NoWeights::Absent(ModelFileError::NoneAsked))?,
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
            found.sha256_at_end = Some(sha256(&file.path)?);
        }
        Ok(())
    }
}

/// Observes a model's files. Nothing is taken from the catalogue but their names.
///
/// # Errors
/// When a file cannot be read.
fn observe(
    model: &ResolvedModel,
    settings: &CacheSettings,
) -> Result<Vec<ModelFile>, HarnessError> {
    let of = |file: &kakeya_model::catalogue::ResolvedFile| {
        let path = &file.path;
        let unreadable = |source| HarnessError::System {
            what: format!("read {}", path.display()),
            source,
        };
        let mut head = Vec::with_capacity(Content::HEAD);
        File::open(path)
            .and_then(|file| file.take(Content::HEAD as u64).read_to_end(&mut head))
            .map_err(unreadable)?;
        let real = path.canonicalize().map_err(unreadable)?;
        let cache = settings.cache.canonicalize().map_err(unreadable)?;
        Ok(ModelFile {
            model: model.name.clone(),
            revision: revision(path),
            file: file.expected.name.clone(),
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
