//! Paths of the Hugging Face cache layout, and the two small writes that publish a blob in it.
//!
//! `blobs/` holds contents, `snapshots/<revision>/` holds a relative symbolic link per file, and
//! `refs/<name>` maps a name that is not a commit to its snapshot. Other clients of the layout find our
//! files through those, and we find theirs.

use std::fs;
use std::path::{Path, PathBuf};

use super::entry::{FileEntry, ModelEntry};
use super::error::ResolveError;

/// One model's corner of the cache.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    repo: PathBuf,
    locks: PathBuf,
    revision: String,
}

impl Layout {
    pub fn new(cache: &Path, entry: &ModelEntry) -> Self {
        let folder = format!("models--{}", entry.repo.replace('/', "--"));
        Self {
            locks: cache.join(".locks").join(&folder),
            repo: cache.join(folder),
            revision: entry.revision.clone(),
        }
    }

    /// Where finished contents lie.
    pub fn blobs(&self) -> PathBuf {
        self.repo.join("blobs")
    }

    /// The content of a file. Named by SHA-256, as the hub names large files.
    pub fn blob(&self, file: &FileEntry) -> PathBuf {
        self.blobs().join(&file.sha256)
    }

    /// Where a download of the file grows until its hash has been checked. A name of our own: other
    /// clients keep theirs in `<blob>.incomplete` under locks of their own.
    pub fn partial(&self, file: &FileEntry) -> PathBuf {
        self.blobs().join(format!("{}.kakeya-partial", file.sha256))
    }

    /// The folder that holds every file of the model under its own name.
    pub fn snapshot(&self) -> PathBuf {
        self.repo.join("snapshots").join(&self.revision)
    }

    /// The file under its own name.
    pub fn pointer(&self, file: &FileEntry) -> PathBuf {
        self.snapshot().join(&file.name)
    }

    /// Where a source may keep what it downloads before the files are taken out of it.
    pub fn staging(&self) -> PathBuf {
        self.repo.join(".kakeya-staging")
    }

    /// Held while anything of the model is written.
    pub fn lock(&self) -> PathBuf {
        self.locks.join("kakeya.lock")
    }

    /// Publishes a blob that is in place under the file's own name.
    ///
    /// A link that stood there before is replaced in one step, so a reader sees the old file or the new
    /// one. A bad blob that it pointed to under another name is removed: every client would go on trusting it.
    pub fn publish(&self, file: &FileEntry) -> Result<(), ResolveError> {
        let pointer = self.pointer(file);
        let blob = self.blob(file);
        let parent = pointer
            .parent()
            .expect("a pointer lies inside its snapshot");
        create_dir(parent)?;
        let replaced = fs::canonicalize(&pointer).ok();

        // snapshots/<revision>/ is two levels below the repository, and each folder in the name adds one.
        let depth = 2 + file.name.matches('/').count();
        let target: PathBuf = std::iter::repeat_n("..", depth)
            .chain(["blobs", &file.sha256])
            .collect();
        let fresh = parent.join(format!(".{}.kakeya-link", file.sha256));
        remove_if_there(&fresh)?;
        link(&target, &blob, &fresh)?;
        fs::rename(&fresh, &pointer).map_err(ResolveError::io("publish", &pointer))?;
        sync_dir(parent)?;

        let ours = fs::canonicalize(&blob).ok();
        if let Some(old) = replaced.filter(|old| Some(old) != ours.as_ref())
            && fs::canonicalize(self.blobs()).is_ok_and(|blobs| old.starts_with(blobs))
        {
            remove_if_there(&old)?;
        }
        Ok(())
    }

    /// Makes the revision findable for clients that look a name up in `refs/` before they look for a
    /// snapshot. A commit needs none.
    pub fn publish_revision(&self) -> Result<(), ResolveError> {
        let is_commit =
            self.revision.len() == 40 && self.revision.bytes().all(|b| b.is_ascii_hexdigit());
        if is_commit {
            return Ok(());
        }
        let refs = self.repo.join("refs");
        create_dir(&refs)?;
        let path = refs.join(&self.revision);
        fs::write(&path, &self.revision).map_err(ResolveError::io("write", &path))
    }
}

#[cfg(unix)]
fn link(target: &Path, _blob: &Path, at: &Path) -> Result<(), ResolveError> {
    std::os::unix::fs::symlink(target, at).map_err(ResolveError::io("link", at))
}

/// Elsewhere symbolic links may need rights that people do not have; the layout's other clients copy too.
#[cfg(not(unix))]
fn link(_target: &Path, blob: &Path, at: &Path) -> Result<(), ResolveError> {
    fs::copy(blob, at)
        .map(drop)
        .map_err(ResolveError::io("copy to", at))
}

/// Creates a folder and its parents.
pub(super) fn create_dir(path: &Path) -> Result<(), ResolveError> {
    fs::create_dir_all(path).map_err(ResolveError::io("create", path))
}

/// Removes a file that may not be there.
pub(super) fn remove_if_there(path: &Path) -> Result<(), ResolveError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ResolveError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Makes a rename inside the folder survive a power cut.
pub(super) fn sync_dir(path: &Path) -> Result<(), ResolveError> {
    #[cfg(unix)]
    fs::File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(ResolveError::io("sync", path))?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
