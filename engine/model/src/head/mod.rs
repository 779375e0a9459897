//! A draft head: a small network that guesses tokens from a model's own hidden states.
//!
//! From the state that the model had after a token, and the embedding of the token that follows, it makes the state that
//! the model would have after that one, and from it the logits of the next (the idea of EAGLE, Li et al. 2024, without
//! its attention). Its own state serves for the token after, and so on. With the model it shares the embedding, the last
//! norm and those rows of the output matrix that belong to its own vocabulary: the tokens that are seen most
//! (FR-Spec, Zhao et al. 2025), since a product with all rows would cost more than the head gains.
//!
//! With `n` for RMS normalisation without weights (epsilon 1e-6), `s` the state of width `d_v`, `e` the embedding:
//!
//! ```text
//! y  = state_in n(s) + token_in n(e)                            width d_q
//! y += down_i (silu(gate_i z) * (up_i z)),  z = n(y) * norm_i   for each block i
//! s' = state_out (n(y) * norm)                                  width d_v
//! logits = rows of the output matrix * (n(s') * output_norm of the model)
//! ```
//!
//! What it says is a guess: it is held to no bits.

mod file;
mod run;

use candle_core::quantized::GgmlDType;

pub use file::{HEAD_FORMAT, HeadError, HeadFile, HeadShape};
pub use run::HeadRunner;

use crate::config::SEGMENT;
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::model::Model;
use crate::panels::{Arena, PackedMatrix, Packing};
use crate::source::TensorBytes;

/// The epsilon of the head's own norms.
pub const HEAD_EPSILON: f32 = 1e-6;

/// A head, packed, with what it shares of its model.
#[derive(Debug)]
pub struct DraftHead {
    shape: HeadShape,
    state_in: PackedMatrix,
    token_in: PackedMatrix,
    blocks: Vec<Block>,
    norm: Vec<f32>,
    state_out: PackedMatrix,
    output_norm: Vec<f32>,
    output_epsilon: f32,
    output: PackedMatrix,
    /// The token of each row of `output`.
    tokens: Vec<u32>,
}

#[derive(Debug)]
struct Block {
    norm: Vec<f32>,
    gate: PackedMatrix,
    up: PackedMatrix,
    down: PackedMatrix,
}

impl DraftHead {
    /// Packs a head for the model it was trained for, whose weights have the SHA-256 `sha256`.
    ///
    /// # Errors
    /// [`HeadError`], when it was trained for another model or its shapes are not the model's.
    pub fn new(file: &HeadFile, model: &Model, sha256: &str) -> Result<Self, HeadError> {
        file.check(model, sha256)?;
        let shape = file.shape().clone();
        let HeadShape {
            hidden,
            width,
            wide,
            blocks,
            ..
        } = shape;
        let mut packer = Packer::default();
        let mut matrix =
            |name: &str, rows, columns| packer.pack(name, file.tensor(name)?, rows, columns);
        let state_in = matrix("state_in", width, hidden)?;
        let token_in = matrix("token_in", width, hidden)?;
        let state_out = matrix("state_out", hidden, width)?;
        let blocks = (0..blocks)
            .map(|index| {
                Ok(Block {
                    norm: file.tensor(&format!("blocks.{index}.norm"))?.to_vec(),
                    gate: matrix(&format!("blocks.{index}.gate"), wide, width)?,
                    up: matrix(&format!("blocks.{index}.up"), wide, width)?,
                    down: matrix(&format!("blocks.{index}.down"), width, wide)?,
                })
            })
            .collect::<Result<_, HeadError>>()?;
        let tokens = file.tokens().to_vec();
        let mut rows = vec![0.0; tokens.len() * hidden];
        for (token, row) in tokens.iter().zip(rows.chunks_exact_mut(hidden)) {
            model.output_row(*token, row);
        }
        let output = packer.pack("output", &rows, tokens.len(), hidden)?;
        Ok(Self {
            shape,
            state_in,
            token_in,
            blocks,
            norm: file.tensor("norm")?.to_vec(),
            state_out,
            output_norm: model.output_norm.clone(),
            output_epsilon: model.config().norm_epsilon,
            output,
            tokens,
        })
    }

    /// Its sizes.
    #[must_use]
    pub fn shape(&self) -> &HeadShape {
        &self.shape
    }

    /// Bytes of its weights, as packed, the rows that it shares with its model among them.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        let blocks = self.blocks.iter();
        let blocks = blocks.flat_map(|block| [&block.gate, &block.up, &block.down]);
        [
            &self.state_in,
            &self.token_in,
            &self.state_out,
            &self.output,
        ]
        .into_iter()
        .chain(blocks)
        .map(PackedMatrix::bytes)
        .sum()
    }
}

/// Packs matrices of f32 as Q8_0: a guess needs no more, and is read as fast as memory gives it.
#[derive(Default)]
struct Packer {
    arena: Arena,
}

impl Packer {
    fn pack(
        &mut self,
        name: &str,
        values: &[f32],
        rows: usize,
        columns: usize,
    ) -> Result<PackedMatrix, HeadError> {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let tensor = TensorBytes {
            dtype: GgmlDType::F32,
            rows,
            columns,
            bytes: &bytes,
            pairs: 0,
        };
        let packing = Packing {
            arena: &mut self.arena,
            threads: 1,
        };
        PackedMatrix::quantize(&tensor, GgmlDType::Q8_0, packing).map_err(|error| {
            let (found, _) = error.found_and_expected();
            HeadError::Tensor {
                name: name.to_owned(),
                problem: found,
            }
        })
    }
}

impl Model {
    /// The embedding of a token as the model begins with it, without its scale.
    ///
    /// # Panics
    /// When there is no such token, or `row` is not as long as the hidden size.
    pub fn embedding_row(&self, token: u32, row: &mut [f32]) {
        self.row_of(&self.embedding, token, row);
    }

    /// The row of the output matrix that makes a token's logit.
    ///
    /// # Panics
    /// As [`Model::embedding_row`].
    pub fn output_row(&self, token: u32, row: &mut [f32]) {
        self.row_of(self.output(), token, row);
    }

    /// The weights of the norm before the output matrix.
    #[must_use]
    pub fn output_norm(&self) -> &[f32] {
        &self.output_norm
    }

    fn row_of(&self, matrix: &PackedMatrix, token: u32, row: &mut [f32]) {
        assert!((token as usize) < self.config().vocabulary, "no such token");
        assert_eq!(row.len(), self.config().hidden, "the length of a row");
        assert!(row.len().is_multiple_of(SEGMENT), "rows are whole segments");
        let kernels = Kernels::of(Isa::detect());
        // SAFETY: `detect` found the instructions; the matrix has a row for each token, and the room is one row long.
        unsafe { (kernels.dequantise)(matrix, token as usize, row) };
    }
}
