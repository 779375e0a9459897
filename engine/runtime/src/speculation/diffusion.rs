//! A model that fills in a whole block at once (block diffusion, Arriola et al. 2025; masked diffusion, Nie et al. 2025).
//!
//! Behind the history, which it reads from left to right, it has a block of mask tokens that see each other. In each of a
//! few steps it says what stands at the masked positions, and those that it is surest of are kept. Logits are made at
//! masked positions alone: the output matrix is the largest that such a step reads.

use std::sync::Arc;

use kakeya_core::{CacheConfig, KvElement};
use kakeya_model::{Compute, ComputeOptions, LogitRows, Model};
use thiserror::Error;

use super::companion::{Companion, CompanionSession};
use super::draft::DraftError;
use super::proposer::{Proposal, Proposer, ProposerError, Proposers};
use crate::config::EngineStartError;
use crate::verifier::SinkWindowVerifier;

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
    companion: Arc<Companion>,
    mask: u32,
    steps: usize,
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
        Ok(Self {
            companion: Companion::new(model, cache, kv, capacity, options)?,
            mask,
            steps,
        })
    }
}

impl Proposers for DiffusionModel {
    fn name(&self) -> &'static str {
        "diffusion"
    }

    fn reads_slowly(&self) -> bool {
        true
    }

    fn start(self: Arc<Self>) -> Result<Box<dyn Proposer>, ProposerError> {
        Ok(Box::new(Filler {
            session: self.companion.session()?,
            of: self,
            unread: Vec::new(),
        }))
    }
}

/// The model in one session.
struct Filler {
    of: Arc<DiffusionModel>,
    /// Its cache, with the history as far as it was read.
    session: CompanionSession,
    unread: Vec<u32>,
}

impl Proposer for Filler {
    fn extend(&mut self, tokens: &[u32], _: Option<&[f32]>) {
        self.unread.extend_from_slice(tokens);
    }

    fn propose(&mut self, most: usize) -> Result<Proposal, ProposerError> {
        let room = self.session.room(self.unread.len(), most);
        if room == 0 {
            return Ok(Proposal::default());
        }
        let (session, mut compute) = self.session.run();
        session.prefill(&mut compute, &self.unread, LogitRows::None);
        self.unread.clear();
        let tokens = fill_in(session, &mut compute, self.of.mask, room, self.of.steps);
        Ok(Proposal { tokens, kind: 0 })
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
