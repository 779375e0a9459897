//! Where the checkout is, and where policy lives in it.
//!
//! Policy must come from the tree that is being judged, not from the one the binary was built in, so it is
//! read from files at run time and the checkout is looked for from the current directory upward.

use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The directory that tells this workspace from any other Rust workspace.
const PLATFORMS: &str = "gates/platforms";

/// A checkout of this repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    root: PathBuf,
}

/// There is no checkout here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "no Kakeya checkout at or above {}: looked for a Cargo.toml with [workspace] beside {PLATFORMS}/; run from inside the checkout",
    from.display()
)]
pub struct WorkspaceError {
    /// Where the search started.
    pub from: PathBuf,
}

impl Workspace {
    /// Looks for the checkout at `from` and in its parents.
    ///
    /// # Errors
    /// When none of them is one.
    pub fn find(from: &Path) -> Result<Self, WorkspaceError> {
        from.ancestors()
            .find(|directory| is_root(directory))
            .map(|root| Self {
                root: root.to_path_buf(),
            })
            .ok_or_else(|| WorkspaceError {
                from: from.to_path_buf(),
            })
    }

    /// The checkout's top directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The platform definitions.
    pub fn platforms(&self) -> PathBuf {
        self.root.join(PLATFORMS)
    }

    /// The lock of models.
    pub fn models(&self) -> PathBuf {
        self.root.join("gates/models.toml")
    }

    /// The committed reference outputs.
    pub fn goldens(&self) -> PathBuf {
        self.root.join("gates/goldens")
    }

    /// Where evidence is committed.
    pub fn results(&self) -> PathBuf {
        self.root.join("results/platform-tests")
    }
}

fn is_root(directory: &Path) -> bool {
    directory.join(PLATFORMS).is_dir()
        && fs::read_to_string(directory.join("Cargo.toml"))
            .ok()
            .and_then(|manifest| manifest.parse::<toml::Table>().ok())
            .is_some_and(|manifest| manifest.contains_key("workspace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_found_from_below_and_not_from_outside() {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("checkout");
        let deep = root.join("engine/core");
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir_all(root.join(PLATFORMS)).unwrap();
        // A member crate's manifest is not the workspace's.
        fs::write(deep.join("Cargo.toml"), "[package]\n").unwrap();
        assert_eq!(
            Workspace::find(&deep),
            Err(WorkspaceError { from: deep.clone() })
        );
        fs::write(
            root.join("Cargo.toml"),
            "workspace = { members = [] } # ours\n",
        )
        .unwrap();
        let found = Workspace::find(&deep).unwrap();
        assert_eq!(found.root(), root);
        assert_eq!(found.results(), root.join("results/platform-tests"));
        assert_eq!(found.platforms(), root.join(PLATFORMS));
        assert_eq!(found.models(), root.join("gates/models.toml"));
        assert_eq!(found.goldens(), root.join("gates/goldens"));
        let error = Workspace::find(outside.path()).unwrap_err().to_string();
        assert!(error.contains("run from inside the checkout"), "{error}");
    }
}
