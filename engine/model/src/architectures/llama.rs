//! Llama (Touvron et al. 2023) and what has its shape: SmolLM2, Mistral without a window, TinyLlama, Llama 3.

use super::Architecture;

pub(crate) const LLAMA: Architecture = Architecture {
    gguf: "llama",
    classes: &["LlamaForCausalLM"],
    gguf_pairs_adjacent: true,
    query_key_norm: false,
    post_norms: false,
    norm_offset: 0.0,
    refine: |_, _| Ok(()),
};
