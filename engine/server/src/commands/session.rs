//! One session without a server, for the commands that want every logit or every microsecond.

use std::sync::Arc;

use kakeya_core::{InvalidArgument, SlabPool};
use kakeya_model::{Ahead, Compute, CudaError, KvLayout, LogitRows, Model, PassSize};
use kakeya_runtime::sampler::greedy;
use kakeya_runtime::{MAX_CHUNK, SinkWindowVerifier};

use super::memory::{self, MemoryNeed};
use super::options::EngineOptions;

/// A session and the threads that run it.
pub struct LocalSession {
    verifier: SinkWindowVerifier,
    compute: Compute,
}

impl LocalSession {
    /// A session at position 0 whose blocks may have up to `longest_block` tokens.
    ///
    /// # Errors
    /// When it does not fit into this machine's memory, or its threads cannot start.
    pub fn new(
        model: &Arc<Model>,
        options: &EngineOptions,
        longest_block: usize,
    ) -> anyhow::Result<Self> {
        let layout = KvLayout::new(model.config(), &options.cache, longest_block);
        let shape = layout.slab_shape(options.kv);
        let slab_bytes = shape.bytes()? as u64;
        let need = MemoryNeed {
            capacity: 1,
            slab_bytes,
            model_bytes: model.weight_bytes() as u64,
            scratch_bytes: 0,
            prefix_bytes: 0,
            on_device: options.compute.isa.is_gpu(),
        };
        need.check(memory::machine_bytes()?)?;
        let compute = Compute::new(options.compute)?;
        let size = PassSize {
            sequences: 1,
            rows: longest_block,
            logits: 1,
        };
        compute.check_room(model, shape, 1, size)?;
        let slab = SlabPool::of(shape, 1, || compute.storage(shape))?.acquire()?;
        let verifier =
            SinkWindowVerifier::new(Arc::clone(model), options.cache, Arc::new(layout), slab)?;
        Ok(Self { verifier, compute })
    }

    /// A session whose blocks are those of a server.
    ///
    /// # Errors
    /// As [`LocalSession::new`].
    pub fn like_a_server(model: &Arc<Model>, options: &EngineOptions) -> anyhow::Result<Self> {
        Self::new(model, options, MAX_CHUNK)
    }

    /// Appends one block and returns the logits asked for, row after row.
    ///
    /// # Errors
    /// When a GPU fails.
    pub fn append_block(&mut self, tokens: &[u32], rows: LogitRows) -> Result<&[f32], CudaError> {
        self.verifier
            .begin_and_run(&mut self.compute, tokens, rows)?;
        self.verifier.commit_or_truncate(tokens.len());
        Ok(self.compute.logits(0))
    }

    /// Runs one block and keeps its first `kept` tokens. Returns the logits after each token, row after row.
    ///
    /// # Errors
    /// When a GPU fails.
    pub fn append_part(&mut self, tokens: &[u32], kept: usize) -> Result<&[f32], CudaError> {
        self.verifier
            .begin_and_run(&mut self.compute, tokens, LogitRows::All)?;
        self.verifier.commit_or_truncate(kept);
        Ok(self.compute.logits(0))
    }

    /// Appends any number of tokens, as a server does, up to the logits of the last one.
    ///
    /// # Errors
    /// When a GPU fails.
    pub fn append(&mut self, tokens: &[u32]) -> Result<(), CudaError> {
        self.verifier
            .prefill(&mut self.compute, tokens, LogitRows::Last);
        // A device that has failed does not come back.
        self.compute.fault().cloned().map_or(Ok(()), Err)
    }

    /// Appends a token, and returns the one with the greatest logit after it, which is appended next if it `goes_on`.
    ///
    /// # Errors
    /// When a GPU fails.
    pub fn append_one(&mut self, token: u32, goes_on: bool) -> Result<u32, CudaError> {
        let model = Arc::clone(self.verifier.model());
        let ahead = goes_on.then(Ahead::default);
        let token = [token];
        let step = self.verifier.begin_step(&token, None, ahead);
        self.compute.forward(&model, &mut [step]);
        if let Some(fault) = self.compute.fault() {
            return Err(fault.clone());
        }
        self.verifier.commit_or_truncate(1);
        let known = self.compute.greatest(0, 0);
        Ok(known.unwrap_or_else(|| greedy(self.compute.logits(0))))
    }

    /// Forgets everything appended.
    pub fn reset(&mut self) {
        self.verifier.reset();
    }

    /// The threads that run it.
    pub fn compute(&mut self) -> &mut Compute {
        &mut self.compute
    }

    /// Its cache and position.
    pub fn verifier(&self) -> &SinkWindowVerifier {
        &self.verifier
    }
}

/// Checks that the model has every token of `ids`, and with a full window room for them.
///
/// # Errors
/// The first id outside the vocabulary with its index, or the model's limit.
pub fn check_ids(
    model: &Model,
    options: &EngineOptions,
    ids: &[u32],
) -> Result<(), InvalidArgument> {
    let vocabulary = model.config().vocabulary as u32;
    if let Some((index, &token)) = ids
        .iter()
        .enumerate()
        .find(|(_, token)| **token >= vocabulary)
    {
        return Err(InvalidArgument::TokenOutOfVocabulary {
            index,
            token,
            vocabulary,
        });
    }
    check_length(model, options, ids.len() as u64)
}

/// Checks that a session may grow to `length` tokens: always, unless the window is full.
///
/// # Errors
/// The model's context, when `length` passes it.
pub fn check_length(
    model: &Model,
    options: &EngineOptions,
    length: u64,
) -> Result<(), InvalidArgument> {
    let limit = model.config().context as u64;
    if options.cache.cached_limit().is_none() && length > limit {
        return Err(InvalidArgument::ContextExceeded {
            history: 0,
            appended: length,
            limit,
        });
    }
    Ok(())
}
