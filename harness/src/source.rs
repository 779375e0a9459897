//! Which source a run is about: the guarded tree's digest, and what git says about it.

use std::path::Path;
use std::process::{Command, Stdio};

use kakeya_evidence::policy::GuardedFiles;
use kakeya_evidence::{Change, ChangeKind, CommitFrom, Source, tree};

use crate::error::HarnessError;

const SHOWN_CHANGES: usize = 20;

/// What git knows about the guarded files.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Revision {
    /// A commit is checked out; these guarded files differ from it.
    Commit { id: String, changes: Vec<Change> },
    /// There is no commit to name.
    Absent { reason: String },
}

/// Observes the source at the start of a run. Where git does not tell the commit, it is `built`, the one that this
/// program was built from.
///
/// # Errors
/// When the tree cannot be digested. Git's absence is not an error, it is recorded.
pub fn observe(
    root: &Path,
    guarded: &GuardedFiles,
    built: Option<String>,
) -> Result<Source, HarnessError> {
    let digest = tree::digest(root, guarded)?;
    let source = Source {
        tree_sha256: digest.sha256,
        tree_sha256_at_end: None,
        files: digest.files,
        commit: None,
        commit_from: None,
        commit_absent_reason: None,
        dirty: None,
        changes: Vec::new(),
    };
    Ok(match revision(root, guarded) {
        Revision::Commit { id, changes } => Source {
            commit: Some(id),
            commit_from: Some(CommitFrom::Git),
            dirty: Some(!changes.is_empty()),
            changes: changes.into_iter().take(SHOWN_CHANGES).collect(),
            ..source
        },
        Revision::Absent { reason } => Source {
            commit_from: built.as_ref().map(|_| CommitFrom::Build),
            commit: built,
            commit_absent_reason: Some(reason),
            ..source
        },
    })
}

/// The guarded files that differ from the commit that is checked out.
///
/// # Errors
/// Why git does not tell.
pub fn changes(root: &Path, guarded: &GuardedFiles) -> Result<Vec<Change>, String> {
    match revision(root, guarded) {
        Revision::Commit { changes, .. } => Ok(changes),
        Revision::Absent { reason } => Err(reason),
    }
}

fn revision(root: &Path, guarded: &GuardedFiles) -> Revision {
    let head = git(root, &["rev-parse", "--verify", "HEAD"]);
    // Another repository's commit is no name for this tree: a copied checkout may lie inside one.
    let prefix = git(root, &["rev-parse", "--show-prefix"]);
    let status = git(
        root,
        &[
            "status",
            "--porcelain",
            "-z",
            "--no-renames",
            "--untracked-files=all",
        ],
    );
    match (head, prefix, status) {
        (Ok(id), Ok(prefix), Ok(status)) if prefix.trim().is_empty() => Revision::Commit {
            id: id.trim().to_owned(),
            changes: parse_status(&status, guarded),
        },
        (Ok(_), Ok(prefix), Ok(_)) => Revision::Absent {
            reason: format!(
                "the checkout is the folder {} of another repository",
                prefix.trim()
            ),
        },
        (Err(reason), _, _) | (_, Err(reason), _) | (_, _, Err(reason)) => {
            Revision::Absent { reason }
        }
    }
}

/// The guarded paths among those that `git status --porcelain -z --no-renames` lists.
fn parse_status(status: &str, guarded: &GuardedFiles) -> Vec<Change> {
    let mut changes = Vec::new();
    // Each entry is a letter for the index and one for the checkout, a space and the path, ended by NUL.
    for entry in status.split('\0') {
        let (Some(letters), Some(path)) = (entry.get(..2), entry.get(3..)) else {
            continue;
        };
        if !guarded.contains(path) {
            continue;
        }
        let mut add = |kind| {
            let path = path.to_owned();
            changes.push(Change { path, kind });
        };
        if letters == "??" {
            add(ChangeKind::Untracked);
            continue;
        }
        if !letters.starts_with(' ') {
            add(ChangeKind::Staged);
        }
        if !letters.ends_with(' ') {
            add(ChangeKind::Modified);
        }
    }
    changes
}

/// What git printed, or why there is nothing, in one line.
pub(crate) fn git(root: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("git")
        .current_dir(root)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("git does not run: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().next().unwrap_or("no message");
    Err(format!("git {}: {line}", arguments[0]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kakeya_evidence::policy::GuardedPolicy;
    use std::fs;
    use tempfile::TempDir;

    fn guarded() -> GuardedFiles {
        GuardedPolicy {
            include: vec!["src/**".into()],
            exclude: Vec::new(),
        }
        .compile()
        .unwrap()
    }

    fn tree() -> TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("src")).unwrap();
        fs::write(root.path().join("src/a.rs"), "a").unwrap();
        root
    }

    fn run_git(root: &Path, arguments: &[&str]) {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
        let arguments: Vec<_> = identity.iter().chain(arguments).copied().collect();
        git(root, &arguments).unwrap();
    }

    #[test]
    fn a_repository_without_a_commit_says_so() {
        let root = tree();
        run_git(root.path(), &["init", "--quiet"]);
        let source = observe(root.path(), &guarded(), Some("c0ffee".to_owned())).unwrap();
        assert_eq!(source.dirty, None);
        assert_eq!(source.commit.as_deref(), Some("c0ffee"));
        let reason = source.commit_absent_reason.unwrap();
        assert!(reason.starts_with("git rev-parse: "), "{reason}");
        assert_eq!(source.files, 1);
    }

    #[test]
    fn dirty_means_guarded_files_and_names_them() {
        let root = tree();
        let path = root.path();
        run_git(path, &["init", "--quiet"]);
        run_git(path, &["add", "."]);
        run_git(
            path,
            &["commit", "--quiet", "--message", "one", "--no-verify"],
        );
        fs::write(path.join("notes.md"), "x").unwrap();
        let clean = observe(path, &guarded(), None).unwrap();
        assert_eq!(clean.commit.as_ref().map(String::len), Some(40));
        assert_eq!(clean.dirty, Some(false));

        fs::write(path.join("src/a.rs"), "changed").unwrap();
        fs::write(path.join("src/new file.rs"), "x").unwrap();
        let dirty = observe(path, &guarded(), None).unwrap();
        assert_eq!(dirty.commit, clean.commit);
        assert_eq!(dirty.dirty, Some(true));
        let change = |path: &str, kind| Change {
            path: path.to_owned(),
            kind,
        };
        assert_eq!(
            dirty.changes,
            [
                change("src/a.rs", ChangeKind::Modified),
                change("src/new file.rs", ChangeKind::Untracked)
            ]
        );
        run_git(path, &["add", "."]);
        fs::remove_file(path.join("src/a.rs")).unwrap();
        assert_eq!(
            changes(path, &guarded()).unwrap(),
            [
                change("src/a.rs", ChangeKind::Staged),
                change("src/a.rs", ChangeKind::Modified),
                change("src/new file.rs", ChangeKind::Staged)
            ]
        );
        assert_ne!(dirty.tree_sha256, clean.tree_sha256);
    }

    #[test]
    fn a_copy_inside_another_repository_does_not_borrow_its_commit() {
        let root = tree();
        run_git(root.path(), &["init", "--quiet"]);
        run_git(root.path(), &["add", "."]);
        run_git(
            root.path(),
            &["commit", "--quiet", "--message", "one", "--no-verify"],
        );
        let inner = root.path().join("copy");
        fs::create_dir_all(inner.join("src")).unwrap();
        fs::write(inner.join("src/a.rs"), "a").unwrap();
        let source = observe(&inner, &guarded(), None).unwrap();
        assert_eq!(
            source.commit_absent_reason.as_deref(),
            Some("the checkout is the folder copy/ of another repository")
        );
    }
}
