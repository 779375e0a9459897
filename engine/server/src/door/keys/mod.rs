//! API keys: where they are read from, and who holds which.
//!
//! A key is kept as its SHA-256 alone. That is enough because keys are not chosen by people: they are 256 random bits
//! (`kakeya key new`), which nobody can guess from a digest, fast as it is.

mod error;
mod file;
mod fresh;
mod ring;

pub use error::KeysError;
pub use file::{KEYS_VARIABLE, KeyEntry, parse_file, parse_variable, read_file};
pub use fresh::FreshKey;
pub use ring::KeyRing;
