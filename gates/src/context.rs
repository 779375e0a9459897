//! What a case gets to work with: the model, the goldens, a scratch directory, and a place for figures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use kakeya_model::catalogue::TerminalProgress;
use kakeya_model::{Isa, Model};
use kakeya_suite::{
    CaseFailure, CaseResult, Measurement, Measurements, ModelFile, Tier, Workspace,
};
use tempfile::TempDir;
use thiserror::Error;

use crate::model_file::{load_model, model_file, resolver};

/// What a suite process is told to run with.
#[derive(Debug, Clone)]
pub struct SuiteSettings {
    /// The weights, resolved and checked.
    pub model: ModelFile,
    /// Threads of the engine, unless a case is about another number.
    pub threads: usize,
    /// The instruction set of the engine, unless a case is about another one.
    pub isa: Isa,
    /// How much of the suite runs.
    pub tier: Tier,
    /// The committed reference outputs.
    pub goldens: PathBuf,
}

/// A resource that the context could not get.
#[derive(Debug, Error)]
pub enum ContextError {
    /// The weights would not load. Told once and repeated to every case that asks.
    #[error("the model does not load: {0}")]
    Model(String),
    /// No scratch directory.
    #[error("cannot create a scratch directory")]
    Scratch(#[from] std::io::Error),
}

/// Shared by the cases of one suite process. The model is loaded by the first case that asks for it.
#[derive(Debug)]
pub struct SuiteContext {
    settings: SuiteSettings,
    model: Loaded,
    others: Arc<Mutex<BTreeMap<String, (ModelFile, Loaded)>>>,
    measurements: Arc<Measurements>,
    scratch: Arc<Mutex<Vec<TempDir>>>,
}

/// A model, or why it does not load. Nobody has asked for it yet when it is empty.
type Loaded = Arc<OnceLock<Result<Arc<Model>, String>>>;

impl SuiteContext {
    /// A context with nothing loaded.
    pub fn new(settings: SuiteSettings) -> Self {
        Self {
            settings,
            model: Arc::default(),
            others: Arc::default(),
            measurements: Arc::default(),
            scratch: Arc::default(),
        }
    }

    /// A context for another suite of the same process: the same loaded model, nothing else in common.
    #[must_use]
    pub fn for_another_suite(&self) -> Self {
        Self {
            settings: self.settings.clone(),
            model: Arc::clone(&self.model),
            others: Arc::clone(&self.others),
            measurements: Arc::default(),
            scratch: Arc::default(),
        }
    }

    /// The same context with another model of the catalogue, found or fetched by name and loaded once.
    ///
    /// # Errors
    /// When the model cannot be had, or is corrupt.
    pub fn with_model(&self, name: &str) -> Result<Self, CaseFailure> {
        if name == self.model_name() {
            return Ok(self.on(self.settings.model.clone(), Arc::clone(&self.model)));
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if !others.contains_key(name) {
            let workspace = Workspace::find(&self.settings.goldens)?;
            let model = resolver(&workspace)?.ensure(name, &mut TerminalProgress::stderr())?;
            others.insert(name.to_owned(), (model_file(&model), Loaded::default()));
        }
        let (model, loaded) = others[name].clone();
        Ok(self.on(model, loaded))
    }

    /// The same context with a model that is in no catalogue: a checkpoint of pseudo-random weights, made by the first
    /// case that asks for it. A failure is final, as with every model. `make` asks this context for no other model.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn with_made(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<Arc<Model>, CaseFailure>,
    ) -> Result<Self, CaseFailure> {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if !others.contains_key(name) {
            let made = make().map_err(|error| error.to_string());
            let file = ModelFile {
                name: name.to_owned(),
                path: made
                    .as_ref()
                    .map_or_else(|_| PathBuf::new(), |model| model.source().path().to_owned()),
                sha256: String::new(),
            };
            let loaded = Arc::new(OnceLock::from(made));
            others.insert(name.to_owned(), (file, loaded));
        }
        let (model, loaded) = others[name].clone();
        Ok(self.on(model, loaded))
    }

    fn on(&self, model: ModelFile, loaded: Loaded) -> Self {
        Self {
            settings: SuiteSettings {
                model,
                ..self.settings.clone()
            },
            model: loaded,
            others: Arc::clone(&self.others),
            measurements: Arc::clone(&self.measurements),
            scratch: Arc::clone(&self.scratch),
        }
    }

    /// The weights, read and hashed on first use. A failure to load is final: no case tries again.
    ///
    /// # Errors
    /// When the file is not the one the catalogue names, or does not load.
    pub fn model(&self) -> Result<&Arc<Model>, CaseFailure> {
        let loaded = self
            .model
            .get_or_init(|| match load_model(&self.settings.model) {
                Ok(model) => Ok(Arc::new(model)),
                Err(error) => Err(CaseFailure::from(error).to_string()),
            });
        match loaded {
            Ok(model) => Ok(model),
            Err(reason) => Err(ContextError::Model(reason.clone()).into()),
        }
    }

    /// The model's name in the catalogue.
    pub fn model_name(&self) -> &str {
        &self.settings.model.name
    }

    /// The weights' file.
    pub fn model_path(&self) -> &Path {
        &self.settings.model.path
    }

    /// The SHA-256 that the weights' file must have, in lower-case hex; empty for a made model.
    pub fn model_sha256(&self) -> &str {
        &self.settings.model.sha256
    }

    /// Threads to run the engine with.
    pub fn threads(&self) -> usize {
        self.settings.threads
    }

    /// The instruction set to run the engine with.
    pub fn isa(&self) -> Isa {
        self.settings.isa
    }

    /// How much of the suite runs.
    pub fn tier(&self) -> Tier {
        self.settings.tier
    }

    /// The committed reference outputs.
    pub fn goldens(&self) -> &Path {
        &self.settings.goldens
    }

    /// A fresh, empty directory that lives as long as the suite.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn scratch(&self) -> Result<PathBuf, CaseFailure> {
        let directory = tempfile::tempdir().map_err(ContextError::Scratch)?;
        let path = directory.path().to_path_buf();
        self.scratch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(directory);
        Ok(path)
    }

    /// Records a figure for the evidence.
    ///
    /// # Errors
    /// When the value is not finite, or the name is taken.
    pub fn measure(&self, name: &str, value: f64, unit: &str) -> CaseResult {
        Ok(self.measurements.record(name, value, unit)?)
    }

    /// The figures recorded so far.
    pub fn measurements(&self) -> Vec<Measurement> {
        self.measurements.all()
    }
}
