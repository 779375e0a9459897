//! The harness of this repository: its suites, its model, and what its process counts.
//!
//! The gate starts this program again for each suite, so `main` does nothing but hand over.

mod model;
mod starter;

use std::process::ExitCode;

use harness::Subject;
use harness::error::HarnessError;
use harness::evidence::Backend;
use harness::locked::LockedFiles;
use harness::subject::{Built, Models, Settings};
use harness::suite::{Measurement, Measurements, ModelFile, Suite, Workspace};

/// What a case gets to work with. Put here what your cases need.
pub struct Context {
    /// The weights that the platform names, found and checked.
    pub model: ModelFile,
    /// Figures for the evidence.
    pub measurements: Measurements,
}

struct Gates;

impl Subject for Gates {
    type Context = Context;

    fn suites(&self) -> Vec<Suite<Context>> {
        vec![starter::suite()]
    }

    fn models(&self, workspace: &Workspace) -> Result<Box<dyn Models>, HarnessError> {
        let folder = workspace.root().join("gates/models");
        Ok(Box::new(LockedFiles::open(workspace, folder)?))
    }

    fn context(&self, settings: Settings) -> Result<Context, HarnessError> {
        Ok(Context {
            model: settings.model,
            measurements: Measurements::default(),
        })
    }

    fn measurements(&self, context: &Context) -> Vec<Measurement> {
        context.measurements.all()
    }

    fn forward_passes(&self) -> u64 {
        model::passes()
    }

    fn backend(&self, _: &Context) -> Option<Backend> {
        // What did compute, as observed: this engine has one way to.
        (model::passes() > 0).then(|| Backend {
            device: "cpu".to_owned(),
            isa: "scalar".to_owned(),
            threads: 1,
            numerics_version: 1,
        })
    }

    fn built(&self) -> Built {
        Built {
            commit: Some(env!("GATES_COMMIT").to_owned()).filter(|commit| !commit.is_empty()),
            opt_level: env!("GATES_OPT_LEVEL").to_owned(),
            debug_assertions: cfg!(debug_assertions),
        }
    }
}

fn main() -> ExitCode {
    harness::main(&Gates)
}
