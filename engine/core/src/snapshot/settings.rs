//! What the bits of a session's state depend on, besides its tokens.

use sha2::{Digest, Sha256};

use super::SnapshotError;
use crate::config::{CacheConfig, KvElement};

/// Everything beside its tokens that the bits of a session's state depend on. Two engines with equal settings can hand
/// sessions to each other.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateSettings {
    /// SHA-256 of the model's weights, in hex.
    pub model_sha256: String,
    /// The type that weights were quantised to while they were loaded; empty for none.
    pub quantized: String,
    /// The version of the numerics contract.
    pub numerics: u32,
    /// Sinks.
    pub sink: u32,
    /// The window, in positions, or `full`.
    pub window: String,
    /// Where the sinks stand: `streaming` or `global`.
    pub positions: String,
    /// The element type of keys and values.
    pub kv: String,
    /// Token ids from 0 up to, and without, this.
    pub vocabulary: u32,
}

impl StateSettings {
    /// The settings of an engine with this policy.
    pub fn new(
        model_sha256: String,
        quantized: String,
        numerics: u32,
        vocabulary: u32,
        cache: CacheConfig,
        kv: KvElement,
    ) -> Self {
        Self {
            model_sha256,
            quantized,
            numerics,
            sink: cache.sink,
            window: cache.window.to_string(),
            positions: cache.positions.to_string(),
            kv: kv.to_string(),
            vocabulary,
        }
    }

    /// SHA-256 over all of them.
    pub fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for (name, value) in self.listed() {
            digest.update(format!("{name}={value}\n"));
        }
        digest.finalize().into()
    }

    /// Refuses a state that was made with other settings.
    ///
    /// # Errors
    /// [`SnapshotError::Setting`], for the first that differs.
    pub fn accept(&self, theirs: &Self) -> Result<(), SnapshotError> {
        let differs = self
            .listed()
            .into_iter()
            .zip(theirs.listed())
            .find(|(ours, theirs)| ours != theirs);
        match differs {
            None => Ok(()),
            Some(((setting, here), (_, snapshot))) => Err(SnapshotError::Setting {
                setting,
                snapshot,
                here,
            }),
        }
    }

    fn listed(&self) -> [(&'static str, String); 8] {
        [
            ("model_sha256", self.model_sha256.clone()),
            ("quantized", self.quantized.clone()),
            ("numerics", self.numerics.to_string()),
            ("sink", self.sink.to_string()),
            ("window", self.window.clone()),
            ("positions", self.positions.clone()),
            ("kv", self.kv.clone()),
            ("vocabulary", self.vocabulary.to_string()),
        ]
    }
}
