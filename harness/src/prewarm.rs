//! `harness prewarm`: models into the cache, checked.

use std::io::Write;

use kakeya_gates::{ModelFileError, Workspace, resolver};
use kakeya_model::catalogue::TerminalProgress;

use crate::cli::PrewarmArgs;
use crate::error::HarnessError;
use crate::exit::Exit;
use crate::policy;

/// Fetches, checks and repairs the models asked for.
///
/// # Errors
/// When a name is unknown, or a model cannot be had.
pub fn run(
    arguments: &PrewarmArgs,
    workspace: &Workspace,
    output: &mut impl Write,
) -> Result<Exit, HarnessError> {
    let resolver = resolver(workspace)?;
    let names = match (&arguments.platform, &arguments.model) {
        (Some(platform), _) => policy::platform(workspace, platform)?.models,
        (None, Some(model)) => vec![model.clone()],
        (None, None) => vec![resolver.catalogue().default_name().to_owned()],
    };
    for name in names {
        let model = resolver
            .prewarm(&name, &mut TerminalProgress::stderr())
            .map_err(ModelFileError::from)?;
        let how = if model.fetched {
            "fetched"
        } else {
            "already there"
        };
        writeln!(
            output,
            "{name}: {how}, {} bytes, sha256 {}\n  {}",
            model.size,
            model.sha256,
            model.path.display()
        )
        .map_err(HarnessError::system("write the result"))?;
    }
    Ok(Exit::Success)
}
