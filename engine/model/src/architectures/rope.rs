//! How a configuration describes its rotary embedding.
//!
//! A config.json of `transformers` 4 has `rope_theta` and `rope_scaling`; one of `transformers` 5 has `rope_parameters`,
//! which holds both, or one such object for each type of layer.

use serde_json::{Map, Value};

use super::fields::{Fields, Key, POSITIVE, is_positive, shown};
use crate::config::{RopeConfig, RopeScaling};
use crate::source::{Source, SourceError};

const BASE: Key = Key::both("rope.freq_base", "rope_theta");
const DIMENSIONS: Key = Key::gguf("rope.dimension_count");
const PARTIAL: Key = Key::json("partial_rotary_factor");
const PARAMETERS: Key = Key::json("rope_parameters");
const SCALING: Key = Key::json("rope_scaling");
const CONTEXT: Key = Key::json("max_position_embeddings");
/// The base where nothing is said.
const DEFAULT_BASE: f64 = 10_000.0;

/// The rotary embedding of a model with one for all layers.
pub(super) fn of(fields: &Fields<'_>, head_dim: usize) -> Result<RopeConfig, SourceError> {
    if let Some(width) = fields.optional(DIMENSIONS, 1, 1 << 12)?
        && width != head_dim
    {
        let expected = format!("{head_dim}, the width of a head: this build turns whole heads");
        return Err(fields.unusable(DIMENSIONS, width.to_string(), expected));
    }
    if let Some(part) = fields.number(PARTIAL)?
        && part != 1.0
    {
        return Err(fields.unusable(PARTIAL, part.to_string(), "1: this build turns whole heads"));
    }
    let base = fields.positive(BASE)?;
    let scaling = match fields.source {
        Source::Gguf(_) => in_gguf(fields, head_dim)?,
        Source::Snapshot(_) => {
            if let Some(parameters) = object(fields, PARAMETERS)?
                // One for each type of layer is for the architecture to read.
                && !parameters.values().any(Value::is_object)
            {
                return in_json(fields, PARAMETERS, parameters, base);
            }
            match object(fields, SCALING)? {
                Some(scaling) => return in_json(fields, SCALING, scaling, base),
                None => RopeScaling::None,
            }
        }
    };
    Ok(RopeConfig {
        base: base.unwrap_or(DEFAULT_BASE) as f32,
        scaling,
    })
}

/// That of one type of layer, where the configuration has one for each.
pub(super) fn of_layer_type(
    fields: &Fields<'_>,
    name: &str,
) -> Result<Option<RopeConfig>, SourceError> {
    let parameters = object(fields, PARAMETERS)?.and_then(|parameters| parameters.get(name));
    let Some(Value::Object(own)) = parameters else {
        return Ok(None);
    };
    in_json(fields, PARAMETERS, own, None).map(Some)
}

fn object<'a>(
    fields: &Fields<'a>,
    key: Key,
) -> Result<Option<&'a Map<String, Value>>, SourceError> {
    match fields.json(key) {
        None => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(other) => Err(fields.unusable(key, shown(other), "an object")),
    }
}

fn in_json(
    fields: &Fields<'_>,
    key: Key,
    object: &Map<String, Value>,
    base: Option<f64>,
) -> Result<RopeConfig, SourceError> {
    let wrong = |found: String, expected: &str| fields.unusable(key, found, expected);
    let number = |name: &str| match object.get(name).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => match value.as_f64().filter(|value| is_positive(*value)) {
            Some(value) => Ok(Some(value)),
            None => Err(wrong(format!("{name} {}", shown(value)), POSITIVE)),
        },
    };
    let needed = |name: &str| match number(name)? {
        Some(value) => Ok(value),
        None => Err(wrong(format!("without {name}"), "that it says so")),
    };
    // Its name changed from `type`.
    let kind = object.get("rope_type").or_else(|| object.get("type"));
    let original = || match number("original_max_position_embeddings")? {
        Some(value) => Ok(value),
        None => fields
            .required(CONTEXT, 1, 1 << 24)
            .map(|value| value as f64),
    };
    let scaling = match kind.and_then(Value::as_str) {
        None | Some("default") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear {
            factor: needed("factor")?,
        },
        Some("llama3") => RopeScaling::Llama3 {
            factor: needed("factor")?,
            low: needed("low_freq_factor")?,
            high: needed("high_freq_factor")?,
            original: needed("original_max_position_embeddings")?,
        },
        Some("yarn") => {
            let factor = needed("factor")?;
            if object
                .get("truncate")
                .is_some_and(|value| *value == Value::Bool(false))
            {
                return Err(wrong("truncate false".to_owned(), "no such field"));
            }
            let attention = match (
                number("attention_factor")?,
                number("mscale")?,
                number("mscale_all_dim")?,
            ) {
                (Some(attention), _, _) => attention,
                (None, Some(scale), Some(all)) => {
                    yarn_scale(factor, scale) / yarn_scale(factor, all)
                }
                _ => yarn_scale(factor, 1.0),
            };
            RopeScaling::Yarn {
                factor,
                original: original()?,
                fast: number("beta_fast")?.unwrap_or(32.0),
                slow: number("beta_slow")?.unwrap_or(1.0),
                attention,
            }
        }
        Some(other) => {
            return Err(wrong(
                format!("of type \"{other}\""),
                "one of default, linear, llama3, yarn",
            ));
        }
    };
    Ok(RopeConfig {
        base: number("rope_theta")?.or(base).unwrap_or(DEFAULT_BASE) as f32,
        scaling,
    })
}

fn in_gguf(fields: &Fields<'_>, head_dim: usize) -> Result<RopeScaling, SourceError> {
    const TYPE: Key = Key::gguf("rope.scaling.type");
    const FACTOR: Key = Key::gguf("rope.scaling.factor");
    /// What older files have for a linear factor.
    const LINEAR: Key = Key::gguf("rope.scale_linear");
    const ORIGINAL: Key = Key::gguf("rope.scaling.original_context_length");
    const ATTENTION: Key = Key::gguf("rope.scaling.attn_factor");
    const FAST: Key = Key::gguf("rope.scaling.yarn_beta_fast");
    const SLOW: Key = Key::gguf("rope.scaling.yarn_beta_slow");
    if let Source::Gguf(file) = fields.source
        && file.has_tensor("rope_freqs.weight")
    {
        let factors = file.tensor("rope_freqs.weight", 1, head_dim / 2)?;
        let factors = factors.floats().unwrap_or_default();
        return if factors.len() == head_dim / 2
            && factors
                .iter()
                .all(|factor| factor.is_finite() && *factor > 0.0)
        {
            Ok(RopeScaling::Factors(factors))
        } else {
            Err(fields.unusable(
                "rope_freqs.weight",
                "a tensor with other values",
                "floating-point numbers above 0",
            ))
        };
    }
    let needed = |key: Key| {
        fields
            .positive(key)?
            .ok_or_else(|| fields.unusable(key, "missing", POSITIVE))
    };
    match fields.string(TYPE)?.as_deref() {
        None | Some("none") => Ok(match fields.positive(LINEAR)? {
            Some(factor) if factor != 1.0 => RopeScaling::Linear { factor },
            _ => RopeScaling::None,
        }),
        Some("linear") => Ok(RopeScaling::Linear {
            factor: needed(FACTOR)?,
        }),
        Some("yarn") => {
            let factor = needed(FACTOR)?;
            let original = fields.required(ORIGINAL, 1, 1 << 24)? as f64;
            Ok(RopeScaling::Yarn {
                factor,
                original,
                fast: fields.positive(FAST)?.unwrap_or(32.0),
                slow: fields.positive(SLOW)?.unwrap_or(1.0),
                attention: fields.positive(ATTENTION)?.unwrap_or(1.0) * yarn_scale(factor, 1.0),
            })
        }
        Some(other) => {
            let expected = "one of none, linear, yarn";
            Err(fields.unusable(TYPE, format!("\"{other}\""), expected))
        }
    }
}

/// `0.1 m ln(s) + 1` (Peng et al. 2023, equation 22), and 1 where nothing is stretched.
fn yarn_scale(factor: f64, m: f64) -> f64 {
    if factor <= 1.0 {
        1.0
    } else {
        0.1 * m * libm::log(factor) + 1.0
    }
}
