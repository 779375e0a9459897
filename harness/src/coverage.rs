//! `harness coverage`: do tests cover what the policy asks?

use std::fs;
use std::io::Write;
use std::path::Path;

use kakeya_evidence::Coverage;
use kakeya_evidence::coverage::{self, Outcome};
use kakeya_evidence::policy::CoveragePolicy;
use kakeya_suite::Workspace;

use crate::cli::CoverageArgs;
use crate::error::HarnessError;
use crate::exit::Exit;
use crate::policy;

/// Prints how much of each file is covered, and what is short of the policy.
///
/// # Errors
/// When the report or the policy cannot be read.
pub fn run(
    arguments: &CoverageArgs,
    workspace: &Workspace,
    output: &mut impl Write,
) -> Result<Exit, HarnessError> {
    let policy = policy::load(policy::Place::Checkout(workspace))?.coverage;
    let outcome = measure(&arguments.input, workspace, &policy)?;
    let show = || -> std::io::Result<()> {
        let files = sources(workspace, &policy)?;
        write!(output, "{}", outcome.table.with_unreported(&files))?;
        for problem in &outcome.problems {
            writeln!(output, "{problem}")?;
        }
        Ok(())
    };
    let met = outcome.problems.is_empty();
    show().map_err(HarnessError::system("write the table"))?;
    Ok(if met { Exit::Success } else { Exit::CaseFailed })
}

/// What a report shows, for the record of a run.
///
/// # Errors
/// As for [`run`].
pub fn record(
    input: &Path,
    workspace: &Workspace,
    policy: &CoveragePolicy,
) -> Result<Coverage, HarnessError> {
    measure(input, workspace, policy).map(|outcome| outcome.coverage)
}

fn measure(
    input: &Path,
    workspace: &Workspace,
    policy: &CoveragePolicy,
) -> Result<Outcome, HarnessError> {
    let read = || HarnessError::system(format!("read {}", input.display()));
    let bytes = fs::read(input).map_err(read())?;
    // As the compiler names it in the report.
    let root = workspace.root().canonicalize().map_err(read())?;
    let source = |file: &str| fs::read_to_string(root.join(file)).ok();
    coverage::measure(&bytes, &root, policy, &source).map_err(|error| HarnessError::Coverage {
        path: input.to_path_buf(),
        error,
    })
}

/// The Rust files of the policy's modules, relative to the checkout.
fn sources(workspace: &Workspace, policy: &CoveragePolicy) -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    for module in &policy.module {
        walk(
            workspace.root(),
            &workspace.root().join(&module.path),
            &mut found,
        )?;
    }
    found.sort();
    Ok(found)
}

fn walk(root: &Path, path: &Path, found: &mut Vec<String>) -> std::io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            walk(root, &entry?.path(), found)?;
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        let below = path.strip_prefix(root).unwrap_or(path);
        found.push(below.to_string_lossy().into_owned());
    }
    Ok(())
}
