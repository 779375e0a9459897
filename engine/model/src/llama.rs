//! The llama architecture: which tensors a model has, and how they are loaded.

use std::path::Path;
use std::sync::Arc;

use crate::config::LlamaConfig;
use crate::error::ModelError;
use crate::gguf::{GgufError, GgufFile};
use crate::panels::{Arena, PackedMatrix, Packing};
use crate::rope::Rope;

/// A loaded model. Immutable, and shared by every session that runs it.
#[derive(Debug)]
pub struct Model {
    pub(crate) config: LlamaConfig,
    pub(crate) embedding: PackedMatrix,
    pub(crate) layers: Vec<Layer>,
    pub(crate) output_norm: Vec<f32>,
    /// `None` when the embedding is tied to the output.
    output: Option<PackedMatrix>,
    pub(crate) rope: Rope,
    file: Arc<GgufFile>,
}

/// The weights of one transformer block.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) query: PackedMatrix,
    pub(crate) key: PackedMatrix,
    pub(crate) value: PackedMatrix,
    pub(crate) attention_out: PackedMatrix,
    pub(crate) feed_forward_norm: Vec<f32>,
    pub(crate) gate: PackedMatrix,
    pub(crate) up: PackedMatrix,
    pub(crate) down: PackedMatrix,
}

impl Model {
    /// Loads a GGUF file of the llama architecture and packs its weights.
    ///
    /// # Errors
    /// When the file is damaged or not such a model; the error names the file, the field and what was
    /// expected.
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        Self::from_gguf(Arc::new(GgufFile::open(path)?))
    }

    /// As [`Model::load`], from a file that is open already: its tokenizer can be made at the same time.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_gguf(file: Arc<GgufFile>) -> Result<Self, ModelError> {
        let config = LlamaConfig::from_gguf(&file)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut arena = Arena::default();
        let layers = (0..config.layers)
            .map(|layer| {
                let arena = &mut arena;
                Layer::load(&file, &config, layer, Packing { arena, threads })
            })
            .collect::<Result<_, _>>()?;
        let embedding = PackedMatrix::load(
            &file,
            "token_embd.weight",
            config.vocabulary,
            config.hidden,
            Packing {
                arena: &mut arena,
                threads,
            },
        )?;
        let output = match file.has_tensor("output.weight") {
            true => Some(PackedMatrix::load(
                &file,
                "output.weight",
                config.vocabulary,
                config.hidden,
                Packing {
                    arena: &mut arena,
                    threads,
                },
            )?),
            false => None,
        };
        let output_norm = vector(&file, "output_norm.weight", config.hidden)?;
        let rope = Rope::new(config.head_dim, config.rope_base);
        Ok(Self {
            config,
            embedding,
            layers,
            output_norm,
            output,
            rope,
            file,
        })
    }

    /// The model's shape.
    #[must_use]
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// The file it was loaded from: its metadata holds the tokenizer.
    #[must_use]
    pub fn file(&self) -> &GgufFile {
        &self.file
    }

    /// Bytes of packed weights in memory.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        let layers = self
            .layers
            .iter()
            .flat_map(Layer::matrices)
            .map(PackedMatrix::bytes)
            .sum::<usize>();
        layers + self.embedding.bytes() + self.output.as_ref().map_or(0, PackedMatrix::bytes)
    }

    /// The matrix that makes logits.
    pub(crate) fn output(&self) -> &PackedMatrix {
        self.output.as_ref().unwrap_or(&self.embedding)
    }
}

impl Layer {
    fn load(
        file: &GgufFile,
        config: &LlamaConfig,
        layer: usize,
        packing: Packing<'_>,
    ) -> Result<Self, GgufError> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        for part in [
            "attn_q.bias",
            "attn_k.bias",
            "attn_v.bias",
            "attn_output.bias",
            "ffn_gate_inp.weight",
        ] {
            if file.has_tensor(&name(part)) {
                return Err(GgufError::Tensor {
                    path: file.path().to_owned(),
                    tensor: name(part),
                    found: "is present".to_owned(),
                    expected: "no such tensor: this build runs neither biases nor experts"
                        .to_owned(),
                });
            }
        }
        let Packing { arena, threads } = packing;
        let mut matrix = |part: &str, rows: usize, columns: usize| {
            let packing = Packing { arena, threads };
            PackedMatrix::load(file, &name(part), rows, columns, packing)
        };
        let (hidden, feed_forward) = (config.hidden, config.feed_forward);
        let (queries, keys) = (
            config.heads * config.head_dim,
            config.kv_heads * config.head_dim,
        );
        Ok(Self {
            attention_norm: vector(file, &name("attn_norm.weight"), hidden)?,
            query: matrix("attn_q.weight", queries, hidden)?,
            key: matrix("attn_k.weight", keys, hidden)?,
            value: matrix("attn_v.weight", keys, hidden)?,
            attention_out: matrix("attn_output.weight", hidden, queries)?,
            feed_forward_norm: vector(file, &name("ffn_norm.weight"), hidden)?,
            gate: matrix("ffn_gate.weight", feed_forward, hidden)?,
            up: matrix("ffn_up.weight", feed_forward, hidden)?,
            down: matrix("ffn_down.weight", hidden, feed_forward)?,
        })
    }

    pub(crate) fn matrices(&self) -> [&PackedMatrix; 7] {
        [
            &self.query,
            &self.key,
            &self.value,
            &self.attention_out,
            &self.gate,
            &self.up,
            &self.down,
        ]
    }
}

/// A vector of f32 weights.
fn vector(file: &GgufFile, name: &str, length: usize) -> Result<Vec<f32>, GgufError> {
    let tensor = file.tensor(name, 1, length)?;
    let wrong = |found: String, expected: &str| GgufError::Tensor {
        path: file.path().to_owned(),
        tensor: name.to_owned(),
        found,
        expected: expected.to_owned(),
    };
    if tensor.dtype != candle_core::quantized::GgmlDType::F32 {
        return Err(wrong(
            format!("has type {:?}", tensor.dtype),
            "F32, the type of every vector",
        ));
    }
    let values: Vec<f32> = tensor
        .bytes
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        .collect();
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(wrong(
            format!("has {} at index {at}", values[at]),
            "finite weights; the file is damaged",
        )),
        None => Ok(values),
    }
}
