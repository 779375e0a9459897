//! The record of an imagined run in which all went well, and the policy it was made under. Data about shapes: no
//! engine stands behind it. Attacks on the verifier are built from it.

use std::collections::BTreeMap;

use kakeya_evidence::policy::{
    CoveragePolicy, CoveredModule, Excuse, GaRequest, Gate, GatePolicy, GuardedPolicy, Keys, Limit,
    ListedCase, LockedFile, LockedModel, ModelLock, Policy, Request, RequiredPolicy, RequiredSuite,
    Rule, Waivers,
};
use kakeya_evidence::{
    Backend, Bucket, Build, Client, CommitFrom, Comparison, Content, Counts, Coverage, Ending,
    Evidence, FloatModes, Host, LongSession, Measurement, ModelFile, ModuleCoverage, Network,
    Outcome, Place, RequiredCase, Rounding, SchemaVersion, Selection, Source, SuiteEnding,
    SuiteRun, TestCase, Violations, canonical, verdict,
};

pub const TREE: &str = "aa11aa11aa11aa11aa11aa11aa11aa11aa11aa11aa11aa11aa11aa11aa11aa11";
pub const COMMIT: &str = "c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ff";
const WEIGHTS: &str = "dd44dd44dd44dd44dd44dd44dd44dd44dd44dd44dd44dd44dd44dd44dd44dd44";

pub fn host() -> Host {
    Host {
        os: "linux".into(),
        os_version: Some("Debian GNU/Linux 13".into()),
        kernel: Some("6.12.0".into()),
        arch: "x86_64".into(),
        chip: Some("AMD EPYC 7B13".into()),
        logical_cores: 2,
        memory_bytes: 8 << 30,
        free_disk_bytes: Some(20 << 30),
        cpu_features: vec!["avx2".into(), "fma".into()],
        accelerators: Vec::new(),
        translated: Some(false),
    }
}

pub fn backend() -> Backend {
    Backend {
        device: "cpu".into(),
        isa: "avx2".into(),
        threads: 2,
        numerics_version: 1,
    }
}

pub fn modes() -> FloatModes {
    FloatModes {
        flush_to_zero: false,
        denormals_are_zero: false,
        rounding: Rounding::NearestEven,
    }
}

fn suite(id: &str, passes: u64) -> SuiteRun {
    SuiteRun {
        id: id.into(),
        ending: SuiteEnding::Completed,
        detail: None,
        duration_seconds: 20.5,
        limit_seconds: 300.0,
        forward_passes: passes,
        backend: Some(backend()),
        float_modes: Some(modes()),
    }
}

fn case(suite: &str, name: &str, history: Option<&str>) -> TestCase {
    TestCase {
        suite: suite.into(),
        name: name.into(),
        tier: "fast".into(),
        history: history.map(Into::into),
        outcome: Outcome::Passed,
        duration_seconds: 0.25,
        forward_passes: Some(12),
        comparisons: history
            .iter()
            .map(|_| Comparison {
                what: "chunks of 7 against one".into(),
                left: 1,
                right: 2,
                values: 49_152,
            })
            .collect(),
        message: None,
    }
}

pub fn long_session() -> LongSession {
    let bucket = |index: i64| {
        let at = |second: i64| {
            "2026-01-02T03:05:05Z".parse::<jiff::Timestamp>().unwrap()
                + jiff::SignedDuration::from_secs(second)
        };
        Bucket {
            from: at(10 * index),
            to: at(10 * (index + 1)),
            turns: 10,
            tokens: 320,
            turn_p50_seconds: 0.5,
            turn_p95_seconds: 0.625,
            kv_bytes_peak: 1_000_000,
            resident_bytes_peak: 300_000_000,
            violations: Violations::default(),
        }
    };
    LongSession {
        asked_seconds: 30.0,
        ran_seconds: 30.0,
        complete: true,
        fault: None,
        client: Client {
            name: "kakeya".into(),
            version: "0.1.0".into(),
            sdk: true,
        },
        turns: 30,
        generates: 30,
        generates_over_the_wire: 30,
        history_length: 2000,
        violations: Violations::default(),
        buckets: (0..3).map(bucket).collect(),
    }
}

/// The record, sealed.
pub fn good() -> Evidence {
    let cases = vec![
        case("inv3", "chunks_of_7.prose", Some("prose")),
        case("inv3", "chunks_of_7.code", Some("code")),
        case("inv3", "chunks_of_7.random", Some("random")),
        case("perf", "prefill", None),
    ];
    let mut evidence = Evidence {
        schema_version: SchemaVersion::CURRENT,
        run_id: "9b2f4c1e00004000800000000000abcd".into(),
        repository: "kakeya".into(),
        platform: "linux-cpu".into(),
        tier: "fast".into(),
        source: Source {
            tree_sha256: TREE.into(),
            tree_sha256_at_end: Some(TREE.into()),
            files: 3,
            commit: Some(COMMIT.into()),
            commit_from: Some(CommitFrom::Git),
            commit_absent_reason: None,
            dirty: Some(false),
            changes: Vec::new(),
        },
        selection: Selection {
            partial: false,
            suites: vec!["inv3".into(), "perf".into()],
            case_filter: None,
        },
        started: "2026-01-02T03:04:05Z".parse().unwrap(),
        ended: Some("2026-01-02T03:06:05Z".parse().unwrap()),
        ending: Ending::Completed,
        exit_status: Some(0),
        build: Build {
            harness_sha256: "bb22".repeat(16),
            cargo_lock_sha256: "cc33".repeat(16),
            commit: Some(COMMIT.into()),
            rustc: "rustc 1.95.0 (0000000 2026-01-01)".into(),
            target: "x86_64-unknown-linux-gnu".into(),
            profile: "debug".into(),
            opt_level: "3".into(),
            debug_assertions: false,
        },
        host: host(),
        network: Network {
            offline: false,
            fetched: Vec::new(),
        },
        backend: Some(backend()),
        float_modes: Some(modes()),
        models: vec![ModelFile {
            model: "smollm2-135m".into(),
            revision: "0.1.2".into(),
            file: "weights.gguf".into(),
            size_bytes: 98_362_432,
            sha256: WEIGHTS.into(),
            sha256_at_end: Some(WEIGHTS.into()),
            place: Place::Cache,
            content: Content::Gguf,
        }],
        forward_passes: 60,
        suites: vec![suite("inv3", 40), suite("perf", 20)],
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
            suite: "perf".into(),
            name: "prefill".into(),
            value: 640.5,
            unit: "tokens/s".into(),
        }],
        long_session: Some(long_session()),
        coverage: Some(Coverage {
            report_sha256: "ee55".repeat(16),
            modules: vec![ModuleCoverage {
                path: "engine/core/src".into(),
                files: 11,
                lines: 1000,
                covered: 999,
                excused: 1,
            }],
        }),
        verdicts: Vec::new(),
        summary_text: "4 of 4 cases passed".into(),
        content_sha256: String::new(),
    };
    reseal(&mut evidence);
    evidence
}

/// Makes the verdicts and the digest anew, as the harness would after whatever was changed.
pub fn reseal(evidence: &mut Evidence) {
    evidence.verdicts = verdict::verdicts(&policy().gates, verdict::Facts::of(evidence));
    canonical::seal(evidence);
}

/// The policy at the base.
pub fn policy() -> Policy {
    let gate = |id: &str, rule| Gate {
        id: id.into(),
        title: format!("title of {id}"),
        holds_when: "so".into(),
        rule,
    };
    let listed = |names: &[&str], compares| -> Vec<ListedCase> {
        names
            .iter()
            .map(|name| ListedCase {
                name: (*name).to_owned(),
                tier: "fast".into(),
                history: name.split_once('.').map(|(_, history)| history.to_owned()),
                passes: 10,
                compares,
            })
            .collect()
    };
    Policy {
        request: Request {
            repository: "kakeya".into(),
            platforms: vec!["linux-cpu".into()],
            tier: "fast".into(),
            signatures: 0,
            numerics_version: 1,
            numerics_of: BTreeMap::new(),
            opt_levels: vec!["3".into()],
            coverage: true,
            ga: GaRequest {
                platforms: vec!["linux-cpu".into()],
                long_session_seconds: 14_400.0,
                signatures: 1,
            },
        },
        platforms: vec![
            toml::from_str(
                "name = 'linux-cpu'\nabout = 'a'\nbackend = 'cpu'\nmin_rustc = '1.89'\n\
                 models = ['smollm2-135m']\nsuites = ['inv3', 'perf']\n[host]\nos = 'linux'\n\
                 arch = ['x86_64']\nchip = []\nmin_memory_gib = 3\nmin_free_disk_gib = 1\n",
            )
            .unwrap(),
        ],
        gates: GatePolicy {
            gate: vec![
                gate(
                    "G1",
                    Rule::MemoryBounded {
                        buckets: 3,
                        kv_percent: 10.0,
                        resident_percent: 10.0,
                    },
                ),
                gate("G2", Rule::LatencyBounded { ratio: 1.5 }),
                gate(
                    "G3",
                    Rule::Suite {
                        suite: "inv3".into(),
                        histories: 3,
                    },
                ),
                gate("G4", Rule::InvariantsClean),
                gate("G5", Rule::ThroughSdk),
            ],
        },
        guarded: GuardedPolicy {
            include: vec!["engine/**".into(), "gates/**".into()],
            exclude: Vec::new(),
        }
        .compile()
        .unwrap(),
        required: RequiredPolicy {
            suite: vec![
                RequiredSuite {
                    id: "inv3".into(),
                    case: listed(
                        &[
                            "chunks_of_7.prose",
                            "chunks_of_7.code",
                            "chunks_of_7.random",
                        ],
                        true,
                    ),
                    measurement: Vec::new(),
                },
                RequiredSuite {
                    id: "perf".into(),
                    case: listed(&["prefill"], false),
                    measurement: vec![Limit {
                        name: "prefill".into(),
                        tier: "fast".into(),
                        unit: "tokens/s".into(),
                        low: 1.0,
                        high: 100_000.0,
                    }],
                },
            ],
        },
        lock: ModelLock {
            model: vec![LockedModel {
                name: "smollm2-135m".into(),
                revision: "0.1.2".into(),
                file: vec![LockedFile {
                    name: "weights.gguf".into(),
                    size: 98_362_432,
                    sha256: WEIGHTS.into(),
                }],
            }],
        },
        keys: Keys::default(),
        waivers: Waivers::default(),
        coverage: CoveragePolicy {
            module: vec![CoveredModule {
                path: "engine/core/src".into(),
                lines: 100.0,
                excuse: vec![Excuse {
                    file: "engine/core/src/a.rs".into(),
                    line: "unreachable!()".into(),
                    reason: "so".into(),
                }],
            }],
        },
    }
}
