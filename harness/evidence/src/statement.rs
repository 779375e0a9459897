//! The form a record is kept in: an in-toto Statement about the tree and the commit that were tested.
//!
//! The file is the statement, so that its bytes can be signed as they are (see [`crate::sign`]), and read by tools
//! that know nothing else of Kakeya. Source: the in-toto Attestation Framework, Statement v1.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::Evidence;

/// The type of every statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// The type of a statement's predicate that is a record.
pub const PREDICATE_TYPE: &str = "urn:kakeya:evidence:v2";

/// A record, and what it is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// [`STATEMENT_TYPE`].
    #[serde(rename = "_type")]
    pub kind: String,
    /// The guarded tree and the commit.
    pub subject: Vec<Subject>,
    /// [`PREDICATE_TYPE`].
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// The record.
    pub predicate: Evidence,
}

/// Something that a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// The repository's name, and `guarded-tree` or `commit`.
    pub name: String,
    /// By what it is known.
    pub digest: Digest,
}

/// By what a subject is known. One of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// Of a tree: the digest of its guarded files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Of a commit: its id.
    #[serde(default, rename = "gitCommit", skip_serializing_if = "Option::is_none")]
    pub git_commit: Option<String>,
}

impl Statement {
    /// The statement of a record.
    #[must_use]
    pub fn of(evidence: Evidence) -> Self {
        Self {
            kind: STATEMENT_TYPE.to_owned(),
            subject: subjects(&evidence),
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate: evidence,
        }
    }
}

/// What a record is about.
#[must_use]
pub fn subjects(evidence: &Evidence) -> Vec<Subject> {
    let name = |what: &str| format!("{}/{what}", evidence.repository);
    let source = &evidence.source;
    let mut subjects = vec![Subject {
        name: name("guarded-tree"),
        digest: Digest {
            sha256: Some(source.tree_sha256.clone()),
            git_commit: None,
        },
    }];
    subjects.extend(source.commit.clone().map(|commit| Subject {
        name: name("commit"),
        digest: Digest {
            sha256: None,
            git_commit: Some(commit),
        },
    }));
    subjects
}

/// Subjects in one line.
#[must_use]
pub fn describe(subjects: &[Subject]) -> String {
    let one = |subject: &Subject| {
        let digest = &subject.digest;
        let known = digest.sha256.as_ref().or(digest.git_commit.as_ref());
        format!(
            "{} {}",
            subject.name,
            known.map_or("without a digest", String::as_str)
        )
    };
    subjects.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn a_statement_is_about_the_tree_and_the_commit_where_there_is_one() {
        let mut evidence = fixture::good();
        evidence.source.commit = Some("c0ffee".into());
        let statement = Statement::of(evidence.clone());
        assert_eq!(
            describe(&statement.subject),
            format!(
                "kakeya/guarded-tree {}, kakeya/commit c0ffee",
                evidence.source.tree_sha256
            )
        );
        evidence.source.commit = None;
        assert_eq!(subjects(&evidence).len(), 1);
        let bare = Subject {
            name: "x".into(),
            digest: Digest {
                sha256: None,
                git_commit: None,
            },
        };
        assert_eq!(describe(&[bare]), "x without a digest");
    }
}
