//! What `kakeya inspect` says is what loading does: the same memory, and the same refusals, all at once.

use kakeya_model::{GgufFile, Inspection, LoadOptions, Model, Quantization, Source};
use serde_json::json;

use super::{NAMES, SMOLLM2, small, tokenizer_files};
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::{ensure, ensure_eq};
use kakeya_suite::CaseResult;

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast("inspection_counts_the_bytes_that_loading_takes", bytes),
        Case::fast("inspection_finds_every_reason_at_once", reasons),
    ]
}

fn bytes(ctx: &SuiteContext) -> CaseResult {
    for name in [SMOLLM2, "gemma3-270m"] {
        let ctx = ctx.with_model(name)?;
        let found = Inspection::of(ctx.model_path(), LoadOptions::default())?;
        ensure!(
            found.problems.is_empty(),
            "{name} runs, and inspection says {:?}",
            found.problems
        );
        ensure_eq!(
            found.weight_bytes,
            Some(ctx.model()?.weight_bytes()),
            "bytes of {name}"
        );
    }
    let tokens = ctx.with_model(SMOLLM2)?;
    for name in NAMES {
        let folder = ctx.scratch()?;
        small(ctx, name)?.write(&folder)?;
        tokenizer_files::lend(&folder, &GgufFile::open(tokens.model_path())?)?;
        for quantize in [None, Some(Quantization::Q8_0), Some(Quantization::Q4_1)] {
            let options = LoadOptions { quantize };
            let found = Inspection::of(&folder, options)?;
            let model = Model::from_source(Source::open(&folder)?, options)?;
            ensure_eq!(
                found.weight_bytes,
                Some(model.weight_bytes()),
                "bytes of {name}, quantised to {quantize:?}"
            );
            // The vocabulary that was lent is larger than the small embeddings.
            ensure!(
                found.problems.len() == 1 && found.problems[0].contains("token"),
                "{name} has a tokenizer that does not fit and nothing else: {:?}",
                found.problems
            );
        }
    }
    Ok(())
}

fn reasons(ctx: &SuiteContext) -> CaseResult {
    let folder = ctx.scratch()?;
    let mut checkpoint = small(ctx, "qwen3-untied")?;
    let names: Vec<String> = checkpoint.tensors.keys().cloned().collect();
    let missing = |part: &str| {
        let found = names.iter().find(|name| name.contains(part));
        found.cloned().unwrap_or_default()
    };
    let (gone, wrong) = (missing("0.mlp.up_proj"), missing("1.self_attn.k_proj"));
    checkpoint.tensors.remove(&gone);
    checkpoint.tensors.insert(wrong.clone(), vec![96, 32]);
    let stray = "model.layers.0.mlp.experts.weight";
    checkpoint.tensors.insert(stray.to_owned(), vec![32, 32]);
    checkpoint.write(&folder)?;
    let found = Inspection::of(&folder, LoadOptions::default())?;
    let said = json!(found.problems).to_string();
    for part in [gone.as_str(), &wrong, stray, "tokenizer"] {
        ensure!(
            found
                .problems
                .iter()
                .filter(|line| line.contains(part))
                .count()
                == 1,
            "inspection does not say {part:?} once: {said}"
        );
    }
    ensure_eq!(found.problems.len(), 4, "reasons: {said}");
    ensure!(
        found.weight_bytes.is_none(),
        "bytes of a model that does not load"
    );
    ensure!(Model::load(&folder).is_err(), "it was loaded all the same");
    Ok(())
}
