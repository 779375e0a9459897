//! Why a case did not pass.

use std::error::Error;
use std::fmt;

/// What a case returns.
pub type CaseResult = Result<(), CaseFailure>;

/// The reason a case did not pass.
///
/// It is deliberately not a [`std::error::Error`]: that leaves room for the blanket conversion below, so
/// that `?` works on every library error inside a case.
#[derive(Debug)]
#[must_use]
pub enum CaseFailure {
    /// Two things that had to be equal were not.
    Unequal {
        /// What was compared.
        what: String,
        /// What the engine gave.
        found: String,
        /// What the rule asks.
        expected: String,
    },
    /// A comparison of nothing: it would pass whatever the engine did.
    NothingCompared {
        /// What should have been compared.
        what: String,
    },
    /// A comparison of a thing with itself: it would pass whatever the engine did.
    ComparedWithItself {
        /// What should have been compared.
        what: String,
    },
    /// A rule was broken; the sentence says which and how.
    Violated(String),
    /// The engine, or something below it, answered with an error.
    Error(String),
    /// The case does not apply to the host as observed. It does not count as passed.
    Skipped(String),
}

impl CaseFailure {
    /// A broken rule.
    pub fn violated(sentence: impl Into<String>) -> Self {
        Self::Violated(sentence.into())
    }

    /// A case that an observed fact rules out.
    pub fn skipped(reason: impl Into<String>) -> Self {
        Self::Skipped(reason.into())
    }

    /// An inequality, with both sides.
    pub fn unequal(
        what: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Unequal {
            what: what.into(),
            found: found.into(),
            expected: expected.into(),
        }
    }
}

impl fmt::Display for CaseFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unequal {
                what,
                found,
                expected,
            } => write!(f, "{what}: found {found}, expected {expected}"),
            Self::NothingCompared { what } => {
                write!(f, "{what}: both sides are empty, so nothing was compared")
            }
            Self::ComparedWithItself { what } => write!(
                f,
                "{what}: both sides lie in one place, so a thing was compared with itself"
            ),
            Self::Violated(text) | Self::Error(text) => f.write_str(text),
            Self::Skipped(reason) => write!(f, "skipped: {reason}"),
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for CaseFailure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Many libraries print their source in their own message already.
            if !text.ends_with(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        Self::Error(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thiserror::Error;

    #[derive(Debug, Error)]
    #[error("cannot read the slab")]
    struct Outer(#[source] Inner);

    #[derive(Debug, Error)]
    #[error("slot 9 is missing")]
    struct Inner;

    fn read() -> CaseResult {
        Err::<CaseResult, _>(Outer(Inner))?
    }

    #[test]
    fn a_library_error_keeps_its_sources() {
        let text = read().map_err(|failure| failure.to_string());
        assert_eq!(
            text,
            Err("cannot read the slab: slot 9 is missing".to_owned())
        );
    }

    #[test]
    fn messages_name_found_and_expected() {
        assert_eq!(
            CaseFailure::unequal("cached length", "7", "6").to_string(),
            "cached length: found 7, expected 6"
        );
        assert_eq!(
            CaseFailure::violated("the slab leaked").to_string(),
            "the slab leaked"
        );
        assert_eq!(
            CaseFailure::skipped("no AVX2").to_string(),
            "skipped: no AVX2"
        );
    }
}
