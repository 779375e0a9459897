//! From a name or a file to a model in memory.
//!
//! Hashing the file, packing its weights and making the tokenizer begin at once: one after the other they take half as
//! long again. Nothing is handed out before the hash has been compared.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use anyhow::Context;
use kakeya_model::catalogue::{
    CacheSettings, Catalogue, ResolveError, ResolvedModel, Resolver, TerminalProgress,
};
use kakeya_model::tokenizer::Tokenizer;
use kakeya_model::{LoadOptions, Model, Source};

use super::Failure;
use super::options::{EngineOptions, ModelSource};

/// Finds the model, fetching it where it is missing, and loads it.
///
/// # Errors
/// A name that the catalogue does not have is a usage error; everything else says which file and why.
pub fn load(options: &EngineOptions) -> Result<Arc<Model>, Failure> {
    load_and(options, |_, _| Ok(())).map(|(model, ())| model)
}

/// As [`load`], with the tokenizer that the model's own file describes.
///
/// # Errors
/// As [`load`], or when the file has no tokenizer that can be used.
pub fn load_with_tokenizer(options: &EngineOptions) -> Result<(Arc<Model>, Tokenizer), Failure> {
    let (model, tokenizer) = load_and(options, |file, _| usable_tokenizer(file))?;
    check_vocabulary(&model, &tokenizer)?;
    Ok((model, tokenizer))
}

/// A model to serve.
pub struct Servable {
    /// The model.
    pub model: Arc<Model>,
    /// SHA-256 of the weights, in hex.
    pub sha256: String,
    /// Where texts are served.
    pub tokenizer: Option<Tokenizer>,
}

/// As [`load`], with what serving it takes.
///
/// # Errors
/// As [`load_with_tokenizer`].
pub fn load_to_serve(options: &EngineOptions, with_texts: bool) -> Result<Servable, Failure> {
    let (model, (tokenizer, sha256)) = load_and(options, |file, known| {
        let tokenizer = with_texts.then(|| usable_tokenizer(file)).transpose()?;
        Ok((tokenizer, known.unwrap_or_else(|| file.sha256())))
    })?;
    if let Some(tokenizer) = &tokenizer {
        check_vocabulary(&model, tokenizer)?;
    }
    Ok(Servable {
        model,
        sha256,
        tokenizer,
    })
}

/// What a model is called: by the catalogue, or by its file or folder.
pub fn name(options: &EngineOptions, model: &Model) -> String {
    match &options.source {
        ModelSource::Named(Some(name)) => name.clone(),
        ModelSource::Named(None) => Catalogue::embedded().default_name().to_owned(),
        ModelSource::File(_) => {
            let path = model.source().path();
            let name = if path.is_dir() {
                path.file_name()
            } else {
                path.file_stem()
            };
            name.map_or_else(
                || path.display().to_string(),
                |name| name.to_string_lossy().into_owned(),
            )
        }
    }
}

fn usable_tokenizer(file: &Source) -> anyhow::Result<Tokenizer> {
    Tokenizer::of(file).context("the model's tokenizer cannot be used")
}

fn check_vocabulary(model: &Model, tokenizer: &Tokenizer) -> anyhow::Result<()> {
    tokenizer
        .check_vocabulary(model.config().vocabulary)
        .with_context(|| {
            let path = model.source().path();
            format!("the tokenizer of {} cannot be used", path.display())
        })
}

/// Where a catalogued model lies, or the default one. Nothing is fetched, and nothing is hashed.
///
/// # Errors
/// A name that the catalogue does not have is a usage error; a model that is not in the cache says how to fetch it.
pub fn locate(name: Option<&str>) -> Result<PathBuf, Failure> {
    let resolver = Resolver::new(Catalogue::embedded(), CacheSettings::from_env()?);
    let name = name.unwrap_or_else(|| resolver.catalogue().default_name());
    match resolver.locate(name) {
        Ok(model) => Ok(model.path),
        Err(error @ ResolveError::UnknownModel { .. }) => {
            Err(Failure::usage(format!("--model: {error}")))
        }
        Err(error) => Err(error.into()),
    }
}

/// Loads the model and makes something of its files meanwhile. `also` is told their hash, where the catalogue knows it.
fn load_and<T: Send>(
    options: &EngineOptions,
    also: impl FnOnce(&Source, Option<String>) -> anyhow::Result<T> + Send,
) -> Result<(Arc<Model>, T), Failure> {
    let load = options.load;
    match &options.source {
        ModelSource::File(path) => Ok(read(path, load, |file| also(file, None))?),
        ModelSource::Named(name) => {
            let resolver = Resolver::new(Catalogue::embedded(), CacheSettings::from_env()?);
            let name = name
                .as_deref()
                .unwrap_or_else(|| resolver.catalogue().default_name());
            match resolver.locate(name) {
                Ok(model) => {
                    let known = known_hash(&model);
                    verified(&resolver, &model, load, |file| also(file, known))
                }
                Err(ResolveError::NotCached { .. }) => {
                    let model = resolver.prewarm(name, &mut TerminalProgress::stderr())?;
                    let known = known_hash(&model);
                    Ok(read(&model.path, load, |file| also(file, known))?)
                }
                Err(error @ ResolveError::UnknownModel { .. }) => {
                    Err(Failure::usage(format!("--model: {error}")))
                }
                Err(error) => Err(error.into()),
            }
        }
    }
}

/// The hash of a single file, which has been compared, or will be before anything is handed out. That of a folder says
/// what the catalogue has, and not what was loaded.
fn known_hash(model: &ResolvedModel) -> Option<String> {
    (model.files.len() == 1).then(|| model.sha256.clone())
}

/// Loads the model while its files are hashed. That they are the wrong ones is told before what loading them led to.
fn verified<T: Send>(
    resolver: &Resolver,
    model: &ResolvedModel,
    load: LoadOptions,
    also: impl FnOnce(&Source) -> anyhow::Result<T> + Send,
) -> Result<(Arc<Model>, T), Failure> {
    let (verified, read) = thread::scope(|scope| {
        let verify = scope.spawn(|| resolver.verify(model));
        let read = read(&model.path, load, also);
        (join(verify), read)
    });
    verified?;
    Ok(read?)
}

fn read<T: Send>(
    path: &Path,
    load: LoadOptions,
    also: impl FnOnce(&Source) -> anyhow::Result<T> + Send,
) -> anyhow::Result<(Arc<Model>, T)> {
    let unloadable = "the model cannot be loaded";
    let source = Source::open(path).context(unloadable)?;
    let (model, made) = thread::scope(|scope| {
        let made = scope.spawn(|| also(&source));
        let model = Model::from_source(source.clone(), load).context(unloadable);
        (model, join(made))
    });
    Ok((Arc::new(model?), made?))
}

/// What a thread returned. A panic goes on in this one.
fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
