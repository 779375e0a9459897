//! What a head is worth on what it has not seen.

use std::sync::Arc;

use kakeya_model::head::{DraftHead, HeadFile, HeadRunner};
use kakeya_model::{ComputeOptions, Model};
use serde::Serialize;

use crate::error::AlignError;
use crate::shard::{Shards, Trajectory};
use crate::train::split;

/// Lengths of drafts that are measured.
pub const LENGTHS: [usize; 4] = [1, 2, 4, 8];

/// Drafts of one length.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Acceptance {
    /// Tokens of a draft.
    pub length: usize,
    /// Drafts.
    pub drafts: u64,
    /// Tokens that were right, and all before them.
    pub accepted: u64,
    /// Of all tokens that were drafted.
    pub rate: f64,
    /// A verification gives so many tokens: those accepted, and the one that the model adds.
    pub tokens_per_verification: f64,
}

/// Drafts at states of held-out trajectories, as the head runs in an engine.
///
/// # Errors
/// When the head is not the model's, or nothing is held out.
pub fn acceptance(
    model: &Arc<Model>,
    file: &HeadFile,
    shards: &Shards,
    options: ComputeOptions,
    most_drafts: usize,
) -> Result<Vec<Acceptance>, AlignError> {
    let head = DraftHead::new(file, model, file.model_sha256())?;
    let mut runner = HeadRunner::new(options)?;
    let held_out = held_out(shards)?;
    let longest = LENGTHS[LENGTHS.len() - 1];
    let hidden = model.config().hidden;
    let starts = held_out.iter().flat_map(|trajectory| {
        // From a state and the token after it to what was said after that.
        let last = trajectory.tokens.len().saturating_sub(longest + 1);
        (0..last).map(move |start| (trajectory, start))
    });
    let starts: Vec<_> = starts.collect();
    // Spread over all of them.
    let each = starts.len().div_ceil(most_drafts).max(1);
    let mut right = [0_u64; LENGTHS.len()];
    let mut drafts = 0;
    for (trajectory, start) in starts.into_iter().step_by(each) {
        let state = trajectory.states[start * hidden..][..hidden].iter();
        let state: Vec<f32> = state.map(|value| value.to_f32()).collect();
        runner.begin(&head, &state);
        let mut token = trajectory.tokens[start + 1];
        let mut accepted = 0;
        for expected in &trajectory.tokens[start + 2..][..longest] {
            token = runner.step(&head, model, token);
            if token != *expected {
                break;
            }
            accepted += 1;
        }
        drafts += 1;
        for (right, length) in right.iter_mut().zip(LENGTHS) {
            *right += accepted.min(length) as u64;
        }
    }
    if drafts == 0 {
        return Err(AlignError::Setting(
            "no trajectory is held out that is long enough: collect more".to_owned(),
        ));
    }
    let of = |(length, accepted): (usize, u64)| Acceptance {
        length,
        drafts,
        accepted,
        rate: accepted as f64 / (drafts * length as u64) as f64,
        tokens_per_verification: 1.0 + accepted as f64 / drafts as f64,
    };
    Ok(LENGTHS.into_iter().zip(right).map(of).collect())
}

/// The prompts of trajectories that were not learnt from.
///
/// # Errors
/// When a shard is damaged.
pub fn held_out_prompts(shards: &Shards) -> Result<Vec<Vec<u32>>, AlignError> {
    let prompt = |trajectory: Trajectory| {
        let mut prompt = trajectory.prompt;
        prompt.extend(trajectory.tokens.first());
        prompt
    };
    Ok(held_out(shards)?.into_iter().map(prompt).collect())
}

fn held_out(shards: &Shards) -> Result<Vec<Trajectory>, AlignError> {
    Ok(split(shards.read_all()?).1)
}
