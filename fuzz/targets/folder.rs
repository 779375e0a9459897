//! A folder of its own for each process, where a case's files lie: models are read from files, by mapping them.

// Each target uses its part of this.
#![allow(dead_code)]

use std::path::PathBuf;

use tempfile::TempDir;

thread_local! {
    static FOLDER: TempDir = tempfile::tempdir().expect("a temporary folder");
}

/// Where a file of that name lies.
pub fn path(name: &str) -> PathBuf {
    FOLDER.with(|folder| folder.path().join(name))
}

/// Writes a file anew. The old one goes first: it may still be mapped.
pub fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = path(name);
    let _ = std::fs::remove_file(&path);
    std::fs::write(&path, bytes).expect("a temporary file can be written");
    path
}

/// Writes a file anew, or sees to it that there is none.
pub fn write_or_remove(name: &str, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => drop(write(name, bytes)),
        None => drop(std::fs::remove_file(path(name))),
    }
}
