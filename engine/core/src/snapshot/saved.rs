//! A session put away while its server is down: its snapshot, and what a snapshot leaves out because it is not state:
//! its id, whose it is, and how long it has been idle.
//!
//! The bytes are, with every number little-endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `KAKEYAST` |
//! | 4 | the version of the format, [`SAVED_FORMAT`] |
//! | 4 | the length of the header |
//! | so many | the header, JSON: id, owner, idle milliseconds |
//! | the rest, but for | the snapshot |
//! | 32 | SHA-256 of all that precedes |

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::DIGEST_BYTES;
use crate::session::SessionId;

/// The version of the format that is written, and the only one that is read.
pub const SAVED_FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"KAKEYAST";
/// Bytes before the header.
const FIXED: usize = 16;

/// A session put away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedSession {
    /// Its id.
    pub id: SessionId,
    /// Whose it is; 0 is everybody's.
    pub owner: u128,
    /// How long it had been idle.
    pub idle: Duration,
    /// Its snapshot.
    pub snapshot: Vec<u8>,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    id: String,
    /// In hex, since JSON's numbers are not so large.
    owner: String,
    idle_ms: u64,
}

/// Why bytes are no session that was put away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SavedError {
    /// They begin as something else does.
    #[error("it is not a saved session: it does not begin with KAKEYAST")]
    Foreign,
    /// Another version.
    #[error("it has format {found}, and this version reads {SAVED_FORMAT}")]
    Format {
        /// The version found.
        found: u32,
    },
    /// They end too early, or the digest at their end is another.
    #[error("it is damaged or cut short: its SHA-256 is not the one it ends with")]
    Damaged,
    /// The header is none, digest or not.
    #[error("its header cannot be read: {detail}")]
    Header {
        /// What is wrong with it.
        detail: String,
    },
}

impl SavedSession {
    /// The bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let header = Header {
            id: self.id.to_string(),
            owner: format!("{:032x}", self.owner),
            idle_ms: u64::try_from(self.idle.as_millis()).unwrap_or(u64::MAX),
        };
        let header = serde_json::to_vec(&header).expect("strings and numbers can be written");
        let length = FIXED + header.len() + self.snapshot.len() + DIGEST_BYTES;
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&SAVED_FORMAT.to_le_bytes());
        bytes.extend_from_slice(&(header.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(&self.snapshot);
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        bytes
    }

    /// Reads the bytes. The snapshot is not looked into.
    ///
    /// # Errors
    /// [`SavedError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SavedError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(SavedError::Foreign)?;
        let (format, rest) = number(rest).ok_or(SavedError::Damaged)?;
        if format != SAVED_FORMAT {
            return Err(SavedError::Format { found: format });
        }
        let (state, digest) = bytes
            .split_last_chunk::<DIGEST_BYTES>()
            .ok_or(SavedError::Damaged)?;
        if Sha256::digest(state)[..] != digest[..] {
            return Err(SavedError::Damaged);
        }
        let body = &rest[..rest.len().saturating_sub(DIGEST_BYTES)];
        let unreadable = |detail: String| SavedError::Header { detail };
        let (header, snapshot) = number(body)
            .and_then(|(length, body)| body.split_at_checked(length as usize))
            .ok_or_else(|| unreadable("it is longer than all of it".to_owned()))?;
        let header: Header =
            serde_json::from_slice(header).map_err(|error| unreadable(error.to_string()))?;
        Ok(Self {
            id: header
                .id
                .parse()
                .map_err(|error: crate::session::SessionIdError| unreadable(error.to_string()))?,
            owner: u128::from_str_radix(&header.owner, 16)
                .map_err(|_| unreadable(format!("`{}` is no owner", header.owner)))?,
            idle: Duration::from_millis(header.idle_ms),
            snapshot: snapshot.to_vec(),
        })
    }
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (four, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*four), rest))
}
