//! Is there room? Asked before a download starts, so that the answer is a sum and not a broken file.

use std::path::Path;

use super::error::ResolveError;

/// Bytes that one step of a download needs, and what for.
#[derive(Debug, Clone)]
pub(super) struct Need {
    pub bytes: u64,
    pub what: String,
}

/// Refuses when the folder's file system has less room than the needs together.
///
/// Asked of the folder itself rather than of a list of disks: bind mounts, network shares and quotas make
/// "which disk is this path on" a question with wrong answers.
pub(super) fn check(model: &str, directory: &Path, needs: &[Need]) -> Result<(), ResolveError> {
    let needed = needs
        .iter()
        .fold(0u64, |sum, need| sum.saturating_add(need.bytes));
    let available =
        fs4::available_space(directory).map_err(ResolveError::io("ask for room in", directory))?;
    if available >= needed {
        return Ok(());
    }
    let arithmetic: Vec<String> = needs
        .iter()
        .map(|need| format!("{} for {}", need.bytes, need.what))
        .collect();
    Err(ResolveError::NoSpace {
        model: model.to_owned(),
        directory: directory.to_owned(),
        needed,
        arithmetic: arithmetic.join(" + "),
        available,
    })
}
