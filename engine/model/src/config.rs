//! The shape of a llama-architecture model, read from GGUF metadata and checked.

use crate::gguf::{GgufError, GgufFile};

/// Every dimension along which a kernel folds is a multiple of this (see `docs/numerics.md`).
pub(crate) const SEGMENT: usize = 32;

/// The shape and constants of a llama-architecture model.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// Transformer blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; `heads` is a multiple of it.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub feed_forward: usize,
    /// Tokens in the vocabulary, which is also the width of the logits.
    pub vocabulary: usize,
    /// Positions the model was trained for.
    pub context: usize,
    /// Added to the mean square before its root is taken.
    pub norm_epsilon: f32,
    /// Base of the rotary frequencies.
    pub rope_base: f32,
}

impl LlamaConfig {
    /// Reads the metadata of a file whose `general.architecture` is `llama`.
    ///
    /// # Errors
    /// When the architecture is another one, or a field is missing or has a value that cannot be run.
    pub fn from_gguf(file: &GgufFile) -> Result<Self, GgufError> {
        let architecture = file.string("general.architecture")?;
        if architecture != "llama" {
            return Err(file.unusable(
                "general.architecture",
                format!("\"{architecture}\""),
                "\"llama\", the architecture this build runs",
            ));
        }
        let bounded = |key: &str, low: usize, high: usize| -> Result<usize, GgufError> {
            let found = file.u64(key)?;
            match usize::try_from(found) {
                Ok(value) if (low..=high).contains(&value) => Ok(value),
                _ => Err(file.unusable(
                    key,
                    found.to_string(),
                    format!("a value from {low} to {high}"),
                )),
            }
        };
        let segments = |key: &str, value: usize| {
            if value.is_multiple_of(SEGMENT) {
                Ok(value)
            } else {
                Err(file.unusable(key, value.to_string(), format!("a multiple of {SEGMENT}")))
            }
        };
        let positive = |key: &str| {
            let value = file.f32(key)?;
            if value > 0.0 {
                Ok(value)
            } else {
                Err(file.unusable(key, value.to_string(), "a number above 0"))
            }
        };
        let hidden = segments(
            "llama.embedding_length",
            bounded("llama.embedding_length", SEGMENT, 1 << 16)?,
        )?;
        let heads = bounded("llama.attention.head_count", 1, 1 << 10)?;
        let kv_heads = if file.has("llama.attention.head_count_kv") {
            bounded("llama.attention.head_count_kv", 1, heads)?
        } else {
            heads
        };
        if !heads.is_multiple_of(kv_heads) {
            return Err(file.unusable(
                "llama.attention.head_count_kv",
                kv_heads.to_string(),
                format!("a divisor of the {heads} query heads"),
            ));
        }
        if !hidden.is_multiple_of(heads) {
            return Err(file.unusable(
                "llama.attention.head_count",
                heads.to_string(),
                format!("a divisor of the embedding length {hidden}"),
            ));
        }
        let head_dim = segments(
            "llama.embedding_length / llama.attention.head_count",
            hidden / heads,
        )?;
        for key in [
            "llama.attention.key_length",
            "llama.attention.value_length",
            "llama.rope.dimension_count",
        ] {
            if file.has(key) && file.u64(key)? != head_dim as u64 {
                return Err(file.unusable(
                    key,
                    file.u64(key)?.to_string(),
                    format!("{head_dim}, the embedding length over the heads"),
                ));
            }
        }
        if file.has("llama.rope.scaling.type") && file.string("llama.rope.scaling.type")? != "none"
        {
            let found = format!("\"{}\"", file.string("llama.rope.scaling.type")?);
            return Err(file.unusable(
                "llama.rope.scaling.type",
                found,
                "\"none\": this build has no RoPE scaling",
            ));
        }
        if file.has_tensor("rope_freqs.weight") {
            return Err(file.unusable(
                "rope_freqs.weight",
                "a tensor",
                "no such tensor: this build has no RoPE scaling",
            ));
        }
        Ok(Self {
            layers: bounded("llama.block_count", 1, 1 << 10)?,
            hidden,
            heads,
            kv_heads,
            head_dim,
            feed_forward: segments(
                "llama.feed_forward_length",
                bounded("llama.feed_forward_length", SEGMENT, 1 << 18)?,
            )?,
            vocabulary: file.string_array("tokenizer.ggml.tokens")?.len(),
            context: bounded("llama.context_length", 1, 1 << 24)?,
            norm_epsilon: positive("llama.attention.layer_norm_rms_epsilon")?,
            rope_base: if file.has("llama.rope.freq_base") {
                positive("llama.rope.freq_base")?
            } else {
                10_000.0
            },
        })
    }

    /// Query heads that share one key and value head.
    #[must_use]
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}
