//! What `kakeya inspect` says, as data.

use std::collections::BTreeMap;

use kakeya_core::{CacheConfig, KvElement};
use kakeya_model::tokenizer::Tokenizer;
use kakeya_model::{
    Activation, Inspection, KvLayout, ModelConfig, RopeConfig, RopeScaling, Source, TensorEntry,
};
use kakeya_runtime::MAX_CHUNK;
use serde::Serialize;

use super::super::memory::{self, MemoryNeed};

/// The sessions whose memory is counted.
#[derive(Debug, Clone, Copy)]
pub struct Sessions {
    pub cache: CacheConfig,
    pub kv: KvElement,
    pub capacity: usize,
}

/// What is printed.
#[derive(Debug, Serialize)]
pub struct Report {
    pub path: String,
    pub format: String,
    pub file_bytes: u64,
    pub architecture: Option<String>,
    pub config: Option<Config>,
    pub tokenizer: Option<Vocabulary>,
    pub chat_templates: Vec<Template>,
    pub tensor_count: usize,
    pub tensor_types: Vec<TensorType>,
    /// Only where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensors: Option<Vec<Tensor>>,
    /// GGUF metadata, or config.json, with long values shortened.
    pub metadata: BTreeMap<String, String>,
    pub runnable: bool,
    pub problems: Vec<String>,
    pub memory: Option<Memory>,
}

/// The model's shape.
#[derive(Debug, Serialize)]
pub struct Config {
    pub layers: usize,
    pub hidden: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub feed_forward: usize,
    pub vocabulary: usize,
    pub context: usize,
    pub activation: &'static str,
    pub ropes: Vec<Rope>,
    pub windows: Vec<Window>,
    pub tied_embedding: Option<bool>,
}

/// A rotary embedding.
#[derive(Debug, Serialize)]
pub struct Rope {
    pub base: f32,
    pub scaling: String,
}

/// How many layers see how much.
#[derive(Debug, Serialize)]
pub struct Window {
    pub layers: usize,
    /// `None` sees what the session's cache keeps.
    pub window: Option<usize>,
    pub rope: usize,
}

/// The tokenizer.
#[derive(Debug, Serialize)]
pub struct Vocabulary {
    pub family: &'static str,
    pub tokens: usize,
    /// Whether it is the embedding's; `None` where the embedding is not known.
    pub fits: Option<bool>,
    pub begins_with: Option<String>,
    pub ends_with: Vec<String>,
}

/// A chat template.
#[derive(Debug, Serialize)]
pub struct Template {
    pub name: String,
    pub bytes: usize,
    /// Why it does not compile.
    pub error: Option<String>,
}

/// The tensors of one type.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct TensorType {
    #[serde(rename = "type")]
    pub kind: String,
    pub tensors: usize,
    /// `None` where the size of the type is not known.
    pub bytes: Option<u64>,
}

/// One tensor.
#[derive(Debug, Serialize)]
pub struct Tensor {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub shape: Vec<usize>,
    pub bytes: Option<u64>,
}

/// The memory that a server takes with every session in use.
#[derive(Debug, Serialize)]
pub struct Memory {
    pub sink: u32,
    pub window: String,
    pub kv: String,
    pub capacity: usize,
    pub weight_bytes: Option<u64>,
    pub slab_bytes: u64,
    pub pool_bytes: u64,
    pub total_bytes: Option<u64>,
    pub machine_bytes: u64,
}

impl Report {
    /// Sorts what was found. The list of tensors is left out unless it is asked for.
    ///
    /// # Errors
    /// When the memory of this machine is unknown.
    pub fn of(found: &Inspection, sessions: Sessions, list: bool) -> anyhow::Result<Self> {
        let tensors = found.source.tensors();
        let config = found.config.as_ref();
        // Every line would begin with it.
        let prefix = format!("{}: ", found.source.path().display());
        let problems = found.problems.iter();
        Ok(Self {
            path: found.source.path().display().to_string(),
            format: format(&found.source),
            file_bytes: found.source.size(),
            architecture: found.architecture.clone(),
            config: config.map(|config| Config::of(config, found.tied())),
            tokenizer: found
                .tokenizer
                .as_ref()
                .map(|tokenizer| Vocabulary::of(tokenizer, config)),
            chat_templates: templates(found),
            tensor_count: tensors.len(),
            tensor_types: types(&tensors),
            tensors: list.then(|| tensors.into_iter().map(Tensor::from).collect()),
            metadata: metadata(&found.source),
            runnable: found.problems.is_empty(),
            problems: problems.map(|line| line.replace(&prefix, "")).collect(),
            memory: config
                .map(|config| Memory::of(config, found.weight_bytes, sessions))
                .transpose()?,
        })
    }
}

fn format(source: &Source) -> String {
    match source {
        Source::Gguf(file) => format!("GGUF version {}", file.version()),
        Source::Snapshot(snapshot) => match snapshot.shards() {
            1 => "safetensors, 1 file".to_owned(),
            count => format!("safetensors, {count} files"),
        },
    }
}

fn metadata(source: &Source) -> BTreeMap<String, String> {
    const LONGEST: usize = 60;
    match source {
        Source::Gguf(file) => file
            .metadata()
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
        Source::Snapshot(snapshot) => {
            let fields = snapshot.config().iter();
            let shown = fields.map(|(key, value)| {
                let mut text = value.to_string();
                if let Some((cut, _)) = text.char_indices().nth(LONGEST) {
                    text.truncate(cut);
                    text.push('…');
                }
                (key.clone(), text)
            });
            shown.collect()
        }
    }
}

fn templates(found: &Inspection) -> Vec<Template> {
    let all = found
        .tokenizer
        .as_ref()
        .map_or(&[][..], Tokenizer::chat_templates);
    let error = |name: &str| {
        let bad = found.bad_templates.iter().find(|(bad, _)| bad == name);
        bad.map(|(_, error)| error.clone())
    };
    all.iter()
        .map(|template| Template {
            name: template.name.clone(),
            bytes: template.text.len(),
            error: error(&template.name),
        })
        .collect()
}

/// Tensors and bytes of each type, the largest first.
pub fn types(tensors: &[TensorEntry<'_>]) -> Vec<TensorType> {
    let mut kinds: BTreeMap<&str, (usize, Option<u64>)> = BTreeMap::new();
    for tensor in tensors {
        let (count, bytes) = kinds.entry(&tensor.kind).or_insert((0, Some(0)));
        *count += 1;
        *bytes = bytes
            .zip(tensor.bytes)
            .and_then(|(sum, bytes)| sum.checked_add(bytes));
    }
    let mut types: Vec<_> = kinds
        .into_iter()
        .map(|(kind, (tensors, bytes))| TensorType {
            kind: kind.to_owned(),
            tensors,
            bytes,
        })
        .collect();
    types.sort_by_key(|kind| std::cmp::Reverse(kind.bytes));
    types
}

impl From<TensorEntry<'_>> for Tensor {
    fn from(tensor: TensorEntry<'_>) -> Self {
        Self {
            name: tensor.name.to_owned(),
            kind: tensor.kind,
            shape: tensor.shape.to_vec(),
            bytes: tensor.bytes,
        }
    }
}

impl Config {
    fn of(config: &ModelConfig, tied: Option<bool>) -> Self {
        let mut windows: Vec<Window> = Vec::new();
        for kind in &config.kinds {
            let same = |known: &&mut Window| (known.window, known.rope) == (kind.window, kind.rope);
            match windows.iter_mut().find(same) {
                Some(known) => known.layers += 1,
                None => windows.push(Window {
                    layers: 1,
                    window: kind.window,
                    rope: kind.rope,
                }),
            }
        }
        Self {
            layers: config.layers,
            hidden: config.hidden,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            feed_forward: config.feed_forward,
            vocabulary: config.vocabulary,
            context: config.context,
            activation: match config.activation {
                Activation::Silu => "silu",
                Activation::Gelu => "gelu",
            },
            ropes: config.ropes.iter().map(Rope::of).collect(),
            windows,
            tied_embedding: tied,
        }
    }
}

impl Rope {
    fn of(rope: &RopeConfig) -> Self {
        let scaling = match &rope.scaling {
            RopeScaling::None => "none".to_owned(),
            RopeScaling::Linear { factor } => format!("linear, factor {factor}"),
            RopeScaling::Llama3 {
                factor, original, ..
            } => {
                format!("llama3, factor {factor} over {original} positions")
            }
            RopeScaling::Yarn {
                factor, original, ..
            } => {
                format!("yarn, factor {factor} over {original} positions")
            }
            RopeScaling::Factors(factors) => format!("{} factors of their own", factors.len()),
        };
        Self {
            base: rope.base,
            scaling,
        }
    }
}

impl Vocabulary {
    fn of(tokenizer: &Tokenizer, config: Option<&ModelConfig>) -> Self {
        let text = |id: u32| tokenizer.token_text(id).unwrap_or_default().to_owned();
        let begin = tokenizer.bos_token_id().filter(|_| tokenizer.adds_bos());
        Self {
            family: tokenizer.family(),
            tokens: tokenizer.vocab_size(),
            fits: config.map(|config| tokenizer.check_vocabulary(config.vocabulary).is_ok()),
            begins_with: begin.map(text),
            ends_with: tokenizer.end_of_generation().map(text).collect(),
        }
    }
}

impl Memory {
    fn of(
        config: &ModelConfig,
        weights: Option<usize>,
        sessions: Sessions,
    ) -> anyhow::Result<Self> {
        let Sessions {
            cache,
            kv,
            capacity,
        } = sessions;
        let layout = KvLayout::new(config, &cache, MAX_CHUNK);
        let slab_bytes = layout.slab_shape(kv).bytes()? as u64;
        let need = |model_bytes| MemoryNeed {
            capacity,
            slab_bytes,
            model_bytes,
            scratch_bytes: 0,
            prefix_bytes: 0,
            on_device: false,
        };
        let weight_bytes = weights.map(|bytes| bytes as u64);
        Ok(Self {
            sink: cache.sink,
            window: cache.window.to_string(),
            kv: kv.to_string(),
            capacity,
            weight_bytes,
            slab_bytes,
            pool_bytes: need(0).bytes(),
            total_bytes: weight_bytes.map(|bytes| need(bytes).bytes()),
            machine_bytes: memory::machine_bytes()?,
        })
    }
}
