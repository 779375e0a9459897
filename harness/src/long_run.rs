//! The long session of a gate, in a build that can serve a model; nothing in one that cannot.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use kakeya_evidence::Evidence;
use kakeya_report::Checkpoint;
use kakeya_suite::{ModelFile, Workspace};

use crate::cli::SoakArgs;
use crate::error::HarnessError;
use crate::progress::Progress;
#[cfg(feature = "engine")]
use crate::soak::Soak;

/// What the long session of a gate runs on, where one was asked for.
#[cfg_attr(
    not(feature = "engine"),
    allow(dead_code, reason = "a build that serves nothing has none")
)]
pub(crate) struct LongRun<'a> {
    pub program: &'a Path,
    pub model: &'a ModelFile,
    pub workspace: &'a Workspace,
    pub interrupted: &'a AtomicBool,
    pub progress: &'a Progress,
    /// Where checkpoints are kept.
    pub directory: &'a Path,
}

impl LongRun<'_> {
    #[cfg(feature = "engine")]
    pub fn run(
        self,
        soak: &SoakArgs,
        evidence: &mut Evidence,
    ) -> Result<Option<Checkpoint>, HarnessError> {
        let Some(asked) = soak.time else {
            return Ok(None);
        };
        let kept = Checkpoint::begin(self.directory, evidence)?;
        let soak = Soak {
            program: self.program,
            model: self.model,
            workspace: self.workspace,
            asked,
            interrupted: self.interrupted,
        };
        let session = soak.run(self.progress, |known| {
            evidence.long_session = Some(known.clone());
            Ok(kept.update(evidence)?)
        })?;
        evidence.long_session = Some(session);
        Ok(Some(kept))
    }

    #[cfg(not(feature = "engine"))]
    pub fn run(self, _: &SoakArgs, _: &mut Evidence) -> Result<Option<Checkpoint>, HarnessError> {
        Ok(None)
    }
}
