//! The fields of a configuration, by their names in GGUF metadata and in a config.json.

use std::borrow::Cow;

use serde_json::Value;

use crate::config::{Activation, LayerKind, ModelConfig, SEGMENT, attention_scale};
use crate::source::{Source, SourceError};

use super::rope;

/// A field's name in each kind of file; a file that has no such field has no name for it.
#[derive(Clone, Copy)]
pub(super) struct Key {
    /// After `<architecture>.`.
    gguf: Option<&'static str>,
    json: Option<&'static str>,
}

impl Key {
    pub(super) const fn both(gguf: &'static str, json: &'static str) -> Self {
        Self {
            gguf: Some(gguf),
            json: Some(json),
        }
    }

    pub(super) const fn json(json: &'static str) -> Self {
        Self {
            gguf: None,
            json: Some(json),
        }
    }

    pub(super) const fn gguf(gguf: &'static str) -> Self {
        Self {
            gguf: Some(gguf),
            json: None,
        }
    }
}

const HIDDEN: Key = Key::both("embedding_length", "hidden_size");
const HEADS: Key = Key::both("attention.head_count", "num_attention_heads");
const KV_HEADS: Key = Key::both("attention.head_count_kv", "num_key_value_heads");
const HEAD_DIM: Key = Key::both("attention.key_length", "head_dim");
const VALUE_DIM: Key = Key::gguf("attention.value_length");
const LAYERS: Key = Key::both("block_count", "num_hidden_layers");
const FEED_FORWARD: Key = Key::both("feed_forward_length", "intermediate_size");
const CONTEXT: Key = Key::both("context_length", "max_position_embeddings");
/// What [`is_positive`] asks for.
pub(super) const POSITIVE: &str = "a number above 0 that a 32-bit float holds";
const EPSILON: Key = Key::both("attention.layer_norm_rms_epsilon", "rms_norm_eps");
const ACTIVATION: Key = Key::json("hidden_act");
const GEMMA_ACTIVATION: Key = Key::json("hidden_activation");

/// The configuration of one file.
pub(super) struct Fields<'a> {
    pub(super) source: &'a Source,
    architecture: &'static str,
}

impl<'a> Fields<'a> {
    /// The fields of a file, those of GGUF under the architecture's name.
    pub(super) fn of(source: &'a Source, architecture: &'static str) -> Self {
        Self {
            source,
            architecture,
        }
    }

    /// The key of [`Fields::architecture`].
    pub(super) fn architecture_key(&self) -> &'static str {
        match self.source {
            Source::Gguf(_) => "general.architecture",
            Source::Snapshot(_) => "architectures",
        }
    }

    /// What the file says its architecture is.
    pub(super) fn architecture(&self) -> Result<String, SourceError> {
        match self.source {
            Source::Gguf(file) => file.string("general.architecture").map(str::to_owned),
            Source::Snapshot(snapshot) => {
                let names = snapshot.config().get("architectures");
                let first = names.and_then(|names| names.get(0)).and_then(Value::as_str);
                first.map(str::to_owned).ok_or_else(|| {
                    let found = names.map_or("missing".to_owned(), Value::to_string);
                    self.unusable("architectures", found, "a list of one class name")
                })
            }
        }
    }

    /// What the architectures have in common.
    pub(super) fn common(&self, architecture: &'static str) -> Result<ModelConfig, SourceError> {
        let hidden = self.segments(HIDDEN, self.required(HIDDEN, SEGMENT, 1 << 16)?)?;
        let heads = self.required(HEADS, 1, 1 << 10)?;
        let kv_heads = self.optional(KV_HEADS, 1, heads)?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            let expected = format!("a divisor of the {heads} query heads");
            return Err(self.unusable(KV_HEADS, kv_heads.to_string(), expected));
        }
        let head_dim = match self.optional(HEAD_DIM, SEGMENT, 1 << 12)? {
            Some(width) => width,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => {
                let expected = format!("a divisor of the width {hidden}");
                return Err(self.unusable(HEADS, heads.to_string(), expected));
            }
        };
        let head_dim = self.segments(HEAD_DIM, head_dim)?;
        if let Some(width) = self.optional(VALUE_DIM, 1, 1 << 12)?
            && width != head_dim
        {
            let expected = format!("{head_dim}, the width of the keys");
            return Err(self.unusable(VALUE_DIM, width.to_string(), expected));
        }
        let layers = self.required(LAYERS, 1, 1 << 10)?;
        Ok(ModelConfig {
            architecture,
            layers,
            hidden,
            heads,
            kv_heads,
            head_dim,
            feed_forward: self
                .segments(FEED_FORWARD, self.required(FEED_FORWARD, SEGMENT, 1 << 18)?)?,
            vocabulary: self.vocabulary()?,
            context: self.required(CONTEXT, 1, 1 << 24)?,
            norm_epsilon: self
                .positive(EPSILON)?
                .ok_or_else(|| self.missing(EPSILON, POSITIVE))? as f32,
            attention_scale: attention_scale(head_dim),
            embedding_scale: 1.0,
            activation: self.activation()?,
            ropes: vec![rope::of(self, head_dim)?],
            kinds: vec![
                LayerKind {
                    window: None,
                    rope: 0,
                };
                layers
            ],
        })
    }

    /// GGUF files list their tokens, or have none and leave it to the embedding.
    fn vocabulary(&self) -> Result<usize, SourceError> {
        const SIZE: Key = Key::json("vocab_size");
        const LARGEST: usize = 1 << 24;
        let (key, found) = match self.source {
            Source::Gguf(file) if file.has("tokenizer.ggml.tokens") => {
                let key = "tokenizer.ggml.tokens";
                (key, file.array_len(key)?)
            }
            Source::Gguf(file) => ("token_embd.weight", file.rows("token_embd.weight")?),
            Source::Snapshot(_) => return self.required(SIZE, 1, LARGEST),
        };
        match (1..=LARGEST).contains(&found) {
            true => Ok(found),
            false => Err(self.unusable(
                key,
                format!("{found} tokens long"),
                format!("from 1 to {LARGEST} tokens"),
            )),
        }
    }

    fn activation(&self) -> Result<Activation, SourceError> {
        for key in [GEMMA_ACTIVATION, ACTIVATION] {
            match self.string(key)?.as_deref() {
                None => {}
                Some("silu") => return Ok(Activation::Silu),
                Some("gelu_pytorch_tanh") => return Ok(Activation::Gelu),
                Some(other) => {
                    return Err(self.unusable(
                        key,
                        format!("\"{other}\""),
                        "\"silu\" or \"gelu_pytorch_tanh\"",
                    ));
                }
            }
        }
        Ok(Activation::Silu)
    }

    /// A whole number in a range.
    pub(super) fn required(&self, key: Key, low: usize, high: usize) -> Result<usize, SourceError> {
        let expected = format!("a value from {low} to {high}");
        self.optional(key, low, high)?
            .ok_or_else(|| self.missing(key, expected))
    }

    /// As [`Fields::required`], where it is there and not null.
    pub(super) fn optional(
        &self,
        key: Key,
        low: usize,
        high: usize,
    ) -> Result<Option<usize>, SourceError> {
        let found = match self.source {
            Source::Gguf(file) => match self.gguf_key(key).filter(|key| file.has(key)) {
                None => return Ok(None),
                // Some files give it for each layer.
                Some(key) => match file.u64(&key) {
                    Ok(value) => value,
                    Err(error) => match file.u64_array(&key) {
                        Ok(values)
                            if !values.is_empty()
                                && values.iter().all(|value| *value == values[0]) =>
                        {
                            values[0]
                        }
                        _ => return Err(error),
                    },
                },
            },
            Source::Snapshot(_) => match self.json(key) {
                None => return Ok(None),
                Some(value) => value.as_u64().ok_or_else(|| {
                    self.unusable(key, shown(value), format!("a value from {low} to {high}"))
                })?,
            },
        };
        match usize::try_from(found) {
            Ok(value) if (low..=high).contains(&value) => Ok(Some(value)),
            _ => Err(self.unusable(
                key,
                found.to_string(),
                format!("a value from {low} to {high}"),
            )),
        }
    }

    /// A finite number, where it is there and not null.
    pub(super) fn number(&self, key: Key) -> Result<Option<f64>, SourceError> {
        match self.source {
            Source::Gguf(file) => match self.gguf_key(key).filter(|key| file.has(key)) {
                None => Ok(None),
                Some(key) => file.f32(&key).map(|value| Some(f64::from(value))),
            },
            Source::Snapshot(_) => match self.json(key) {
                None => Ok(None),
                Some(value) => match value.as_f64().filter(|value| value.is_finite()) {
                    Some(value) => Ok(Some(value)),
                    None => Err(self.unusable(key, shown(value), "a finite number")),
                },
            },
        }
    }

    /// A number above 0, where it is there and not null.
    pub(super) fn positive(&self, key: Key) -> Result<Option<f64>, SourceError> {
        match self.number(key)? {
            Some(value) if !is_positive(value) => {
                Err(self.unusable(key, shown(&Value::from(value)), POSITIVE))
            }
            found => Ok(found),
        }
    }

    /// A text, where it is there and not null.
    pub(super) fn string(&self, key: Key) -> Result<Option<Cow<'a, str>>, SourceError> {
        match self.source {
            Source::Gguf(file) => match self.gguf_key(key).filter(|key| file.has(key)) {
                None => Ok(None),
                Some(key) => file.string(&key).map(|text| Some(Cow::Borrowed(text))),
            },
            Source::Snapshot(_) => match self.json(key) {
                None => Ok(None),
                Some(Value::String(text)) => Ok(Some(Cow::Borrowed(text))),
                Some(other) => Err(self.unusable(key, shown(other), "a string")),
            },
        }
    }

    /// A flag of a config.json, where it is there and not null.
    pub(super) fn bool(&self, key: Key) -> Result<Option<bool>, SourceError> {
        match self.json(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.unusable(key, shown(other), "true or false")),
        }
    }

    /// A list of texts of a config.json, where it is there and not null.
    pub(super) fn strings(&self, key: Key) -> Result<Option<Vec<String>>, SourceError> {
        let Some(value) = self.json(key) else {
            return Ok(None);
        };
        let list = value.as_array().and_then(|list| {
            let texts = list.iter().map(|item| item.as_str().map(str::to_owned));
            texts.collect::<Option<Vec<_>>>()
        });
        match list {
            Some(list) => Ok(Some(list)),
            None => Err(self.unusable(key, shown(value), "a list of strings")),
        }
    }

    /// A value of a config.json, as it is.
    pub(super) fn json(&self, key: Key) -> Option<&'a Value> {
        let Source::Snapshot(snapshot) = self.source else {
            return None;
        };
        snapshot
            .config()
            .get(key.json?)
            .filter(|value| !value.is_null())
    }

    fn gguf_key(&self, key: Key) -> Option<String> {
        key.gguf.map(|name| format!("{}.{name}", self.architecture))
    }

    fn segments(&self, key: Key, value: usize) -> Result<usize, SourceError> {
        if value.is_multiple_of(SEGMENT) {
            Ok(value)
        } else {
            Err(self.unusable(key, value.to_string(), format!("a multiple of {SEGMENT}")))
        }
    }

    fn missing(&self, key: Key, expected: impl Into<String>) -> SourceError {
        self.unusable(key, "missing", expected)
    }

    /// The error that says a field has a value we cannot use.
    pub(super) fn unusable(
        &self,
        key: impl Named,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> SourceError {
        SourceError::Field {
            path: self.source.config_path(),
            key: key.name(self),
            found: found.into(),
            expected: expected.into(),
        }
    }
}

/// What an error can name.
pub(super) trait Named {
    fn name(self, fields: &Fields<'_>) -> String;
}

impl Named for Key {
    fn name(self, fields: &Fields<'_>) -> String {
        match fields.source {
            Source::Gguf(_) => fields.gguf_key(self),
            Source::Snapshot(_) => self.json.map(str::to_owned),
        }
        .unwrap_or_else(|| self.json.or(self.gguf).unwrap_or_default().to_owned())
    }
}

impl Named for &str {
    fn name(self, _: &Fields<'_>) -> String {
        self.to_owned()
    }
}

impl Named for String {
    fn name(self, _: &Fields<'_>) -> String {
        self
    }
}

/// Whether a number is above 0 and stays so, and finite, in the 32 bits that are computed with.
pub(super) fn is_positive(value: f64) -> bool {
    (f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX)).contains(&value)
}

/// A value as an error shows it: its beginning.
pub(super) fn shown(value: &Value) -> String {
    let mut text = value.to_string();
    if let Some((cut, _)) = text.char_indices().nth(60) {
        text.truncate(cut);
        text.push('…');
    }
    text
}
