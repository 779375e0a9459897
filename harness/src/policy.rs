//! The checkout's policy, read when a command runs.

use std::fs;
use std::path::Path;

use kakeya_evidence::policy::{GatePolicy, GuardedFiles, GuardedPolicy, Platform};
use kakeya_gates::Workspace;
use serde::de::DeserializeOwned;

use crate::error::HarnessError;

/// Every platform the checkout declares, by name.
///
/// # Errors
/// When a definition cannot be read, is malformed, or calls itself something else than its file.
pub fn platforms(workspace: &Workspace) -> Result<Vec<Platform>, HarnessError> {
    let directory = workspace.platforms();
    let unreadable = |source| HarnessError::PolicyFile {
        path: directory.clone(),
        source,
    };
    let mut platforms = Vec::new();
    for entry in fs::read_dir(&directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let platform: Platform = read(&path)?;
        let file_name = path.file_stem().unwrap_or_default().to_string_lossy();
        if platform.name != file_name {
            let reason = format!("it calls itself `{}`", platform.name);
            return Err(HarnessError::Policy { path, reason });
        }
        if platform.models.is_empty() || platform.suites.is_empty() {
            let reason = "a platform needs a model and a suite".to_owned();
            return Err(HarnessError::Policy { path, reason });
        }
        platforms.push(platform);
    }
    platforms.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(platforms)
}

/// The platform of that name.
///
/// # Errors
/// Those of [`platforms`], or when there is none of that name.
pub fn platform(workspace: &Workspace, name: &str) -> Result<Platform, HarnessError> {
    let mut all = platforms(workspace)?;
    match all.iter().position(|platform| platform.name == name) {
        Some(index) => Ok(all.swap_remove(index)),
        None => Err(HarnessError::UnknownPlatform {
            name: name.to_owned(),
            known: all.into_iter().map(|platform| platform.name).collect(),
        }),
    }
}

/// The gates.
///
/// # Errors
/// When the file cannot be read or is malformed.
pub fn gates(workspace: &Workspace) -> Result<GatePolicy, HarnessError> {
    read(&workspace.gate_policy())
}

/// Which files a run is bound to.
///
/// # Errors
/// When the file cannot be read or is malformed.
pub fn guarded(workspace: &Workspace) -> Result<GuardedFiles, HarnessError> {
    let policy: GuardedPolicy = read(&workspace.guarded_policy())?;
    Ok(policy.compile()?)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, HarnessError> {
    let text = fs::read_to_string(path).map_err(|source| HarnessError::PolicyFile {
        path: path.to_path_buf(),
        source,
    })?;
    toml::from_str(&text).map_err(|error| HarnessError::Policy {
        path: path.to_path_buf(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    const GOOD: &str = "name = 'p'\nabout = 'a'\nbackend = 'cpu'\nmin_rustc = '1.89'\nmodels = ['m']\n\
        suites = ['s']\n[host]\nos = 'linux'\narch = []\nchip = []\nmin_memory_gib = 1\nmin_free_disk_gib = 1\n";

    fn checkout(files: &[(&str, &str)]) -> (TempDir, Workspace) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("gates/platforms")).unwrap();
        fs::write(root.path().join("Cargo.toml"), "[workspace]\n").unwrap();
        for (name, text) in files {
            fs::write(root.path().join("gates/platforms").join(name), text).unwrap();
        }
        let workspace = Workspace::find(root.path()).unwrap();
        (root, workspace)
    }

    fn message(files: &[(&str, &str)]) -> String {
        let (_root, workspace) = checkout(files);
        platforms(&workspace).unwrap_err().to_string()
    }

    #[test]
    fn definitions_are_found_by_file_name_and_sorted() {
        let other = GOOD.replace("'p'", "'a'");
        let (_root, workspace) =
            checkout(&[("p.toml", GOOD), ("a.toml", &other), ("notes.txt", "x")]);
        let names: Vec<_> = platforms(&workspace)
            .unwrap()
            .into_iter()
            .map(|platform| platform.name)
            .collect();
        assert_eq!(names, ["a", "p"]);
        let error = platform(&workspace, "q").unwrap_err().to_string();
        assert_eq!(error, "unknown platform `q`; known platforms: a, p");
    }

    #[test]
    fn a_definition_that_could_mislead_is_refused() {
        assert!(message(&[("q.toml", GOOD)]).ends_with("it calls itself `p`"));
        let empty = GOOD.replace("['s']", "[]");
        assert!(message(&[("p.toml", &empty)]).ends_with("a platform needs a model and a suite"));
        assert!(message(&[("p.toml", "name = 1")]).contains("is malformed"));
    }

    #[test]
    fn a_checkout_without_gates_says_which_file_is_missing() {
        let (_root, workspace) = checkout(&[]);
        let error = gates(&workspace).unwrap_err().to_string();
        assert!(error.contains("gates/ga.toml"), "{error}");
        let error = guarded(&workspace).unwrap_err().to_string();
        assert!(error.contains("gates/guarded.toml"), "{error}");
    }
}
