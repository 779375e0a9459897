//! `harness report`: what evidence says, for people.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use kakeya_report::html::{self, Inputs};
use kakeya_report::{Collection, index, markdown};
use kakeya_suite::Workspace;

use crate::cli::ReportArgs;
use crate::error::HarnessError;
use crate::exit::Exit;
use crate::{policy, verify};

/// The records' folder as seen from `results/README.md`.
const FOLDER: &str = "platform-tests";
/// The page that has the index.
const INDEX: &str = "results/README.md";

/// Writes the page, the summary or the index that was asked for.
///
/// # Errors
/// When evidence or policy cannot be read, or a file cannot be written.
pub fn run(
    arguments: &ReportArgs,
    workspace: &Workspace,
    output: &mut impl Write,
) -> Result<Exit, HarnessError> {
    let policy = policy::load(policy::Place::Checkout(workspace))?;
    let collection = Collection::open(&workspace.results())?;
    if let Some(path) = &arguments.html {
        let page = html::page(&Inputs {
            collection: &collection,
            gates: &policy.gates,
            waivers: &policy.waivers,
            folder: arguments.folder.as_deref().unwrap_or(FOLDER),
        });
        write(path, &page)?;
    }
    if let Some(path) = &arguments.markdown {
        let judged = verify::judge(&arguments.verify, workspace)?;
        let summary = markdown::summary(&judged.report, &judged.records, &judged.gates);
        if path == Path::new("-") {
            write!(output, "{summary}").map_err(HarnessError::system("write the summary"))?;
        } else {
            write(path, &summary)?;
        }
    }
    if arguments.index {
        update_index(workspace)?;
    }
    if arguments.check && is_index_stale(workspace)? {
        writeln!(
            output,
            "{INDEX} does not list the records that are there; `harness report --index` does it"
        )
        .map_err(HarnessError::system("write the result"))?;
        return Ok(Exit::CaseFailed);
    }
    Ok(Exit::Success)
}

/// Lists the records that are there in `results/README.md`.
///
/// # Errors
/// When evidence, policy or the page cannot be read, or the page cannot be written.
pub fn update_index(workspace: &Workspace) -> Result<(), HarnessError> {
    let (page, section) = index(workspace)?;
    index::update(&page, &section)?;
    Ok(())
}

/// Whether `results/README.md` lists other records than those that are there.
///
/// # Errors
/// When evidence, policy or the page cannot be read.
pub fn is_index_stale(workspace: &Workspace) -> Result<bool, HarnessError> {
    let (page, section) = index(workspace)?;
    Ok(index::is_stale(&page, &section)?)
}

fn index(workspace: &Workspace) -> Result<(PathBuf, String), HarnessError> {
    let gates = policy::gates(workspace)?;
    let collection = Collection::open(&workspace.results())?;
    let section = index::section(&collection, &gates, FOLDER);
    Ok((workspace.root().join(INDEX), section))
}

fn write(path: &Path, text: &str) -> Result<(), HarnessError> {
    fs::write(path, text).map_err(HarnessError::system(format!("write {}", path.display())))
}
