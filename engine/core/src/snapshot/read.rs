//! Reading a snapshot that somebody sends: what can be refused is refused as soon as it has come, and no more memory is
//! taken than the bytes that came.

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::{DIGEST_BYTES, FORMAT, Header, MAGIC, MAX_HEADER_BYTES, MAX_HISTORY, StateSettings};

const FIXED: usize = MAGIC.len() + 8;

/// Why bytes are not a snapshot that this engine can go on with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Something else altogether.
    #[error("this is not a session snapshot: one begins with `KAKEYASS`")]
    Foreign,
    /// A version of the format that is not read.
    #[error(
        "the snapshot has format {found}, and this version reads format {FORMAT}: restore it with the version that \
         wrote it"
    )]
    Format {
        /// The version found.
        found: u32,
    },
    /// A header that cannot be one.
    #[error("the snapshot's header cannot be read: {detail}")]
    Header {
        /// What is wrong with it.
        detail: String,
    },
    /// Made with another model, numerics version or cache policy.
    #[error(
        "the snapshot was made with {setting} `{snapshot}`, and this engine runs with `{here}`"
    )]
    Setting {
        /// The first setting that differs.
        setting: &'static str,
        /// What the snapshot says.
        snapshot: String,
        /// What the engine runs with.
        here: String,
    },
    /// It ends too early.
    #[error("the snapshot ends after {found} bytes, and has {expected}: send all of it")]
    Truncated {
        /// Bytes that came.
        found: u64,
        /// Bytes that there are, as far as is known.
        expected: u64,
    },
    /// It goes on after its end.
    #[error("the snapshot has {expected} bytes, and more came")]
    TooLong {
        /// Bytes that there are.
        expected: u64,
    },
    /// More keys and values than a slab holds, or not those of its history.
    #[error("the snapshot has {found} bytes of keys and values, where {expected} would be right")]
    Kv {
        /// Bytes it says it has.
        found: u64,
        /// Bytes of a slab, or of the cache after its history.
        expected: u64,
    },
    /// As many logits as the model has tokens, or none for an empty session, would be right.
    #[error(
        "the snapshot has {found} logits after {history} tokens, where {expected} would be right"
    )]
    Logits {
        /// Logits it says it has.
        found: u64,
        /// Tokens of its history.
        history: u64,
        /// What would be right.
        expected: u64,
    },
    /// There is no memory for it.
    #[error("there is no memory for the session: {detail}")]
    NoMemory {
        /// What the system said.
        detail: String,
    },
    /// The digest at its end is another.
    #[error("the snapshot is damaged: its SHA-256 is not the one it ends with")]
    Damaged,
    /// A token that the model does not have.
    #[error(
        "the snapshot's token {token} at index {index} is outside the vocabulary of {vocabulary}"
    )]
    Token {
        /// Its index in the history.
        index: usize,
        /// The token id.
        token: u32,
        /// Token ids from 0 up to, and without, this.
        vocabulary: u32,
    },
}

/// A snapshot that is coming in.
#[derive(Debug)]
pub struct SnapshotReader {
    settings: StateSettings,
    slab_bytes: u64,
    bytes: Vec<u8>,
    head: Option<Head>,
}

/// What is known once the header has come.
#[derive(Debug)]
struct Head {
    header: Header,
    /// Bytes before the history.
    before: usize,
    /// Bytes in all.
    total: u64,
}

/// A snapshot that has come whole, undamaged, and for this engine. Its keys and values are not looked into.
#[derive(Debug)]
pub struct Snapshot {
    header: Header,
    history: Vec<u32>,
    bytes: Vec<u8>,
    kv: Range<usize>,
}

impl SnapshotReader {
    /// Waits for a snapshot that an engine with these settings, and slabs of so many bytes, can go on with.
    pub fn new(settings: StateSettings, slab_bytes: u64) -> Self {
        Self {
            settings,
            slab_bytes,
            bytes: Vec::new(),
            head: None,
        }
    }

    /// Takes the bytes that have come.
    ///
    /// # Errors
    /// As soon as they show that no snapshot for this engine is coming.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.bytes.extend_from_slice(bytes);
        if self.head.is_none() {
            self.head = self.read_head()?;
        }
        match &self.head {
            Some(head) if self.bytes.len() as u64 > head.total => Err(SnapshotError::TooLong {
                expected: head.total,
            }),
            _ => Ok(()),
        }
    }

    /// The snapshot, once all has come. Hashes all of it.
    ///
    /// # Errors
    /// [`SnapshotError::Truncated`], [`SnapshotError::Damaged`], [`SnapshotError::Token`].
    pub fn finish(self) -> Result<Snapshot, SnapshotError> {
        let found = self.bytes.len() as u64;
        let expected = match (&self.head, self.header_length()) {
            (Some(head), _) => head.total,
            (None, Some(length)) => (FIXED + length) as u64,
            (None, None) => FIXED as u64,
        };
        let truncated = SnapshotError::Truncated { found, expected };
        let head = self.head.filter(|_| found >= expected).ok_or(truncated)?;
        let (state, digest) = self.bytes.split_at(self.bytes.len() - DIGEST_BYTES);
        if Sha256::digest(state)[..] != *digest {
            return Err(SnapshotError::Damaged);
        }
        let kv_start = head.before + 4 * head.header.history as usize;
        let history: Vec<u32> = numbers(&self.bytes[head.before..kv_start])
            .map(u32::from_le_bytes)
            .collect();
        let vocabulary = self.settings.vocabulary;
        if let Some(index) = history.iter().position(|token| *token >= vocabulary) {
            return Err(SnapshotError::Token {
                index,
                token: history[index],
                vocabulary,
            });
        }
        Ok(Snapshot {
            kv: kv_start..kv_start + head.header.kv as usize,
            header: head.header,
            history,
            bytes: self.bytes,
        })
    }

    /// `None` while too little has come.
    fn read_head(&self) -> Result<Option<Head>, SnapshotError> {
        let known = self.bytes.len().min(MAGIC.len());
        if self.bytes[..known] != MAGIC[..known] {
            return Err(SnapshotError::Foreign);
        }
        if let Some(found) = self.number(MAGIC.len()).filter(|found| *found != FORMAT) {
            return Err(SnapshotError::Format { found });
        }
        let Some(length) = self.header_length() else {
            return Ok(None);
        };
        if length > MAX_HEADER_BYTES {
            let detail = format!("it has {length} bytes, and may have {MAX_HEADER_BYTES}");
            return Err(SnapshotError::Header { detail });
        }
        let before = FIXED + length;
        let Some(text) = self.bytes.get(FIXED..before) else {
            return Ok(None);
        };
        let header: Header =
            serde_json::from_slice(text).map_err(|error| SnapshotError::Header {
                detail: error.to_string(),
            })?;
        self.settings.accept(&header.settings)?;
        let total = self.check_lengths(&header, before as u64)?;
        Ok(Some(Head {
            header,
            before,
            total,
        }))
    }

    fn header_length(&self) -> Option<usize> {
        Some(self.number(MAGIC.len() + 4)? as usize)
    }

    /// The number at `at`, if it has come.
    fn number(&self, at: usize) -> Option<u32> {
        numbers(self.bytes.get(at..at + 4)?)
            .map(u32::from_le_bytes)
            .next()
    }

    /// Bytes in all.
    fn check_lengths(&self, header: &Header, before: u64) -> Result<u64, SnapshotError> {
        let Header {
            history,
            kv,
            logits,
            ..
        } = *header;
        if kv > self.slab_bytes {
            return Err(SnapshotError::Kv {
                found: kv,
                expected: self.slab_bytes,
            });
        }
        let expected = match history {
            0 => 0,
            _ => u64::from(self.settings.vocabulary),
        };
        if logits != expected {
            return Err(SnapshotError::Logits {
                found: logits,
                history,
                expected,
            });
        }
        if history > MAX_HISTORY {
            let detail = format!("it has {history} tokens, and may have {MAX_HISTORY}");
            return Err(SnapshotError::Header { detail });
        }
        Ok(before + 4 * (history + logits) + kv + DIGEST_BYTES as u64)
    }
}

impl Snapshot {
    /// The client's own label.
    pub fn label(&self) -> &str {
        &self.header.label
    }

    /// Tokens after which its generations stop.
    pub fn eos_token_ids(&self) -> &[u32] {
        &self.header.eos_token_ids
    }

    /// Every token since the session began, each of them the model's.
    pub fn history(&self) -> &[u32] {
        &self.history
    }

    /// The cached keys and values.
    pub fn kv(&self) -> &[u8] {
        &self.bytes[self.kv.clone()]
    }

    /// The logits for the next token: one for each token of the model, or none after no tokens.
    pub fn next_logits(&self) -> impl Iterator<Item = f32> + '_ {
        let end = self.bytes.len() - DIGEST_BYTES;
        numbers(&self.bytes[self.kv.end..end]).map(f32::from_le_bytes)
    }
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> + '_ {
    bytes.chunks_exact(4).map(|four| {
        let mut number = [0; 4];
        number.copy_from_slice(four);
        number
    })
}
