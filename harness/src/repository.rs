//! What git knows: policy at the base, what a change edits, what became of committed evidence, and the guarded tree of
//! a commit.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kakeya_evidence::policy::GuardedFiles;
use kakeya_evidence::tree::{self, TreeEntry};
use kakeya_evidence::verify::{Rejection, Rewritten};
use kakeya_evidence::{Change, ChangeKind, hex};

use crate::error::HarnessError;
use crate::source::git;

/// A checkout with its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    root: PathBuf,
}

/// A commit, by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit(pub String);

/// How a checkout differs from its commit, and in how far only in line endings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// The guarded files that differ.
    pub changes: Vec<Change>,
    /// Of these, the ones that are the same but for carriage returns.
    pub line_endings: Vec<String>,
}

impl Repository {
    /// The repository whose top is `root`.
    ///
    /// # Errors
    /// [`Rejection::NoHistory`] where git has no commit to tell of.
    pub fn at(root: &Path) -> Result<Self, Rejection> {
        let reason = |reason| Rejection::NoHistory { reason };
        git(root, &["rev-parse", "--verify", "HEAD"]).map_err(reason)?;
        let prefix = git(root, &["rev-parse", "--show-prefix"]).map_err(reason)?;
        if !prefix.trim().is_empty() {
            return Err(reason(format!(
                "the checkout is the folder {} of another repository",
                prefix.trim()
            )));
        }
        Ok(Self {
            root: root.to_path_buf(),
        })
    }

    /// The commit of that name.
    ///
    /// # Errors
    /// [`Rejection::BaseUnknown`] where there is none.
    pub fn commit(&self, name: &str) -> Result<Commit, Rejection> {
        // A name that begins with a dash would be an option.
        let revision = format!("{name}^{{commit}}");
        self.git(&["rev-parse", "--verify", "--end-of-options", &revision])
            .map(|id| Commit(id.trim().to_owned()))
            .map_err(|reason| Rejection::BaseUnknown {
                base: name.to_owned(),
                reason,
            })
    }

    /// Where the histories of two commits part.
    ///
    /// # Errors
    /// [`Rejection::BaseUnknown`] where they have nothing in common.
    pub fn merge_base(&self, base: &Commit, head: &Commit) -> Result<Commit, Rejection> {
        self.git(&["merge-base", &base.0, &head.0])
            .map(|id| Commit(id.trim().to_owned()))
            .map_err(|_| Rejection::BaseUnknown {
                base: base.0.clone(),
                reason: "it has no history in common with this checkout".to_owned(),
            })
    }

    /// Whether history is cut off.
    pub fn is_shallow(&self) -> bool {
        self.git(&["rev-parse", "--is-shallow-repository"])
            .is_ok_and(|answer| answer.trim() == "true")
    }

    /// The files that differ between two commits.
    ///
    /// # Errors
    /// When git does not tell.
    pub fn edited(&self, from: &Commit, to: &Commit) -> Result<Vec<String>, HarnessError> {
        self.differing(&[&from.0, &to.0])
    }

    /// A file of a commit; none where the commit does not have it.
    pub fn file(&self, commit: &Commit, path: &str) -> Option<String> {
        self.git(&["show", &format!("{}:{path}", commit.0)]).ok()
    }

    /// The names of the files in a folder of a commit.
    pub fn folder(&self, commit: &Commit, path: &str) -> Vec<String> {
        let place = format!("{}:{path}", commit.0);
        let list = self.git(&["ls-tree", "--name-only", "-z", &place]);
        let list = list.unwrap_or_default();
        split(&list).map(str::to_owned).collect()
    }

    /// The guarded files of a commit.
    ///
    /// # Errors
    /// When git does not tell.
    pub fn entries(
        &self,
        commit: &Commit,
        guarded: &GuardedFiles,
    ) -> Result<Vec<TreeEntry>, HarnessError> {
        let list = self.ask(&["ls-tree", "-r", "-z", &commit.0])?;
        // Each entry is mode, kind and id, parted by spaces, then a tab and the path.
        let guarded: Vec<(&str, &str, &str)> = split(&list)
            .filter_map(|entry| {
                let (facts, path) = entry.split_once('\t')?;
                let mut facts = facts.split(' ');
                let (mode, kind, id) = (facts.next()?, facts.next()?, facts.next()?);
                (kind == "blob" && guarded.contains(path)).then_some((mode, id, path))
            })
            .collect();
        let ids: Vec<_> = guarded.iter().map(|(_, id, _)| *id).collect();
        let blobs = self.blobs(&ids)?;
        Ok(guarded
            .into_iter()
            .zip(blobs)
            .map(|((mode, _, path), blob)| TreeEntry {
                path: path.to_owned(),
                mode: mode.to_owned(),
                sha256: hex::sha256(&blob),
            })
            .collect())
    }

    /// The contents of blobs, in their order.
    fn blobs(&self, ids: &[&str]) -> Result<Vec<Vec<u8>>, HarnessError> {
        let system = |source| HarnessError::System {
            what: "read the repository's objects".to_owned(),
            source,
        };
        let mut child = Command::new("git")
            .current_dir(&self.root)
            .args(["cat-file", "--batch"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(system)?;
        let mut input = child.stdin.take().expect("it was asked for");
        let wanted = ids.join("\n") + "\n";
        // Beside the reading: git answers while it is still being asked.
        let writer = std::thread::spawn(move || input.write_all(wanted.as_bytes()));
        let output = child.wait_with_output().map_err(system)?.stdout;
        let asked = writer.join().unwrap_or(Ok(()));
        asked.map_err(system)?;
        let garbled = || {
            system(std::io::Error::other(
                "git cat-file --batch answered something else",
            ))
        };
        let mut rest = &output[..];
        let mut blobs = Vec::with_capacity(ids.len());
        for _ in ids {
            // A line of id, kind and size; the content; a line end.
            let end = rest.iter().position(|byte| *byte == b'\n');
            let end = end.ok_or_else(garbled)?;
            let size: usize = std::str::from_utf8(&rest[..end])
                .ok()
                .and_then(|line| line.rsplit(' ').next()?.parse().ok())
                .ok_or_else(garbled)?;
            let content = rest.get(end + 1..end + 1 + size).ok_or_else(garbled)?;
            blobs.push(content.to_vec());
            rest = rest.get(end + 2 + size..).unwrap_or_default();
        }
        Ok(blobs)
    }

    /// How the checkout's guarded files differ from a commit's, found by their content and not by what git remembers of
    /// them: it may have been told to convert line endings.
    ///
    /// # Errors
    /// When the files or the commit cannot be read.
    pub fn differences(
        &self,
        commit: &Commit,
        guarded: &GuardedFiles,
        staged: Vec<Change>,
    ) -> Result<Differences, HarnessError> {
        let committed: BTreeMap<_, _> = self
            .entries(commit, guarded)?
            .into_iter()
            .map(|entry| (entry.path.clone(), entry))
            .collect();
        let mut found = Differences {
            changes: staged,
            line_endings: Vec::new(),
        };
        let here: BTreeMap<_, _> = tree::entries(&self.root, guarded)?
            .into_iter()
            .map(|entry| (entry.path.clone(), entry))
            .collect();
        let paths = committed
            .keys()
            .chain(here.keys().filter(|path| !committed.contains_key(*path)));
        for path in paths {
            if committed.get(path) == here.get(path) {
                continue;
            }
            if let (Some(committed), Some(_)) = (committed.get(path), here.get(path))
                && self.is_converted(committed)
            {
                found.line_endings.push(path.clone());
            }
            if found.changes.iter().all(|change| change.path != *path) {
                found.changes.push(Change {
                    path: path.clone(),
                    kind: if committed.contains_key(path) {
                        ChangeKind::Modified
                    } else {
                        ChangeKind::Untracked
                    },
                });
            }
        }
        Ok(found)
    }

    /// Whether a file is the committed one but for carriage returns at line ends.
    fn is_converted(&self, committed: &TreeEntry) -> bool {
        let Ok(bytes) = fs::read(self.root.join(&committed.path)) else {
            return false;
        };
        let mut plain = Vec::with_capacity(bytes.len());
        for (index, byte) in bytes.iter().enumerate() {
            if *byte != b'\r' || bytes.get(index + 1) != Some(&b'\n') {
                plain.push(*byte);
            }
        }
        hex::sha256(&plain) == committed.sha256
    }

    /// Files of a folder that were committed once and are others now, or gone.
    ///
    /// # Errors
    /// When git does not tell.
    pub fn rewritten(&self, head: &Commit, folder: &str) -> Result<Vec<Rewritten>, HarnessError> {
        let log = self.ask(&[
            "log",
            "-m",
            "--format=%x01%H",
            "--name-status",
            "--no-renames",
            "--diff-filter=MDT",
            "-z",
            &head.0,
            "--",
            folder,
        ])?;
        let mut latest: BTreeMap<&str, &str> = BTreeMap::new();
        let mut commit = "";
        let mut words = split(&log).map(str::trim);
        while let Some(word) = words.next() {
            if let Some(id) = word.strip_prefix('\u{1}') {
                commit = id;
            } else if let Some(path) = words.next() {
                latest.entry(path).or_insert(commit);
            }
        }
        // Not committed, but already another.
        let unsaved = self.differing(&["--diff-filter=MDT", &head.0, "--", folder])?;
        let mut found = Vec::new();
        for (path, commit) in latest {
            if unsaved.iter().any(|other| other == path) {
                continue;
            }
            let now = self.git(&["rev-parse", "--verify", &format!("{}:{path}", head.0)]);
            // Whoever put the old bytes back has mended it.
            if now.as_ref().ok() != self.first_blob(head, path).as_ref() {
                found.push(Rewritten {
                    path: path.to_owned(),
                    commit: commit.to_owned(),
                    deleted: now.is_err(),
                });
            }
        }
        for path in unsaved {
            found.push(Rewritten {
                commit: "(none yet)".to_owned(),
                deleted: !self.root.join(&path).exists(),
                path,
            });
        }
        Ok(found)
    }

    /// The blob that a file was when it was first committed.
    fn first_blob(&self, head: &Commit, path: &str) -> Option<String> {
        let added = self.git(&[
            "log",
            "--format=%H",
            "--diff-filter=A",
            "--no-renames",
            &head.0,
            "--",
            path,
        ]);
        let added = added.ok()?;
        let first = added.lines().last()?;
        self.git(&["rev-parse", "--verify", &format!("{first}:{path}")])
            .ok()
    }

    /// The files that `git diff` names.
    fn differing(&self, arguments: &[&str]) -> Result<Vec<String>, HarnessError> {
        let names_only = ["diff", "--name-only", "--no-renames", "-z"];
        let list = self.ask(&[&names_only, arguments].concat())?;
        Ok(split(&list).map(str::to_owned).collect())
    }

    fn git(&self, arguments: &[&str]) -> Result<String, String> {
        git(&self.root, arguments)
    }

    fn ask(&self, arguments: &[&str]) -> Result<String, HarnessError> {
        self.git(arguments).map_err(|reason| HarnessError::System {
            what: "ask git".to_owned(),
            source: std::io::Error::other(reason),
        })
    }
}

/// The parts of a list that NUL ends.
fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split('\0').filter(|part| !part.is_empty())
}
