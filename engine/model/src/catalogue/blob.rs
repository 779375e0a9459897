//! A download on its way to becoming a blob: hashed as it is written, renamed only once it is right.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::digest::{Content, absorb, hex};
use super::entry::FileEntry;
use super::error::ResolveError;
use super::layout::{Layout, create_dir, remove_if_there, sync_dir};

/// A file of the catalogue being written. Dropped without [`BlobWriter::commit`], it leaves only a partial
/// file, which nothing but a later download of the same content ever reads.
pub(super) struct BlobWriter {
    file: File,
    hasher: Sha256,
    written: u64,
    expected: FileEntry,
    partial: PathBuf,
    blob: PathBuf,
}

impl BlobWriter {
    /// Starts from nothing, whatever an earlier download left.
    pub fn fresh(layout: &Layout, expected: &FileEntry) -> Result<Self, ResolveError> {
        remove_if_there(&layout.partial(expected))?;
        Self::resume(layout, expected)
    }

    /// Goes on after what an earlier download left, which is hashed first.
    pub fn resume(layout: &Layout, expected: &FileEntry) -> Result<Self, ResolveError> {
        create_dir(&layout.blobs())?;
        let partial = layout.partial(expected);
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(&partial)
            .map_err(ResolveError::io("open", &partial))?;
        let mut hasher = Sha256::new();
        let mut written =
            absorb(&mut hasher, &mut file).map_err(ResolveError::io("read", &partial))?;
        if written > expected.size {
            file.set_len(0)
                .map_err(ResolveError::io("empty", &partial))?;
            hasher = Sha256::new();
            written = 0;
        }
        Ok(Self {
            file,
            hasher,
            written,
            expected: expected.clone(),
            partial,
            blob: layout.blob(expected),
        })
    }

    /// Bytes there so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Bytes still to come.
    pub fn remaining(&self) -> u64 {
        self.expected.size.saturating_sub(self.written)
    }

    /// Appends bytes. More than the catalogue's length is refused at once, so a source cannot fill the disk.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ResolveError> {
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        if self.written > self.expected.size {
            return Err(self.reject());
        }
        self.file
            .write_all(bytes)
            .map_err(ResolveError::io("write", &self.partial))
    }

    /// Checks the hash, makes the content durable and gives it its final name.
    pub fn commit(self) -> Result<(), ResolveError> {
        if !self.content().is(&self.expected) {
            return Err(self.reject());
        }
        self.file
            .sync_all()
            .map_err(ResolveError::io("sync", &self.partial))?;
        fs::rename(&self.partial, &self.blob).map_err(ResolveError::io("rename", &self.partial))?;
        sync_dir(self.blob.parent().expect("a blob lies in the blobs folder"))
    }

    /// Drops what is there so far: it is known to be wrong.
    pub fn discard(self) -> Result<(), ResolveError> {
        remove_if_there(&self.partial)
    }

    fn content(&self) -> Content {
        Content {
            sha256: hex(&self.hasher.clone().finalize()),
            size: self.written,
        }
    }

    /// Wrong bytes are not kept: going on after them could only end wrong again.
    fn reject(&self) -> ResolveError {
        if let Err(error) = remove_if_there(&self.partial) {
            return error;
        }
        ResolveError::WrongContent {
            file: self.expected.name.clone(),
            mismatch: self.content().against(&self.expected),
        }
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if self.written == 0 {
            // An empty file helps no later download; if it cannot be removed, it harms none either.
            let _ = fs::remove_file(&self.partial);
        }
    }
}
