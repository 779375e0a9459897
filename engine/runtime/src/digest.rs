//! Digests of what INV-3 promises: the bits of the logits and of the cached keys and values.

use kakeya_core::{KvElement, KvStorage};
use kakeya_model::key_scale;
use sha2::{Digest, Sha256};

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

/// SHA-256 over the cached keys and values: layer by layer, positions ascending, for each position the keys
/// of all heads and then their values. Whatever slots they lie in, and however long the ring is.
#[must_use]
pub fn kv_sha256(verifier: &SinkWindowVerifier) -> String {
    let mut digest = Sha256::new();
    let config = verifier.model().config();
    let mut bytes = Vec::with_capacity(config.kv_heads * config.head_dim * 8);
    for (layer, layout) in verifier.layout().layers().iter().enumerate() {
        for position in verifier.cached_positions(layer) {
            bytes.clear();
            for index in [false, true] {
                for head in 0..config.kv_heads {
                    for dim in 0..config.head_dim {
                        let at = if index {
                            layout.value_index(head, position, dim)
                        } else {
                            layout.key_index(head, position, dim)
                        };
                        match verifier.storage() {
                            KvStorage::F16(all) => bytes.extend_from_slice(&all[at].to_le_bytes()),
                            KvStorage::F32(all) => {
                                bytes.extend_from_slice(&all[at].to_bits().to_le_bytes())
                            }
                            KvStorage::Int8(all) => {
                                if dim % KvElement::BLOCK == 0 {
                                    let scale = if index {
                                        at / KvElement::BLOCK
                                    } else {
                                        key_scale(at)
                                    };
                                    bytes.extend_from_slice(&all.scales[scale].to_le_bytes());
                                }
                                bytes.extend_from_slice(&all.quants[at].to_le_bytes());
                            }
                        }
                    }
                }
            }
            digest.update(&bytes);
        }
    }
    hex(&digest.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
