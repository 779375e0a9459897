//! A session outside its slab: what it takes to go on with it elsewhere, and the bytes that carry it.
//!
//! A snapshot is, in this order, with every number little-endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `KAKEYASS` |
//! | 4 | the version of the format, [`FORMAT`] |
//! | 4 | the length of the header |
//! | so many | the header, JSON: the settings, label, end tokens, lengths of what follows |
//! | 4 each | the tokens of the history |
//! | as the header says | the cached keys and values, in the order of the state's digest |
//! | 4 each | the logits for the next token, as `f32`; none for an empty session |
//! | 32 | SHA-256 of all that precedes |
//!
//! Nothing in it depends on the machine, its threads or its instruction set. The digest finds damage; it is no
//! signature, and does not say who made the snapshot.

mod read;
mod saved;
mod settings;
mod write;

pub use read::{Snapshot, SnapshotError, SnapshotReader};
pub use saved::{SAVED_FORMAT, SavedError, SavedSession};
pub use settings::StateSettings;
pub use write::SnapshotWriter;

use crate::slab::KvStorage;

/// The version of the format that is written, and the only one that is read.
pub const FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"KAKEYASS";
const DIGEST_BYTES: usize = 32;

/// The longest header that is read, in bytes. Labels and end tokens come in requests of at most 4 MiB.
const MAX_HEADER_BYTES: usize = 16 * 1024 * 1024;

/// The longest history that is read, in tokens: 256 MiB of them.
const MAX_HISTORY: u64 = 1 << 26;

/// A session's whole state, in memory of its own.
#[derive(Debug)]
pub struct SessionImage {
    /// The client's own label, for logs.
    pub label: String,
    /// Tokens after which its generations stop.
    pub eos_token_ids: Vec<u32>,
    /// Every token since it began.
    pub history: Vec<u32>,
    /// Its keys and values, where a slab of the engine it is for has them. What is not cached is unspecified.
    pub storage: KvStorage,
    /// The logits for its next token; none while the history is empty.
    pub next_logits: Vec<f32>,
}

/// What stands before the state itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    settings: StateSettings,
    label: String,
    eos_token_ids: Vec<u32>,
    /// Tokens.
    history: u64,
    /// Bytes.
    kv: u64,
    /// Numbers.
    logits: u64,
}
