//! The digest that binds evidence to a source tree.
//!
//! It is computed from files, not from git, so that a copied checkout on a host without git gives the same
//! value. Files that the tree's own `.gitignore` files name are left out, as they are no part of a commit;
//! the machine's and the user's ignore files are not read, because they differ between hosts.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;
use thiserror::Error;

use crate::hex;
use crate::policy::GuardedFiles;

const SYMLINK_MODE: &str = "120000";
const PLAIN_MODE: &str = "100644";
const EXECUTABLE_MODE: &str = "100755";

/// What a tree's guarded files amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeDigest {
    /// SHA-256 over one line per file, in byte order of the paths: mode, space, path, NUL, SHA-256 of the
    /// content (of the target's name for a symbolic link), newline.
    pub sha256: String,
    /// How many files.
    pub files: usize,
}

/// Why a tree has no digest.
#[derive(Debug, Error)]
pub enum TreeError {
    /// The tree could not be walked.
    #[error("cannot walk the source tree")]
    Walk(#[from] ignore::Error),
    /// A guarded file could not be read.
    #[error("cannot read the guarded file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A path that evidence could not name.
    #[error("the path {path:?} is not UTF-8")]
    NotUtf8 {
        /// The path.
        path: PathBuf,
    },
    /// A digest of nothing binds to nothing.
    #[error("no guarded file below {}", root.display())]
    Empty {
        /// The tree's top.
        root: PathBuf,
    },
}

/// A guarded file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TreeEntry {
    /// Its path below the tree's top, with `/` between its parts.
    pub path: String,
    /// Its mode as git writes it.
    pub mode: String,
    /// SHA-256 of its content, of the target's name for a symbolic link.
    pub sha256: String,
}

/// Computes the digest of the guarded files below `root`.
///
/// # Errors
/// When the tree or a guarded file cannot be read, or there is no guarded file at all.
pub fn digest(root: &Path, guarded: &GuardedFiles) -> Result<TreeDigest, TreeError> {
    digest_of(entries(root, guarded)?).ok_or_else(|| TreeError::Empty {
        root: root.to_path_buf(),
    })
}

/// The digest of these files, in whatever order they come; none for no file, since that binds to nothing.
pub fn digest_of(mut entries: Vec<TreeEntry>) -> Option<TreeDigest> {
    entries.sort();
    let text: String = entries
        .iter()
        .map(|entry| format!("{} {}\0{}\n", entry.mode, entry.path, entry.sha256))
        .collect();
    (!entries.is_empty()).then(|| TreeDigest {
        sha256: hex::sha256(text.as_bytes()),
        files: entries.len(),
    })
}

/// The guarded files below `root`.
///
/// # Errors
/// When the tree or a guarded file cannot be read.
pub fn entries(root: &Path, guarded: &GuardedFiles) -> Result<Vec<TreeEntry>, TreeError> {
    let mut entries = Vec::new();
    let walk = WalkBuilder::new(root)
        .standard_filters(false)
        .git_ignore(true)
        .require_git(false)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    for entry in walk {
        let entry = entry?;
        if entry.file_type().is_none_or(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        let name = relative_name(root, path)?;
        if guarded.contains(&name) {
            let (mode, sha256) = describe(path).map_err(|source| TreeError::Read {
                path: path.to_path_buf(),
                source,
            })?;
            entries.push(TreeEntry {
                path: name,
                mode: mode.to_owned(),
                sha256,
            });
        }
    }
    Ok(entries)
}

/// The path below `root`, with `/` between its parts on every system.
fn relative_name(root: &Path, path: &Path) -> Result<String, TreeError> {
    let below = path.strip_prefix(root).unwrap_or(path);
    let parts: Option<Vec<_>> = below.iter().map(|part| part.to_str()).collect();
    parts
        .map(|parts| parts.join("/"))
        .ok_or_else(|| TreeError::NotUtf8 {
            path: path.to_path_buf(),
        })
}

/// A file's mode and the digest of its content.
fn describe(path: &Path) -> io::Result<(&'static str, String)> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        let target = fs::read_link(path)?;
        let name = target.as_os_str().as_encoded_bytes();
        return Ok((SYMLINK_MODE, hex::sha256(name)));
    }
    if !metadata.is_file() {
        return Err(io::Error::other("it is neither a file nor a symbolic link"));
    }
    Ok((mode(&metadata), hex::sha256_file(path)?))
}

#[cfg(unix)]
fn mode(metadata: &Metadata) -> &'static str {
    use std::os::unix::fs::PermissionsExt;
    const OWNER_MAY_EXECUTE: u32 = 0o100;
    if metadata.permissions().mode() & OWNER_MAY_EXECUTE == 0 {
        PLAIN_MODE
    } else {
        EXECUTABLE_MODE
    }
}

#[cfg(not(unix))]
fn mode(_metadata: &Metadata) -> &'static str {
    PLAIN_MODE
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::policy::GuardedPolicy;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use tempfile::TempDir;

    fn guarded() -> GuardedFiles {
        GuardedPolicy {
            include: vec!["src/**".into(), ".gitignore".into()],
            exclude: vec!["src/results/**".into()],
        }
        .compile()
        .unwrap()
    }

    fn tree() -> TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("src/deep")).unwrap();
        fs::write(root.path().join("src/a.rs"), "a").unwrap();
        fs::write(root.path().join("src/deep/b.rs"), "b").unwrap();
        fs::write(root.path().join(".gitignore"), "*.tmp\n").unwrap();
        root
    }

    fn sha(root: &TempDir) -> String {
        digest(root.path(), &guarded()).unwrap().sha256
    }

    #[test]
    fn is_the_documented_sum_over_sorted_lines() {
        let root = tree();
        symlink("deep/b.rs", root.path().join("src/link")).unwrap();
        let lines = [
            ("100644", ".gitignore", "*.tmp\n"),
            ("100644", "src/a.rs", "a"),
            ("100644", "src/deep/b.rs", "b"),
            ("120000", "src/link", "deep/b.rs"),
        ];
        let text: String = lines
            .iter()
            .map(|(mode, path, content)| {
                format!("{mode} {path}\0{}\n", hex::sha256(content.as_bytes()))
            })
            .collect();
        assert_eq!(
            digest(root.path(), &guarded()).unwrap(),
            TreeDigest {
                sha256: hex::sha256(text.as_bytes()),
                files: 4
            }
        );
    }

    #[test]
    fn unguarded_ignored_and_git_files_do_not_count() {
        let root = tree();
        let before = sha(&root);
        for path in ["README.md", "src/x.tmp", "src/results/e.json", "src/.git/x"] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        assert_eq!(sha(&root), before);
    }

    #[test]
    fn content_name_mode_and_link_target_count() {
        let root = tree();
        let path = |name: &str| root.path().join(name);
        let mut seen = vec![sha(&root)];
        fs::write(path("src/a.rs"), "changed").unwrap();
        seen.push(sha(&root));
        fs::rename(path("src/a.rs"), path("src/c.rs")).unwrap();
        seen.push(sha(&root));
        fs::set_permissions(path("src/c.rs"), fs::Permissions::from_mode(0o755)).unwrap();
        seen.push(sha(&root));
        symlink("c.rs", path("src/link")).unwrap();
        seen.push(sha(&root));
        fs::remove_file(path("src/link")).unwrap();
        symlink("deep/b.rs", path("src/link")).unwrap();
        seen.push(sha(&root));
        let distinct: std::collections::HashSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len());
    }

    #[test]
    fn what_cannot_be_bound_to_is_an_error() {
        let empty = tempfile::tempdir().unwrap();
        let message = |root: &Path| digest(root, &guarded()).unwrap_err().to_string();
        assert_eq!(
            message(empty.path()),
            format!("no guarded file below {}", empty.path().display())
        );
        assert_eq!(
            message(&empty.path().join("absent")),
            "cannot walk the source tree"
        );

        let root = tree();
        let _socket = UnixListener::bind(root.path().join("src/socket")).unwrap();
        let text = message(root.path());
        assert!(text.starts_with("cannot read the guarded file "), "{text}");
        assert!(text.ends_with("src/socket"), "{text}");

        let root = tree();
        let odd = root.path().join("src").join(OsStr::from_bytes(b"\xff"));
        fs::write(odd, "x").unwrap();
        assert!(message(root.path()).ends_with("is not UTF-8"));
    }
}
