//! What can be wrong with coverage, each as a line of text.

use std::fmt::{self, Display, Formatter};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Problem {
    /// The policy asks for nothing, so a report that holds nothing would do.
    NoModule,
    /// The report has no line of a module.
    NoLine {
        /// The module's path.
        module: String,
    },
    /// A module's lines ran too rarely. The lines come before this, one by one.
    Below {
        /// The module's path.
        module: String,
        /// Lines that ran.
        covered: u64,
        /// Lines that did not, with an excuse.
        excused: u64,
        /// Lines that can run.
        lines: u64,
        /// The least share, in percent.
        wanted: f64,
    },
    /// A line that did not run, without an excuse.
    NotCovered {
        /// The file, relative to the checkout.
        file: String,
        /// The line's number, from 1.
        line: usize,
        /// What stands there, without the blanks around it; empty if the source cannot be read.
        text: String,
    },
    /// A file's summary counts more uncovered lines than were found.
    Unexplained {
        /// The file, relative to the checkout.
        file: String,
        /// How many more.
        lines: u64,
    },
    /// An excuse that excuses nothing.
    StaleExcuse {
        /// The excuse's file.
        file: String,
        /// The excuse's line.
        line: String,
        /// Why it excuses nothing.
        why: Stale,
    },
    /// An excuse without a reason; it is not applied.
    NoReason {
        /// The excuse's file.
        file: String,
        /// The excuse's line.
        line: String,
    },
}

/// Why an excuse excuses nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    /// The file is of another module than the excuse.
    OtherModule,
    /// The file is not there.
    NoFile,
    /// The file has no line of that text.
    NoSuchLine,
    /// Nothing in the file can run, or the report was made without it.
    NotReported,
    /// Every line of that text ran, cannot run, or has another excuse.
    Covered,
}

impl Display for Problem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoModule => write!(f, "the policy names no module, and must name one at least"),
            Self::NoLine { module } => write!(f, "{module}: the report has no line of it"),
            Self::Below {
                module,
                covered,
                excused,
                lines,
                wanted,
            } => write!(
                f,
                "{module}: {covered} of {lines} lines ran and {excused} are excused, which is less than {wanted}%"
            ),
            Self::NotCovered { file, line, text } if text.is_empty() => {
                write!(f, "{file}:{line}: not covered")
            }
            Self::NotCovered { file, line, text } => {
                write!(f, "{file}:{line}: not covered: `{text}`")
            }
            Self::Unexplained { file, lines } => write!(
                f,
                "{file}: its summary counts {lines} more uncovered, on lines that ran in part"
            ),
            Self::StaleExcuse { file, line, why } => {
                write!(f, "{file}: the excuse for `{line}` excuses nothing: {why}")
            }
            Self::NoReason { file, line } => {
                write!(f, "{file}: the excuse for `{line}` gives no reason")
            }
        }
    }
}

impl Display for Stale {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherModule => "the file is not of its module",
            Self::NoFile => "there is no such file",
            Self::NoSuchLine => "the file has no such line",
            Self::NotReported => "the report does not have the file",
            Self::Covered => "each such line ran, cannot run, or has an excuse already",
        })
    }
}
