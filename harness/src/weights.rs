//! What the weights on this host are, as found: before the suites ran, and after.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use kakeya_evidence::{Content, ModelFile, Place, hex};
use kakeya_model::catalogue::{CacheSettings, ResolvedModel};

use crate::error::HarnessError;

/// Observes a model's files. Nothing is taken from the catalogue but their names.
///
/// # Errors
/// When a file cannot be read.
pub fn observe(
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
pub fn sha256(path: &Path) -> Result<String, HarnessError> {
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
