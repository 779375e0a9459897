//! SHA-256 of files, streamed, so that a model larger than memory can be checked.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::entry::FileEntry;
use super::error::Mismatch;

/// Large enough that the read calls do not show, small enough to stay in the second-level cache.
pub(super) const CHUNK: usize = 256 * 1024;

/// What a file turned out to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    pub sha256: String,
    pub size: u64,
}

impl Content {
    pub fn is(&self, expected: &FileEntry) -> bool {
        self.size == expected.size && self.sha256 == expected.sha256
    }

    pub fn against(self, expected: &FileEntry) -> Box<Mismatch> {
        Box::new(Mismatch {
            found_sha256: self.sha256,
            found_size: self.size,
            expected_sha256: expected.sha256.clone(),
            expected_size: expected.size,
        })
    }
}

/// Hashes a file to its end.
pub(super) fn hash_file(path: &Path) -> io::Result<Content> {
    let mut hasher = Sha256::new();
    let size = absorb(&mut hasher, File::open(path)?)?;
    Ok(Content {
        sha256: hex(&hasher.finalize()),
        size,
    })
}

/// Feeds everything a reader has into the hasher and says how many bytes that was.
pub(super) fn absorb(hasher: &mut Sha256, mut reader: impl Read) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK];
    let mut size = 0;
    loop {
        match reader.read(&mut chunk)? {
            0 => return Ok(size),
            count => {
                hasher.update(&chunk[..count]);
                size += count as u64;
            }
        }
    }
}

/// The digest of a model: a single file's own hash, or, for several, the SHA-256 of the text that
/// `sha256sum` prints for them in catalogue order.
pub(super) fn model_digest(files: &[FileEntry]) -> String {
    if let [only] = files {
        return only.sha256.clone();
    }
    let mut hasher = Sha256::new();
    for file in files {
        hasher.update(format!("{}  {}\n", file.sha256, file.name));
    }
    hex(&hasher.finalize())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}
