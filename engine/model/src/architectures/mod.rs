//! The architectures that can be run: what each calls its tensors, and how its configuration is read.
//!
//! A model is described by its [`ModelConfig`] and by which of the [`Part`]s it has. The forward pass knows no names of
//! architectures: it does what the configuration says, with the weights that are there. So an architecture made of
//! known parts is one file and one row of [`ALL`] (`docs/adding-a-model.md`).

mod fields;
mod gemma3;
mod llama;
mod parts;
mod qwen3;
mod rope;

use crate::config::ModelConfig;
use crate::source::{Source, SourceError};
use fields::Fields;
pub(crate) use parts::Part;

/// The architectures, each with the names by which files call it.
pub(crate) const ALL: [&Architecture; 4] =
    [&llama::LLAMA, &qwen3::QWEN2, &qwen3::QWEN3, &gemma3::GEMMA3];

/// What sets an architecture apart.
pub(crate) struct Architecture {
    /// `general.architecture` of a GGUF file.
    pub(crate) gguf: &'static str,
    /// `architectures` of a config.json.
    pub(crate) classes: &'static [&'static str],
    /// Whether GGUF's converter has put the two dimensions that turn together side by side. In safetensors they are
    /// half a head apart.
    pub(crate) gguf_pairs_adjacent: bool,
    /// Whether queries and keys are normalised, head by head, before they are rotated.
    pub(crate) query_key_norm: bool,
    /// Whether the results of attention and feed-forward layer are normalised before they are added.
    pub(crate) post_norms: bool,
    /// What is added to the norms' weights in safetensors; GGUF's converter has added it already.
    pub(crate) norm_offset: f32,
    /// What the configuration says beyond what all have in common.
    refine: fn(&Fields<'_>, &mut ModelConfig) -> Result<(), SourceError>,
}

impl Architecture {
    /// The architecture of a file.
    ///
    /// # Errors
    /// When it is none that this build runs.
    pub(crate) fn of(source: &Source) -> Result<&'static Self, SourceError> {
        let fields = Fields::of(source, "");
        let name = Self::name(source)?;
        ALL.into_iter()
            .find(|known| known.gguf == name || known.classes.contains(&name.as_str()))
            .ok_or_else(|| {
                let known: Vec<_> = match source {
                    Source::Gguf(_) => ALL.iter().map(|known| known.gguf).collect(),
                    Source::Snapshot(_) => ALL
                        .iter()
                        .flat_map(|known| known.classes)
                        .copied()
                        .collect(),
                };
                fields.unusable(
                    fields.architecture_key(),
                    format!("\"{name}\""),
                    format!(
                        "one of the architectures this build runs: {}",
                        known.join(", ")
                    ),
                )
            })
    }

    /// What a file calls its architecture, whether or not it is known here.
    ///
    /// # Errors
    /// When it does not say.
    pub(crate) fn name(source: &Source) -> Result<String, SourceError> {
        Fields::of(source, "").architecture()
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// When a field is missing or has a value that cannot be run.
    pub(crate) fn config(&self, source: &Source) -> Result<ModelConfig, SourceError> {
        let fields = Fields::of(source, self.gguf);
        let mut config = fields.common(self.gguf)?;
        (self.refine)(&fields, &mut config)?;
        Ok(config)
    }
}

impl ModelConfig {
    /// Reads a file's configuration, whatever its architecture.
    ///
    /// # Errors
    /// When the architecture is none that this build runs, or a field is missing or has a value that cannot be run.
    pub fn of(source: &Source) -> Result<Self, SourceError> {
        Architecture::of(source)?.config(source)
    }
}
