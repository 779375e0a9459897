//! Writing a snapshot.

use sha2::{Digest, Sha256};

use super::{DIGEST_BYTES, FORMAT, Header, MAGIC, SessionImage, StateSettings};

/// A snapshot in the making: the head stands, the keys and values are put in, the rest follows.
#[derive(Debug)]
pub struct SnapshotWriter {
    bytes: Vec<u8>,
    kv: usize,
}

impl SnapshotWriter {
    /// Begins the snapshot of `image`, whose cached keys and values are `kv` bytes.
    pub fn new(settings: &StateSettings, image: &SessionImage, kv: usize) -> Self {
        let header = Header {
            settings: settings.clone(),
            label: image.label.clone(),
            eos_token_ids: image.eos_token_ids.clone(),
            history: image.history.len() as u64,
            kv: kv as u64,
            logits: image.next_logits.len() as u64,
        };
        let header = serde_json::to_vec(&header).expect("strings and numbers can be written");
        let numbers = 4 * (image.history.len() + image.next_logits.len());
        let mut bytes = Vec::with_capacity(16 + header.len() + numbers + kv + DIGEST_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&(header.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&header);
        bytes.extend(image.history.iter().flat_map(|token| token.to_le_bytes()));
        Self { bytes, kv }
    }

    /// Adds keys and values.
    ///
    /// # Panics
    /// When they are more than was said.
    pub fn push_kv(&mut self, bytes: &[u8]) {
        self.kv = self
            .kv
            .checked_sub(bytes.len())
            .expect("no more keys and values than the header says");
        self.bytes.extend_from_slice(bytes);
    }

    /// The whole snapshot, with the logits for the next token and the digest.
    ///
    /// # Panics
    /// When keys and values are missing.
    pub fn finish(mut self, next_logits: &[f32]) -> Vec<u8> {
        assert_eq!(self.kv, 0, "as many keys and values as the header says");
        self.bytes
            .extend(next_logits.iter().flat_map(|logit| logit.to_le_bytes()));
        let digest = Sha256::digest(&self.bytes);
        self.bytes.extend_from_slice(&digest);
        self.bytes
    }
}
