//! The loaded model is the model: its logits are the true ones, its tokenizer is llama.cpp's, and a file
//! that is not what it should be is refused by name.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kakeya_core::{CacheConfig, KvElement, Window};
use kakeya_model::{LogitRows, Model};
use kakeya_runtime::sampler::greedy;
use serde::Deserialize;

use super::inv3::{Setting, candle_logits};
use super::{SMOLLM2, tokenizer, tokenizer_files, tokenizer_qwen3};
use crate::context::SuiteContext;
use crate::suite::{Case, Suite, on_model};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

/// How far a logit may be from the float64 reference.
const TOLERANCE: f64 = 2e-3;

/// The suite.
pub fn suite() -> Suite {
    Suite::new(
        "model",
        "logits, tokens and load errors of the real model file",
    )
    .timeout(Duration::from_secs(300))
    .case(Case::fast(
        "logits_agree_with_the_float64_reference",
        reference,
    ))
    .case(Case::fast(
        "candle_agrees_on_the_likeliest_token",
        second_opinion,
    ))
    .cases(tokenizer::cases())
    .cases(tokenizer_files::cases())
    .cases(tokenizer_qwen3::cases())
    .case(Case::fast("a_truncated_file_is_refused", truncated))
    .case(Case::fast("a_file_that_is_no_gguf_is_refused", no_gguf))
    .case(Case::fast("a_damaged_field_is_named", damaged_fields))
    .case(Case::fast(
        "a_header_with_any_flipped_byte_never_panics",
        flipped_bytes,
    ))
    .within(on_model(SMOLLM2))
}

/// What `gates/reference/reference_forward.py` wrote.
#[derive(Deserialize)]
struct Reference {
    model_sha256: String,
    tokens: Vec<u32>,
    top1: Vec<u32>,
    margin: Vec<f64>,
    sample_indices: Vec<Vec<usize>>,
    sample_logits: Vec<Vec<f64>>,
}

fn reference(ctx: &SuiteContext) -> CaseResult {
    let golden: Reference = serde_json::from_slice(&std::fs::read(
        ctx.goldens().join("reference-smollm2-135m.json"),
    )?)?;
    ensure_eq!(
        golden.model_sha256,
        ctx.model_sha256(),
        "the reference is of this model file"
    );
    ensure_eq!(golden.tokens.len(), 500, "positions of the reference");
    let logits = full_logits(ctx, &golden.tokens, KvElement::F32)?;
    let vocabulary = ctx.model()?.config().vocabulary;
    let (mut furthest, mut decided) = (0.0f64, 0);
    for (position, row) in logits.chunks_exact(vocabulary).enumerate() {
        for (index, expected) in golden.sample_indices[position]
            .iter()
            .zip(&golden.sample_logits[position])
        {
            let difference = (f64::from(row[*index]) - expected).abs();
            furthest = furthest.max(difference);
            ensure!(
                difference <= TOLERANCE,
                "position {position}, logit {index}: {} against the reference's {expected}",
                row[*index]
            );
        }
        if golden.margin[position] > TOLERANCE {
            decided += 1;
            ensure_eq!(
                greedy(row),
                golden.top1[position],
                "the likeliest token at position {position}"
            );
        }
    }
    ensure!(
        decided > 450,
        "only {decided} of 500 positions had a clear winner"
    );
    ctx.measure("largest_difference_from_float64", furthest, "logit")
}

/// Logits at every position with everything in view.
fn full_logits(
    ctx: &SuiteContext,
    tokens: &[u32],
    element: KvElement,
) -> Result<Vec<f32>, CaseFailure> {
    let cache = CacheConfig {
        window: Window::Full,
        ..CacheConfig::default()
    };
    let setting = Setting {
        element,
        ..Setting::new(ctx, cache)
    };
    let mut compute = setting.compute()?;
    let mut verifier = setting.verifier(ctx.model()?)?;
    let mut logits = Vec::new();
    for chunk in tokens.chunks(100) {
        logits.extend_from_slice(verifier.forward_block(&mut compute, chunk, LogitRows::All));
        verifier.commit_or_truncate(chunk.len());
    }
    Ok(logits)
}

fn second_opinion(ctx: &SuiteContext) -> CaseResult {
    let golden: Reference = serde_json::from_slice(&std::fs::read(
        ctx.goldens().join("reference-smollm2-135m.json"),
    )?)?;
    let tokens = &golden.tokens[..100];
    let ours = full_logits(ctx, tokens, KvElement::F16)?;
    let vocabulary = ctx.model()?.config().vocabulary;
    let theirs = candle_logits(ctx, tokens, 1)?;
    ensure_eq!(theirs.len(), tokens.len(), "positions by candle");
    let agree = ours
        .chunks_exact(vocabulary)
        .zip(&theirs)
        .filter(|(ours, theirs)| greedy(ours) == greedy(theirs))
        .count();
    ctx.measure(
        "likeliest_tokens_shared_with_candle",
        agree as f64,
        "positions of 100",
    )?;
    ensure!(
        agree >= 95,
        "candle's stock llama agrees on the likeliest token at {agree} of 100 positions, expected 95 or more"
    );
    Ok(())
}

/// A copy of the first `length` bytes of the model file.
fn copy(ctx: &SuiteContext, name: &str, length: Option<u64>) -> Result<PathBuf, CaseFailure> {
    let path = ctx.scratch()?.join(name);
    std::fs::copy(ctx.model_path(), &path)?;
    if let Some(length) = length {
        OpenOptions::new()
            .write(true)
            .open(&path)?
            .set_len(length)?;
    }
    Ok(path)
}

fn refusal(path: &Path) -> Result<String, CaseFailure> {
    match Model::load(path) {
        Ok(_) => Err(CaseFailure::violated(format!(
            "{} was loaded",
            path.display()
        ))),
        Err(error) => Ok(error.to_string()),
    }
}

fn ensure_says(message: &str, path: &Path, parts: &[&str]) -> CaseResult {
    ensure!(
        message.contains(&path.display().to_string()),
        "the error does not name the file: {message}"
    );
    for part in parts {
        ensure!(
            message.contains(part),
            "the error does not say {part:?}: {message}"
        );
    }
    Ok(())
}

fn truncated(ctx: &SuiteContext) -> CaseResult {
    let whole = ctx.model_path().metadata()?.len();
    for (length, parts) in [
        (whole - 1, &["truncated"][..]),
        (whole / 2, &["truncated"]),
        (1_000_000, &["header is damaged"]),
        (100, &["header is damaged"]),
        (10, &["header is damaged", "the file has 2 more"]),
        (3, &["is not a GGUF file"]),
    ] {
        let path = copy(ctx, "short.gguf", Some(length))?;
        ensure_says(&refusal(&path)?, &path, parts)?;
    }
    let path = ctx.scratch()?.join("empty.gguf");
    std::fs::write(&path, b"")?;
    ensure!(
        refusal(&path)?.contains(&path.display().to_string()),
        "an empty file is refused by name"
    );
    Ok(())
}

fn no_gguf(ctx: &SuiteContext) -> CaseResult {
    let path = ctx.scratch()?.join("page.gguf");
    std::fs::write(
        &path,
        "<!DOCTYPE html><html>this is a login page, not a model</html>",
    )?;
    ensure_says(&refusal(&path)?, &path, &["is not a GGUF file", "<!DOCTYP"])?;
    let directory = ctx.scratch()?;
    ensure_says(&refusal(&directory)?, &directory, &["config.json"])
}

/// Replaces the only occurrence of `old` in the header of a copy by `new` of the same length.
fn edit(ctx: &SuiteContext, old: &[u8], new: &[u8]) -> Result<PathBuf, CaseFailure> {
    let path = copy(ctx, "edited.gguf", None)?;
    let bytes = std::fs::read(&path)?;
    let at = bytes.windows(old.len()).position(|window| window == old);
    let at = at.ok_or_else(|| {
        CaseFailure::violated(format!(
            "{:?} is not in the file",
            old.escape_ascii().to_string()
        ))
    })?;
    let mut file = OpenOptions::new().write(true).open(&path)?;
    file.seek(SeekFrom::Start(at as u64))?;
    file.write_all(new)?;
    Ok(path)
}

fn damaged_fields(ctx: &SuiteContext) -> CaseResult {
    let path = edit(ctx, b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0mamba")?;
    ensure_says(
        &refusal(&path)?,
        &path,
        &["general.architecture", "mamba", "llama"],
    )?;
    let path = edit(ctx, b"llama.block_count", b"llama.block_cound")?;
    ensure_says(&refusal(&path)?, &path, &["llama.block_count", "missing"])?;
    let path = edit(ctx, b"blk.7.ffn_up.weight", b"blk.7.ffn_up.weighs")?;
    ensure_says(&refusal(&path)?, &path, &["blk.7.ffn_up.weight", "missing"])?;
    let path = edit(
        ctx,
        b"llama.attention.head_count\x04\0\0\0\x09",
        b"llama.attention.head_count\x04\0\0\0\x07",
    )?;
    ensure_says(&refusal(&path)?, &path, &["head_count", "divisor"])?;
    Ok(())
}

/// Bits flipped all over the header: an error or a model, never a panic, whatever the byte was.
fn flipped_bytes(ctx: &SuiteContext) -> CaseResult {
    let path = copy(ctx, "flipped.gguf", None)?;
    let original = std::fs::read(&path)?;
    let mut refused = 0;
    for step in 0..160usize {
        // Every byte of the first fields, then ever further through the tables of tokens, merges and tensors.
        let at = if step < 60 {
            step
        } else {
            60 + (step - 60) * 17_389
        };
        let mut file = OpenOptions::new().write(true).open(&path)?;
        file.seek(SeekFrom::Start(at as u64))?;
        file.write_all(&[original[at] ^ (1 << (step % 8))])?;
        refused += usize::from(
            kakeya_model::Source::open(&path)
                .map(|source| kakeya_model::ModelConfig::of(&source))
                .is_err(),
        );
        file.seek(SeekFrom::Start(at as u64))?;
        file.write_all(&[original[at]])?;
    }
    ensure!(
        refused > 10,
        "only {refused} of 160 damaged headers were refused at once"
    );
    Ok(())
}
