//! The numerics contract, written a second time in the plainest way.
//!
//! One position after another, straight from the bytes of the GGUF file: no packing, no tiles, no slab, no
//! ring. Keys and values of every position are kept, and a predicate says which are seen. It shares no code
//! with the engine but the GGUF reader, so that a mistake would have to be made twice.

mod numbers;

use kakeya_core::KvElement;
use kakeya_model::{Activation, Model, ModelConfig, RopeScaling, Source, SourceError};

use numbers::{add, dot, exp, floats, norm, row_blocks, stored};

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// Sinks, and the last `window` positions up to the query's own.
    PerQuery,
    /// Wrong on purpose: the window of the chunk's first query, up to the query's own position.
    WholeChunk,
    /// Wrong on purpose: what is left when room for the whole chunk was made before it ran.
    EvictBeforeChunk,
    /// Sinks, the window's positions before the query's own, and the whole chunk: a block whose tokens see each other.
    Block,
}

/// The plain forward pass over one model file.
pub struct Oracle<'a> {
    source: &'a Source,
    config: &'a ModelConfig,
    sink: usize,
    window: usize,
    element: KvElement,
    threads: usize,
    /// For each layer and position: keys and values of all heads, as the cache holds them.
    keys: Vec<Vec<Vec<f32>>>,
    values: Vec<Vec<Vec<f32>>>,
}

impl<'a> Oracle<'a> {
    /// An oracle that keeps `sink` and `window` positions in a cache of `element`.
    pub fn new(
        model: &'a Model,
        (sink, window): (usize, usize),
        element: KvElement,
        threads: usize,
    ) -> Self {
        let config = model.config();
        let empty = vec![Vec::new(); config.layers];
        Self {
            source: model.source(),
            config,
            sink,
            window,
            element,
            threads,
            keys: empty.clone(),
            values: empty,
        }
    }

    /// The logits at every position of a sequence, row by row.
    pub fn logits(mut self, tokens: &[u32]) -> Result<Vec<f32>, SourceError> {
        let mut logits = Vec::with_capacity(tokens.len() * self.config.vocabulary);
        for (position, token) in tokens.iter().enumerate() {
            logits.extend(self.step(*token, Visibility::PerQuery, (position, position))?);
        }
        Ok(logits)
    }

    /// Appends one token and returns the logits of its position. `chunk` is the first and last position of
    /// the chunk it belongs to: only the wrong rules look at it.
    pub fn step(
        &mut self,
        token: u32,
        rule: Visibility,
        chunk: (usize, usize),
    ) -> Result<Vec<f32>, SourceError> {
        let mut rows = self.rows(&[token], rule, chunk)?;
        Ok(rows.swap_remove(0))
    }

    /// Appends a block whose tokens see each other, and returns the logits of each of its positions.
    pub fn block(&mut self, tokens: &[u32]) -> Result<Vec<Vec<f32>>, SourceError> {
        let first = self.keys[0].len();
        let chunk = (first, first + tokens.len() - 1);
        self.rows(tokens, Visibility::Block, chunk)
    }

    /// Appends tokens, layer by layer, and returns the logits of each position.
    fn rows(
        &mut self,
        tokens: &[u32],
        rule: Visibility,
        chunk: (usize, usize),
    ) -> Result<Vec<Vec<f32>>, SourceError> {
        let c = self.config;
        let (d, first) = (c.head_dim, self.keys[0].len());
        let embedded = tokens.iter().map(|token| self.embedding(*token));
        let mut rows = embedded.collect::<Result<Vec<_>, _>>()?;
        for layer in 0..c.layers {
            let mut queries = Vec::new();
            for (x, position) in rows.iter().zip(first..) {
                let h = norm(
                    x,
                    &self.norm_weights(layer, "attn_norm", c.hidden)?,
                    c.norm_epsilon,
                );
                queries.push(self.projected(layer, "attn_q", &h, c.heads * d)?);
                let key = self.projected(layer, "attn_k", &h, c.kv_heads * d)?;
                let value = self.biased(layer, "attn_v", &h, c.kv_heads * d)?;
                let stored = |values| stored(self.element, values);
                let key = stored(self.rotate(layer, &key, position));
                self.keys[layer].push(key);
                self.values[layer].push(stored(value));
            }
            for ((x, query), position) in rows.iter_mut().zip(&queries).zip(first..) {
                let mixed = self.attention(layer, query, position, rule, chunk);
                let out = self.biased(layer, "attn_output", &mixed, c.hidden)?;
                self.add_branch(x, layer, "post_attention_norm", &out)?;
                let h = norm(
                    x,
                    &self.norm_weights(layer, "ffn_norm", c.hidden)?,
                    c.norm_epsilon,
                );
                let gate = self.biased(layer, "ffn_gate", &h, c.feed_forward)?;
                let up = self.biased(layer, "ffn_up", &h, c.feed_forward)?;
                let gated: Vec<f32> = gate
                    .iter()
                    .zip(&up)
                    .map(|(g, u)| {
                        let z = match c.activation {
                            Activation::Silu => *g,
                            Activation::Gelu => (g * g * g).mul_add(0.044_715, *g) * 1.595_769_2,
                        };
                        g / (1.0 + exp(0.0 - z)) * u
                    })
                    .collect();
                let out = self.biased(layer, "ffn_down", &gated, c.hidden)?;
                self.add_branch(x, layer, "post_ffw_norm", &out)?;
            }
        }
        let weights = self.norm_weights(0, "output_norm", c.hidden)?;
        let output = self.name(0, "output", "weight");
        let output = if self.source.has_tensor(&output) {
            output
        } else {
            self.name(0, "token_embd", "weight")
        };
        rows.iter()
            .map(|x| self.linear(&output, &norm(x, &weights, c.norm_epsilon), c.vocabulary))
            .collect()
    }

    /// What a file calls a tensor, by the name of a GGUF file.
    fn name(&self, layer: usize, part: &str, kind: &str) -> String {
        let whole = matches!(part, "token_embd" | "output_norm" | "output");
        if self.source.gguf().is_some() {
            return match whole {
                true => format!("{part}.{kind}"),
                false => format!("blk.{layer}.{part}.{kind}"),
            };
        }
        let gemma = self.config.architecture == "gemma3";
        let part = match part {
            "token_embd" => "embed_tokens",
            "output_norm" => "norm",
            "output" => return format!("lm_head.{kind}"),
            "attn_norm" => "input_layernorm",
            "attn_q" => "self_attn.q_proj",
            "attn_k" => "self_attn.k_proj",
            "attn_v" => "self_attn.v_proj",
            "attn_output" => "self_attn.o_proj",
            "attn_q_norm" => "self_attn.q_norm",
            "attn_k_norm" => "self_attn.k_norm",
            "ffn_norm" if gemma => "pre_feedforward_layernorm",
            "ffn_norm" | "post_attention_norm" => "post_attention_layernorm",
            "ffn_gate" => "mlp.gate_proj",
            "ffn_up" => "mlp.up_proj",
            "ffn_down" => "mlp.down_proj",
            "post_ffw_norm" => "post_feedforward_layernorm",
            other => unreachable!("the oracle has no name for {other}"),
        };
        match whole {
            true => format!("model.{part}.{kind}"),
            false => format!("model.layers.{layer}.{part}.{kind}"),
        }
    }

    fn norm_weights(
        &self,
        layer: usize,
        part: &str,
        length: usize,
    ) -> Result<Vec<f32>, SourceError> {
        let mut weights = self.vector(&self.name(layer, part, "weight"), length)?;
        // Gemma's safetensors hold what is added to 1.
        if self.source.gguf().is_none() && self.config.architecture == "gemma3" {
            weights.iter_mut().for_each(|weight| *weight += 1.0);
        }
        Ok(weights)
    }

    /// A product, and its bias where there is one.
    fn biased(
        &self,
        layer: usize,
        part: &str,
        x: &[f32],
        rows: usize,
    ) -> Result<Vec<f32>, SourceError> {
        let mut out = self.linear(&self.name(layer, part, "weight"), x, rows)?;
        let bias = self.name(layer, part, "bias");
        if self.source.has_tensor(&bias) {
            add(&mut out, &self.vector(&bias, rows)?);
        }
        Ok(out)
    }

    /// Queries or keys, not yet rotated: with their norm where there is one, and dimensions that turn together side by
    /// side.
    fn projected(
        &self,
        layer: usize,
        part: &str,
        x: &[f32],
        rows: usize,
    ) -> Result<Vec<f32>, SourceError> {
        let d = self.config.head_dim;
        let adjacent = self.source.gguf().is_some() && self.config.architecture == "llama";
        let in_pairs = |head: &[f32]| -> Vec<f32> {
            if adjacent {
                return head.to_vec();
            }
            (0..d / 2)
                .flat_map(|i| [head[i], head[i + d / 2]])
                .collect()
        };
        let out = self.biased(layer, part, x, rows)?;
        let has_norm = matches!(self.config.architecture, "qwen3" | "gemma3");
        let weights = match has_norm {
            true => Some(in_pairs(&self.norm_weights(
                layer,
                &format!("{part}_norm"),
                d,
            )?)),
            false => None,
        };
        let heads = out.chunks_exact(d).map(in_pairs);
        Ok(heads
            .flat_map(|head| match &weights {
                Some(weights) => norm(&head, weights, self.config.norm_epsilon),
                None => head,
            })
            .collect())
    }

    /// Adds the result of half a block, normalised where the model has such a norm.
    fn add_branch(
        &self,
        x: &mut [f32],
        layer: usize,
        part: &str,
        out: &[f32],
    ) -> Result<(), SourceError> {
        if self.config.architecture == "gemma3" {
            let weights = self.norm_weights(layer, part, self.config.hidden)?;
            add(x, &norm(out, &weights, self.config.norm_epsilon));
        } else {
            add(x, out);
        }
        Ok(())
    }

    /// The sinks and the window of a layer: the policy's, or the layer's own window.
    fn sight(&self, layer: usize) -> (usize, usize) {
        match self.config.kinds[layer].window {
            Some(own) => (0, own),
            None => (self.sink, self.window),
        }
    }

    fn sees(
        &self,
        layer: usize,
        query: usize,
        key: usize,
        rule: Visibility,
        chunk: (usize, usize),
    ) -> bool {
        let (sink, window) = self.sight(layer);
        let from = match rule {
            Visibility::PerQuery | Visibility::Block => query,
            Visibility::WholeChunk => chunk.0,
            Visibility::EvictBeforeChunk => chunk.1,
        };
        let last = match rule {
            Visibility::Block => chunk.1,
            _ => query,
        };
        key <= last && (key < sink || key + window > from)
    }

    fn attention(
        &self,
        layer: usize,
        query: &[f32],
        position: usize,
        rule: Visibility,
        chunk: (usize, usize),
    ) -> Vec<f32> {
        let c = self.config;
        let d = c.head_dim;
        let (sink, window) = self.sight(layer);
        let for_window = self.rotate(layer, query, position);
        let for_sinks = self.rotate(layer, query, position.min(sink + window - 1));
        let scale = c.attention_scale;
        let mut out = Vec::new();
        for head in 0..c.heads {
            let shared = head / (c.heads / c.kv_heads) * d;
            let length = self.keys[layer].len();
            let visible: Vec<usize> = (0..length)
                .filter(|key| self.sees(layer, position, *key, rule, chunk))
                .collect();
            let mut scores = Vec::new();
            for key in &visible {
                let q = if *key < sink {
                    &for_sinks[head * d..]
                } else {
                    &for_window[head * d..]
                };
                let k = &self.keys[layer][*key][shared..];
                let mut t = 0.0f32;
                for segment in 0..d / 32 {
                    let mut chain = 0.0f32;
                    for i in segment * 32..segment * 32 + 32 {
                        chain = q[i].mul_add(k[i], chain);
                    }
                    t += chain;
                }
                scores.push(t * scale);
            }
            let peak = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let weights: Vec<f32> = scores.iter().map(|score| exp(score - peak)).collect();
            let mut total = 0.0f32;
            let mut sums = vec![0.0f32; d];
            for segment in 0..=(length - 1) / 32 {
                let mut chain_total = 0.0f32;
                let mut chains = vec![0.0f32; d];
                let mut any = false;
                for (key, weight) in visible
                    .iter()
                    .zip(&weights)
                    .filter(|(key, _)| *key / 32 == segment)
                {
                    any = true;
                    chain_total += weight;
                    for (i, chain) in chains.iter_mut().enumerate() {
                        *chain = weight.mul_add(self.values[layer][*key][shared + i], *chain);
                    }
                }
                if any {
                    total += chain_total;
                    add(&mut sums, &chains);
                }
            }
            out.extend(sums.iter().map(|sum| sum * (1.0 / total)));
        }
        out
    }

    /// Rotates each head's pairs (2i, 2i + 1).
    fn rotate(&self, layer: usize, vector: &[f32], position: usize) -> Vec<f32> {
        let d = self.config.head_dim;
        let mut out = vector.to_vec();
        for (index, pair) in out.chunks_exact_mut(2).enumerate() {
            let i = index % (d / 2);
            let rope = &self.config.ropes[self.config.kinds[layer].rope];
            let plain = libm::pow(f64::from(rope.base), -(2.0 * i as f64) / d as f64);
            let frequency = match &rope.scaling {
                RopeScaling::None => plain,
                RopeScaling::Linear { factor } => plain / factor,
                RopeScaling::Factors(factors) => plain / f64::from(factors[i]),
                other => unreachable!("the oracle does not know {other:?}"),
            };
            let angle = position as f64 * frequency;
            let (cos, sin) = (libm::cos(angle) as f32, libm::sin(angle) as f32);
            let (a, b) = (pair[0], pair[1]);
            pair[0] = a * cos - b * sin;
            pair[1] = a * sin + b * cos;
        }
        out
    }

    fn embedding(&self, token: u32) -> Result<Vec<f32>, SourceError> {
        let c = self.config;
        let name = self.name(0, "token_embd", "weight");
        let tensor = self.source.tensor(&name, c.vocabulary, c.hidden)?;
        let blocks = row_blocks(&tensor, token as usize);
        let values = blocks.flat_map(|block| block.q.map(|q| block.d * q + block.m));
        if c.embedding_scale == 1.0 {
            return Ok(values.collect());
        }
        Ok(values.map(|value| value * c.embedding_scale).collect())
    }

    fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, SourceError> {
        let tensor = self.source.tensor(name, 1, length)?;
        Ok(floats(tensor.dtype, tensor.bytes))
    }

    fn linear(&self, name: &str, x: &[f32], rows: usize) -> Result<Vec<f32>, SourceError> {
        let tensor = self.source.tensor(name, rows, x.len())?;
        let mut out = vec![0.0; rows];
        let part = rows.div_ceil(self.threads);
        std::thread::scope(|scope| {
            for (index, out) in out.chunks_mut(part).enumerate() {
                scope.spawn(move || {
                    for (offset, out) in out.iter_mut().enumerate() {
                        *out = dot(&tensor, index * part + offset, x);
                    }
                });
            }
        });
        Ok(out)
    }
}
