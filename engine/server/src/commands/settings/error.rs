//! What is wrong with a setting, and where it stands.

use std::io;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};

/// What is wrong with a setting from the file or the environment.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A place in the file.
    #[error("{}:{line}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1 up.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// A variable.
    #[error("the environment variable {name} {problem}")]
    Variable {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// What clap has against a value, without what it says of flags and of help.
pub(super) fn reason(error: &clap::Error) -> String {
    if let Some(source) = std::error::Error::source(error) {
        return source.to_string();
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(valid)) => format!("expected {}", either(valid)),
        _ => {
            let told = error.to_string();
            let first = told.lines().next().unwrap_or_default();
            first.strip_prefix("error: ").unwrap_or(first).to_owned()
        }
    }
}

fn either(values: &[String]) -> String {
    let quoted: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}
