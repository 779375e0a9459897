//! What was asked of a run, and how it and its suites ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::present;
use crate::environment::{Backend, FloatModes};

/// What part of the platform's suites the run was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Whether anything the tier requires was left out. A partial run claims no verdict.
    pub partial: bool,
    /// The suites that were selected.
    pub suites: Vec<String>,
    /// The text that case names had to contain, where one was given.
    #[serde(deserialize_with = "present")]
    pub case_filter: Option<String>,
}

/// How the run as a whole ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Every suite was given its chance.
    Completed,
    /// A signal stopped the run.
    Interrupted,
    /// The model could not be had, so no suite was started.
    NoModel,
    /// Nothing has been written since: the run goes on, or was killed.
    Unfinished,
}

/// How one suite's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SuiteEnding {
    /// It said that it was done and exited with status 0.
    Completed,
    /// It died, or left without saying that it was done.
    Crashed,
    /// Its time was over.
    TimedOut,
    /// A signal stopped the run while it ran.
    Interrupted,
    /// It was never started.
    NotStarted,
}

/// One suite's process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SuiteRun {
    /// The suite's id.
    pub id: String,
    /// How its process ended.
    pub ending: SuiteEnding,
    /// What the process left behind where it did not end well: signal or status, and its last words.
    #[serde(deserialize_with = "present")]
    pub detail: Option<String>,
    /// How long the process lived, in seconds.
    pub duration_seconds: f64,
    /// The limit it ran under, in seconds.
    pub limit_seconds: f64,
    /// Forward passes the process counted up to the last thing it reported.
    pub forward_passes: u64,
    /// What computed them, as the process reported it.
    #[serde(deserialize_with = "present")]
    pub backend: Option<Backend>,
    /// The process's floating-point modes, as it found them.
    #[serde(deserialize_with = "present")]
    pub float_modes: Option<FloatModes>,
}

/// A figure a case observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// The suite that observed it.
    pub suite: String,
    /// A name, unique within the suite.
    pub name: String,
    /// The value.
    pub value: f64,
    /// The unit, spelled out.
    pub unit: String,
}
