//! `kakeya align evaluate`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use kakeya_align::evaluate::{Acceptance, acceptance, held_out_prompts};
use kakeya_align::shard::Shards;
use kakeya_model::head::{DraftHead, HeadFile};
use kakeya_runtime::speculation::MAX_DRAFTS;
use serde::Serialize;

use super::super::bench::speculative::{Speculative, measure};
use super::super::options::{EngineArgs, Settings, positive};
use super::super::output::{self, ReportFormat};
use super::super::proposer::Proposing;
use super::super::{Outcome, model};

/// Flags of `kakeya align evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// The folder that was collected into: what was held out of the training is used
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The head
    #[arg(long, value_name = "FILE")]
    head: PathBuf,
    /// Drafts that are looked at
    #[arg(long, value_name = "N", default_value = "4000", value_parser = positive)]
    drafts: NonZeroUsize,
    /// Held-out prompts that are answered, to measure the speed
    #[arg(long, value_name = "N", default_value = "4", value_parser = positive)]
    prompts: NonZeroUsize,
    /// Tokens of each answer
    #[arg(long, value_name = "N", default_value = "128", value_parser = positive)]
    r#gen: NonZeroUsize,
    /// Measurements of each speed, of which the median is printed
    #[arg(long, value_name = "N", default_value = "3", value_parser = positive)]
    repeat: NonZeroUsize,
    /// How the figures are printed
    #[arg(long, value_enum, default_value = "text")]
    format: ReportFormat,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    head: String,
    model_sha256: String,
    #[serde(flatten)]
    settings: Settings,
    /// At states of held-out trajectories.
    acceptance: Vec<Acceptance>,
    /// Of held-out prompts: with the head, and with prompt lookup.
    speed: Vec<[Speculative; 2]>,
}

/// Runs `kakeya align evaluate`.
pub fn run(args: EvaluateArgs) -> Outcome {
    let options = args.engine.validate()?;
    let servable = model::load_to_serve(&options, false)?;
    let (model, sha256) = (servable.model, servable.sha256);
    let flag = || format!("--head {}", args.head.display());
    let file = HeadFile::read(&args.head).with_context(flag)?;
    let head = Arc::new(DraftHead::new(&file, &model, &sha256).with_context(flag)?);
    let mut origin = Shards::origin_of(&args.data)?;
    origin.model_sha256.clone_from(&sha256);
    let shards = Shards::open(&args.data, origin)?;
    let found = acceptance(&model, &file, &shards, options.compute, args.drafts.get())?;
    let prompts = held_out_prompts(&shards)?;
    let with_head = Proposing::Head(head, Arc::clone(&model), options.compute);
    let runs = (args.r#gen.get(), args.repeat.get());
    let mut speed = Vec::new();
    for prompt in prompts.iter().take(args.prompts.get()) {
        let measured = |name: &str, proposing: &Proposing| {
            let name = name.to_owned();
            measure(
                &model,
                &options,
                (name, MAX_DRAFTS),
                proposing,
                prompt,
                runs,
            )
        };
        speed.push([
            measured("head", &with_head)?,
            measured("ngram", &Proposing::Ngram)?,
        ]);
    }
    let report = Report {
        head: args.head.display().to_string(),
        model_sha256: sha256,
        settings: options.settings(),
        acceptance: found,
        speed,
    };
    match args.format {
        ReportFormat::Json => output::print_json(&report)?,
        ReportFormat::Text => output::print(&table(&report))?,
    }
    Ok(())
}

fn table(report: &Report) -> String {
    let mut text = format!(
        "{}\n{}\n\n{:>8} {:>8} {:>10} {:>10} {:>24}\n",
        report.head,
        report.settings,
        "tokens",
        "drafts",
        "accepted",
        "rate",
        "tokens a verification"
    );
    for row in &report.acceptance {
        text += &format!(
            "{:>8} {:>8} {:>10} {:>9.1}% {:>24.2}\n",
            row.length,
            row.drafts,
            row.accepted,
            100.0 * row.rate,
            row.tokens_per_verification
        );
    }
    text += &format!(
        "\n{:>8} {:>8} {:>12} {:>12} {:>14} {:>10}\n",
        "prompt", "proposer", "tok/s", "plain tok/s", "times as fast", "accepted"
    );
    for (index, pair) in report.speed.iter().enumerate() {
        for row in pair {
            let rate = row
                .acceptance_rate
                .map_or_else(|| "-".to_owned(), |rate| format!("{:.1}%", 100.0 * rate));
            text += &format!(
                "{:>8} {:>8} {:>12.1} {:>12.1} {:>14.2} {:>10}\n",
                index + 1,
                row.proposer,
                row.tokens_per_second,
                row.plain_tokens_per_second,
                row.speedup,
                rate
            );
        }
    }
    text
}
