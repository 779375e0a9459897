//! Qwen3 (Yang et al. 2025): llama with normalised queries and keys; and Qwen2, which has biases instead.

use super::Architecture;
use super::fields::{Fields, Key};
use crate::config::ModelConfig;
use crate::source::SourceError;

pub(crate) const QWEN2: Architecture = Architecture {
    gguf: "qwen2",
    classes: &["Qwen2ForCausalLM"],
    gguf_pairs_adjacent: false,
    query_key_norm: false,
    post_norms: false,
    norm_offset: 0.0,
    refine: no_window,
};

pub(crate) const QWEN3: Architecture = Architecture {
    gguf: "qwen3",
    classes: &["Qwen3ForCausalLM"],
    query_key_norm: true,
    ..QWEN2
};

/// Both can have layers with a window of their own, and no published model uses them.
fn no_window(fields: &Fields<'_>, _: &mut ModelConfig) -> Result<(), SourceError> {
    const USES: Key = Key::json("use_sliding_window");
    if fields.bool(USES)?.unwrap_or(false) {
        return Err(fields.unusable(USES, "true", "false: this build runs full attention only"));
    }
    Ok(())
}
