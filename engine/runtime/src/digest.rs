//! Digests of what INV-3 promises: the bits of the logits and of the cached keys and values.

use sha2::{Digest, Sha256};

use crate::state::write_kv;
use crate::verifier::SinkWindowVerifier;

/// SHA-256 over the bits of logits, little-endian, position after position.
#[derive(Clone, Debug, Default)]
pub struct LogitsDigest(Sha256);

impl LogitsDigest {
    /// Adds rows of logits.
    pub fn update(&mut self, logits: &[f32]) {
        for value in logits {
            self.0.update(value.to_bits().to_le_bytes());
        }
    }

    /// The digest of everything added so far, in hex.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(&self.0.clone().finalize())
    }
}

/// SHA-256 over the cached keys and values, in hex: layer by layer, positions ascending, for each position the keys of
/// all heads and then their values. Whatever slots they lie in, and however long the ring is.
#[must_use]
pub fn kv_sha256(verifier: &SinkWindowVerifier) -> String {
    let mut digest = Sha256::new();
    write_kv(
        verifier.model().config(),
        verifier.layout(),
        verifier.storage(),
        verifier.position(),
        |bytes| digest.update(bytes),
    );
    hex(&digest.finalize())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
