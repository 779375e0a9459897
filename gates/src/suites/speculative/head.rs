//! A head that is trained here, on the real model: collected for, trained, stopped and gone on with, and used.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use kakeya_align::AlignError;
use kakeya_align::collect::{Collection, Conversation};
use kakeya_align::evaluate::acceptance;
use kakeya_align::shard::{Origin, Shards};
use kakeya_align::train::{TrainSettings, Trained, Training};
use kakeya_model::ComputeOptions;
use kakeya_model::head::{DraftHead, HeadError, HeadFile};
use kakeya_model::tokenizer::Tokenizer;
use kakeya_runtime::Speculation;
use kakeya_runtime::speculation::HeadProposers;

use super::super::SMOLLM2;
use super::super::support::{ensure_holds, greedy, prose, seeded, small, solo};
use super::support::{ensure_no_fault, finish, fixed, session, speculating};
use crate::context::SuiteContext;
use crate::suite::{Case, on_model};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

/// Tokens that are collected: enough to learn something, and few enough for every run.
const TOKENS: u64 = 1300;

pub fn cases() -> Vec<Case> {
    let made: Arc<OnceLock<Option<std::path::PathBuf>>> = Arc::default();
    let with_data = move |case: fn(&SuiteContext, &Path) -> CaseResult| {
        let made = Arc::clone(&made);
        move |context: &SuiteContext| {
            let smollm2 = on_model(SMOLLM2)(context)?;
            let folder = made.get_or_init(|| {
                let folder = smollm2.scratch().ok()?.join("data");
                collect(&smollm2, &folder, TOKENS, 16, &mut |_| true).ok()?;
                Some(folder)
            });
            let folder = folder
                .as_ref()
                .ok_or_else(|| CaseFailure::violated("nothing could be collected"))?;
            case(&smollm2, folder)
        }
    };
    vec![
        Case::fast(
            "trajectories_are_the_model_s_own_and_a_collection_goes_on_where_it_was",
            with_data.clone()(collections),
        ),
        Case::fast(
            "a_training_that_is_stopped_goes_on_to_the_same_bits",
            with_data.clone()(trainings),
        ),
        Case::fast("a_trained_head_changes_no_bit", with_data.clone()(in_use)),
        Case::fast(
            "a_head_or_a_shard_of_another_model_is_refused",
            with_data(others),
        ),
    ]
}

fn options(context: &SuiteContext) -> ComputeOptions {
    ComputeOptions {
        threads: context.threads(),
        isa: context.isa(),
    }
}

fn collection(context: &SuiteContext, tokens: u64, batch: usize) -> Collection {
    Collection {
        model_sha256: context.model_sha256().to_owned(),
        tokens,
        max_new: 60,
        temperature: 0.0,
        seed: 5,
        batch,
        max_bytes: 1 << 30,
        compute: options(context),
    }
}

/// Collects into a folder until `progress` says to stop.
fn collect(
    context: &SuiteContext,
    folder: &Path,
    tokens: u64,
    batch: usize,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<Shards, CaseFailure> {
    let model = context.model()?;
    let tokenizer = Tokenizer::of(model.source())?;
    let encode = |text: &str| tokenizer.encode(text, true);
    let conversation = Conversation {
        before: encode("<|im_start|>user\n")?,
        between: encode("<|im_end|>\n<|im_start|>assistant\n")?,
        ends: tokenizer.end_of_generation().collect(),
    };
    let collection = collection(context, tokens, batch);
    let mut shards = Shards::open(folder, collection.origin(model))?;
    collection.run(model, &conversation, &mut shards, progress)?;
    Ok(shards)
}

fn open(context: &SuiteContext, folder: &Path) -> Result<Shards, CaseFailure> {
    let origin = collection(context, TOKENS, 8).origin(context.model()?);
    Ok(Shards::open(folder, origin)?)
}

fn collections(context: &SuiteContext, folder: &Path) -> CaseResult {
    let model = context.model()?;
    let shards = open(context, folder)?;
    ensure!(shards.tokens() >= TOKENS, "{} tokens", shards.tokens());
    let all = shards.read_all()?;
    let hidden = model.config().hidden;
    // What was written down is what a session of its own thinks and says.
    for trajectory in all.iter().step_by(all.len().div_ceil(2)) {
        let prompt = [&trajectory.prompt[..], &trajectory.tokens[..1]].concat();
        let config = kakeya_runtime::EngineConfig {
            cache: kakeya_core::CacheConfig::default(),
            ..small(context)
        };
        let count = trajectory.tokens.len() as u32 - 1;
        let said = solo(context, &config, &prompt, greedy(count))?;
        ensure_eq!(
            said.tokens,
            trajectory.tokens[1..],
            "what trajectory {} says",
            trajectory.number
        );
        ensure_eq!(
            trajectory.states.len(),
            trajectory.tokens.len() * hidden,
            "states"
        );
    }
    // Another batch, stopped after its first shard, and gone on with: the trajectories that both have are the same.
    let other = context.scratch()?.join("other");
    let first = collect(context, &other, TOKENS / 10, 3, &mut |_| false)?.tokens();
    let again = collect(context, &other, TOKENS / 4, 8, &mut |_| true)?;
    ensure!(
        again.tokens() > first && first > 0,
        "{} tokens after {first}",
        again.tokens()
    );
    let mut same = 0;
    for trajectory in again.read_all()? {
        if let Some(one) = all.iter().find(|one| one.number == trajectory.number) {
            ensure!(*one == trajectory, "trajectory {} is another", one.number);
            same += 1;
        }
    }
    ensure!(same >= 2, "{same} trajectories are in both");
    Ok(())
}

fn training(context: &SuiteContext, folder: &Path) -> Training {
    Training {
        settings: TrainSettings {
            width: 96,
            wide: 128,
            blocks: 1,
            vocabulary: 512,
            ahead: 2,
            epochs: 3,
            batch: 48,
            learning_rate: 3e-3,
            warmup: 5,
            ..TrainSettings::default()
        },
        model_sha256: context.model_sha256().to_owned(),
        folder: folder.to_owned(),
    }
}

fn train(
    context: &SuiteContext,
    data: &Path,
    work: &Path,
    stop_at: Option<u64>,
) -> Result<Option<Trained>, CaseFailure> {
    let shards = open(context, data)?;
    let goes_on = |step: u64| stop_at.is_none_or(|stop| step < stop);
    let training = training(context, work);
    let ends = std::collections::BTreeSet::new();
    Ok(training.run(context.model()?, &shards, &ends, |point| {
        goes_on(point.step)
    })?)
}

fn trainings(context: &SuiteContext, data: &Path) -> CaseResult {
    let work = context.scratch()?;
    let whole = train(context, data, &work.join("whole"), None)?;
    let whole = whole.ok_or_else(|| CaseFailure::violated("the training did not end"))?;
    let parts = work.join("parts");
    for stop in [20, 50] {
        let stopped = train(context, data, &parts, Some(stop))?;
        ensure!(
            stopped.is_none(),
            "the training did not stop at step {stop}"
        );
    }
    // What a killed run leaves half-written is of no consequence.
    std::fs::write(parts.join("checkpoint.part"), "half")?;
    let resumed = train(context, data, &parts, None)?;
    let resumed = resumed.ok_or_else(|| CaseFailure::violated("the training did not end"))?;
    ensure!(
        resumed.head == whole.head,
        "the head that was stopped is another"
    );
    ensure_eq!(resumed.curve, whole.curve, "the curve");
    ensure_eq!(
        resumed.frozen_sha256,
        whole.frozen_sha256,
        "what the head shares with its model"
    );
    let (first, last) = (whole.curve[0], whole.curve[whole.curve.len() - 1]);
    ensure!(
        last.loss < 0.8 * first.loss && last.accepted > first.accepted,
        "the loss went from {} to {}, and the right guesses from {} to {}",
        first.loss,
        last.loss,
        first.accepted,
        last.accepted
    );
    // Other settings are another training.
    let mut other = training(context, &parts);
    other.settings.seed = 2;
    let ends = std::collections::BTreeSet::new();
    let refused = other.run(context.model()?, &open(context, data)?, &ends, |_| true);
    match refused {
        Err(AlignError::OtherTraining { problem, .. }) => {
            ensure_eq!(problem, "seed is 1 there, and 2 here", "what differs");
        }
        other => {
            return Err(CaseFailure::violated(format!(
                "a checkpoint of another training was taken: {:?}",
                other.map(|_| ())
            )));
        }
    }
    Ok(())
}

/// A head, written and read again.
fn head(context: &SuiteContext, data: &Path) -> Result<HeadFile, CaseFailure> {
    let work = context.scratch()?;
    let trained = train(context, data, &work, None)?;
    let trained = trained.ok_or_else(|| CaseFailure::violated("the training did not end"))?;
    let path = work.join("head.safetensors");
    trained.head.write(&path)?;
    let read = HeadFile::read(&path)?;
    ensure!(read == trained.head, "the head that is read is another");
    Ok(read)
}

fn in_use(context: &SuiteContext, data: &Path) -> CaseResult {
    let model = context.model()?;
    let file = head(context, data)?;
    let found = acceptance(model, &file, &open(context, data)?, options(context), 200)?;
    ensure!(
        found[0].rate > 0.05,
        "the head is right about {} of held-out tokens",
        found[0].rate
    );
    let head = Arc::new(DraftHead::new(&file, model, context.model_sha256())?);
    let config = small(context);
    let prompt = prose(context, 40)?;
    for params in [greedy(40), seeded(40, 2)] {
        let plain = solo(context, &config, &prompt, params.clone())?;
        let proposers = HeadProposers::new(Arc::clone(&head), model.clone(), options(context))?;
        let proposers = Arc::new(proposers);
        for speculation in [
            fixed(Arc::clone(&proposers) as _, 4),
            Speculation::new(proposers),
        ] {
            let mut id = None;
            let (engine, counts) = speculating(context, &config, speculation, async |engine| {
                let session = session(engine, &prompt, &[]).await?;
                let found = finish(engine, &session, params.clone()).await?;
                id = Some(session);
                found.ensure_same_as("a trained head", &plain)
            })?;
            ensure_no_fault(&counts)?;
            ensure!(counts.drafted > 0, "the head has proposed nothing");
            if let Some(id) = id {
                ensure_holds(
                    context,
                    &engine,
                    &id,
                    &[&prompt[..], &plain.tokens].concat(),
                )?;
            }
        }
    }
    Ok(())
}

fn others(context: &SuiteContext, data: &Path) -> CaseResult {
    let model = context.model()?;
    let file = head(context, data)?;
    ensure!(
        matches!(
            DraftHead::new(&file, model, "00"),
            Err(HeadError::OtherModel { .. })
        ),
        "a head of another model was taken"
    );
    let origin = collection(context, TOKENS, 8).origin(model);
    let other = Origin {
        model_sha256: "00".to_owned(),
        ..origin
    };
    match Shards::open(data, other) {
        Err(AlignError::OtherCollection { what, .. }) => {
            ensure_eq!(what, "the model with SHA-256", "what differs");
        }
        other => {
            return Err(CaseFailure::violated(format!(
                "shards of another model were taken: {:?}",
                other.map(|_| ())
            )));
        }
    }
    let path = context.scratch()?.join("head.safetensors");
    file.write(&path)?;
    let whole = std::fs::read(&path)?;
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length])?;
        ensure!(
            HeadFile::read(&path).is_err(),
            "a head of {length} bytes was read"
        );
    }
    Ok(())
}
