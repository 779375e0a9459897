//! What a model's files are, and every reason why this build would not run them, without reading a weight.
//!
//! Loading stops at the first thing that is wrong, and reads everything before it. Whoever has a file in hand wants
//! to know at once, and all of it. What is checked is what loading checks, but for the values of the weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::architectures::{Architecture, Part};
use crate::chat::{ChatTemplate, TemplateText};
use crate::config::ModelConfig;
use crate::model::{LoadOptions, VECTOR_TYPES, is_derived, no_such_tensor};
use crate::panels::PanelKind;
use crate::source::{Snapshot, Source, SourceError};
use crate::tokenizer::Tokenizer;

/// What was found in a model's files.
#[derive(Debug)]
pub struct Inspection {
    /// The files. Where a snapshot's shards are not what they should be, those before the first wrong one.
    pub source: Source,
    /// What the files call their architecture, known here or not.
    pub architecture: Option<String>,
    /// The configuration, where it can be read.
    pub config: Option<ModelConfig>,
    /// The tokenizer, where it can be used.
    pub tokenizer: Option<Tokenizer>,
    /// Why each chat template that cannot be used cannot: its name and the reason. It stands in the way of chats, and
    /// of nothing else.
    pub bad_templates: Vec<(String, String)>,
    /// Why the model cannot be run, each a sentence; empty where it can.
    pub problems: Vec<String>,
    /// Bytes that the weights take once loaded, where they can be.
    pub weight_bytes: Option<usize>,
}

impl Inspection {
    /// Looks at a GGUF file, or at a folder with config.json and safetensors, that would be loaded with `options`.
    ///
    /// # Errors
    /// When there is nothing to look at: the file is no GGUF file or its header is damaged, or the folder has no
    /// config.json. What is found is in [`Inspection::problems`].
    pub fn of(path: &Path, options: LoadOptions) -> Result<Self, SourceError> {
        let mut problems = Vec::new();
        let source = if path.is_dir() {
            let (snapshot, error) = Snapshot::open_partly(path)?;
            problems.extend(error.map(|error| error.to_string()));
            Source::Snapshot(Arc::new(snapshot))
        } else {
            Source::open(path)?
        };
        let shards_are_whole = problems.is_empty();
        let mut config = None;
        let mut weight_bytes = None;
        match Architecture::of(&source) {
            Err(error) => problems.push(error.to_string()),
            Ok(architecture) => match architecture.config(&source) {
                Err(error) => problems.push(error.to_string()),
                Ok(read) => {
                    // What a shard that was not read lacks says nothing.
                    if shards_are_whole {
                        let mut tensors = Tensors {
                            source: &source,
                            architecture,
                            config: &read,
                            options,
                            used: BTreeSet::new(),
                            bytes: 0,
                            problems: Vec::new(),
                        };
                        tensors.check();
                        weight_bytes = tensors.problems.is_empty().then_some(tensors.bytes);
                        problems.append(&mut tensors.problems);
                    }
                    config = Some(read);
                }
            },
        }
        if config.is_none() {
            problems.extend(unknown_types(&source));
        }
        let tokenizer = match Tokenizer::of(&source) {
            Err(error) => {
                problems.push(format!("the tokenizer cannot be used: {error}"));
                None
            }
            Ok(tokenizer) => {
                let checked = config.as_ref().map_or(Ok(()), |config| {
                    tokenizer.check_vocabulary(config.vocabulary)
                });
                problems.extend(checked.err().map(|error| error.to_string()));
                Some(tokenizer)
            }
        };
        let templates = tokenizer
            .as_ref()
            .map_or(&[][..], Tokenizer::chat_templates);
        Ok(Self {
            architecture: Architecture::name(&source).ok(),
            bad_templates: templates.iter().filter_map(bad).collect(),
            source,
            config,
            tokenizer,
            problems,
            weight_bytes,
        })
    }

    /// Whether the embedding makes the logits as well; `None` where that cannot be told.
    #[must_use]
    pub fn tied(&self) -> Option<bool> {
        let architecture = Architecture::of(&self.source).ok()?;
        Some(!Part::Output.is_in(architecture, &self.source, 0))
    }
}

/// A template that does not compile, and why.
fn bad(template: &TemplateText) -> Option<(String, String)> {
    let error = ChatTemplate::compile(template).err()?;
    Some((template.name.clone(), error.to_string()))
}

/// Types that this build does not run, where nothing is known of what the tensors are for.
fn unknown_types(source: &Source) -> Vec<String> {
    let known = PanelKind::ALL.map(|kind| format!("{:?}", kind.dtype()));
    let mut unknown: BTreeMap<String, usize> = BTreeMap::new();
    for tensor in source.tensors() {
        // candle's Q4K is GGUF's Q4_K.
        let name = tensor.kind.replace("_K", "K");
        if !known.contains(&name) {
            *unknown.entry(tensor.kind).or_default() += 1;
        }
    }
    let expected = PanelKind::expected();
    unknown
        .into_iter()
        .map(|(kind, count)| {
            let path = source.path().display();
            format!("{path}: {count} tensors have type {kind}, expected {expected}")
        })
        .collect()
}

/// Goes through the tensors as loading does.
struct Tensors<'a> {
    source: &'a Source,
    architecture: &'static Architecture,
    config: &'a ModelConfig,
    options: LoadOptions,
    used: BTreeSet<String>,
    bytes: usize,
    problems: Vec<String>,
}

impl Tensors<'_> {
    fn check(&mut self) {
        for part in Part::ONCE {
            self.part(part, 0);
        }
        for layer in 0..self.config.layers {
            for part in Part::IN_LAYER {
                self.part(part, layer);
            }
        }
        for name in self.source.tensor_names() {
            if !self.used.contains(name) && !is_derived(name) {
                let expected = no_such_tensor(self.architecture);
                let error = self.source.wrong_tensor(name, "is present", expected);
                self.problems.push(error.to_string());
            }
        }
    }

    fn part(&mut self, part: Part, layer: usize) {
        let wanted = part
            .belongs_to(self.architecture)
            .unwrap_or_else(|| part.is_in(self.architecture, self.source, layer));
        if !wanted {
            return;
        }
        let name = part.name(self.architecture, self.source, layer);
        match self.size(part, &name) {
            Ok(bytes) => self.bytes += bytes,
            Err(error) => self.problems.push(error.to_string()),
        }
        self.used.insert(name);
    }

    /// Bytes of a tensor as it is packed; vectors are not counted.
    fn size(&self, part: Part, name: &str) -> Result<usize, SourceError> {
        let (rows, columns) = part.shape(self.config);
        let tensor = self.source.tensor(name, rows, columns)?;
        let found = format!("has type {:?}", tensor.dtype);
        if part.is_matrix() {
            let dtype = self
                .options
                .quantized(part, &tensor)
                .unwrap_or(tensor.dtype);
            match PanelKind::of(dtype) {
                Some(kind) => Ok(kind.packed_bytes(rows, columns)),
                None => Err(self.source.wrong_tensor(name, found, PanelKind::expected())),
            }
        } else if tensor.is_float() {
            Ok(0)
        } else {
            Err(self.source.wrong_tensor(name, found, VECTOR_TYPES))
        }
    }
}
