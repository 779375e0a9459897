//! Diffusion models: blocks whose tokens see each other, filled in by confidence. On a checkpoint of Qwen3's shape with
//! pseudo-random weights, since no diffusion model that is small enough can be had.

use std::sync::Arc;

use kakeya_core::{KvElement, SlabPool};
use kakeya_model::{Compute, ComputeOptions, LogitRows, Model};
use kakeya_runtime::SinkWindowVerifier;
use kakeya_runtime::speculation::{DiffusionError, DiffusionModel, fill_in};

use super::super::inv3::oracle::Oracle;
use super::super::support::{SMALL, ensure_holds, random_ids, seeded, small, solo};
use super::super::{SMOLLM2, architectures};
use super::support::{ensure_no_fault, finish, fixed, session, speculating};
use crate::context::SuiteContext;
use crate::suite::{Case, on_model};
use crate::{ensure, ensure_eq, ensure_same_bits};
use kakeya_suite::{CaseFailure, CaseResult};

/// The checkpoint.
const NAME: &str = "qwen3-untied";
/// The context of the blocks: beyond the sinks and the window of [`SMALL`].
const CONTEXT: usize = 50;

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "logits_at_masked_positions_are_those_of_the_dense_form",
            |context| dense_form(&on_checkpoint(context)?),
        ),
        Case::fast("a_block_is_filled_in_by_confidence", |context| {
            by_confidence(&on_checkpoint(context)?)
        }),
        Case::fast("a_diffusion_model_changes_no_bit", |context| {
            as_a_proposer(&on_checkpoint(context)?)
        }),
        Case::fast("a_model_without_a_mask_token_fills_in_nothing", no_mask),
    ]
}

/// The checkpoint with its last token for a mask.
fn on_checkpoint(context: &SuiteContext) -> Result<SuiteContext, CaseFailure> {
    let smollm2 = on_model(SMOLLM2)(context)?;
    smollm2.with_made("qwen3-untied-diffusion", || {
        let mut checkpoint = architectures::small(&smollm2, NAME)?;
        let vocabulary = checkpoint.config["vocab_size"].as_u64().unwrap_or(1);
        checkpoint.config["mask_token_id"] = (vocabulary - 1).into();
        let folder = smollm2.scratch()?;
        checkpoint.write(&folder)?;
        Ok(Arc::new(Model::load(&folder)?))
    })
}

fn mask_of(context: &SuiteContext) -> Result<u32, CaseFailure> {
    let model = context.model()?;
    Ok(DiffusionModel::check(model, model)?)
}

/// A session of the model itself, after some tokens.
fn after(
    context: &SuiteContext,
    compute: &mut Compute,
    tokens: &[u32],
) -> Result<SinkWindowVerifier, CaseFailure> {
    let model = context.model()?;
    let layout = SinkWindowVerifier::layout_for(model, &SMALL);
    let slab = SlabPool::new(layout.slab_shape(KvElement::F32), 1)?.acquire()?;
    let mut session = SinkWindowVerifier::new(model.clone(), SMALL, layout, slab)?;
    session.prefill(compute, tokens, LogitRows::None);
    Ok(session)
}

fn compute(context: &SuiteContext) -> Result<Compute, CaseFailure> {
    Ok(Compute::new(ComputeOptions {
        threads: context.threads(),
        isa: context.isa(),
    })?)
}

/// The logits at every position of a block, as the plain second implementation has them: all rows, every key, one after
/// the other.
fn oracle(
    context: &SuiteContext,
    tokens: &[u32],
    block: &[u32],
) -> Result<Vec<Vec<f32>>, CaseFailure> {
    let model = context.model()?;
    let mut oracle = Oracle::new(model, (4, 32), KvElement::F32, 1);
    for (position, token) in tokens.iter().enumerate() {
        let rule = super::super::inv3::oracle::Visibility::PerQuery;
        oracle.step(*token, rule, (position, position))?;
    }
    Ok(oracle.block(block)?)
}

fn dense_form(context: &SuiteContext) -> CaseResult {
    let model = context.model()?;
    let mask = mask_of(context)?;
    let tokens = random_ids(context, 41, CONTEXT + 8)?;
    let mut compute = compute(context)?;
    for length in [3, CONTEXT] {
        let mut session = after(context, &mut compute, &tokens[..length])?;
        for masked in [
            vec![0, 1, 2, 3, 4, 5, 6, 7],
            vec![1, 4, 5],
            vec![7],
            vec![0],
        ] {
            let mut block = tokens[length..length + 8].to_vec();
            for position in &masked {
                block[*position] = mask;
            }
            let expected = oracle(context, &tokens[..length], &block)?;
            session.forward_both_ways(&mut compute, &block);
            let found = compute.logits_of(model, &masked);
            let vocabulary = found.len() / masked.len();
            for (row, position) in found.chunks_exact(vocabulary).zip(&masked) {
                let what = format!("masked position {position} of a block after {length} tokens");
                ensure_same_bits(&what, row, &expected[*position])?;
            }
        }
        // The block's tokens do see those behind them: from left to right the first says something else.
        let block = vec![mask; 8];
        session.forward_both_ways(&mut compute, &block);
        let both_ways = compute.logits_of(model, &[0]).to_vec();
        let from_left = session.forward_block(&mut compute, &block, LogitRows::All);
        crate::ensure_different_bits(
            "the first position of a block that is read from left to right",
            &both_ways,
            &from_left[..both_ways.len()],
        )?;
    }
    Ok(())
}

fn by_confidence(context: &SuiteContext) -> CaseResult {
    let mask = mask_of(context)?;
    let tokens = random_ids(context, 43, CONTEXT)?;
    let mut compute = compute(context)?;
    let mut session = after(context, &mut compute, &tokens)?;
    for (length, steps) in [(6, 1), (6, 3), (5, 2), (4, 4), (4, 9), (1, 4)] {
        let found = fill_in(&mut session, &mut compute, mask, length, steps);
        let expected = filled_by_hand(context, &tokens, mask, length, steps)?;
        ensure_eq!(found, expected, "a block of {length} in {steps} steps");
        ensure_eq!(
            session.position(),
            CONTEXT as u64,
            "the position after a block that was not committed"
        );
        ensure!(!found.contains(&mask), "a mask token is left in {found:?}");
    }
    Ok(())
}

/// The same with the plain implementation's logits, in f64.
fn filled_by_hand(
    context: &SuiteContext,
    tokens: &[u32],
    mask: u32,
    length: usize,
    steps: usize,
) -> Result<Vec<u32>, CaseFailure> {
    let mut block = vec![mask; length];
    let steps = steps.min(length);
    for step in 0..steps {
        let masked: Vec<usize> = (0..length).filter(|at| block[*at] == mask).collect();
        let logits = oracle(context, tokens, &block)?;
        let mut said: Vec<(usize, u32, f64)> = Vec::new();
        for at in &masked {
            let mut row: Vec<(u32, f64)> = (0..)
                .zip(logits[*at].iter().map(|x| f64::from(*x)))
                .collect();
            row.retain(|(token, _)| *token != mask);
            let total: f64 = row.iter().map(|(_, logit)| logit.exp()).sum();
            let best = row.iter().copied().reduce(
                |best, other| {
                    if other.1 > best.1 { other } else { best }
                },
            );
            let (token, logit) = best.ok_or_else(|| CaseFailure::violated("no token"))?;
            said.push((*at, token, logit.exp() / total));
        }
        said.sort_by(|one, other| other.2.total_cmp(&one.2));
        let kept = masked.len().div_ceil(steps - step);
        for (at, token, _) in &said[..kept] {
            block[*at] = *token;
        }
    }
    Ok(block)
}

fn as_a_proposer(context: &SuiteContext) -> CaseResult {
    let mask = mask_of(context)?;
    let config = small(context);
    let prompt = random_ids(context, 47, 40)?;
    let options = ComputeOptions {
        threads: context.threads(),
        isa: context.isa(),
    };
    for params in [seeded(40, 3), super::super::support::greedy(40)] {
        let plain = solo(context, &config, &prompt, params.clone())?;
        let model = (context.model()?.clone(), mask);
        let diffusion =
            DiffusionModel::new(model, 2, config.cache, config.kv, config.capacity, options)?;
        let mut id = None;
        let speculation = fixed(Arc::new(diffusion), 6);
        let (engine, counts) = speculating(context, &config, speculation, async |engine| {
            let session = session(engine, &prompt, &[]).await?;
            let found = finish(engine, &session, params.clone()).await?;
            id = Some(session);
            found.ensure_same_as("a diffusion model", &plain)
        })?;
        ensure_no_fault(&counts)?;
        ensure!(
            counts.drafted > 60,
            "{} tokens were proposed",
            counts.drafted
        );
        if let Some(id) = id {
            ensure_holds(
                context,
                &engine,
                &id,
                &[&prompt[..], &plain.tokens].concat(),
            )?;
        }
    }
    Ok(())
}

fn no_mask(context: &SuiteContext) -> CaseResult {
    let smollm2 = on_model(SMOLLM2)(context)?;
    let model = smollm2.model()?;
    ensure_eq!(
        DiffusionModel::check(model, model),
        Err(DiffusionError::NoMask),
        "the answer to a model without a mask token"
    );
    let other = on_checkpoint(context)?;
    ensure!(
        matches!(
            DiffusionModel::check(other.model()?, model),
            Err(DiffusionError::Vocabulary(_))
        ),
        "a diffusion model with other tokens was taken"
    );
    Ok(())
}
