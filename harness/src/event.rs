//! What a suite's process tells the gate that started it: one JSON object a line, on standard output.
//!
//! A case may print to the same stream, so a report begins with a marker and may begin anywhere in a line.
//! Text without the marker is not a report.

use kakeya_evidence::{Backend, Comparison, FloatModes};
use serde::{Deserialize, Serialize};

const MARKER: &str = "@kakeya-suite-report ";

/// How a case that ran to its end came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseOutcome {
    /// The rule held.
    Passed,
    /// The rule did not hold.
    Failed,
    /// An observed fact ruled the case out.
    Skipped,
}

/// A figure a case observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// A name, unique within the suite.
    pub name: String,
    /// The value.
    pub value: f64,
    /// The unit, spelled out.
    pub unit: String,
}

/// One report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// The process is up.
    Up {
        /// Its floating-point modes.
        float_modes: FloatModes,
    },
    /// A case begins.
    Started {
        /// Its name.
        case: String,
    },
    /// A case came to its end.
    Finished {
        /// Its name.
        case: String,
        /// How it came out.
        outcome: CaseOutcome,
        /// How long it took, in seconds.
        duration_seconds: f64,
        /// Forward passes while it ran.
        forward_passes: u64,
        /// What it compared.
        comparisons: Vec<Comparison>,
        /// Why it did not pass.
        message: Option<String>,
    },
    /// The model is loaded and has computed.
    Computed {
        /// On what.
        backend: Backend,
    },
    /// Every selected case was run.
    Done {
        /// Forward passes of the whole process.
        forward_passes: u64,
        /// The modes once more: something that ran may have changed them.
        float_modes: FloatModes,
        /// What the cases observed.
        figures: Vec<Figure>,
    },
}

/// A marked line that holds no report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Garbled {
    /// What is wrong with it.
    pub reason: String,
}

impl Event {
    /// The line to print, without its end.
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        Ok(format!("{MARKER}{}", serde_json::to_string(self)?))
    }

    /// Reads a line: a report, plain text, or a report that does not read.
    pub fn from_line(line: &str) -> Result<Option<Self>, Garbled> {
        let Some((_, report)) = line.split_once(MARKER) else {
            return Ok(None);
        };
        serde_json::from_str(report)
            .map(Some)
            .map_err(|error| Garbled {
                reason: error.to_string(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started() -> Event {
        Event::Started {
            case: "chunks_of_7".into(),
        }
    }

    #[test]
    fn a_report_survives_its_line_even_behind_other_text() {
        let line = started().to_line().unwrap();
        assert_eq!(
            line,
            r#"@kakeya-suite-report {"report":"started","case":"chunks_of_7"}"#
        );
        assert_eq!(Event::from_line(&line), Ok(Some(started())));
        let behind = format!("no line end here{line}");
        assert_eq!(Event::from_line(&behind), Ok(Some(started())));
    }

    #[test]
    fn text_is_not_a_report_and_half_a_report_is_garbled() {
        assert_eq!(Event::from_line("{\"report\":\"done\"}"), Ok(None));
        let line = started().to_line().unwrap();
        let cut = Event::from_line(&line[..line.len() - 3]).unwrap_err();
        assert!(cut.reason.contains("EOF"), "{}", cut.reason);
        let unknown = line.replace("started", "guessed");
        assert!(Event::from_line(&unknown).is_err());
    }
}
