//! From a name or a file to a model in memory.

use std::sync::Arc;

use anyhow::Context;
use kakeya_model::Model;
use kakeya_model::catalogue::{CacheSettings, Catalogue, ResolveError, Resolver, TerminalProgress};
use kakeya_model::tokenizer::Tokenizer;

use super::Failure;
use super::options::ModelSource;

/// Finds the model, fetching it where it is missing, and loads it.
///
/// # Errors
/// A name that the catalogue does not have is a usage error; everything else says which file and why.
pub fn load(source: &ModelSource) -> Result<Arc<Model>, Failure> {
    let path = match source {
        ModelSource::File(path) => path.clone(),
        ModelSource::Named(name) => {
            let resolver = Resolver::new(Catalogue::embedded(), CacheSettings::from_env()?);
            let name = name
                .as_deref()
                .unwrap_or_else(|| resolver.catalogue().default_name());
            match resolver.ensure(name, &mut TerminalProgress::stderr()) {
                Ok(model) => model.path,
                Err(error @ ResolveError::UnknownModel { .. }) => {
                    return Err(Failure::usage(format!("--model: {error}")));
                }
                Err(error) => return Err(error.into()),
            }
        }
    };
    Ok(Arc::new(
        Model::load(&path).context("the model cannot be loaded")?,
    ))
}

/// The tokenizer that the model's own file describes.
///
/// # Errors
/// When the file has none that can be used.
pub fn tokenizer(model: &Model) -> anyhow::Result<Tokenizer> {
    Tokenizer::from_gguf(model.file()).context("the model's tokenizer cannot be used")
}
