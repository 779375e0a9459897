//! What the head shares with its model, and must not change.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use kakeya_model::Model;
use sha2::{Digest, Sha256};

use crate::error::AlignError;

/// The model's parts that the head uses, as tensors that are no variables.
pub(crate) struct Frozen {
    model: Arc<Model>,
    /// Transposed: `[hidden, drafted]`, with the output norm's weights multiplied in.
    output: Tensor,
    epsilon: f64,
    pub(crate) hidden: usize,
}

impl Frozen {
    /// Those of `model` that make the logits of `tokens`.
    pub(crate) fn new(model: &Arc<Model>, tokens: &[u32]) -> Result<Self, AlignError> {
        let hidden = model.config().hidden;
        let mut rows = vec![0.0_f32; tokens.len() * hidden];
        for (token, row) in tokens.iter().zip(rows.chunks_exact_mut(hidden)) {
            model.output_row(*token, row);
            for (value, weight) in row.iter_mut().zip(model.output_norm()) {
                *value *= weight;
            }
        }
        let output = Tensor::from_vec(rows, (tokens.len(), hidden), &Device::Cpu)?;
        Ok(Self {
            model: Arc::clone(model),
            output: output.t()?.contiguous()?,
            epsilon: f64::from(model.config().norm_epsilon),
            hidden,
        })
    }

    /// The embeddings of tokens: `[tokens, hidden]`.
    pub(crate) fn embeddings(&self, tokens: &[u32]) -> Result<Tensor, AlignError> {
        let mut rows = vec![0.0_f32; tokens.len() * self.hidden];
        for (token, row) in tokens.iter().zip(rows.chunks_exact_mut(self.hidden)) {
            self.model.embedding_row(*token, row);
        }
        Ok(Tensor::from_vec(
            rows,
            (tokens.len(), self.hidden),
            &Device::Cpu,
        )?)
    }

    /// The logits of the head's own vocabulary after `states`: `[rows, hidden]` to `[rows, drafted]`.
    pub(crate) fn logits(&self, states: &Tensor) -> Result<Tensor, AlignError> {
        Ok(normalised(states, self.epsilon)?.matmul(&self.output)?)
    }

    /// SHA-256 of all that the head shares, read from the model anew: the embedding and the output row of every token, the
    /// output norm, and what the training multiplies with.
    pub(crate) fn sha256(&self) -> Result<String, AlignError> {
        let mut digest = Sha256::new();
        let mut row = vec![0.0_f32; self.hidden];
        let bytes = |values: &[f32]| -> Vec<u8> {
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect()
        };
        for token in 0..self.model.config().vocabulary as u32 {
            self.model.embedding_row(token, &mut row);
            digest.update(bytes(&row));
            self.model.output_row(token, &mut row);
            digest.update(bytes(&row));
        }
        digest.update(bytes(self.model.output_norm()));
        digest.update(bytes(&self.output.flatten_all()?.to_vec1::<f32>()?));
        Ok(hex(digest))
    }
}

/// A digest in hexadecimal digits.
pub(crate) fn hex(digest: Sha256) -> String {
    let bytes = digest.finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Each row over its root mean square (Zhang and Sennrich 2019), without weights.
pub(crate) fn normalised(rows: &Tensor, epsilon: f64) -> Result<Tensor, candle_core::Error> {
    let mean = rows.sqr()?.mean_keepdim(1)?;
    rows.broadcast_div(&(mean + epsilon)?.sqrt()?)
}
