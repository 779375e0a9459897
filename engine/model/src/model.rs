//! A loaded model: the weights of its parts, packed.

use std::collections::BTreeSet;
use std::path::Path;

use candle_core::quantized::GgmlDType;

use crate::architectures::{Architecture, Part};
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::panels::{Arena, PackedMatrix, Packing};
use crate::quantize::Quantization;
use crate::rope::Rope;
use crate::source::{Source, SourceError, TensorBytes};

/// A loaded model. Immutable, and shared by every session that runs it.
#[derive(Debug)]
pub struct Model {
    pub(crate) config: ModelConfig,
    pub(crate) embedding: PackedMatrix,
    pub(crate) layers: Vec<Layer>,
    pub(crate) output_norm: Vec<f32>,
    /// `None` when the embedding is tied to the output.
    output: Option<PackedMatrix>,
    pub(crate) ropes: Vec<Rope>,
    source: Source,
    #[cfg(feature = "cuda")]
    uploaded: crate::cuda::Uploaded,
}

/// The weights of one transformer block.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) query: Projection,
    pub(crate) key: Projection,
    pub(crate) value: Projection,
    pub(crate) attention_out: Projection,
    /// On the result of attention, before it is added.
    pub(crate) post_attention_norm: Option<Vec<f32>>,
    pub(crate) feed_forward_norm: Vec<f32>,
    pub(crate) gate: PackedMatrix,
    pub(crate) up: PackedMatrix,
    pub(crate) down: PackedMatrix,
    /// On the result of the feed-forward layer, before it is added.
    pub(crate) post_feed_forward_norm: Option<Vec<f32>>,
}

/// A matrix of attention, and what is done to its product.
#[derive(Debug)]
pub(crate) struct Projection {
    pub(crate) matrix: PackedMatrix,
    /// Added to each row of the product.
    pub(crate) bias: Option<Vec<f32>>,
    /// Of one head, after the bias.
    pub(crate) norm: Option<Vec<f32>>,
}

/// How a model is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// What floating-point matrices are quantised to.
    pub quantize: Option<Quantization>,
}

impl LoadOptions {
    /// What a matrix is quantised to; `None` where it stays what it is.
    pub(crate) fn quantized(self, part: Part, tensor: &TensorBytes<'_>) -> Option<GgmlDType> {
        let to = match part {
            // The matrices that everything goes through keep more.
            Part::Embedding | Part::Output => self.quantize.map(|_| Quantization::Q8_0),
            _ => self.quantize,
        };
        to?.of(tensor)
    }
}

/// Whether a tensor is known to say nothing that the configuration does not.
pub(crate) fn is_derived(tensor: &str) -> bool {
    ["rotary_emb.inv_freq", "rope_freqs.weight"]
        .iter()
        .any(|known| tensor.ends_with(known))
}

/// What should stand in place of a tensor that nobody asked for.
pub(crate) fn no_such_tensor(architecture: &Architecture) -> String {
    format!(
        "no such tensor in a model of architecture {}: this build does not know what to do with it",
        architecture.gguf
    )
}

/// What the type of a vector should be.
pub(crate) const VECTOR_TYPES: &str = "F32, F16 or BF16, as every vector";

impl Model {
    /// Loads a GGUF file, or a folder with config.json and safetensors, and packs its weights.
    ///
    /// # Errors
    /// When a file is damaged or not such a model; the error names the file, the field and what was expected.
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        Self::from_source(Source::open(path)?, LoadOptions::default())
    }

    /// As [`Model::load`], from files that are open already: the tokenizer can be made at the same time.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_source(source: Source, options: LoadOptions) -> Result<Self, ModelError> {
        let architecture = Architecture::of(&source)?;
        let config = architecture.config(&source)?;
        let mut loader = Loader {
            source: &source,
            architecture,
            config: &config,
            options,
            arena: Arena::default(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            used: BTreeSet::new(),
        };
        let layers = (0..config.layers)
            .map(|layer| loader.layer(layer))
            .collect::<Result<_, _>>()?;
        let (rows, columns) = (config.vocabulary, config.hidden);
        let embedding = loader.matrix(Part::Embedding, 0, (rows, columns), 0)?;
        let output = match loader.has(Part::Output, 0) {
            true => Some(loader.matrix(Part::Output, 0, (rows, columns), 0)?),
            false => None,
        };
        let output_norm = loader.norm(Part::OutputNorm, 0, columns)?;
        loader.check_all_used()?;
        let ropes = config
            .ropes
            .iter()
            .map(|rope| Rope::new(config.head_dim, rope))
            .collect();
        Ok(Self {
            embedding,
            layers,
            output_norm,
            output,
            ropes,
            config,
            source,
            #[cfg(feature = "cuda")]
            uploaded: crate::cuda::Uploaded::default(),
        })
    }

    /// What the model is on a GPU.
    #[cfg(feature = "cuda")]
    pub(crate) fn uploaded(&self) -> &crate::cuda::Uploaded {
        &self.uploaded
    }

    /// The matrix that makes logits, where it is not the embedding.
    #[cfg(feature = "cuda")]
    pub(crate) fn own_output(&self) -> Option<&PackedMatrix> {
        self.output.as_ref()
    }

    /// The model's shape.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The files it was loaded from.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
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

    /// Whether something is done to what the halves of its blocks make before it is added.
    pub(crate) fn has_branches(&self) -> bool {
        let changed = |layer: &Layer| {
            let norms = [&layer.post_attention_norm, &layer.post_feed_forward_norm];
            norms.into_iter().any(Option::is_some) || layer.attention_out.bias.is_some()
        };
        self.layers.iter().any(changed)
    }

    /// The token that stands for one to be filled in: `mask_token_id` of config.json, or `tokenizer.ggml.mask_token_id`.
    /// Models that read from left to right mostly have none.
    #[must_use]
    pub fn mask_token(&self) -> Option<u32> {
        let named = match &self.source {
            Source::Gguf(file) => file.u64("tokenizer.ggml.mask_token_id").ok(),
            Source::Snapshot(snapshot) => snapshot.config().get("mask_token_id")?.as_u64(),
        };
        let token = u32::try_from(named?).ok()?;
        ((token as usize) < self.config.vocabulary).then_some(token)
    }

    /// The matrix that makes logits.
    pub(crate) fn output(&self) -> &PackedMatrix {
        self.output.as_ref().unwrap_or(&self.embedding)
    }
}

impl Layer {
    pub(crate) fn matrices(&self) -> [&PackedMatrix; 7] {
        [
            &self.query.matrix,
            &self.key.matrix,
            &self.value.matrix,
            &self.attention_out.matrix,
            &self.gate,
            &self.up,
            &self.down,
        ]
    }
}

/// Reads the parts of a model, and remembers which tensors it has read.
struct Loader<'a> {
    source: &'a Source,
    architecture: &'static Architecture,
    config: &'a ModelConfig,
    options: LoadOptions,
    arena: Arena,
    threads: usize,
    used: BTreeSet<String>,
}

impl Loader<'_> {
    fn layer(&mut self, layer: usize) -> Result<Layer, SourceError> {
        let config = self.config;
        let (hidden, wide, dim) = (config.hidden, config.feed_forward, config.head_dim);
        let (queries, keys) = (config.heads * dim, config.kv_heads * dim);
        // Dimensions that turn together stand side by side in the engine, whichever way the file has them.
        let pairs = match self.source {
            Source::Gguf(_) if self.architecture.gguf_pairs_adjacent => 0,
            _ => dim,
        };
        Ok(Layer {
            attention_norm: self.norm(Part::AttentionNorm, layer, hidden)?,
            query: Projection {
                matrix: self.matrix(Part::Query, layer, (queries, hidden), pairs)?,
                bias: self.bias(Part::QueryBias, layer, queries, pairs)?,
                norm: self.head_norm(Part::QueryNorm, layer, pairs)?,
            },
            key: Projection {
                matrix: self.matrix(Part::Key, layer, (keys, hidden), pairs)?,
                bias: self.bias(Part::KeyBias, layer, keys, pairs)?,
                norm: self.head_norm(Part::KeyNorm, layer, pairs)?,
            },
            value: Projection {
                matrix: self.matrix(Part::Value, layer, (keys, hidden), 0)?,
                bias: self.bias(Part::ValueBias, layer, keys, 0)?,
                norm: None,
            },
            attention_out: Projection {
                matrix: self.matrix(Part::AttentionOut, layer, (hidden, queries), 0)?,
                bias: self.bias(Part::AttentionOutBias, layer, hidden, 0)?,
                norm: None,
            },
            post_attention_norm: self.post_norm(Part::PostAttentionNorm, layer)?,
            feed_forward_norm: self.norm(Part::FeedForwardNorm, layer, hidden)?,
            gate: self.matrix(Part::Gate, layer, (wide, hidden), 0)?,
            up: self.matrix(Part::Up, layer, (wide, hidden), 0)?,
            down: self.matrix(Part::Down, layer, (hidden, wide), 0)?,
            post_feed_forward_norm: self.post_norm(Part::PostFeedForwardNorm, layer)?,
        })
    }

    fn name(&self, part: Part, layer: usize) -> String {
        part.name(self.architecture, self.source, layer)
    }

    fn has(&self, part: Part, layer: usize) -> bool {
        part.is_in(self.architecture, self.source, layer)
    }

    /// A matrix of (rows, columns). With `pairs` the rows of each head of that many are put in pairs.
    fn matrix(
        &mut self,
        part: Part,
        layer: usize,
        (rows, columns): (usize, usize),
        pairs: usize,
    ) -> Result<PackedMatrix, SourceError> {
        let name = self.name(part, layer);
        let tensor = self.source.tensor(&name, rows, columns)?.with_pairs(pairs);
        self.used.insert(name.clone());
        let packing = Packing {
            arena: &mut self.arena,
            threads: self.threads,
        };
        let packed = match self.options.quantized(part, &tensor) {
            None => PackedMatrix::pack(&tensor, packing),
            Some(dtype) => PackedMatrix::quantize(&tensor, dtype, packing),
        };
        // Now, and not when all is packed: the file and the panels would both be in memory.
        self.source.release_pages();
        packed.map_err(|error| {
            let (found, expected) = error.found_and_expected();
            self.source.wrong_tensor(&name, found, expected)
        })
    }

    fn norm(&mut self, part: Part, layer: usize, length: usize) -> Result<Vec<f32>, SourceError> {
        let offset = match self.source {
            Source::Gguf(_) => 0.0,
            Source::Snapshot(_) => self.architecture.norm_offset,
        };
        let mut weights = self.vector(part, layer, length, 0)?;
        if offset != 0.0 {
            weights.iter_mut().for_each(|weight| *weight += offset);
        }
        Ok(weights)
    }

    fn post_norm(&mut self, part: Part, layer: usize) -> Result<Option<Vec<f32>>, SourceError> {
        let wanted = self.architecture.post_norms;
        wanted
            .then(|| self.norm(part, layer, self.config.hidden))
            .transpose()
    }

    fn head_norm(
        &mut self,
        part: Part,
        layer: usize,
        pairs: usize,
    ) -> Result<Option<Vec<f32>>, SourceError> {
        if !self.architecture.query_key_norm {
            return Ok(None);
        }
        let weights = self.norm(part, layer, self.config.head_dim)?;
        Ok(Some(in_pairs(weights, pairs)))
    }

    fn bias(
        &mut self,
        part: Part,
        layer: usize,
        length: usize,
        pairs: usize,
    ) -> Result<Option<Vec<f32>>, SourceError> {
        let present = self.has(part, layer);
        present
            .then(|| self.vector(part, layer, length, pairs))
            .transpose()
    }

    /// A vector of floating-point numbers.
    fn vector(
        &mut self,
        part: Part,
        layer: usize,
        length: usize,
        pairs: usize,
    ) -> Result<Vec<f32>, SourceError> {
        let name = self.name(part, layer);
        let tensor = self.source.tensor(&name, 1, length)?;
        let wrong =
            |found: String, expected: &str| self.source.wrong_tensor(&name, found, expected);
        let values = tensor
            .floats()
            .ok_or_else(|| wrong(format!("has type {:?}", tensor.dtype), VECTOR_TYPES))?;
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let found = format!("has {} at index {at}", values[at]);
            return Err(wrong(found, "finite weights; the file is damaged"));
        }
        self.used.insert(name);
        Ok(in_pairs(values, pairs))
    }

    /// A tensor that nobody asked for is part of a model that this build would run wrongly.
    fn check_all_used(&self) -> Result<(), SourceError> {
        let names = self.source.tensor_names();
        let stray = names
            .into_iter()
            .find(|name| !self.used.contains(*name) && !is_derived(name));
        match stray {
            None => Ok(()),
            Some(name) => {
                let expected = no_such_tensor(self.architecture);
                Err(self.source.wrong_tensor(name, "is present", expected))
            }
        }
    }
}

/// Puts values of each head of `pairs` in pairs; 0 leaves them as they are.
fn in_pairs(values: Vec<f32>, pairs: usize) -> Vec<f32> {
    (0..values.len())
        .map(|index| values[TensorBytes::source_row(index, pairs)])
        .collect()
}
