//! `kakeya align train`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use kakeya_align::plot;
use kakeya_align::shard::Shards;
use kakeya_align::train::{TrainSettings, Training, curve_file};
use serde::Serialize;

use super::super::options::{EngineArgs, positive};
use super::super::output;
use super::super::{Outcome, model};

/// Flags of `kakeya align train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// The folder that was collected into
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The file for the head; beside it goes the curve of its training, as SVG
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The folder for the checkpoint, from which a training goes on that was stopped [default: the head's file with
    /// `.training`]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Width of the head, a multiple of 32
    #[arg(long, value_name = "N", default_value = "512", value_parser = positive)]
    width: NonZeroUsize,
    /// Width inside its blocks, a multiple of 32
    #[arg(long, value_name = "N", default_value = "1024", value_parser = positive)]
    wide: NonZeroUsize,
    /// Blocks
    #[arg(long, value_name = "N", default_value_t = 2)]
    blocks: usize,
    /// Tokens that it can say: the most frequent ones of what was collected
    #[arg(long, value_name = "N", default_value = "8192", value_parser = positive)]
    vocabulary: NonZeroUsize,
    /// Tokens that it learns to guess ahead
    #[arg(long, value_name = "N", default_value = "3", value_parser = positive)]
    ahead: NonZeroUsize,
    /// Times that it sees what was collected
    #[arg(long, value_name = "N", default_value = "4", value_parser = positive)]
    epochs: NonZeroUsize,
    /// States of a step
    #[arg(long, value_name = "N", default_value = "256", value_parser = positive)]
    batch: NonZeroUsize,
    /// The highest learning rate
    #[arg(long, value_name = "RATE", default_value_t = 1e-3)]
    learning_rate: f64,
    /// The seed of the first weights and of the order
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// What is printed at the end.
#[derive(Debug, Serialize)]
struct Report {
    head: String,
    curve: String,
    bytes: u64,
    steps: u64,
    loss: f64,
    first_guesses_right: f64,
    /// Of what the head shares with its model, before and after.
    frozen_sha256: String,
}

/// Runs `kakeya align train`.
pub fn run(args: TrainArgs) -> Outcome {
    let options = args.engine.validate()?;
    let servable = model::load_to_serve(&options, true)?;
    let mut origin = Shards::origin_of(&args.data)?;
    origin.model_sha256.clone_from(&servable.sha256);
    let shards = Shards::open(&args.data, origin)?;
    let settings = TrainSettings {
        width: args.width.get(),
        wide: args.wide.get(),
        blocks: args.blocks,
        vocabulary: args.vocabulary.get(),
        ahead: args.ahead.get(),
        epochs: args.epochs.get() as u64,
        batch: args.batch.get(),
        learning_rate: args.learning_rate,
        seed: args.seed,
        ..TrainSettings::default()
    };
    let training = Training {
        settings,
        model_sha256: servable.sha256,
        folder: args
            .work
            .unwrap_or_else(|| args.out.with_extension("training")),
    };
    let ends = servable
        .tokenizer
        .iter()
        .flat_map(|tokenizer| tokenizer.end_of_generation())
        .collect();
    let begun = std::time::Instant::now();
    let mut first = None;
    let trained = training.run(&servable.model, &shards, &ends, |point| {
        let done = point.step - *first.get_or_insert(point.step.saturating_sub(10));
        let left = begun.elapsed().as_secs_f64() / done.max(1) as f64
            * (point.steps - point.step) as f64;
        eprintln!(
            "step {} of {}: loss {:.3} (divergence {:.3}, states {:.3}, masked {:.3}), {:.1}% of first guesses right, \
             {:.0} s left",
            point.step,
            point.steps,
            point.loss,
            point.divergence,
            point.states,
            point.recovery,
            100.0 * point.accepted,
            left
        );
        true
    })?;
    let Some(trained) = trained else {
        return Ok(());
    };
    trained.head.write(&args.out)?;
    let curve = curve_file(&args.out);
    plot::draw(&trained.curve, &curve)?;
    let last = trained.curve.last().copied().unwrap_or_default();
    output::print_json(&Report {
        head: args.out.display().to_string(),
        curve: curve.display().to_string(),
        bytes: std::fs::metadata(&args.out)?.len(),
        steps: last.step,
        loss: last.loss,
        first_guesses_right: last.accepted,
        frozen_sha256: trained.frozen_sha256,
    })?;
    Ok(())
}
