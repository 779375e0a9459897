//! `harness prewarm`: models into the cache, checked.

use std::io::Write;

use kakeya_suite::Workspace;

use crate::cli::PrewarmArgs;
use crate::error::HarnessError;
use crate::exit::Exit;
use crate::policy;
use crate::subject::Subject;

/// Fetches, checks and repairs the models asked for.
///
/// # Errors
/// When a name is unknown, or a model cannot be had.
pub fn run<S: Subject>(
    arguments: &PrewarmArgs,
    subject: &S,
    workspace: &Workspace,
    output: &mut impl Write,
) -> Result<Exit, HarnessError> {
    let models = subject.models(workspace)?;
    let names = match (&arguments.platform, &arguments.model) {
        (Some(platform), _) => policy::platform(workspace, platform)?.models,
        (None, Some(model)) => vec![model.clone()],
        (None, None) => vec![models.default_name().ok_or(HarnessError::NoDefaultModel)?],
    };
    for name in names {
        let model = models.prewarm(&name)?;
        let how = if model.fetched {
            "fetched"
        } else {
            "already there"
        };
        writeln!(
            output,
            "{name}: {how}, {} bytes, sha256 {}\n  {}",
            model.size,
            model.file.sha256,
            model.file.path.display()
        )
        .map_err(HarnessError::system("write the result"))?;
    }
    Ok(Exit::Success)
}
