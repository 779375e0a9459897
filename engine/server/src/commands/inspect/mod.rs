//! `kakeya inspect`: what a model's files are, whether they can be run, and the memory that sessions would take.
//!
//! Headers are read, and no weight: it answers at once, however large the model is.

mod report;
mod text;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Context;
use clap::{ArgGroup, Args};
use kakeya_model::{Inspection, LoadOptions, Quantization};

use super::options::{CacheArgs, positive};
use super::{Failure, Outcome, model, output};
use report::{Report, Sessions};

/// Flags of `kakeya inspect`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["path", "model"]))]
pub struct InspectArgs {
    /// A GGUF file, or a folder with config.json and safetensors
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// A model of the catalogue that is in the cache; nothing is fetched
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    #[command(flatten)]
    cache: CacheArgs,
    /// Count the memory of weights quantised while they are loaded: to `q8_0`, `q4_1` or `q4_k`
    #[arg(long, value_name = "TYPE")]
    quantize: Option<Quantization>,
    /// Count the memory of so many sessions
    #[arg(long, value_name = "N", default_value = "16", value_parser = positive)]
    capacity: NonZeroUsize,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs `kakeya inspect`.
pub fn run(args: InspectArgs) -> Outcome {
    let (cache, kv) = args.cache.validate()?;
    let path = match (args.path, args.model) {
        (Some(path), _) => path,
        (None, name) => model::locate(name.as_deref())?,
    };
    let load = LoadOptions {
        quantize: args.quantize,
    };
    let inspection = Inspection::of(&path, load).context("there is nothing to inspect")?;
    let sessions = Sessions {
        cache,
        kv,
        capacity: args.capacity.get(),
    };
    let report = Report::of(&inspection, sessions, args.tensors)?;
    match args.json {
        true => output::print_json(&report)?,
        false => output::print(&text::of(&report))?,
    }
    match report.runnable {
        true => Ok(()),
        false => Err(Failure::CannotRun),
    }
}
