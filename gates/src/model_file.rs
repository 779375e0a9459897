//! The weights a suite runs: found or fetched by name, and checked when they are loaded.

use std::fs;
use std::io;
use std::path::PathBuf;

use kakeya_model::catalogue::{
    CacheSettings, Catalogue, Progress, ResolveError, ResolvedModel, Resolver,
};
use kakeya_model::{Model, ModelError, Source};
use kakeya_suite::{ModelFile, Workspace};
use thiserror::Error;

/// Why a suite has no model.
#[derive(Debug, Error)]
pub enum ModelFileError {
    /// The checkout's model lock could not be read.
    #[error("cannot read the model lock {}", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The model could not be found, fetched or trusted.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The file does not load.
    #[error(transparent)]
    Load(#[from] ModelError),
    /// The file that was loaded is not the one that the catalogue names.
    #[error(
        "{} was loaded with sha256 {found}, and the catalogue promises {expected} for {name}",
        path.display()
    )]
    WrongBytes {
        /// The model's name.
        name: String,
        /// The file.
        path: PathBuf,
        /// The digest of what was loaded.
        found: String,
        /// The digest that was promised.
        expected: String,
    },
}

/// Loads the weights, and hashes the very mapping they were loaded from.
///
/// # Errors
/// When the file does not load, or its digest is not the promised one.
pub fn load_model(file: &ModelFile) -> Result<Model, ModelFileError> {
    let model = Model::load(&file.path)?;
    let found = digest(&file.name, &model)?;
    if found == file.sha256 {
        return Ok(model);
    }
    Err(ModelFileError::WrongBytes {
        name: file.name.clone(),
        path: file.path.clone(),
        found,
        expected: file.sha256.clone(),
    })
}

/// The digest of what was loaded. For a snapshot it is that of its files, as the catalogue makes it.
fn digest(name: &str, model: &Model) -> Result<String, ModelFileError> {
    match model.source() {
        Source::Gguf(file) => Ok(file.sha256()),
        Source::Snapshot(_) => {
            let resolver = Resolver::new(Catalogue::embedded(), CacheSettings::from_env()?);
            let located = resolver.locate(name)?;
            resolver.verify(&located)?;
            Ok(located.sha256)
        }
    }
}

/// A model that was resolved, as a suite is given it.
pub fn model_file(model: &ResolvedModel) -> ModelFile {
    ModelFile {
        name: model.name.clone(),
        path: model.path.clone(),
        sha256: model.sha256.clone(),
    }
}

/// A resolver over the checkout's own model lock and this machine's cache.
///
/// # Errors
/// When the lock cannot be read, or the machine has no place for a cache.
pub fn resolver(workspace: &Workspace) -> Result<Resolver, ModelFileError> {
    let path = workspace.models();
    let text = fs::read_to_string(&path).map_err(|source| ModelFileError::Lock { path, source })?;
    let catalogue = Catalogue::parse(&text)?;
    Ok(Resolver::new(catalogue, CacheSettings::from_env()?))
}

/// The checkout's default model, verified, and fetched first where it is missing.
///
/// # Errors
/// When it cannot be had, or is corrupt.
pub fn default_model(
    workspace: &Workspace,
    progress: &mut dyn Progress,
) -> Result<ModelFile, ModelFileError> {
    let resolver = resolver(workspace)?;
    let name = resolver.catalogue().default_name().to_owned();
    let model = resolver.ensure(&name, progress)?;
    Ok(model_file(&model))
}
