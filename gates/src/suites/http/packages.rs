//! Python packages that the suite installs, by version.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use tokio::process::Command;

use crate::ensure;
use kakeya_suite::CaseFailure;

/// Where packages lie, once this process has installed them.
static INSTALLED: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());

/// Installs a package, as pip writes it, beside pip's own cache, which a second run finds it in.
pub(super) async fn installed(
    scratch: &Path,
    package: &'static str,
) -> Result<PathBuf, CaseFailure> {
    let known = || INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(place) = known().get(package) {
        return Ok(place.clone());
    }
    let place = scratch.join(package.replace("==", "-"));
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ])
    .args(["--root-user-action", "ignore", "--target"])
    .arg(&place)
    .arg(package);
    output(&mut pip).await?;
    known().insert(package, place.clone());
    Ok(place)
}

/// What a command prints, or how it failed.
pub(super) async fn output(command: &mut Command) -> Result<String, CaseFailure> {
    let program = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| CaseFailure::violated(format!("{program} cannot be run: {error}")))?;
    ensure!(
        output.status.success(),
        "{program} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
