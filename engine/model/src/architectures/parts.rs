//! The tensors that models are made of, and what files call them.

use super::Architecture;
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
