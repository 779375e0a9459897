//! The folder that sessions are put away in.
//!
//! A file is written under a name that nobody reads, and gets its own once it is on the disk: whoever is killed in the
//! middle leaves what was there before. One server has the folder at a time.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kakeya_core::snapshot::SavedSession;

/// What the name of a saved session ends with, after its id.
const SUFFIX: &str = ".session";
/// What the name of a file begins with that was not finished.
const UNFINISHED: &str = ".unfinished-";
/// Where files go that cannot be gone on with.
const ASIDE: &str = "aside";
const LOCK: &str = "lock";

/// Why there is no such folder to be had.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process has it.
    #[error(
        "{} is in use by another server: give each a folder of its own, or stop the other first",
        path.display()
    )]
    Taken {
        /// The folder.
        path: PathBuf,
    },
    /// What the system said.
    #[error("{}: {source}", path.display())]
    Io {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A folder for sessions, and the right to it, which ends with the process.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Takes the folder, which is made if it is not there, for this user alone. What was not finished is removed.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| FolderError::Io { path, source }
        };
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path).map_err(at(path))?;
        let name = path.join(LOCK);
        let lock = File::create(&name).map_err(at(&name))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => FolderError::Taken {
                path: path.to_owned(),
            },
            TryLockError::Error(source) => at(&name)(source),
        })?;
        let folder = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        for name in folder.names().map_err(at(path))? {
            if name.starts_with(UNFINISHED) {
                let name = path.join(name);
                fs::remove_file(&name).map_err(at(&name))?;
            }
        }
        Ok(folder)
    }

    /// The files of saved sessions, in the order of their names.
    ///
    /// # Errors
    /// What the system says.
    pub fn sessions(&self) -> io::Result<Vec<PathBuf>> {
        let mut names = self.names()?;
        names.retain(|name| name.ends_with(SUFFIX));
        names.sort();
        Ok(names.iter().map(|name| self.path.join(name)).collect())
    }

    /// Puts a session away, and returns the bytes that it takes. Afterwards it is on the disk, or as it was before.
    ///
    /// # Errors
    /// What the system says.
    pub fn put(&self, session: &SavedSession) -> io::Result<u64> {
        let bytes = session.to_bytes();
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempfile_in(&self.path)?;
        file.write_all(&bytes)?;
        file.as_file().sync_all()?;
        file.persist(self.path.join(format!("{}{SUFFIX}", session.id)))?;
        self.sync()?;
        Ok(bytes.len() as u64)
    }

    /// Removes the files of sessions that live again.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self, files: &[PathBuf]) -> io::Result<()> {
        files.iter().try_for_each(fs::remove_file)?;
        self.sync()
    }

    /// Moves a file to where it is not looked for, and returns its new place. Nothing is written over.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_aside(&self, file: &Path) -> io::Result<PathBuf> {
        let aside = self.path.join(ASIDE);
        fs::create_dir_all(&aside)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let mut place = aside.join(&*name);
        let mut number = 1;
        while place.try_exists()? {
            place = aside.join(format!("{name}.{number}"));
            number += 1;
        }
        fs::rename(file, &place)?;
        self.sync()?;
        Ok(place)
    }

    /// The id that a file's name says.
    pub fn id_of(file: &Path) -> Option<&str> {
        file.file_name()?.to_str()?.strip_suffix(SUFFIX)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    /// Names are on the disk only once the folder is.
    fn sync(&self) -> io::Result<()> {
        #[cfg(unix)]
        File::open(&self.path)?.sync_all()?;
        Ok(())
    }
}
