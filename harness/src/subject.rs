//! What a gate is about: suites, the models they run, and what their process counts.
//!
//! The harness is the same for every engine. Kakeya's own is in [`crate::kakeya`], behind the feature `engine`; another
//! repository implements [`Subject`] for its own, and gives it to [`crate::main`].

use std::path::{Path, PathBuf};

use kakeya_evidence::Backend;
use kakeya_suite::{Measurement, ModelFile, Suite, Tier, Workspace};

use crate::error::HarnessError;

/// What is put to the test.
pub trait Subject {
    /// What a case gets to work with.
    type Context: 'static;

    /// Every suite, in the order a gate runs them. Loads no model.
    fn suites(&self) -> Vec<Suite<Self::Context>>;

    /// Where the models that `gates/models.toml` of the checkout names lie.
    ///
    /// # Errors
    /// When the lock cannot be read, or this machine has no place for models.
    fn models(&self, workspace: &Workspace) -> Result<Box<dyn Models>, HarnessError>;

    /// A context for the cases of one suite, in the process that runs it.
    ///
    /// # Errors
    /// When the environment asks for what is not there.
    fn context(&self, settings: Settings) -> Result<Self::Context, HarnessError>;

    /// The figures that cases recorded in a context.
    fn measurements(&self, context: &Self::Context) -> Vec<Measurement>;

    /// How many forward passes this process has made so far.
    fn forward_passes(&self) -> u64;

    /// What computed most of the passes so far, as observed; none while there are none.
    fn backend(&self, context: &Self::Context) -> Option<Backend>;

    /// How the program was built.
    fn built(&self) -> Built;
}

/// What the process of one suite is told to run with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The platform's first model, resolved and checked.
    pub model: ModelFile,
    /// Processors.
    pub threads: usize,
    /// How much of the suite runs.
    pub tier: Tier,
    /// What the platform computes with: the subject is to use that, or fail.
    pub backend: String,
    /// The checkout.
    pub workspace: Workspace,
}

/// How a program was built, stamped into it by a build script: nothing at run time can find it out again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The commit of the repository that it is the program of.
    pub commit: Option<String>,
    /// The optimisation level of the code that computes, as cargo calls it.
    pub opt_level: String,
    /// Whether debug assertions are in.
    pub debug_assertions: bool,
}

/// The models of a lock, on this machine.
pub trait Models {
    /// The folder they are kept in. A file elsewhere is told in evidence.
    fn cache(&self) -> &Path;

    /// Whether nothing may be fetched.
    fn is_offline(&self) -> bool;

    /// The name of the model that is meant when none is named.
    fn default_name(&self) -> Option<String>;

    /// The model, where it is there.
    ///
    /// # Errors
    /// Why it is not, and what to do about it.
    fn locate(&self, name: &str) -> Result<FoundModel, HarnessError>;

    /// The model, checked against the lock, and fetched first where it is missing.
    ///
    /// # Errors
    /// When it cannot be had, or is corrupt.
    fn ensure(&self, name: &str) -> Result<FoundModel, HarnessError>;

    /// As [`Models::ensure`], and what is corrupt is fetched anew.
    ///
    /// # Errors
    /// When it cannot be had.
    fn prewarm(&self, name: &str) -> Result<FoundModel, HarnessError>;
}

/// A model on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundModel {
    /// What a suite is given: the name, the file or folder to load, and the digest that it must have.
    pub file: ModelFile,
    /// Its size in bytes.
    pub size: u64,
    /// Whether it was fetched just now.
    pub fetched: bool,
    /// Its files: the name in the lock, and the path.
    pub files: Vec<(String, PathBuf)>,
}
