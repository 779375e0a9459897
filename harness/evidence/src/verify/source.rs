//! The tree that was tested: that it is this one, a commit's, and stayed what it was.

use super::{Checkout, Rejection, Rejections};
use crate::environment::{Change, ChangeKind, CommitFrom, Source};
use crate::record::Evidence;

pub(super) fn check(
    evidence: &Evidence,
    repository: &str,
    checkout: &Checkout<'_>,
    reasons: &mut Rejections,
) {
    if evidence.repository != repository {
        reasons.push(Rejection::OtherRepository {
            found: evidence.repository.clone(),
            expected: repository.to_owned(),
        });
    }
    let source = &evidence.source;
    if source.tree_sha256 != checkout.tree_sha256 {
        reasons.push(Rejection::OtherTree {
            found: source.tree_sha256.clone(),
            expected: checkout.tree_sha256.clone(),
        });
    }
    let found = &evidence.build.cargo_lock_sha256;
    if let Some(expected) = checkout.lock_sha256.as_ref().filter(|lock| *lock != found) {
        reasons.push(Rejection::OtherLock {
            found: found.clone(),
            expected: expected.clone(),
        });
    }
    own(evidence, reasons);
    let Some(commit) = &source.commit else {
        return;
    };
    match (checkout.tree_of_commit)(commit) {
        Some(tree) if tree != source.tree_sha256 => reasons.push(Rejection::NotThatCommit {
            commit: commit.clone(),
            found: source.tree_sha256.clone(),
            expected: tree,
        }),
        // After a rebase the commit is gone, and the tree that git vouched for is still the same tree.
        None if source.commit_from != Some(CommitFrom::Git) => {
            reasons.push(Rejection::CommitUnknown {
                commit: commit.clone(),
            });
        }
        _ => {}
    }
}

/// What the record alone shows.
pub(super) fn own(evidence: &Evidence, reasons: &mut Rejections) {
    let source = &evidence.source;
    // A run that did not end says so elsewhere.
    if !source.is_unchanged() && evidence.ended.is_some() {
        let after = source.tree_sha256_at_end.clone();
        reasons.push(Rejection::ChangedDuringRun {
            before: source.tree_sha256.clone(),
            after: after.unwrap_or_else(|| "not observed".to_owned()),
        });
    }
    contradictions(source, reasons);
    reasons.extend(changes(&source.changes));
    // A flag without a file to show for it is still a flag.
    if source.dirty == Some(true) && source.changes.is_empty() {
        reasons.push(Rejection::Modified {
            paths: "none is named".to_owned(),
        });
    }
    let Some(commit) = &source.commit else {
        reasons.push(Rejection::NoCommit {
            reason: source.commit_absent_reason.clone().unwrap_or_default(),
        });
        return;
    };
    if evidence.build.commit.as_ref() != Some(commit) {
        reasons.push(Rejection::BuiltElsewhere {
            found: evidence
                .build
                .commit
                .clone()
                .unwrap_or_else(|| "no commit".to_owned()),
            expected: commit.clone(),
        });
    }
}

/// Whether what git told and what it did not tell fit each other.
fn contradictions(source: &Source, reasons: &mut Rejections) {
    let told = source.commit_from == Some(CommitFrom::Git);
    let what = if source.commit.is_some() != source.commit_from.is_some() {
        "a commit and who named it go together"
    } else if told != source.dirty.is_some() {
        "git tells of the commit and of changes to it, or of neither"
    } else if told == source.commit_absent_reason.is_some() {
        "git tells the commit, or there is a reason why it does not"
    } else {
        return;
    };
    reasons.push(Rejection::SourceContradicts {
        what: what.to_owned(),
    });
}

/// A reason for each kind of change.
pub(super) fn changes(changes: &[Change]) -> Rejections {
    let paths = |kind: ChangeKind| {
        let of_kind: Vec<_> = changes
            .iter()
            .filter(|change| change.kind == kind)
            .map(|change| change.path.as_str())
            .collect();
        (!of_kind.is_empty()).then(|| of_kind.join(", "))
    };
    let mut reasons = Vec::new();
    if let Some(paths) = paths(ChangeKind::Modified) {
        reasons.push(Rejection::Modified { paths });
    }
    if let Some(paths) = paths(ChangeKind::Staged) {
        reasons.push(Rejection::Staged { paths });
    }
    if let Some(paths) = paths(ChangeKind::Untracked) {
        reasons.push(Rejection::Untracked { paths });
    }
    reasons
}
