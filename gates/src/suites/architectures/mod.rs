//! Every architecture, odd shape and tensor type: that it computes what `transformers` does, and that its bits keep
//! INV-3. The weights are pseudo-random numbers ([`crate::checkpoint`]).

mod bad_files;
mod dequantised;
mod gemma;
mod inspection;
mod types;

use std::sync::Arc;
use std::time::Duration;

use kakeya_model::{GgufFile, LoadOptions, Model, ModelConfig, Source};
use serde_json::{Value, json};

use super::inv3::oracle::Oracle;
use super::inv3::run::{Setting, Trace, cache};
use super::{SMOLLM2, inv3, tokenizer_files};
use crate::checkpoint::Checkpoint;
use crate::context::SuiteContext;
use crate::suite::{Case, Suite};
use crate::{ensure, ensure_eq, ensure_same_bits};
use kakeya_suite::{CaseFailure, CaseResult};

const SMALL: &str = "reference-checkpoints.json";
const REAL: &str = "reference-qwen3-0.6b-shape.json";
const REAL_NAME: &str = "qwen3-0.6b-shape";

/// The small checkpoints.
const NAMES: [&str; 10] = [
    "llama-untied",
    "llama-tied-biases",
    "llama-grouped-sharded",
    "llama-linear",
    "llama-llama3",
    "llama-yarn",
    "qwen2-biases",
    "qwen3-tied",
    "qwen3-untied",
    "gemma3",
];
/// Those whose stretched frequencies the oracle does not know.
const BEYOND_THE_ORACLE: [&str; 2] = ["llama-llama3", "llama-yarn"];
/// How far a logit may be from that of `transformers`, which rounds in another order.
const TOLERANCE: f32 = 1e-3;

pub fn suite() -> Suite {
    let mut suite = Suite::new(
        "architectures",
        "architectures, odd shapes and tensor types",
    )
    .full_timeout(Duration::from_secs(3 * 3600));
    for name in NAMES {
        suite = suite
            .case(Case::fast(
                format!("logits_are_those_of_transformers.{name}"),
                move |ctx| logits(ctx, &small(ctx, name)?),
            ))
            .case(Case::fast(
                format!("chunks_do_not_show.{name}"),
                move |ctx| chunks(ctx, &small(ctx, name)?, &[1, 5, 32]),
            ));
        if !BEYOND_THE_ORACLE.contains(&name) {
            suite = suite.case(Case::fast(
                format!("the_bits_are_the_plain_oracle_s.{name}"),
                move |ctx| oracle(ctx, &small(ctx, name)?),
            ));
        }
    }
    suite
        .case(Case::fast(
            "a_configuration_of_transformers_4_says_the_same",
            older_configurations,
        ))
        .cases(types::cases())
        .cases(dequantised::cases())
        .cases(gemma::cases())
        .cases(bad_files::cases())
        .cases(inspection::cases())
        .case(Case::full(
            "logits_are_those_of_transformers.qwen3-0.6b-shape",
            |ctx| logits(ctx, &real(ctx)?),
        ))
        .case(Case::full("chunks_do_not_show.qwen3-0.6b-shape", |ctx| {
            chunks(ctx, &real(ctx)?, &[1, 5])
        }))
        .cases(inv3::cases_on(REAL_NAME, on_real))
}

/// A context on the checkpoint of the real shape, which lies where the suite keeps its files until it ends.
fn on_real(ctx: &SuiteContext) -> Result<SuiteContext, CaseFailure> {
    // Histories are texts, and the checkpoint has no tokenizer of its own.
    let smollm2 = ctx.with_model(SMOLLM2)?;
    ctx.with_made(REAL_NAME, || {
        let folder = ctx.scratch()?;
        real(ctx)?.write(&folder)?;
        tokenizer_files::lend(&folder, &GgufFile::open(smollm2.model_path())?)?;
        let source = Source::open(&folder)?;
        Ok(Arc::new(Model::from_source(
            source,
            LoadOptions::default(),
        )?))
    })
}

/// A small checkpoint.
pub(super) fn small(ctx: &SuiteContext, name: &str) -> Result<Checkpoint, CaseFailure> {
    Checkpoint::read(&ctx.goldens().join(SMALL), name)
}

fn real(ctx: &SuiteContext) -> Result<Checkpoint, CaseFailure> {
    Checkpoint::read(&ctx.goldens().join(REAL), REAL_NAME)
}

/// Writes a checkpoint and loads it.
fn load(
    ctx: &SuiteContext,
    checkpoint: &Checkpoint,
    options: LoadOptions,
) -> Result<Arc<Model>, CaseFailure> {
    let folder = ctx.scratch()?;
    checkpoint.write(&folder)?;
    let model = Model::from_source(Source::open(&folder)?, options)?;
    // The map keeps the bytes; the names are not needed any more, and the large one takes a gigabyte.
    std::fs::remove_dir_all(&folder)?;
    Ok(Arc::new(model))
}

/// All logits with everything in sight, in f32 as far as it goes.
fn all_logits(
    ctx: &SuiteContext,
    model: &Arc<Model>,
    tokens: &[u32],
) -> Result<Trace, CaseFailure> {
    let mut setting = Setting::new(ctx, cache(0, tokens.len() as u32));
    setting.element = kakeya_core::KvElement::F32;
    Trace::run(model, &setting, tokens, &[tokens.len()], 0)
}

fn logits(ctx: &SuiteContext, checkpoint: &Checkpoint) -> CaseResult {
    let model = load(ctx, checkpoint, LoadOptions::default())?;
    let found = all_logits(ctx, &model, &checkpoint.tokens)?;
    let vocabulary = model.config().vocabulary;
    let mut compared = 0;
    for (position, expected) in checkpoint.logits.iter().enumerate() {
        let found = &found.logits[position * vocabulary..][..vocabulary];
        for (id, expected) in checkpoint.sampled.iter().zip(expected) {
            let found = found[*id];
            ensure!(
                (found - expected).abs() <= TOLERANCE,
                "at position {position} the logit of {id} is {found}, and transformers makes {expected}"
            );
            compared += 1;
        }
    }
    ensure_eq!(
        compared,
        checkpoint.tokens.len() * checkpoint.sampled.len(),
        "logits that were compared"
    );
    let last = &found.logits[found.logits.len() - vocabulary..];
    let largest = (0..vocabulary).max_by(|a, b| last[*a].total_cmp(&last[*b]));
    ensure_eq!(
        largest,
        Some(checkpoint.largest),
        "the id of the largest logit"
    );
    Ok(())
}

/// A bounded cache, across the trim boundary: the same bits in every chunking.
fn chunks(ctx: &SuiteContext, checkpoint: &Checkpoint, sizes: &[usize]) -> CaseResult {
    let model = load(ctx, checkpoint, LoadOptions::default())?;
    let tokens = &checkpoint.tokens;
    for (sink, window) in [(2, 8), (4, 17)] {
        let mut setting = Setting::new(ctx, cache(sink, window));
        setting.poisoned = true;
        let whole = Trace::run(&model, &setting, tokens, &[tokens.len()], 0)?;
        for size in sizes {
            let pieces = Trace::run(&model, &setting, tokens, &[*size, 3], 0)?;
            pieces.ensure_equals(
                &whole,
                &format!("chunks of {size} and 3, {sink} sinks and {window}"),
            )?;
        }
        let mut alone = setting;
        alone.threads = 1;
        let single = Trace::run(&model, &alone, tokens, &[7], 0)?;
        single.ensure_equals(&whole, "one thread")?;
    }
    Ok(())
}

fn oracle(ctx: &SuiteContext, checkpoint: &Checkpoint) -> CaseResult {
    const SINK: usize = 2;
    const WINDOW: usize = 8;
    let model = load(ctx, checkpoint, LoadOptions::default())?;
    let tokens = &checkpoint.tokens[..40];
    let setting = Setting::new(ctx, cache(SINK as u32, WINDOW as u32));
    let engine = Trace::run(&model, &setting, tokens, &[11], 0)?;
    let oracle = Oracle::new(&model, (SINK, WINDOW), setting.element, 1);
    let logits = oracle.logits(tokens)?;
    ensure_same_bits(
        "logits at every position against the oracle's",
        &engine.logits,
        &logits,
    )
}

/// The same configuration as `transformers` 4 writes it.
fn older(config: &Value) -> Value {
    let mut older = config.clone();
    let Some(fields) = older.as_object_mut() else {
        return older;
    };
    let rope = fields.remove("rope_parameters").unwrap_or_default();
    fields.remove("layer_types");
    if let Some(full) = rope.get("full_attention") {
        fields.insert("rope_theta".to_owned(), full["rope_theta"].clone());
        fields.insert(
            "rope_local_base_freq".to_owned(),
            rope["sliding_attention"]["rope_theta"].clone(),
        );
        fields.insert("sliding_window_pattern".to_owned(), json!(6));
        return older;
    }
    fields.insert("rope_theta".to_owned(), rope["rope_theta"].clone());
    if rope["rope_type"] != "default" {
        let mut scaling = rope;
        if let Some(scaling) = scaling.as_object_mut() {
            scaling.remove("rope_theta");
        }
        fields.insert("rope_scaling".to_owned(), scaling);
    }
    older
}

fn older_configurations(ctx: &SuiteContext) -> CaseResult {
    for name in NAMES {
        let mut checkpoint = small(ctx, name)?;
        let read = |checkpoint: &Checkpoint| -> Result<ModelConfig, CaseFailure> {
            let folder = ctx.scratch()?;
            checkpoint.write(&folder)?;
            Ok(ModelConfig::of(&Source::open(&folder)?)?)
        };
        let newer = read(&checkpoint)?;
        checkpoint.config = older(&checkpoint.config);
        ensure!(
            checkpoint.config.get("rope_parameters").is_none(),
            "{name} is not older"
        );
        ensure_eq!(read(&checkpoint)?, newer, "{name}");
    }
    Ok(())
}
