//! The record of one run, as it is written and read.

mod coverage;
mod run;
mod soak;
mod version;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

pub use coverage::{Coverage, ModuleCoverage};
pub use run::{Ending, Measurement, Selection, SuiteEnding, SuiteRun};
pub use soak::{Bucket, Client, LongSession, Violations};
pub use version::SchemaVersion;

use crate::case::{Counts, RequiredCase, TestCase};
use crate::environment::{Backend, Build, FloatModes, Host, ModelFile, Network, Source};
use crate::verdict::GateVerdict;

/// Reads an optional field that must be written, if only as null: a missing field denies.
pub(crate) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer)
}

/// The record of one gate run.
///
/// What says which run it is comes first, so that a folder of records can be searched by their beginnings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The shape of this record.
    pub schema_version: SchemaVersion,
    /// Unique to the run.
    pub run_id: String,
    /// The repository the run was about, as its policy names it.
    pub repository: String,
    /// The platform whose gate was run.
    pub platform: String,
    /// The tier that was asked for.
    pub tier: String,
    /// The source the run was about.
    pub source: Source,
    /// What part of the tier ran.
    pub selection: Selection,
    /// When the run began.
    pub started: Timestamp,
    /// When the run ended. Absent where it did not.
    #[serde(deserialize_with = "present")]
    pub ended: Option<Timestamp>,
    /// How the run ended.
    pub ending: Ending,
    /// The harness's exit status. Absent where the run did not end.
    #[serde(deserialize_with = "present")]
    pub exit_status: Option<u8>,
    /// What ran.
    pub build: Build,
    /// Where it ran.
    pub host: Host,
    /// Whether it fetched anything.
    pub network: Network,
    /// What computed the forward passes, where every suite that reported one agrees.
    #[serde(deserialize_with = "present")]
    pub backend: Option<Backend>,
    /// The floating-point modes, where every suite that reported them agrees.
    #[serde(deserialize_with = "present")]
    pub float_modes: Option<FloatModes>,
    /// The weights.
    pub models: Vec<ModelFile>,
    /// Forward passes of all suites together.
    pub forward_passes: u64,
    /// The suites' processes.
    pub suites: Vec<SuiteRun>,
    /// Every case that the tier asks for on this platform.
    pub required: Vec<RequiredCase>,
    /// Every case that was selected, as it ended.
    pub cases: Vec<TestCase>,
    /// Cases by outcome, for readers; the cases decide.
    pub counts: Counts,
    /// Figures that cases observed.
    pub measurements: Vec<Measurement>,
    /// The long session, where one was asked for.
    #[serde(deserialize_with = "present")]
    pub long_session: Option<LongSession>,
    /// What tests covered, where a report was given.
    #[serde(deserialize_with = "present")]
    pub coverage: Option<Coverage>,
    /// The gates' verdicts, for readers; they are recomputed.
    pub verdicts: Vec<GateVerdict>,
    /// The run in a few lines of prose.
    pub summary_text: String,
    /// SHA-256 of this record's canonical bytes with this field empty. It tells a damaged record from a whole one;
    /// who vouches for it is told by a signature alone.
    pub content_sha256: String,
}

impl Evidence {
    /// Fills the fields that several suites report, where they agree.
    pub fn agreed<T: PartialEq + Clone>(
        suites: &[SuiteRun],
        field: impl Fn(&SuiteRun) -> Option<&T>,
    ) -> Option<T> {
        let mut reported = suites.iter().filter_map(field);
        let first = reported.next()?;
        reported.all(|other| other == first).then(|| first.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn suites_that_disagree_give_no_common_answer() {
        let isa =
            |runs: &[SuiteRun]| Evidence::agreed(runs, |run| run.backend.as_ref()).map(|b| b.isa);
        let mut runs = fixture::good().suites;
        assert_eq!(isa(&[]), None);
        assert_eq!(isa(&runs), Some("avx2".to_owned()));
        runs[0].backend = None;
        assert_eq!(isa(&runs), Some("avx2".to_owned()));
        runs[0].backend = Some(Backend {
            isa: "scalar".into(),
            ..fixture::backend()
        });
        assert_eq!(isa(&runs), None);
    }
}
