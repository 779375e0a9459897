//! Draft models: the model itself, which is always right, and a coarser copy of it, which is right most of the time.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use kakeya_core::{CacheConfig, SpeculationStats, StopReason, Window};
use kakeya_model::{ComputeOptions, Model};
use kakeya_runtime::speculation::{DraftError, DraftModel};
use kakeya_runtime::{EngineConfig, Speculation};

use super::super::support::{
    engine_with, ensure_holds, generate, greedy, open_with, prose, seeded, small,
};
use super::super::{SMOLLM2, architectures, support};
use super::support::{ensure_no_fault, finish, fixed, session, speculating};
use crate::context::SuiteContext;
use crate::suite::{Case, on_model};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "a_model_that_drafts_for_itself_is_always_right",
            drafts_for_itself,
        ),
        Case::fast(
            "a_requantised_model_drafts_for_the_one_that_it_is_of",
            |context| requantised(&on_model(SMOLLM2)(context)?),
        ),
        Case::fast(
            "a_draft_model_has_the_vocabulary_or_is_refused",
            other_vocabulary,
        ),
        Case::fast(
            "a_session_gets_the_draft_s_slab_of_one_that_has_just_ended",
            slab_of_one_that_ended,
        ),
        Case::fast("drafts_stop_where_the_draft_model_has_no_room", no_room),
    ]
}

fn draft_model(
    context: &SuiteContext,
    model: Arc<Model>,
    config: &EngineConfig,
) -> Result<Arc<DraftModel>, CaseFailure> {
    let options = ComputeOptions {
        threads: context.threads(),
        isa: context.isa(),
    };
    let draft = DraftModel::new(model, config.cache, config.kv, config.capacity, options)?;
    Ok(Arc::new(draft))
}

/// Several turns of one session, greedy but for the second, with what was counted in each.
fn turns(
    context: &SuiteContext,
    config: &EngineConfig,
    draft: Arc<DraftModel>,
    most: usize,
) -> Result<Vec<SpeculationStats>, CaseFailure> {
    let text = prose(context, 140)?;
    let params = [greedy(16), seeded(16, 9), greedy(16), greedy(16)];
    let mut plain = engine_with(context, config.clone())?;
    let alone = open_with(&mut plain, &text[..50])?;
    let mut counted = Vec::new();
    let mut id = None;
    let (engine, counts) = speculating(context, config, fixed(draft, most), async |engine| {
        let session = session(engine, &text[..50], &[]).await?;
        for (turn, params) in params.iter().enumerate() {
            let expected = generate(&mut plain, &alone, params.clone())?;
            let found = finish(engine, &session, params.clone()).await?;
            found.ensure_same_as(&format!("turn {turn} with a draft model"), &expected)?;
            counted.push(engine.stats().await?.speculation);
            // Long and short, so that the draft model reads more than it is waited for, and less.
            let more = text[50..][..[70, 5, 0, 1][turn]].to_vec();
            kakeya_runtime::AppendCoordinator::append(&mut plain, &alone, &more)?;
            engine.append(session.clone(), more).await?;
        }
        id = Some(session);
        Ok(())
    })?;
    ensure_no_fault(&counts)?;
    if let Some(id) = id {
        ensure_holds(context, &engine, &id, plain.history(&alone)?)?;
    }
    Ok(counted)
}

/// What was drafted and accepted in a turn.
fn of_turn(counted: &[SpeculationStats], turn: usize) -> (u64, u64) {
    let before = match turn {
        0 => SpeculationStats::default(),
        _ => counted[turn - 1],
    };
    let now = counted[turn];
    (now.drafted - before.drafted, now.accepted - before.accepted)
}

/// Its cache follows the session's over everything that was rejected: a single key out of place would show in what it
/// says of the turns after.
fn drafts_for_itself(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    for most in [1, 9] {
        let draft = draft_model(context, context.model()?.clone(), &config)?;
        let counted = turns(context, &config, draft, most)?;
        for turn in [0, 2, 3] {
            let (drafted, accepted) = of_turn(&counted, turn);
            ensure_eq!(accepted, drafted, "accepted tokens of turn {turn}");
            ensure!(drafted >= 8, "{drafted} tokens were drafted in turn {turn}");
        }
        let (drafted, accepted) = of_turn(&counted, 1);
        ensure!(
            accepted < drafted,
            "a greedy draft was right about all of {drafted} draws"
        );
    }
    Ok(())
}

fn requantised(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let path = requantise(context.model_path(), &context.scratch()?)?;
    let model = Arc::new(Model::load(&path)?);
    DraftModel::check(&model, context.model()?)?;
    let draft = draft_model(context, model, &config)?;
    let counted = turns(context, &config, draft, 4)?;
    let (drafted, accepted) = of_turn(&counted, 0);
    let share = accepted as f64 / drafted as f64;
    context.measure("acceptance.requantised_draft", share, "ratio")?;
    ensure!(
        share > 0.3 && accepted < drafted,
        "{accepted} of {drafted} drafts of a coarser model were accepted"
    );
    Ok(())
}

/// The same model with its 4-bit matrices in another 4-bit format, which rounds them otherwise.
fn requantise(path: &Path, folder: &Path) -> Result<PathBuf, CaseFailure> {
    let mut file = File::open(path)?;
    let content = gguf_file::Content::read(&mut file)?;
    let mut tensors = Vec::new();
    for name in content.tensor_infos.keys() {
        let tensor = content.tensor(&mut file, name, &Device::Cpu)?;
        let tensor = if tensor.dtype() == GgmlDType::Q4_1 {
            QTensor::quantize(&tensor.dequantize(&Device::Cpu)?, GgmlDType::Q4_0)?
        } else {
            tensor
        };
        tensors.push((name.as_str(), tensor));
    }
    ensure!(
        tensors
            .iter()
            .any(|(_, tensor)| tensor.dtype() == GgmlDType::Q4_0),
        "the model has no matrix of 4 bits"
    );
    let metadata: Vec<_> = content
        .metadata
        .iter()
        .map(|(key, value)| (key.as_str(), value))
        .collect();
    let tensors: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| (*name, tensor))
        .collect();
    let to = folder.join("draft.gguf");
    gguf_file::write(&mut File::create(&to)?, &metadata, &tensors)?;
    Ok(to)
}

fn other_vocabulary(context: &SuiteContext) -> CaseResult {
    let smollm2 = on_model(SMOLLM2)(context)?;
    let model = smollm2.model()?;
    let folder = smollm2.scratch()?;
    architectures::small(&smollm2, "llama-untied")?.write(&folder)?;
    let made = Model::load(&folder)?;
    let expected = DraftError::Vocabulary {
        draft: made.config().vocabulary,
        model: model.config().vocabulary,
    };
    ensure_eq!(
        DraftModel::check(&made, model),
        Err(expected),
        "the answer to a draft model with other tokens"
    );
    ensure_eq!(
        DraftModel::check(model, model),
        Ok(()),
        "the answer to the same tokens"
    );
    Ok(())
}

/// With a full window the draft model reads no further than its context, and the session goes on alone. On a model with a
/// context of a few hundred tokens.
fn no_room(context: &SuiteContext) -> CaseResult {
    let smollm2 = on_model(SMOLLM2)(context)?;
    let context = &smollm2.with_made("llama-untied", || {
        let folder = smollm2.scratch()?;
        architectures::small(&smollm2, "llama-untied")?.write(&folder)?;
        Ok(Arc::new(Model::load(&folder)?))
    })?;
    let config = EngineConfig {
        cache: CacheConfig {
            window: Window::Full,
            ..support::SMALL
        },
        capacity: 1,
        ..small(context)
    };
    let model = context.model()?;
    let limit = model.config().context;
    ensure!(limit < 2000, "a context of {limit} takes too long");
    let prompt = support::random_ids(context, 3, limit - 12)?;
    let mut plain = engine_with(context, config.clone())?;
    let alone = open_with(&mut plain, &prompt)?;
    let expected = generate(&mut plain, &alone, greedy(100))?;
    ensure_eq!(expected.done.reason, StopReason::Truncated, "why it ended");
    let draft = draft_model(context, model.clone(), &config)?;
    let (_, counts) = speculating(context, &config, fixed(draft, 8), async |engine| {
        let session = session(engine, &prompt, &[]).await?;
        let found = finish(engine, &session, greedy(100)).await?;
        found.ensure_same_as("at the end of the context", &expected)
    })?;
    ensure_no_fault(&counts)?;
    ensure_eq!(
        counts.accepted > 0,
        true,
        "whether anything was drafted before the end"
    );
    ensure_eq!(counts.accepted, counts.drafted, "accepted tokens");
    Ok(())
}

/// The draft model is still reading the long prompt of a session that has ended when the next one asks for its slab.
fn slab_of_one_that_ended(context: &SuiteContext) -> CaseResult {
    let config = EngineConfig {
        capacity: 1,
        active: 1,
        ..small(context)
    };
    let long = support::random_ids(context, 13, 1500)?;
    let draft = draft_model(context, context.model()?.clone(), &config)?;
    let speculation = Speculation::new(draft);
    let (_, counts) = speculating(context, &config, speculation, async |engine| {
        for prompt in [&long[..], &long[..10]] {
            let session = session(engine, prompt, &[]).await?;
            finish(engine, &session, greedy(8)).await?;
            engine.close(session).await?;
        }
        Ok(())
    })?;
    ensure_no_fault(&counts)
}
