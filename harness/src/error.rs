//! What can stop a command, and the exit status each of these has.

use std::path::PathBuf;

use kakeya_evidence::coverage::CoverageError;
use kakeya_evidence::policy::PatternError;
use kakeya_evidence::tree::TreeError;
use kakeya_evidence::verify::Code;
#[cfg(feature = "engine")]
use kakeya_gates::long_session::LongSessionError;
use kakeya_report::compare::CompareError;
use kakeya_report::index::IndexError;
use kakeya_report::store::StoreError;
use kakeya_suite::{RegistryError, WorkspaceError};
use thiserror::Error;

use crate::exit::Exit;

/// Why a command did not get to its result.
#[derive(Debug, Error)]
pub enum HarnessError {
    /// Not inside a checkout.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// No platform of that name.
    #[error("unknown platform `{name}`; known platforms: {}", known.join(", "))]
    UnknownPlatform {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No suite of that name.
    #[error("unknown suite `{name}`; known suites: {}", known.join(", "))]
    UnknownSuite {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A suite that the platform does not run.
    #[error("platform `{platform}` does not run suite `{suite}`; it runs: {}", runs.join(", "))]
    SuiteNotOnPlatform {
        /// The platform.
        platform: String,
        /// The suite.
        suite: String,
        /// What it runs.
        runs: Vec<String>,
    },
    /// Policy asks for a suite that this build does not have.
    #[error("platform `{platform}` asks for suite `{suite}`, which this build does not have")]
    SuiteNotBuilt {
        /// The platform.
        platform: String,
        /// The suite.
        suite: String,
    },
    /// The suites of this build contradict themselves.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A policy file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    PolicyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A policy file does not say what it should.
    #[error("{} is malformed: {reason}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file that should be a record.
    #[error("{} is no evidence: {code}: {reason}", path.display())]
    NotEvidence {
        /// The file.
        path: PathBuf,
        /// The code of the reason.
        code: Code,
        /// Why.
        reason: String,
    },
    /// A file that should hold a key.
    #[error("{} is no Ed25519 key in PKCS#8 PEM: {reason}; `harness keygen` makes one", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The server of a long session.
    #[cfg(feature = "engine")]
    #[error("the long session: {0}")]
    LongSession(#[from] LongSessionError),
    /// Runs that are not alike.
    #[error("{0}; compare them nevertheless with --unlike")]
    Unlike(#[from] CompareError),
    /// A coverage report that does not read.
    #[error("{}: {}", path.display(), with_source(error))]
    Coverage {
        /// The report.
        path: PathBuf,
        /// Why.
        error: CoverageError,
    },
    /// The index could not be made.
    #[error("{}", with_source(.0))]
    Index(#[from] IndexError),
    /// No reason of that code.
    #[error("there is no code `{code}`; `harness explain` lists them all")]
    UnknownCode {
        /// What was asked for.
        code: String,
    },
    /// The pattern of guarded files makes no sense.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The host is another one.
    #[error("this host is not {platform}: {}", mismatches.join("; "))]
    HostMismatch {
        /// The platform.
        platform: String,
        /// Each fact that does not match.
        mismatches: Vec<String>,
    },
    /// The model cannot be had.
    #[error("{0}")]
    Model(String),
    /// No model is meant when none is named.
    #[error(
        "gates/models.toml names no default model; name one with --model, or a platform with --platform"
    )]
    NoDefaultModel,
    /// The source tree could not be digested.
    #[error("{}", with_source(.0))]
    Tree(#[from] TreeError),
    /// The evidence could not be kept.
    #[error("{}", with_source(.0))]
    Store(#[from] StoreError),
    /// Something the operating system refused.
    #[error("cannot {what}: {source}")]
    System {
        /// What was attempted.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The operating system does not tell what the host is.
    #[error("cannot observe the host: {0}")]
    Host(#[from] sysinfo::Error),
    /// The signal handler could not be installed.
    #[error("cannot listen for signals: {0}")]
    Signals(#[from] ctrlc::Error),
    /// The environment asks the engine for what is not there, such as an instruction set.
    #[error("{0}")]
    Environment(String),
    /// A repository that `init` was given.
    #[error("cannot begin in {}: {reason}", path.display())]
    Init {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The event, the policy or the command line of `label` or `checks` makes no sense.
    #[cfg(feature = "github")]
    #[error("{0}")]
    Request(String),
    /// GitHub did not do what was asked.
    #[cfg(feature = "github")]
    #[error(transparent)]
    Github(#[from] kakeya_github::GithubError),
}

impl HarnessError {
    /// The exit status of a command that this error stopped.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Workspace(_)
            | Self::UnknownPlatform { .. }
            | Self::UnknownSuite { .. }
            | Self::SuiteNotOnPlatform { .. }
            | Self::SuiteNotBuilt { .. }
            | Self::Registry(_)
            | Self::PolicyFile { .. }
            | Self::Policy { .. }
            | Self::Pattern(_)
            | Self::NotEvidence { .. }
            | Self::Key { .. }
            | Self::UnknownCode { .. }
            | Self::Unlike(_)
            | Self::Coverage { .. }
            | Self::Index(_)
            | Self::NoDefaultModel
            | Self::Init { .. }
            | Self::Environment(_) => Exit::Usage,
            #[cfg(feature = "github")]
            Self::Request(_) => Exit::Usage,
            #[cfg(feature = "github")]
            Self::Github(_) => Exit::Internal,
            #[cfg(feature = "engine")]
            Self::LongSession(_) => Exit::Internal,
            Self::HostMismatch { .. } => Exit::HostMismatch,
            Self::Model(_) => Exit::Model,
            Self::Tree(_)
            | Self::Store(_)
            | Self::System { .. }
            | Self::Host(_)
            | Self::Signals(_) => Exit::Internal,
        }
    }

    /// Turns an operating-system error into one that says what was attempted.
    pub fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}

/// A message with those of its sources, for errors whose own message leaves them out.
fn with_source(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_what_there_is() {
        let error = HarnessError::UnknownSuite {
            name: "nope".into(),
            known: vec!["inv3".into(), "grpc".into()],
        };
        assert_eq!(
            error.to_string(),
            "unknown suite `nope`; known suites: inv3, grpc"
        );
        assert_eq!(error.exit(), Exit::Usage);
    }

    #[test]
    fn an_error_with_a_source_shows_both() {
        let source = std::io::Error::other("disk on fire");
        let error = HarnessError::from(StoreError::File {
            what: "write",
            path: "e.json".into(),
            source,
        });
        assert_eq!(error.to_string(), "cannot write e.json: disk on fire");
        assert_eq!(error.exit(), Exit::Internal);
    }
}
