//! Snapshots and digests of sessions. They need the model's layout and nothing else of the engine, so they are made
//! beside the step loop, from images that it hands out.

use std::sync::Arc;

use kakeya_core::{
    KvStorage, SessionImage, SlabShape, Snapshot, SnapshotError, SnapshotReader, SnapshotWriter,
    StateSettings,
};
use kakeya_model::{KvLayout, Model};
use sha2::{Digest, Sha256};

use crate::config::EngineConfig;
use crate::digest::hex;
use crate::state::{kv_bytes, read_kv, write_kv};
use crate::verifier::SinkWindowVerifier;

/// Turns the sessions of one engine into bytes and back.
#[derive(Debug)]
pub struct SnapshotCodec {
    settings: StateSettings,
    model: Arc<Model>,
    layout: Arc<KvLayout>,
    shape: SlabShape,
    slab_bytes: u64,
    /// Tokens that a history may have; only with a full window.
    limit: Option<u64>,
}

/// What two sessions share if and only if they will say the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDigest {
    /// Tokens of the history.
    pub history_length: u64,
    /// SHA-256 over the history, each token as four bytes, in hex.
    pub history_sha256: String,
    /// SHA-256 over the cached keys and values, in hex, as `kakeya digest` prints it.
    pub kv_sha256: String,
    /// SHA-256 over the same and the bits of the logits for the next token, in hex.
    pub state_sha256: String,
}

impl SnapshotCodec {
    /// For the sessions of an engine with this model and configuration. `model_sha256` and `quantized` are as in
    /// [`StateSettings`].
    ///
    /// # Errors
    /// When a slab is larger than the address space.
    pub fn new(
        model: Arc<Model>,
        config: &EngineConfig,
        model_sha256: String,
        quantized: String,
    ) -> Result<Self, kakeya_core::SlabError> {
        let layout = SinkWindowVerifier::layout_for(&model, &config.cache);
        let shape = layout.slab_shape(config.kv);
        let vocabulary = model.config().vocabulary as u32;
        let full = config.cache.cached_limit().is_none();
        Ok(Self {
            settings: StateSettings::new(
                model_sha256,
                quantized,
                config.isa.numerics_version(),
                vocabulary,
                config.cache,
                config.kv,
            ),
            limit: full.then_some(model.config().context as u64),
            slab_bytes: shape.bytes()? as u64,
            model,
            layout,
            shape,
        })
    }

    /// What the sessions' bits depend on.
    #[must_use]
    pub fn settings(&self) -> &StateSettings {
        &self.settings
    }

    /// The digest of the same, in hex.
    #[must_use]
    pub fn settings_sha256(&self) -> String {
        hex(&self.settings.digest())
    }

    /// The snapshot of an image of this engine.
    #[must_use]
    pub fn write(&self, image: &SessionImage) -> Vec<u8> {
        let committed = image.history.len() as u64;
        let kv = self.kv_bytes(committed).expect("they are in the slab");
        let mut writer = SnapshotWriter::new(&self.settings, image, kv as usize);
        self.each_kv(image, |bytes| writer.push_kv(bytes));
        writer.finish(&image.next_logits)
    }

    /// Takes in a snapshot for this engine.
    #[must_use]
    pub fn reader(&self) -> SnapshotReader {
        SnapshotReader::new(self.settings.clone(), self.slab_bytes)
    }

    /// The image of a snapshot that has come.
    ///
    /// # Errors
    /// [`SnapshotError::Kv`] when its keys and values are not those of its history; [`SnapshotError::Header`] when its
    /// history is beyond the context; [`SnapshotError::NoMemory`].
    pub fn read(&self, snapshot: &Snapshot) -> Result<SessionImage, SnapshotError> {
        let committed = snapshot.history().len() as u64;
        if let Some(limit) = self.limit.filter(|limit| committed > *limit) {
            let detail = format!("it has {committed} tokens, and the model's context {limit}");
            return Err(SnapshotError::Header { detail });
        }
        let found = snapshot.kv().len() as u64;
        let expected = self.kv_bytes(committed).unwrap_or(u64::MAX);
        if found != expected {
            return Err(SnapshotError::Kv { found, expected });
        }
        let mut storage = KvStorage::new(self.shape).map_err(|error| SnapshotError::NoMemory {
            detail: error.to_string(),
        })?;
        let config = self.model.config();
        read_kv(config, &self.layout, &mut storage, committed, snapshot.kv());
        Ok(SessionImage {
            label: snapshot.label().to_owned(),
            eos_token_ids: snapshot.eos_token_ids().to_vec(),
            history: snapshot.history().to_vec(),
            storage,
            next_logits: snapshot.next_logits().collect(),
        })
    }

    /// The digests of an image of this engine.
    #[must_use]
    pub fn digest(&self, image: &SessionImage) -> StateDigest {
        let mut history = Sha256::new();
        for token in &image.history {
            history.update(token.to_le_bytes());
        }
        let mut state = Sha256::new();
        self.each_kv(image, |bytes| state.update(bytes));
        let kv = state.clone();
        for logit in &image.next_logits {
            state.update(logit.to_le_bytes());
        }
        StateDigest {
            history_length: image.history.len() as u64,
            history_sha256: hex(&history.finalize()),
            kv_sha256: hex(&kv.finalize()),
            state_sha256: hex(&state.finalize()),
        }
    }

    fn kv_bytes(&self, committed: u64) -> Option<u64> {
        kv_bytes(
            self.model.config(),
            &self.layout,
            self.shape.element,
            committed,
        )
    }

    fn each_kv(&self, image: &SessionImage, out: impl FnMut(&[u8])) {
        let committed = image.history.len() as u64;
        write_kv(
            self.model.config(),
            &self.layout,
            &image.storage,
            committed,
            out,
        );
    }
}
