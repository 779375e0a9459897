//! The tensors that models are made of, and what files call them.

use super::Architecture;
use crate::config::ModelConfig;
use crate::source::Source;

/// A tensor by what it is for. Those of a block come once for each layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Embedding,
    OutputNorm,
    Output,
    AttentionNorm,
    Query,
    QueryBias,
    QueryNorm,
    Key,
    KeyBias,
    KeyNorm,
    Value,
    ValueBias,
    AttentionOut,
    AttentionOutBias,
    PostAttentionNorm,
    FeedForwardNorm,
    Gate,
    Up,
    Down,
    PostFeedForwardNorm,
}

impl Part {
    /// Those that a model has once.
    pub(crate) const ONCE: [Self; 3] = [Self::Embedding, Self::OutputNorm, Self::Output];

    /// Those that each layer has.
    pub(crate) const IN_LAYER: [Self; 17] = [
        Self::AttentionNorm,
        Self::Query,
        Self::QueryBias,
        Self::QueryNorm,
        Self::Key,
        Self::KeyBias,
        Self::KeyNorm,
        Self::Value,
        Self::ValueBias,
        Self::AttentionOut,
        Self::AttentionOutBias,
        Self::PostAttentionNorm,
        Self::FeedForwardNorm,
        Self::Gate,
        Self::Up,
        Self::Down,
        Self::PostFeedForwardNorm,
    ];

    /// Its rows and columns; a vector has one row.
    pub(crate) fn shape(self, config: &ModelConfig) -> (usize, usize) {
        let (hidden, wide, dim) = (config.hidden, config.feed_forward, config.head_dim);
        let (queries, keys) = (config.heads * dim, config.kv_heads * dim);
        match self {
            Self::Embedding | Self::Output => (config.vocabulary, hidden),
            Self::OutputNorm
            | Self::AttentionNorm
            | Self::AttentionOutBias
            | Self::PostAttentionNorm
            | Self::FeedForwardNorm
            | Self::PostFeedForwardNorm => (1, hidden),
            Self::Query => (queries, hidden),
            Self::QueryBias => (1, queries),
            Self::Key | Self::Value => (keys, hidden),
            Self::KeyBias | Self::ValueBias => (1, keys),
            Self::QueryNorm | Self::KeyNorm => (1, dim),
            Self::AttentionOut => (hidden, queries),
            Self::Gate | Self::Up => (wide, hidden),
            Self::Down => (hidden, wide),
        }
    }

    /// Whether it is multiplied with, and so packed; the others are vectors.
    pub(crate) fn is_matrix(self) -> bool {
        matches!(
            self,
            Self::Embedding
                | Self::Output
                | Self::Query
                | Self::Key
                | Self::Value
                | Self::AttentionOut
                | Self::Gate
                | Self::Up
                | Self::Down
        )
    }

    /// Whether a model of the architecture has it: `None` where it may.
    pub(crate) fn belongs_to(self, architecture: &Architecture) -> Option<bool> {
        match self {
            Self::QueryBias
            | Self::KeyBias
            | Self::ValueBias
            | Self::AttentionOutBias
            | Self::Output => None,
            Self::QueryNorm | Self::KeyNorm => Some(architecture.query_key_norm),
            Self::PostAttentionNorm | Self::PostFeedForwardNorm => Some(architecture.post_norms),
            _ => Some(true),
        }
    }

    /// Whether a file has it.
    pub(crate) fn is_in(self, architecture: &Architecture, source: &Source, layer: usize) -> bool {
        source.has_tensor(&self.name(architecture, source, layer))
    }

    /// Its name in a file. `layer` counts for the parts of a block only.
    pub(crate) fn name(self, architecture: &Architecture, source: &Source, layer: usize) -> String {
        match source {
            Source::Gguf(_) => self.in_gguf(layer),
            Source::Snapshot(_) => self.in_safetensors(architecture, layer),
        }
    }

    fn in_gguf(self, layer: usize) -> String {
        let part = match self {
            Self::Embedding => return "token_embd.weight".to_owned(),
            Self::OutputNorm => return "output_norm.weight".to_owned(),
            Self::Output => return "output.weight".to_owned(),
            Self::AttentionNorm => "attn_norm.weight",
            Self::Query => "attn_q.weight",
            Self::QueryBias => "attn_q.bias",
            Self::QueryNorm => "attn_q_norm.weight",
            Self::Key => "attn_k.weight",
            Self::KeyBias => "attn_k.bias",
            Self::KeyNorm => "attn_k_norm.weight",
            Self::Value => "attn_v.weight",
            Self::ValueBias => "attn_v.bias",
            Self::AttentionOut => "attn_output.weight",
            Self::AttentionOutBias => "attn_output.bias",
            Self::PostAttentionNorm => "post_attention_norm.weight",
            Self::FeedForwardNorm => "ffn_norm.weight",
            Self::Gate => "ffn_gate.weight",
            Self::Up => "ffn_up.weight",
            Self::Down => "ffn_down.weight",
            Self::PostFeedForwardNorm => "post_ffw_norm.weight",
        };
        format!("blk.{layer}.{part}")
    }

    fn in_safetensors(self, architecture: &Architecture, layer: usize) -> String {
        let part = match self {
            Self::Embedding => return "model.embed_tokens.weight".to_owned(),
            Self::OutputNorm => return "model.norm.weight".to_owned(),
            Self::Output => return "lm_head.weight".to_owned(),
            Self::AttentionNorm => "input_layernorm.weight",
            Self::Query => "self_attn.q_proj.weight",
            Self::QueryBias => "self_attn.q_proj.bias",
            Self::QueryNorm => "self_attn.q_norm.weight",
            Self::Key => "self_attn.k_proj.weight",
            Self::KeyBias => "self_attn.k_proj.bias",
            Self::KeyNorm => "self_attn.k_norm.weight",
            Self::Value => "self_attn.v_proj.weight",
            Self::ValueBias => "self_attn.v_proj.bias",
            Self::AttentionOut => "self_attn.o_proj.weight",
            Self::AttentionOutBias => "self_attn.o_proj.bias",
            // One name for two things: before the feed-forward layer, or after attention.
            Self::FeedForwardNorm if architecture.post_norms => "pre_feedforward_layernorm.weight",
            Self::FeedForwardNorm | Self::PostAttentionNorm => "post_attention_layernorm.weight",
            Self::Gate => "mlp.gate_proj.weight",
            Self::Up => "mlp.up_proj.weight",
            Self::Down => "mlp.down_proj.weight",
            Self::PostFeedForwardNorm => "post_feedforward_layernorm.weight",
        };
        format!("model.layers.{layer}.{part}")
    }
}
