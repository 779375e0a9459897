//! `harness compare`: two runs side by side.

use std::fs;
use std::io::Write;
use std::path::Path;

use kakeya_evidence::{Evidence, canonical};
use kakeya_report::compare::{Options, compare};

use crate::cli::{CompareArgs, Format};
use crate::error::HarnessError;
use crate::exit::Exit;

/// Prints what two records have in common and what not.
///
/// # Errors
/// When a record cannot be read or is none, or the runs are not alike.
pub fn run(arguments: &CompareArgs, output: &mut impl Write) -> Result<Exit, HarnessError> {
    let options = Options {
        noise_percent: arguments.noise,
        unlike: arguments.unlike,
    };
    let comparison = compare(&read(&arguments.a)?, &read(&arguments.b)?, options)?;
    match arguments.format {
        Format::Text => write!(output, "{}", comparison.to_markdown()),
        Format::Json => serde_json::to_writer_pretty(&mut *output, &comparison)
            .map_err(Into::into)
            .and_then(|()| writeln!(output)),
    }
    .map_err(HarnessError::system("write the comparison"))?;
    Ok(Exit::Success)
}

/// Reads a record.
///
/// # Errors
/// When the file cannot be read, or is no record as it was written.
pub fn read(path: &Path) -> Result<Evidence, HarnessError> {
    let bytes = fs::read(path).map_err(HarnessError::system(format!("read {}", path.display())))?;
    canonical::read(&bytes).map_err(|rejection| HarnessError::NotEvidence {
        path: path.to_path_buf(),
        code: rejection.code(),
        reason: rejection.to_string(),
    })
}
