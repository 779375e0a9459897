//! Why keys cannot be read.

use std::io;
use std::path::PathBuf;

/// Why keys cannot be read. Nothing of a digest is repeated: where one is expected, people write the key itself.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("the key file {} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is wrong.
    #[error("the key file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<KeysError>,
    },
    /// It is no TOML, or has a field that no key has.
    #[error("line {line}: {detail}")]
    Toml {
        /// The line, from 1.
        line: usize,
        /// The parser's account.
        detail: String,
    },
    /// No keys.
    #[error(
        "there are no keys in it, so nobody could come in: `kakeya key new NAME` prints the lines of one"
    )]
    Empty,
    /// An item of the variable is no name and digest.
    #[error("item {number} is not NAME=SHA256 (items are separated by commas)")]
    Item {
        /// Which, from 1.
        number: usize,
    },
    /// A name that is none.
    #[error(
        "key {number} has the name {name:?}, and a name is 1 to 64 letters, digits, `-`, `_` or `.`"
    )]
    Name {
        /// Which, from 1.
        number: usize,
        /// The name, in part.
        name: String,
    },
    /// Something else than a digest.
    #[error(
        "the sha256 of key `{name}` is not 64 hexadecimal digits; it is the SHA-256 of the key, and not the key itself"
    )]
    Digest {
        /// The key's name.
        name: String,
    },
    /// One name for two keys.
    #[error("two keys have the name `{name}`: each needs one of its own")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// One key with two names.
    #[error("the keys `{first}` and `{second}` are the same key")]
    DuplicateKey {
        /// One name.
        first: String,
        /// The other.
        second: String,
    },
}
