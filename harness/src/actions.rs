//! What a workflow on GitHub is told: its commands, and the summary of its job.
//!
//! <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>

use std::fs::OpenOptions;
use std::io::Write;

use crate::error::HarnessError;

/// The most bytes of a job's summary that GitHub shows.
const SUMMARY: usize = 1 << 20;

/// Text in a workflow command, escaped as its documentation asks.
pub fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// A property of a workflow command, which may not hold what parts properties either.
pub fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Text of others, as it may be printed where a workflow reads it: no line of it is a command. The runner takes a line for
/// one that begins with `::`, and one that has `##[` anywhere (`ActionCommand.cs` of actions/runner).
pub fn inert(text: &str) -> String {
    if !are_here() {
        return text.to_owned();
    }
    let line = |line: &str| {
        let guard = if line.trim_start().starts_with("::") {
            "\\"
        } else {
            ""
        };
        format!("{guard}{}", line.replace("##[", "##\\["))
    };
    let parted = text
        .split('\n')
        .map(|part| part.split('\r').map(line).collect::<Vec<_>>().join("\r"));
    parted.collect::<Vec<_>>().join("\n")
}

/// Whether this runs in a workflow.
pub fn are_here() -> bool {
    std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true")
}

/// Adds to the summary of the job, where this runs in one.
///
/// # Errors
/// When the file that GitHub names cannot be written.
pub fn add_to_summary(markdown: &str) -> Result<(), HarnessError> {
    let file = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|file| !file.is_empty());
    let Some(file) = file.filter(|_| are_here()) else {
        return Ok(());
    };
    if markdown.len() > SUMMARY {
        return Ok(());
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(file)
        .and_then(|mut file| writeln!(file, "{markdown}"))
        .map_err(HarnessError::system("write the summary of the job"))
}
