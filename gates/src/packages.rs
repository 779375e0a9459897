//! Packages that checks install, by version, and the programs that run them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use tokio::process::Command;

use crate::ensure;
use kakeya_suite::CaseFailure;

/// Where packages lie, by what they are for, once this process has installed them.
static INSTALLED: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());

/// Where the packages for `purpose` lie: as `install` left them in a folder below `scratch`, which must outlive every call
/// for this purpose, the first time.
pub(crate) async fn once(
    purpose: &'static str,
    scratch: &Path,
    install: impl AsyncFnOnce(&Path) -> Result<(), CaseFailure>,
) -> Result<PathBuf, CaseFailure> {
    let known = || INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(place) = known().get(purpose) {
        return Ok(place.clone());
    }
    let place = scratch.join(purpose);
    install(&place).await?;
    known().insert(purpose, place.clone());
    Ok(place)
}

/// Installs packages, as pip writes them, beside pip's own cache, which a second run finds them in.
pub(crate) async fn pip(place: &Path, packages: &[&str]) -> Result<(), CaseFailure> {
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ])
    .args(["--root-user-action", "ignore", "--target"])
    .arg(place)
    .args(packages);
    output(&mut pip).await.map(drop)
}

/// Python, with packages that [`pip`] installed; `more` are looked into first.
pub(crate) fn python(packages: &Path, more: &[&Path]) -> Result<Command, CaseFailure> {
    let path = std::env::join_paths(more.iter().copied().chain([packages]));
    let path = path.map_err(|error| CaseFailure::violated(error.to_string()))?;
    let mut command = Command::new("python3");
    command
        .env("PYTHONPATH", path)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}

/// What a command prints, or how it failed.
pub(crate) async fn output(command: &mut Command) -> Result<String, CaseFailure> {
    let program = program(command);
    let output = ended(command).await?;
    ensure!(
        output.status.success(),
        "{program} ended with {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// How a command ends, and what it prints.
pub(crate) async fn ended(command: &mut Command) -> Result<std::process::Output, CaseFailure> {
    let program = program(command);
    command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| CaseFailure::violated(format!("{program} cannot be run: {error}")))
}

fn program(command: &Command) -> String {
    let program = command.as_std().get_program();
    program.to_string_lossy().into_owned()
}
