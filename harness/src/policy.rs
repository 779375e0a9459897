//! Policy, read when a command runs: from the files of the checkout for what is run here, and from a commit for what is
//! judged.

use std::fs;
use std::path::PathBuf;

use kakeya_evidence::policy::{GatePolicy, GuardedFiles, GuardedPolicy, Platform, Policy};
use kakeya_evidence::sign;
use kakeya_suite::Workspace;
use serde::de::DeserializeOwned;

use crate::error::HarnessError;
use crate::repository::{Commit, Repository};

/// What evidence is asked for.
pub const REQUEST: &str = "gates/evidence.toml";
const PLATFORMS: &str = "gates/platforms";

/// Where policy is read from.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// The files of a checkout.
    Checkout(&'a Workspace),
    /// A commit.
    Commit(&'a Repository, &'a Commit),
}

impl Place<'_> {
    /// What an error calls a file.
    fn name(self, path: &str) -> PathBuf {
        match self {
            Self::Checkout(workspace) => workspace.root().join(path),
            Self::Commit(_, commit) => format!("{}:{path}", commit.0).into(),
        }
    }

    fn text(self, path: &str) -> Result<String, HarnessError> {
        let text = match self {
            Self::Checkout(workspace) => fs::read_to_string(workspace.root().join(path)),
            Self::Commit(repository, commit) => repository.file(commit, path).ok_or_else(|| {
                std::io::Error::new(std::io::ErrorKind::NotFound, "the commit does not have it")
            }),
        };
        text.map_err(|source| HarnessError::PolicyFile {
            path: self.name(path),
            source,
        })
    }

    /// The names in the folder of platforms, in order.
    fn platforms(self) -> Result<Vec<String>, HarnessError> {
        let mut names = match self {
            Self::Commit(repository, commit) => repository.folder(commit, PLATFORMS),
            Self::Checkout(workspace) => {
                let unreadable = |source| HarnessError::PolicyFile {
                    path: workspace.platforms(),
                    source,
                };
                let mut names = Vec::new();
                for entry in fs::read_dir(workspace.platforms()).map_err(unreadable)? {
                    let name = entry.map_err(unreadable)?.file_name();
                    names.push(name.to_string_lossy().into_owned());
                }
                names
            }
        };
        names.retain(|name| name.ends_with(".toml"));
        names.sort();
        Ok(names)
    }

    fn read<T: DeserializeOwned>(self, path: &str) -> Result<T, HarnessError> {
        toml::from_str(&self.text(path)?).map_err(|error| HarnessError::Policy {
            path: self.name(path),
            reason: error.to_string(),
        })
    }
}

/// All policy that evidence is judged by.
///
/// # Errors
/// When a file cannot be read, is malformed, or contradicts itself.
pub fn load(place: Place<'_>) -> Result<Policy, HarnessError> {
    let policy = Policy {
        request: place.read(REQUEST)?,
        platforms: read_platforms(place)?,
        gates: place.read("gates/ga.toml")?,
        guarded: read_guarded(place)?,
        required: place.read("gates/required.toml")?,
        lock: place.read("gates/models.toml")?,
        keys: place.read("gates/keys.toml")?,
        waivers: place.read("gates/waivers.toml")?,
        coverage: place.read("gates/coverage.toml")?,
    };
    for key in &policy.keys.key {
        let reason = match sign::public_key(&key.public) {
            Err(reason) => reason,
            Ok(_) if key.from >= key.until => "it ends before it begins".to_owned(),
            Ok(_) => continue,
        };
        return Err(HarnessError::Policy {
            path: place.name("gates/keys.toml"),
            reason: format!("key {}: {reason}", key.name),
        });
    }
    Ok(policy)
}

/// Every platform the checkout declares, by name.
///
/// # Errors
/// When a definition cannot be read, is malformed, or calls itself something else than its file.
pub fn platforms(workspace: &Workspace) -> Result<Vec<Platform>, HarnessError> {
    read_platforms(Place::Checkout(workspace))
}

fn read_platforms(place: Place<'_>) -> Result<Vec<Platform>, HarnessError> {
    let mut platforms = Vec::new();
    for name in place.platforms()? {
        let path = format!("{PLATFORMS}/{name}");
        let platform: Platform = place.read(&path)?;
        let wrong = |reason: String| {
            let path = place.name(&path);
            Err(HarnessError::Policy { path, reason })
        };
        if format!("{}.toml", platform.name) != name {
            return wrong(format!("it calls itself `{}`", platform.name));
        }
        if platform.models.is_empty() || platform.suites.is_empty() {
            return wrong("a platform needs a model and a suite".to_owned());
        }
        platforms.push(platform);
    }
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
    Place::Checkout(workspace).read("gates/ga.toml")
}

/// Which files a run is bound to.
///
/// # Errors
/// When the file cannot be read or is malformed.
pub fn guarded(workspace: &Workspace) -> Result<GuardedFiles, HarnessError> {
    read_guarded(Place::Checkout(workspace))
}

fn read_guarded(place: Place<'_>) -> Result<GuardedFiles, HarnessError> {
    let policy: GuardedPolicy = place.read("gates/guarded.toml")?;
    Ok(policy.compile()?)
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
