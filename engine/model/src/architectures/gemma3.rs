//! Gemma 3 (Gemma Team 2025): five layers with a window of their own to each that sees everything, norms on both sides
//! of each half of a block, GeGLU, scaled embeddings.

use super::Architecture;
use super::fields::{Fields, Key};
use super::rope;
use crate::config::{Activation, LayerKind, ModelConfig, RopeConfig, RopeScaling};
use crate::source::SourceError;

pub(crate) const GEMMA3: Architecture = Architecture {
    gguf: "gemma3",
    classes: &["Gemma3ForCausalLM"],
    gguf_pairs_adjacent: false,
    query_key_norm: true,
    post_norms: true,
    norm_offset: 1.0,
    refine,
};

/// Of so many layers the last sees everything, where nothing else is said.
const PATTERN: usize = 6;
/// The base of the layers with a window, where nothing else is said.
const LOCAL_BASE: f32 = 10_000.0;

fn refine(fields: &Fields<'_>, config: &mut ModelConfig) -> Result<(), SourceError> {
    config.activation = Activation::Gelu;
    config.embedding_scale = (config.hidden as f32).sqrt();
    for softcap in [
        Key::both("attn_logit_softcapping", "attn_logit_softcapping"),
        Key::both("final_logit_softcapping", "final_logit_softcapping"),
    ] {
        if let Some(found) = fields.number(softcap)? {
            return Err(fields.unusable(
                softcap,
                found.to_string(),
                "nothing: Gemma 3 caps no logits",
            ));
        }
    }
    const SCALAR: Key = Key::json("query_pre_attn_scalar");
    if let Some(scalar) = fields.number(SCALAR)? {
        if !(1.0..=65536.0).contains(&scalar) {
            return Err(fields.unusable(SCALAR, scalar.to_string(), "a number from 1 to 65536"));
        }
        config.attention_scale = 1.0 / (scalar as f32).sqrt();
    }
    let window = fields.required(
        Key::both("attention.sliding_window", "sliding_window"),
        1,
        1 << 24,
    )?;
    // GGUF files say nothing of the other base.
    let local = match fields.positive(Key::both("rope.freq_base_swa", "rope_local_base_freq"))? {
        Some(base) => base as f32,
        None => {
            rope::of_layer_type(fields, "sliding_attention")?.map_or(LOCAL_BASE, |rope| rope.base)
        }
    };
    if let Some(global) = rope::of_layer_type(fields, "full_attention")? {
        config.ropes[0] = global;
    }
    config.ropes.push(RopeConfig {
        base: local,
        scaling: RopeScaling::None,
    });
    let global = LayerKind {
        window: None,
        rope: 0,
    };
    let sliding = LayerKind {
        window: Some(window),
        rope: 1,
    };
    let pattern = fields.optional(Key::json("sliding_window_pattern"), 1, 1 << 10)?;
    let pattern = pattern.unwrap_or(PATTERN);
    for (index, kind) in config.kinds.iter_mut().enumerate() {
        *kind = if (index + 1).is_multiple_of(pattern) {
            global
        } else {
            sliding
        };
    }
    const TYPES: Key = Key::json("layer_types");
    if let Some(types) = fields.strings(TYPES)? {
        if types.len() != config.layers {
            let found = format!("a list of {}", types.len());
            return Err(fields.unusable(
                TYPES,
                found,
                format!("one entry for each of {} layers", config.layers),
            ));
        }
        for (kind, name) in config.kinds.iter_mut().zip(types) {
            *kind = match name.as_str() {
                "full_attention" => global,
                "sliding_attention" => sliding,
                _ => {
                    let expected = "\"full_attention\" or \"sliding_attention\"";
                    return Err(fields.unusable(TYPES, format!("\"{name}\""), expected));
                }
            };
        }
    }
    Ok(())
}
