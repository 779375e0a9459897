//! Kakeya's own engine as the subject of a gate.

use std::path::Path;

use kakeya_evidence::Backend;
use kakeya_gates::{
    ModelFileError, SuiteContext, SuiteSettings, model_file, registry, resolver as resolver_of,
};
use kakeya_model::catalogue::{ResolveError, ResolvedModel, Resolver, TerminalProgress};
use kakeya_model::{Isa, forward_passes, forward_passes_on};
use kakeya_suite::{Measurement, Suite, Workspace};

use crate::build_facts;
use crate::error::HarnessError;
use crate::subject::{Built, FoundModel, Models, Settings, Subject};

/// The engine of this repository.
#[derive(Debug, Clone, Copy)]
pub struct Kakeya;

impl Subject for Kakeya {
    type Context = SuiteContext;

    fn suites(&self) -> Vec<Suite<SuiteContext>> {
        registry()
    }

    fn models(&self, workspace: &Workspace) -> Result<Box<dyn Models>, HarnessError> {
        Ok(Box::new(Catalogued(resolver_of(workspace)?)))
    }

    fn context(&self, settings: Settings) -> Result<SuiteContext, HarnessError> {
        Ok(SuiteContext::new(SuiteSettings {
            model: settings.model,
            threads: settings.threads,
            isa: match settings.backend.as_str() {
                "cuda" => Isa::Cuda.check().map(|()| Isa::Cuda),
                _ => Isa::from_env(),
            }
            .map_err(|error| HarnessError::Environment(error.to_string()))?,
            tier: settings.tier,
            goldens: settings.workspace.goldens(),
        }))
    }

    fn measurements(&self, context: &SuiteContext) -> Vec<Measurement> {
        context.measurements()
    }

    fn forward_passes(&self) -> u64 {
        forward_passes()
    }

    /// What ran, not what was asked for: the instruction set of most of the passes so far.
    fn backend(&self, context: &SuiteContext) -> Option<Backend> {
        let busiest = Isa::COUNTED
            .into_iter()
            .max_by_key(|isa| forward_passes_on(*isa))
            .filter(|isa| forward_passes_on(*isa) > 0);
        busiest.map(|isa| Backend {
            device: if isa.is_gpu() { "cuda" } else { "cpu" }.to_owned(),
            isa: isa.to_string(),
            threads: context.threads(),
            numerics_version: isa.numerics_version(),
        })
    }

    fn built(&self) -> Built {
        Built {
            commit: build_facts::commit(),
            opt_level: kakeya_model::OPT_LEVEL.to_owned(),
            debug_assertions: kakeya_model::DEBUG_ASSERTIONS,
        }
    }
}

/// The models of the catalogue.
struct Catalogued(Resolver);

impl Models for Catalogued {
    fn cache(&self) -> &Path {
        &self.0.settings().cache
    }

    fn is_offline(&self) -> bool {
        self.0.settings().offline
    }

    fn default_name(&self) -> Option<String> {
        Some(self.0.catalogue().default_name().to_owned())
    }

    fn locate(&self, name: &str) -> Result<FoundModel, HarnessError> {
        found(self.0.locate(name))
    }

    fn ensure(&self, name: &str) -> Result<FoundModel, HarnessError> {
        found(self.0.ensure(name, &mut TerminalProgress::stderr()))
    }

    fn prewarm(&self, name: &str) -> Result<FoundModel, HarnessError> {
        found(self.0.prewarm(name, &mut TerminalProgress::stderr()))
    }
}

fn found(resolved: Result<ResolvedModel, ResolveError>) -> Result<FoundModel, HarnessError> {
    let model = resolved.map_err(ModelFileError::from)?;
    Ok(FoundModel {
        file: model_file(&model),
        size: model.size,
        fetched: model.fetched,
        files: model
            .files
            .iter()
            .map(|file| (file.expected.name.clone(), file.path.clone()))
            .collect(),
    })
}

impl From<ModelFileError> for HarnessError {
    fn from(error: ModelFileError) -> Self {
        Self::Model(error.to_string())
    }
}
