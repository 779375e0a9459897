//! One session's cache and position, over shared weights.
//!
//! The verifier is told tokens and answers logits; it knows nothing of who asks. A block goes in with
//! [`SinkWindowVerifier::forward_block`] and is then kept, wholly or in part, with
//! [`SinkWindowVerifier::commit_or_truncate`]. What is not committed is never visible to a later query, so a
//! rejected draft leaves the session as if it had not been.

use std::sync::Arc;

use kakeya_core::{CacheConfig, CacheInspector, KVSlab, KvStorage, SlabShape};
use kakeya_model::{
    Ahead, Compute, CudaError, Draw, Isa, KvLayout, LayerLengths, LogitRows, Model, SequenceInput,
};
use thiserror::Error;

/// Positions that a slab has room for beyond those that are cached: a processor's pass adds so many to a session at most.
pub const MAX_CHUNK: usize = 256;

/// Positions that a pass on `isa` may add to a session.
#[must_use]
pub fn longest_append(isa: Isa) -> usize {
    MAX_CHUNK * isa.chunks()
}

/// A slab that does not fit the model and the cache policy.
#[derive(Debug, Error)]
#[error("the slab has shape {found:?}, expected {expected:?}")]
pub struct SlabMismatch {
    /// The slab's shape.
    pub found: SlabShape,
    /// What the model and the policy ask for.
    pub expected: SlabShape,
}

/// One session's keys, values and position.
#[derive(Debug)]
pub struct SinkWindowVerifier {
    model: Arc<Model>,
    cache: CacheConfig,
    layout: Arc<KvLayout>,
    slab: KVSlab,
    lengths: LayerLengths,
    committed: u64,
    /// The furthest position that its slab was written up to, by it or by the session that it was copied from. Of a
    /// slab that came with keys and values only what is cached is known to be intact, and then it is the furthest that
    /// leaves that.
    written: u64,
}

impl SinkWindowVerifier {
    /// A verifier at position 0 that owns `slab`.
    ///
    /// # Errors
    /// When the slab has not the shape that `layout` asks for.
    pub fn new(
        model: Arc<Model>,
        cache: CacheConfig,
        layout: Arc<KvLayout>,
        slab: KVSlab,
    ) -> Result<Self, SlabMismatch> {
        Self::resume(model, cache, layout, slab, 0)
    }

    /// A verifier at position `committed` that owns `slab`, in which the keys and values before it are.
    ///
    /// # Errors
    /// As [`SinkWindowVerifier::new`].
    pub fn resume(
        model: Arc<Model>,
        cache: CacheConfig,
        layout: Arc<KvLayout>,
        slab: KVSlab,
        committed: u64,
    ) -> Result<Self, SlabMismatch> {
        let expected = layout.slab_shape(slab.shape().element);
        if *slab.shape() != expected {
            return Err(SlabMismatch {
                found: *slab.shape(),
                expected,
            });
        }
        let written = layout.reach(committed);
        let lengths = LayerLengths {
            keys: vec![committed; model.config().layers],
            values: vec![committed; model.config().layers],
        };
        Ok(Self {
            model,
            cache,
            layout,
            slab,
            lengths,
            committed,
            written,
        })
    }

    /// The layout that slabs for this model and policy need.
    #[must_use]
    pub fn layout_for(model: &Model, cache: &CacheConfig) -> Arc<KvLayout> {
        Arc::new(KvLayout::new(model.config(), cache, MAX_CHUNK))
    }

    /// The model it runs.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The cache policy.
    #[must_use]
    pub fn cache(&self) -> &CacheConfig {
        &self.cache
    }

    /// Committed tokens, which is also the position of the next one.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.committed
    }

    /// Committed positions that are still cached.
    #[must_use]
    pub fn cached_length(&self) -> u64 {
        self.cache.cached_length(self.committed)
    }

    /// Cached positions in one layer, as its keys were written.
    #[must_use]
    pub fn k_seq_length(&self, layer: usize) -> u64 {
        self.cache.cached_length(self.lengths.keys[layer])
    }

    /// Bytes of keys and values that are cached: for each layer the positions, times the bytes of a slot.
    #[must_use]
    pub fn kv_live_bytes(&self) -> u64 {
        let shape = self.slab.shape();
        let per_position = shape.bytes().expect("the slab has been made") / shape.slots;
        self.layout.cached_positions(self.committed) * per_position as u64
    }

    /// Appends tokens and commits them, [`longest_append`] at a time. Afterwards `compute.logits(0)` holds the
    /// rows asked for *of the last chunk*.
    pub fn prefill(&mut self, compute: &mut Compute, tokens: &[u32], rows: LogitRows) {
        let longest = longest_append(compute.options().isa);
        let mut chunks = tokens.chunks(longest).peekable();
        while let Some(chunk) = chunks.next() {
            let rows = if rows == LogitRows::Last && chunks.peek().is_some() {
                LogitRows::None
            } else {
                rows
            };
            self.forward_block(compute, chunk, rows);
            self.commit_or_truncate(chunk.len());
        }
    }

    /// Runs up to [`longest_append`] tokens at the current position, without committing them. A block that is
    /// still in flight is dropped first. Returns the logits asked for, row-major.
    ///
    /// # Panics
    /// When the block is longer, a token is outside the vocabulary, or, with a full window, the model's
    /// context would be passed: the coordinators check these before they come here.
    pub fn forward_block<'a>(
        &mut self,
        compute: &'a mut Compute,
        tokens: &[u32],
        rows: LogitRows,
    ) -> &'a [f32] {
        let model = Arc::clone(&self.model);
        compute.forward(&model, &mut [self.begin_block(tokens, rows)]);
        compute.logits(0)
    }

    /// The same block, where a GPU may fail.
    ///
    /// # Errors
    /// When it does: nothing can be committed then.
    ///
    /// # Panics
    /// As [`SinkWindowVerifier::forward_block`].
    pub fn begin_and_run(
        &mut self,
        compute: &mut Compute,
        tokens: &[u32],
        rows: LogitRows,
    ) -> Result<(), CudaError> {
        let model = Arc::clone(&self.model);
        compute.forward(&model, &mut [self.begin_block(tokens, rows)]);
        compute.fault().cloned().map_or(Ok(()), Err)
    }

    /// The same block as part of a batch: the caller runs it with those of other sessions.
    pub fn begin_block<'a>(&'a mut self, tokens: &'a [u32], rows: LogitRows) -> SequenceInput<'a> {
        self.lengths.truncate(self.committed);
        if self.cache.cached_limit().is_none() {
            let context = self.model.config().context as u64;
            assert!(
                self.committed + tokens.len() as u64 <= context,
                "the block passes the model's context of {context}"
            );
        }
        self.written = self.written.max(self.committed + tokens.len() as u64);
        SequenceInput {
            tokens,
            start: self.committed,
            layout: &self.layout,
            storage: self.slab.storage_mut(),
            lengths: &mut self.lengths,
            logits: rows,
            both_ways: false,
            draw: None,
            ahead: None,
            kept: None,
        }
    }

    /// The next token as part of a batch, up to the logits after it, where `ahead` says how the session most likely goes on.
    /// Of the pass nothing is looked at but what is kept of it, and the greatest.
    ///
    /// # Panics
    /// As [`SinkWindowVerifier::forward_block`].
    pub fn begin_step<'a>(
        &'a mut self,
        token: &'a [u32],
        draw: Option<Draw>,
        ahead: Option<Ahead>,
    ) -> SequenceInput<'a> {
        let next = self.committed + token.len() as u64;
        let context = self.model.config().context as u64;
        let fits = self.cache.cached_limit().is_some() || next < context;
        let ahead = ahead.filter(|_| fits);
        if ahead.is_some() {
            self.written = self.written.max(next + 1);
        }
        SequenceInput {
            draw,
            ahead,
            ..self.begin_block(token, LogitRows::Last)
        }
    }

    /// Runs up to [`MAX_CHUNK`] tokens that see each other, as a model does that fills in a block. Nothing is committed, and
    /// no logits are made yet: [`Compute::logits_of`] makes those that are wanted.
    ///
    /// # Panics
    /// As [`SinkWindowVerifier::forward_block`].
    pub fn forward_both_ways(&mut self, compute: &mut Compute, tokens: &[u32]) {
        let model = Arc::clone(&self.model);
        let block = SequenceInput {
            both_ways: true,
            ..self.begin_block(tokens, LogitRows::Later)
        };
        compute.forward(&model, &mut [block]);
    }

    /// Keeps the first `accepted` tokens of the block in flight and drops the rest.
    ///
    /// # Panics
    /// When more are accepted than are in flight.
    pub fn commit_or_truncate(&mut self, accepted: usize) {
        let length = self.committed + accepted as u64;
        assert!(
            self.lengths.keys.iter().all(|end| *end >= length),
            "more tokens are accepted than are in flight"
        );
        self.committed = length;
        self.lengths.truncate(length);
    }

    /// Takes its place after `length` tokens, whose keys and values `fill` puts in the slab: they come from one that was
    /// written up to position `written`. Nothing of what the slab held before is visible any more.
    pub fn begin_with(&mut self, length: u64, written: u64, fill: impl FnOnce(&mut KvStorage)) {
        fill(self.slab.storage_mut());
        self.committed = length;
        self.written = written.max(length);
        self.lengths = LayerLengths {
            keys: vec![length; self.lengths.keys.len()],
            values: vec![length; self.lengths.values.len()],
        };
    }

    /// The furthest position that its slab may have been written up to.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Whether the keys and values that it had after `length` tokens are still in its slab, all of them.
    #[must_use]
    pub fn still_holds(&self, length: u64) -> bool {
        length <= self.committed && self.written <= self.layout.reach(length)
    }

    /// Back to the state after `length` tokens, as if those behind them had never been.
    ///
    /// # Panics
    /// When that state is no longer all in the slab: see [`SinkWindowVerifier::still_holds`].
    pub fn rewind(&mut self, length: u64) {
        assert!(
            self.still_holds(length),
            "the state after {length} tokens has been written over"
        );
        self.committed = length;
        self.lengths = LayerLengths {
            keys: vec![length; self.lengths.keys.len()],
            values: vec![length; self.lengths.values.len()],
        };
    }

    /// Back to position 0. Nothing of what the slab holds is visible any more.
    pub fn reset(&mut self) {
        self.committed = 0;
        self.written = self.layout.reach(0);
        self.lengths = LayerLengths::empty(self.model.config().layers);
    }

    /// Ends the verifier and hands its slab back.
    pub fn into_slab(self) -> KVSlab {
        self.slab
    }

    /// The slab's raw elements. For the gates, which fill unused slots with NaN.
    pub fn storage_mut(&mut self) -> &mut KvStorage {
        self.slab.storage_mut()
    }

    /// The slab's raw elements.
    #[must_use]
    pub fn storage(&self) -> &KvStorage {
        self.slab.storage()
    }

    /// How positions lie in the slab.
    #[must_use]
    pub fn layout(&self) -> &KvLayout {
        &self.layout
    }

    /// The positions that a layer has cached, ascending.
    pub fn cached_positions(&self, layer: usize) -> impl Iterator<Item = u64> + use<> {
        self.layout.of(layer).cached(self.committed)
    }
}

impl CacheInspector for SinkWindowVerifier {
    fn layers(&self) -> usize {
        self.lengths.keys.len()
    }

    fn k_length(&self, layer: usize) -> u64 {
        self.k_seq_length(layer)
    }

    fn v_length(&self, layer: usize) -> u64 {
        self.cache.cached_length(self.lengths.values[layer])
    }

    fn position(&self) -> u64 {
        self.committed
    }
}
