//! Models that lie in a folder, for a subject that fetches none: whoever sets a host up puts them there, or they are
//! small and committed.
//!
//! The folder has the layout that evidence tells of: `NAME/snapshots/REVISION/FILE`, by `gates/models.toml`.

use std::fs;
use std::path::{Path, PathBuf};

use kakeya_evidence::hex;
use kakeya_evidence::policy::{LockedModel, ModelLock};
use kakeya_suite::{ModelFile, Workspace};

use crate::error::HarnessError;
use crate::subject::{FoundModel, Models};

/// The models of a lock in a folder.
#[derive(Debug)]
pub struct LockedFiles {
    folder: PathBuf,
    lock: ModelLock,
}

impl LockedFiles {
    /// Reads the lock of a checkout.
    ///
    /// # Errors
    /// When it cannot be read or is malformed.
    pub fn open(workspace: &Workspace, folder: PathBuf) -> Result<Self, HarnessError> {
        let path = workspace.models();
        let text = fs::read_to_string(&path).map_err(|source| HarnessError::PolicyFile {
            path: path.clone(),
            source,
        })?;
        let lock = toml::from_str(&text).map_err(|error| HarnessError::Policy {
            path,
            reason: error.to_string(),
        })?;
        Ok(Self { folder, lock })
    }

    fn locked(&self, name: &str) -> Result<&LockedModel, HarnessError> {
        self.lock.model(name).ok_or_else(|| {
            let known: Vec<_> = self.lock.model.iter().map(|model| &*model.name).collect();
            HarnessError::Model(format!(
                "unknown model `{name}`; gates/models.toml has: {}",
                known.join(", ")
            ))
        })
    }
}

impl Models for LockedFiles {
    fn cache(&self) -> &Path {
        &self.folder
    }

    fn is_offline(&self) -> bool {
        true
    }

    fn default_name(&self) -> Option<String> {
        self.lock.model.first().map(|model| model.name.clone())
    }

    fn locate(&self, name: &str) -> Result<FoundModel, HarnessError> {
        let model = self.locked(name)?;
        let folder = self
            .folder
            .join(name)
            .join("snapshots")
            .join(&model.revision);
        let mut files = Vec::new();
        let mut size = 0;
        for file in &model.file {
            let path = folder.join(&file.name);
            if !path.is_file() {
                return Err(HarnessError::Model(format!(
                    "{name} is not here: put {} ({} bytes, sha256 {}) at {}",
                    file.name,
                    file.size,
                    file.sha256,
                    path.display()
                )));
            }
            size += file.size;
            files.push((file.name.clone(), path));
        }
        let first = model.file.first().zip(files.first());
        let (expected, (_, path)) = first.ok_or_else(|| {
            HarnessError::Model(format!("gates/models.toml gives {name} no file"))
        })?;
        Ok(FoundModel {
            file: ModelFile {
                name: name.to_owned(),
                path: path.clone(),
                sha256: expected.sha256.clone(),
            },
            size,
            fetched: false,
            files,
        })
    }

    fn ensure(&self, name: &str) -> Result<FoundModel, HarnessError> {
        let found = self.locate(name)?;
        for (expected, (_, path)) in self.locked(name)?.file.iter().zip(&found.files) {
            let sha256 = hex::sha256_file(path)
                .map_err(HarnessError::system(format!("read {}", path.display())))?;
            if sha256 != expected.sha256 {
                return Err(HarnessError::Model(format!(
                    "{} has sha256 {sha256}, and gates/models.toml asks for {}",
                    path.display(),
                    expected.sha256
                )));
            }
        }
        Ok(found)
    }

    fn prewarm(&self, name: &str) -> Result<FoundModel, HarnessError> {
        self.ensure(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> (tempfile::TempDir, LockedFiles) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path();
        fs::create_dir_all(path.join("gates/platforms")).unwrap();
        fs::write(path.join("Cargo.toml"), "[workspace]\n").unwrap();
        // The digest of "weights".
        fs::write(
            path.join("gates/models.toml"),
            format!(
                "[[model]]\nname = 'm'\nrevision = '1'\n[[model.file]]\nname = 'w.json'\nsize = 7\nsha256 = '{}'\n",
                hex::sha256(b"weights")
            ),
        )
        .unwrap();
        let workspace = Workspace::find(path).unwrap();
        let files = LockedFiles::open(&workspace, path.join("models")).unwrap();
        (root, files)
    }

    #[test]
    fn a_model_is_found_checked_and_told_where_to_put() {
        let (root, files) = world();
        let folder = root.path().join("models/m/snapshots/1");
        let missing = files.ensure("m").unwrap_err().to_string();
        assert!(
            missing.starts_with("m is not here: put w.json (7 bytes, sha256 "),
            "{missing}"
        );
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("w.json"), "weights").unwrap();
        let found = files.prewarm("m").unwrap();
        assert_eq!((found.size, found.fetched), (7, false));
        assert_eq!(found.files, [("w.json".to_owned(), folder.join("w.json"))]);
        fs::write(folder.join("w.json"), "others!").unwrap();
        let wrong = files.ensure("m").unwrap_err().to_string();
        assert!(wrong.contains("and gates/models.toml asks for"), "{wrong}");
        let unknown = files.locate("n").unwrap_err().to_string();
        assert_eq!(unknown, "unknown model `n`; gates/models.toml has: m");
        assert_eq!(files.default_name().as_deref(), Some("m"));
        assert!(files.is_offline());
    }
}
