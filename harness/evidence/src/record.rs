//! The record of one run, as it is written and read.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::case::{Counts, RequiredCase, TestCase};
use crate::environment::{Backend, Build, FloatModes, Host, ModelDigest, Source};
use crate::verdict::GateVerdict;

/// Reads an optional field that must be written, if only as null: a missing field denies.
pub(crate) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer)
}

/// The version of the record's shape, written as `major.minor`.
///
/// A reader of one major version reads its own minor versions and older ones. Another major version is
/// refused: guessing at a meaning is how bad evidence passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaVersion {
    /// Changes when the meaning or the presence of a field changes.
    pub major: u32,
    /// Changes when a field is added.
    pub minor: u32,
}

impl SchemaVersion {
    /// The version this crate writes.
    pub const CURRENT: Self = Self { major: 1, minor: 0 };
}

impl fmt::Display for SchemaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Serialize for SchemaVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SchemaVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let version = text
            .split_once('.')
            .and_then(|(major, minor)| {
                Some(Self {
                    major: major.parse().ok()?,
                    minor: minor.parse().ok()?,
                })
            })
            .ok_or_else(|| {
                serde::de::Error::custom(format!(
                    "schema_version is {text:?}, expected `major.minor`"
                ))
            })?;
        if version.major != Self::CURRENT.major || version.minor > Self::CURRENT.minor {
            return Err(serde::de::Error::custom(format!(
                "schema_version is {version}, this reader knows {}",
                Self::CURRENT
            )));
        }
        Ok(version)
    }
}

/// What part of the platform's suites the run was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Every suite was given its chance.
    Completed,
    /// A signal stopped the run.
    Interrupted,
    /// The model could not be had, so no suite was started.
    NoModel,
}

/// How one suite's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// The record of one gate run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The shape of this record.
    pub schema_version: SchemaVersion,
    /// Unique to the run.
    pub run_id: String,
    /// The platform whose gate was run.
    pub platform: String,
    /// The tier that was asked for.
    pub tier: String,
    /// What part of it ran.
    pub selection: Selection,
    /// When the run began.
    pub started: Timestamp,
    /// When the run ended.
    pub ended: Timestamp,
    /// How the run ended.
    pub ending: Ending,
    /// The harness's exit status.
    pub exit_status: u8,
    /// The source the run was about.
    pub source: Source,
    /// What ran.
    pub build: Build,
    /// Where it ran.
    pub host: Host,
    /// What computed the forward passes, where every suite that reported one agrees.
    #[serde(deserialize_with = "present")]
    pub backend: Option<Backend>,
    /// The floating-point modes, where every suite that reported them agrees.
    #[serde(deserialize_with = "present")]
    pub float_modes: Option<FloatModes>,
    /// The weights.
    pub models: Vec<ModelDigest>,
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
    /// The gates' verdicts, for readers; they are recomputed from the cases.
    pub verdicts: Vec<GateVerdict>,
    /// The run in a few lines of prose.
    pub summary_text: String,
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
pub(crate) mod tests {
    use super::*;
    use crate::case::Outcome;
    use crate::environment::Rounding;

    /// The record of an imagined run. It is data about a record's shape; no engine stands behind it.
    pub(crate) fn sample() -> Evidence {
        let backend = Backend {
            device: "cpu".into(),
            isa: "avx2".into(),
            threads: 2,
            numerics_version: 1,
        };
        let float_modes = FloatModes {
            flush_to_zero: false,
            denormals_are_zero: false,
            rounding: Rounding::NearestEven,
        };
        let case = |name: &str, outcome, message: Option<&str>| TestCase {
            suite: "inv3".into(),
            name: name.into(),
            tier: "fast".into(),
            history: Some("prose".into()),
            outcome,
            duration_seconds: 0.25,
            forward_passes: Some(12),
            message: message.map(Into::into),
        };
        let cases = vec![
            case("chunks_of_7", Outcome::Passed, None),
            case("chunks_of_8", Outcome::Failed, Some("found 1, expected 2")),
            case("chunks_of_9", Outcome::Skipped, Some("no such unit")),
            case("chunks_of_10", Outcome::Crashed, Some("killed by signal 9")),
        ];
        Evidence {
            schema_version: SchemaVersion::CURRENT,
            run_id: "9b2f4c1e-0000-4000-8000-000000000001".into(),
            platform: "linux-cpu".into(),
            tier: "fast".into(),
            selection: Selection {
                partial: false,
                suites: vec!["inv3".into()],
                case_filter: None,
            },
            started: "2026-01-02T03:04:05Z".parse().unwrap(),
            ended: "2026-01-02T03:05:06Z".parse().unwrap(),
            ending: Ending::Completed,
            exit_status: 6,
            source: Source {
                tree_sha256: "aa".into(),
                tree_sha256_at_end: "aa".into(),
                files: 3,
                commit: None,
                commit_absent_reason: Some("no commits yet".into()),
                dirty: None,
                dirty_paths: Vec::new(),
            },
            build: Build {
                harness_sha256: "bb".into(),
                cargo_lock_sha256: "cc".into(),
                rustc: "rustc 1.95.0".into(),
                target: "x86_64-unknown-linux-gnu".into(),
                profile: "debug".into(),
                opt_level: "1".into(),
                debug_assertions: true,
            },
            host: crate::policy::platform::tests::linux_host(),
            backend: Some(backend.clone()),
            float_modes: Some(float_modes),
            models: vec![ModelDigest {
                name: "smollm2-135m".into(),
                file: "SmolLM2-135M-Instruct.Q4_1.gguf".into(),
                size_bytes: 98_362_432,
                sha256: "dd".into(),
            }],
            forward_passes: 48,
            suites: vec![SuiteRun {
                id: "inv3".into(),
                ending: SuiteEnding::Crashed,
                detail: Some("killed by signal 9".into()),
                duration_seconds: 1.5,
                limit_seconds: 300.0,
                forward_passes: 48,
                backend: Some(backend),
                float_modes: Some(float_modes),
            }],
            required: cases
                .iter()
                .map(|case| RequiredCase {
                    suite: case.suite.clone(),
                    name: case.name.clone(),
                })
                .collect(),
            counts: Counts::of(&cases),
            cases,
            measurements: vec![Measurement {
                suite: "inv3".into(),
                name: "logits_compared".into(),
                value: 49_152.0,
                unit: "values".into(),
            }],
            verdicts: Vec::new(),
            summary_text: "1 passed, 2 failed, 1 skipped".into(),
        }
    }

    /// One process that ended well.
    pub(crate) fn completed_run() -> SuiteRun {
        SuiteRun {
            ending: SuiteEnding::Completed,
            detail: None,
            ..sample().suites.remove(0)
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let evidence = sample();
        let text = serde_json::to_string_pretty(&evidence).unwrap();
        assert!(text.contains("\"schema_version\": \"1.0\""), "{text}");
        assert!(text.contains("\"started\": \"2026-01-02T03:04:05Z\""));
        assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), evidence);
    }

    #[test]
    fn every_field_must_be_there() {
        let whole = serde_json::to_value(sample()).unwrap();
        let fields: Vec<_> = whole.as_object().unwrap().keys().cloned().collect();
        for field in fields {
            let mut value = whole.clone();
            value.as_object_mut().unwrap().remove(&field);
            let error = serde_json::from_value::<Evidence>(value).unwrap_err();
            assert!(error.to_string().contains(&field), "{field}: {error}");
        }
    }

    #[test]
    fn a_field_nobody_knows_is_refused() {
        for pointer in ["", "/host", "/source", "/suites/0", "/cases/0", "/build"] {
            let mut value = serde_json::to_value(sample()).unwrap();
            value.pointer_mut(pointer).unwrap()["surprise"] = true.into();
            let error = serde_json::from_value::<Evidence>(value).unwrap_err();
            assert!(error.to_string().contains("surprise"), "{pointer}: {error}");
        }
    }

    #[test]
    fn a_key_written_twice_is_refused() {
        let text = serde_json::to_string(&sample()).unwrap();
        let twice = text.replacen("\"run_id\":", "\"run_id\":\"x\",\"run_id\":", 1);
        let error = serde_json::from_str::<Evidence>(&twice).unwrap_err();
        assert!(error.to_string().contains("duplicate field"), "{error}");
    }

    #[test]
    fn only_this_major_version_is_read() {
        let read = |text: &str| {
            serde_json::from_value::<SchemaVersion>(text.into()).map_err(|e| e.to_string())
        };
        assert_eq!(read("1.0"), Ok(SchemaVersion::CURRENT));
        for unknown in ["2.0", "0.9", "1.1"] {
            assert_eq!(
                read(unknown),
                Err(format!(
                    "schema_version is {unknown}, this reader knows 1.0"
                ))
            );
        }
        for malformed in ["1", "one.two", "1.x", ""] {
            assert_eq!(
                read(malformed),
                Err(format!(
                    "schema_version is {malformed:?}, expected `major.minor`"
                ))
            );
        }
        assert!(serde_json::from_value::<SchemaVersion>(1.into()).is_err());
    }

    #[test]
    fn suites_that_disagree_give_no_common_answer() {
        let mut runs = sample().suites;
        let isa =
            |runs: &[SuiteRun]| Evidence::agreed(runs, |run| run.backend.as_ref()).map(|b| b.isa);
        assert_eq!(isa(&[]), None);
        assert_eq!(isa(&runs), Some("avx2".to_owned()));
        runs.push(runs[0].clone());
        runs.push(SuiteRun {
            backend: None,
            ..runs[0].clone()
        });
        assert_eq!(isa(&runs), Some("avx2".to_owned()));
        if let Some(backend) = &mut runs[1].backend {
            backend.isa = "scalar".into();
        }
        assert_eq!(isa(&runs), None);
    }
}
