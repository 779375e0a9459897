//! A model that fills in a whole block at once (block diffusion, Arriola et al. 2025; masked diffusion, Nie et al. 2025).
//!
//! Behind the history, which it reads from left to right, it has a block of mask tokens that see each other. In each of a
//! few steps it says what stands at the masked positions, and those that it is surest of are kept. Logits are made at
//! masked positions alone: the output matrix is the largest that such a step reads.

use std::sync::{Arc, Mutex, PoisonError};

use kakeya_core::{CacheConfig, KvElement, SlabPool};
use kakeya_model::{Compute, ComputeOptions, KvLayout, LogitRows, Model, PassSize};
use thiserror::Error;

use super::MAX_DRAFTS;
use super::draft::DraftError;
use super::proposer::{Proposal, Proposer, ProposerError, Proposers};
use crate::config::EngineStartError;
use crate::verifier::{MAX_CHUNK, SinkWindowVerifier};

/// A model that cannot fill in blocks for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DiffusionError {
    /// Its tokens are others.
    #[error(transparent)]
    Vocabulary(#[from] DraftError),
    /// It has no token for what is to be filled in.
    #[error(
        "the model has no mask token: a diffusion model names one as `mask_token_id` in config.json or \
         `tokenizer.ggml.mask_token_id`"
    )]
    NoMask,
}

/// A diffusion model that proposes for the sessions of an engine, with a cache for each of them.
pub struct DiffusionModel {
    model: Arc<Model>,
    mask: u32,
    steps: usize,
    cache: CacheConfig,
    layout: Arc<KvLayout>,
    /// Sessions propose one after the other: each has all threads.
    compute: Mutex<Compute>,
    slabs: Mutex<SlabPool>,
}

impl DiffusionModel {
    /// The mask token of a model that could fill in blocks for `model`.
    ///
    /// # Errors
    /// [`DiffusionError`].
    pub fn check(diffusion: &Model, model: &Model) -> Result<u32, DiffusionError> {
        super::DraftModel::check(diffusion, model)?;
        diffusion.mask_token().ok_or(DiffusionError::NoMask)
    }

    /// A diffusion model for `capacity` sessions under the policy `cache`, on threads of its own. It fills a block in
    /// `steps` steps, or as many as there are tokens.
    ///
    /// # Errors
    /// When its slabs or threads cannot be had.
    pub fn new(
        (model, mask): (Arc<Model>, u32),
        steps: usize,
        cache: CacheConfig,
        kv: KvElement,
        capacity: usize,
        options: ComputeOptions,
    ) -> Result<Self, EngineStartError> {
        cache.validate()?;
        let layout = SinkWindowVerifier::layout_for(&model, &cache);
        let slabs = SlabPool::new(layout.slab_shape(kv), capacity)?;
        let mut compute = Compute::new(options)?;
        let size = PassSize {
            sequences: 1,
            rows: MAX_CHUNK,
            logits: MAX_DRAFTS,
        };
        compute.reserve(&model, &layout, size);
        Ok(Self {
            model,
            mask,
            steps: steps.max(1),
            cache,
            layout,
            compute: Mutex::new(compute),
            slabs: Mutex::new(slabs),
        })
    }
}

impl Proposers for DiffusionModel {
    fn name(&self) -> &'static str {
        "diffusion"
    }

    fn start(self: Arc<Self>) -> Result<Box<dyn Proposer>, ProposerError> {
        let mut slabs = self.slabs.lock().unwrap_or_else(PoisonError::into_inner);
        let slab = slabs.acquire().map_err(ProposerError::new)?;
        drop(slabs);
        let session = SinkWindowVerifier::new(
            Arc::clone(&self.model),
            self.cache,
            Arc::clone(&self.layout),
            slab,
        )
        .map_err(ProposerError::new)?;
        Ok(Box::new(Filler {
            of: self,
            session: Some(session),
            unread: Vec::new(),
        }))
    }
}

/// The model in one session.
struct Filler {
    of: Arc<DiffusionModel>,
    /// Its cache, with the history as far as it was read. There until it is dropped.
    session: Option<SinkWindowVerifier>,
    unread: Vec<u32>,
}

impl Proposer for Filler {
    fn extend(&mut self, tokens: &[u32], _: Option<&[f32]>) {
        self.unread.extend_from_slice(tokens);
    }

    fn propose(&mut self, most: usize) -> Result<Proposal, ProposerError> {
        let session = self.session.as_mut().expect("it is not dropped");
        let length = session.position() + self.unread.len() as u64;
        let room = match self.of.cache.cached_limit() {
            Some(_) => most,
            None => {
                let context = self.of.model.config().context as u64;
                let left = context.saturating_sub(length);
                usize::try_from(left).map_or(most, |left| most.min(left))
            }
        };
        if room == 0 {
            return Ok(Proposal::default());
        }
        let mut compute = self
            .of
            .compute
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        session.prefill(&mut compute, &self.unread, LogitRows::None);
        self.unread.clear();
        let tokens = fill_in(session, &mut compute, self.of.mask, room, self.of.steps);
        Ok(Proposal { tokens, kind: 0 })
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let mut slabs = self.of.slabs.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(rejected) = slabs.release(session.into_slab()) {
                tracing::error!(reason = %rejected, "a diffusion model's slab was not taken back");
            }
        }
    }
}

/// The tokens of a block of `length` behind what a session has read, filled in within `steps` steps. In each step as many
/// as are left for each step to come are kept: those with the highest probability, the first among equals. The session is
/// left as it was.
pub fn fill_in(
    session: &mut SinkWindowVerifier,
    compute: &mut Compute,
    mask: u32,
    length: usize,
    steps: usize,
) -> Vec<u32> {
    let model = Arc::clone(session.model());
    let mut block = vec![mask; length];
    let mut masked: Vec<usize> = (0..length).collect();
    for left in (1..=steps.clamp(1, length.max(1))).rev() {
        if masked.is_empty() {
            break;
        }
        session.forward_both_ways(compute, &block);
        let logits = compute.logits_of(&model, &masked);
        let vocabulary = logits.len() / masked.len();
        let mut said: Vec<(f32, usize, u32)> = logits
            .chunks_exact(vocabulary)
            .zip(&masked)
            .map(|(logits, position)| {
                let (token, probability) = surest(logits, mask);
                (probability, *position, token)
            })
            .collect();
        said.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
        for (_, position, token) in &said[..masked.len().div_ceil(left)] {
            block[*position] = *token;
            masked.retain(|other| other != position);
        }
    }
    // What was run is not committed.
    session.commit_or_truncate(0);
    block
}

/// The likeliest token but for the mask, the lowest id among equals, and its probability.
fn surest(logits: &[f32], mask: u32) -> (u32, f32) {
    let mut best = u32::from(mask == 0);
    for (token, logit) in (0..).zip(logits) {
        if token != mask && *logit > logits[best as usize] {
            best = token;
        }
    }
    let peak = logits[best as usize];
    let others = logits.iter().zip(0..).filter(|(_, token)| *token != mask);
    let total: f64 = others
        .map(|(logit, _)| libm::exp(f64::from(*logit) - f64::from(peak)))
        .sum();
    (best, (1.0 / total) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_surest_token_is_never_the_mask() {
        let (token, probability) = surest(&[1.0, 9.0, 3.0, 3.0], 1);
        assert_eq!(token, 2);
        let expected = 1.0 / (2.0 + (-2.0_f64).exp());
        assert!((f64::from(probability) - expected).abs() < 1e-6);
        assert_eq!(surest(&[0.0, 0.0], 0).0, 1);
        assert_eq!(surest(&[0.0, 0.0], 1).0, 0);
    }
}
