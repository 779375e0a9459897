//! `kakeya align collect`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use kakeya_align::collect::{Collection, Conversation};
use kakeya_align::shard::Shards;

use super::super::chat::Turns;
use super::super::memory::MemoryLimit;
use super::super::options::{EngineArgs, positive};
use super::super::output::bytes;
use super::super::{Failure, Outcome, model};

/// Flags of `kakeya align collect`.
#[derive(Debug, Args)]
pub struct CollectArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// The folder for the shards. If there are some already, the collection goes on from them
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Tokens that the model is to say
    #[arg(long, value_name = "N", default_value = "200000", value_parser = positive)]
    tokens: NonZeroUsize,
    /// The most of them in one answer
    #[arg(long, value_name = "N", default_value = "256", value_parser = positive)]
    max_new: NonZeroUsize,
    /// The temperature of the answers. The questions, which the model asks itself, are drawn at 1
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f32,
    /// The seed of the questions, and of the answers at a temperature above 0
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Conversations at once
    #[arg(long, value_name = "N", default_value = "16", value_parser = positive)]
    batch: NonZeroUsize,
    /// What the shards may take on the disk, such as 2GiB
    #[arg(long, value_name = "SIZE", default_value = "4GiB")]
    max_bytes: MemoryLimit,
}

/// Runs `kakeya align collect`.
pub fn run(args: CollectArgs) -> Outcome {
    let options = args.engine.validate()?;
    let MemoryLimit::Bytes(max_bytes) = args.max_bytes else {
        return Err(Failure::usage("--max-bytes: expected a size, such as 2GiB"));
    };
    if !(0.0..=10.0).contains(&args.temperature) {
        return Err(Failure::usage(
            "--temperature: expected a number from 0 to 10",
        ));
    }
    let servable = model::load_to_serve(&options, true)?;
    let tokenizer = servable.tokenizer.context("the model has no tokenizer")?;
    let (before, between) = Turns::of(&tokenizer, None)?.around(&tokenizer)?;
    let conversation = Conversation {
        before,
        between,
        ends: tokenizer.end_of_generation().collect(),
    };
    let collection = Collection {
        model_sha256: servable.sha256,
        tokens: args.tokens.get() as u64,
        max_new: args.max_new.get(),
        temperature: args.temperature,
        seed: args.seed,
        batch: args.batch.get(),
        max_bytes,
        compute: options.compute,
    };
    let origin = collection.origin(&servable.model);
    let mut shards = Shards::open(&args.out, origin)?;
    let (begun, already) = (Instant::now(), shards.tokens());
    if already > 0 {
        eprintln!("{already} tokens are there already");
    }
    collection.run(&servable.model, &conversation, &mut shards, |tokens| {
        let rate = (tokens - already) as f64 / begun.elapsed().as_secs_f64();
        eprintln!("{tokens} of {} tokens, {rate:.0} a second", args.tokens);
        true
    })?;
    eprintln!(
        "{} tokens in {}, {}",
        shards.tokens(),
        args.out.display(),
        bytes(shards.bytes())
    );
    Ok(())
}
