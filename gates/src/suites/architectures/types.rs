//! Every tensor type, in GGUF files made by candle's quantisers; and quantising at load, which must give the bits of a
//! file that was quantised before.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use kakeya_model::{LoadOptions, Model, PanelKind, Quantization, Source};
use serde_json::json;

use super::super::inv3::run::{Setting, Trace, cache};
use super::{all_logits, chunks, load, small};
use crate::checkpoint::Checkpoint;
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::{ensure, ensure_same_bits};
use kakeya_suite::{CaseFailure, CaseResult};

/// Width of everything: K-quants take 256 inputs at a time.
const WIDTH: usize = 256;
const VOCABULARY: usize = 320;
const HEAD: usize = 64;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in PanelKind::ALL {
        let name = format!("{:?}", kind.dtype()).to_lowercase();
        cases.push(Case::fast(
            format!("chunks_do_not_show_with_weights_of.{name}"),
            move |ctx| tensor_type(ctx, kind.dtype()),
        ));
    }
    for to in Quantization::ALL {
        cases.push(Case::fast(
            format!("quantised_at_load_as_in_a_file.{to}"),
            move |ctx| at_load(ctx, to),
        ));
    }
    cases
}

/// A llama of one layer, 256 wide.
fn wide(ctx: &SuiteContext) -> Result<Checkpoint, CaseFailure> {
    let mut checkpoint = small(ctx, "llama-untied")?;
    let config = &mut checkpoint.config;
    for (key, value) in [
        ("hidden_size", WIDTH),
        ("intermediate_size", WIDTH),
        ("num_hidden_layers", 1),
        ("num_attention_heads", WIDTH / HEAD),
        ("num_key_value_heads", 2),
        ("head_dim", HEAD),
    ] {
        config[key] = json!(value);
    }
    checkpoint
        .tensors
        .retain(|name, _| !name.contains("layers.1."));
    for (name, shape) in &mut checkpoint.tensors {
        *shape = match shape.len() {
            1 => vec![WIDTH],
            _ if name.ends_with("embed_tokens.weight") || name.starts_with("lm_head") => {
                vec![VOCABULARY, WIDTH]
            }
            _ if name.contains("k_proj") || name.contains("v_proj") => vec![2 * HEAD, WIDTH],
            _ => vec![WIDTH, WIDTH],
        };
    }
    Ok(checkpoint)
}

/// Writes the checkpoint as a GGUF file with matrices of a type; embedding and output have their own.
fn write_gguf(
    checkpoint: &Checkpoint,
    path: &Path,
    matrices: GgmlDType,
    ends: GgmlDType,
) -> Result<(), CaseFailure> {
    let number = |value: usize| Value::U32(value as u32);
    let metadata = [
        ("general.architecture", Value::String("llama".to_owned())),
        ("llama.embedding_length", number(WIDTH)),
        ("llama.feed_forward_length", number(WIDTH)),
        ("llama.block_count", number(1)),
        ("llama.attention.head_count", number(WIDTH / HEAD)),
        ("llama.attention.head_count_kv", number(2)),
        ("llama.context_length", number(512)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
    ];
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let mut tensors = Vec::new();
    for (name, shape) in &checkpoint.tensors {
        let mut values = checkpoint.values(name);
        // What llama.cpp's converter does: dimensions that turn together side by side.
        if name.contains("q_proj") || name.contains("k_proj") {
            let rows: Vec<_> = values.chunks_exact(WIDTH).map(<[f32]>::to_vec).collect();
            let of = |row: usize| row / HEAD * HEAD + row % 2 * (HEAD / 2) + row % HEAD / 2;
            values = (0..rows.len())
                .flat_map(|row| rows[of(row)].clone())
                .collect();
        }
        let dtype = match shape.len() {
            1 => GgmlDType::F32,
            _ if name.starts_with("model.embed") || name.starts_with("lm_head") => ends,
            _ => matrices,
        };
        let tensor = Tensor::from_vec(values, shape.as_slice(), &Device::Cpu)?;
        tensors.push((in_gguf(name), QTensor::quantize(&tensor, dtype)?));
    }
    let tensors: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    gguf_file::write(&mut File::create(path)?, &metadata, &tensors)?;
    Ok(())
}

fn in_gguf(name: &str) -> String {
    let mut name = name.replace("model.layers.", "blk.");
    for (from, to) in [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ] {
        name = name.replace(from, to);
    }
    name
}

fn file(ctx: &SuiteContext) -> Result<PathBuf, CaseFailure> {
    Ok(ctx.scratch()?.join("weights.gguf"))
}

fn tensor_type(ctx: &SuiteContext, dtype: GgmlDType) -> CaseResult {
    let checkpoint = wide(ctx)?;
    let path = file(ctx)?;
    write_gguf(&checkpoint, &path, dtype, dtype)?;
    let model = Arc::new(Model::load(&path)?);
    let tokens = &checkpoint.tokens;
    let mut setting = Setting::new(ctx, cache(2, 8));
    setting.poisoned = true;
    let whole = Trace::run(&model, &setting, tokens, &[tokens.len()], 0)?;
    for sizes in [&[1][..], &[5, 3], &[32]] {
        let pieces = Trace::run(&model, &setting, tokens, sizes, 0)?;
        pieces.ensure_equals(&whole, &format!("{dtype:?}, chunks of {sizes:?}"))?;
    }
    // Rounded weights, not other ones.
    let plain = all_logits(
        ctx,
        &load(ctx, &checkpoint, LoadOptions::default())?,
        tokens,
    )?;
    let rounded = all_logits(ctx, &model, tokens)?;
    let error = root_mean_square(plain.logits.iter().zip(&rounded.logits).map(|(a, b)| a - b));
    let size = root_mean_square(plain.logits.iter().copied());
    ensure!(
        error <= 0.25 * size,
        "logits of {dtype:?} weights are {error} off those of F32, which are {size} large"
    );
    Ok(())
}

fn root_mean_square(values: impl Iterator<Item = f32>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| {
        (sum + f64::from(value).powi(2), count + 1)
    });
    (sum / f64::from(count)).sqrt()
}

fn at_load(ctx: &SuiteContext, to: Quantization) -> CaseResult {
    let checkpoint = wide(ctx)?;
    let options = LoadOptions { quantize: Some(to) };
    let quantised = load(ctx, &checkpoint, options)?;
    let path = file(ctx)?;
    let dtype = match to {
        Quantization::Q8_0 => GgmlDType::Q8_0,
        Quantization::Q4_1 => GgmlDType::Q4_1,
        Quantization::Q4K => GgmlDType::Q4K,
    };
    write_gguf(&checkpoint, &path, dtype, GgmlDType::Q8_0)?;
    let from_file = Arc::new(Model::from_source(
        Source::open(&path)?,
        LoadOptions::default(),
    )?);
    ensure_same_bits(
        &format!("logits of weights quantised to {to} at load, and in a file"),
        &all_logits(ctx, &quantised, &checkpoint.tokens)?.logits,
        &all_logits(ctx, &from_file, &checkpoint.tokens)?.logits,
    )?;
    // Rows of 64 and 96 are no multiple of 256: those stay at 8 bits.
    chunks(ctx, &small(ctx, "qwen3-untied")?, &[5])
}
