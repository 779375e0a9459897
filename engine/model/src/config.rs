//! The shape and constants of a model, whatever file they were read from.

/// Every dimension along which a kernel folds is a multiple of this (see `docs/numerics.md`).
pub(crate) const SEGMENT: usize = 32;

/// What a forward pass needs to know of a model besides its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The architecture's name, as GGUF files have it.
    pub architecture: &'static str,
    /// Transformer blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; `heads` is a multiple of it.
    pub kv_heads: usize,
    /// Width of one head. `heads * head_dim` need not be `hidden`.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub feed_forward: usize,
    /// Tokens in the vocabulary, which is also the width of the logits.
    pub vocabulary: usize,
    /// Positions the model was trained for.
    pub context: usize,
    /// Added to the mean square before its root is taken.
    pub norm_epsilon: f32,
    /// What scores are multiplied by.
    pub attention_scale: f32,
    /// What embeddings are multiplied by; 1 leaves them as they are.
    pub embedding_scale: f32,
    /// What the gate of the feed-forward layer goes through.
    pub activation: Activation,
    /// The rotary embeddings. The first is that of the layers that see everything.
    pub ropes: Vec<RopeConfig>,
    /// For each layer, what it sees and how it rotates.
    pub kinds: Vec<LayerKind>,
}

/// What the gate of a feed-forward layer goes through (Shazeer 2020).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + exp(-x))`: SwiGLU.
    Silu,
    /// The GELU in its tanh form (Hendrycks and Gimpel 2016): GeGLU.
    Gelu,
}

/// What a layer sees, and how it rotates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerKind {
    /// The model's own sliding window: a query sees as many positions, its own among them. `None` sees everything, or
    /// what the session's cache keeps.
    pub window: Option<usize>,
    /// Which of [`ModelConfig::ropes`].
    pub rope: usize,
}

/// A rotary position embedding (Su et al. 2021).
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// Base of the frequencies.
    pub base: f32,
    /// How they are stretched beyond what the model was first trained for.
    pub scaling: RopeScaling,
}

/// How rotary frequencies are stretched. Formulas as `transformers` has them (modeling_rope_utils).
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// They are not.
    None,
    /// Every frequency divided by a factor (Chen et al. 2023, position interpolation).
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Low frequencies divided by a factor, high ones left, those between blended (Llama 3.1).
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths longer than `original / low` are divided.
        low: f64,
        /// Wavelengths shorter than `original / high` are left.
        high: f64,
        /// Positions that the model was first trained for.
        original: f64,
    },
    /// YaRN (Peng et al. 2023).
    Yarn {
        /// The factor.
        factor: f64,
        /// Positions that the model was first trained for.
        original: f64,
        /// Turns within `original` above which a frequency is left.
        fast: f64,
        /// Turns within `original` below which it is divided.
        slow: f64,
        /// What sines and cosines are multiplied by.
        attention: f64,
    },
    /// Each frequency divided by a factor of its own: `rope_freqs.weight` of a GGUF file, `head_dim / 2` of them.
    Factors(Vec<f32>),
}

impl ModelConfig {
    /// Query heads that share one key and value head.
    #[must_use]
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}

impl ModelConfig {
    /// As the llama architecture has it, for what needs a shape and no weights.
    pub(crate) fn uniform(layers: usize, heads: usize, kv_heads: usize, head_dim: usize) -> Self {
        Self {
            architecture: "llama",
            layers,
            hidden: heads * head_dim,
            heads,
            kv_heads,
            head_dim,
            feed_forward: SEGMENT,
            vocabulary: 8,
            context: 100,
            norm_epsilon: 1e-5,
            attention_scale: attention_scale(head_dim),
            embedding_scale: 1.0,
            activation: Activation::Silu,
            ropes: vec![RopeConfig {
                base: 1e4,
                scaling: RopeScaling::None,
            }],
            kinds: vec![
                LayerKind {
                    window: None,
                    rope: 0
                };
                layers
            ],
        }
    }
}

/// `1 / sqrt(head_dim)`. IEEE square root and division: the same on every platform.
pub(crate) fn attention_scale(head_dim: usize) -> f32 {
    1.0 / (head_dim as f32).sqrt()
}
