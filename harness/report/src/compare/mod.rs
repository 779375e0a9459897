//! Two runs side by side: what one has that the other lacks, and by how much figures differ.
//!
//! Nothing here is a verdict. A figure of one run is one draw from a noisy machine, so a ratio is only said to lie
//! inside a stated band or outside of it, and runs on unlike hosts are not compared unless that is asked for.

mod alike;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kakeya_evidence::Evidence;
use serde::Serialize;
use thiserror::Error;

pub use alike::Difference;

/// How to compare.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Half the width of the noise band, in percent: at 10, a figure is inside where the greater of the two is at
    /// most 1.1 times the smaller. So it makes no difference which of the two runs is named first.
    pub noise_percent: f64,
    /// Whether to compare runs that are not alike.
    pub unlike: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            noise_percent: 10.0,
            unlike: false,
        }
    }
}

/// Why two runs were not compared.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CompareError {
    /// They differ in what a figure depends on.
    #[error(
        "the runs are not alike, so their figures say nothing of each other: {}",
        alike::list(differences)
    )]
    Unlike {
        /// In what they differ.
        differences: Vec<Difference>,
    },
    /// The band is none.
    #[error("the noise band is {found}%, and should be a number from 0 up")]
    Noise {
        /// What was given, in percent.
        found: String,
    },
}

/// Two runs, compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The run that the other is compared with.
    pub a: Run,
    /// The other.
    pub b: Run,
    /// Half the width of the noise band, in percent.
    pub noise_percent: f64,
    /// In what the runs are not alike. Empty unless comparing unlike runs was asked for.
    pub differences: Vec<Difference>,
    /// Cases of B that A lacks.
    pub gained: Vec<Case>,
    /// Cases of A that B lacks.
    pub lost: Vec<Case>,
    /// Cases that ended in another way.
    pub changed: Vec<Change>,
    /// Cases of both that ended in the same way.
    pub unchanged: usize,
    /// Figures of both, in the same unit.
    pub measurements: Vec<Ratio>,
    /// Figures that one has alone.
    pub measured_once: Vec<Single>,
}

/// Which run it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// The run.
    pub run_id: String,
    /// Its platform.
    pub platform: String,
    /// Its tier.
    pub tier: String,
    /// When it began.
    pub started: Timestamp,
    /// The commit.
    pub commit: Option<String>,
    /// The tree.
    pub tree_sha256: String,
    /// How long all its suites took together, in seconds.
    pub seconds: f64,
}

impl Run {
    fn of(evidence: &Evidence) -> Self {
        Self {
            run_id: evidence.run_id.clone(),
            platform: evidence.platform.clone(),
            tier: evidence.tier.clone(),
            started: evidence.started,
            commit: evidence.source.commit.clone(),
            tree_sha256: evidence.source.tree_sha256.clone(),
            // Adding nothing to a zero of its own: an empty sum of floats is -0.
            seconds: evidence
                .suites
                .iter()
                .fold(0.0, |sum, suite| sum + suite.duration_seconds),
        }
    }
}

/// A case that one run has alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Case {
    /// Suite and case: `suite::case`.
    pub case: String,
    /// How it ended. Each of its ends, in order, where it is recorded more than once.
    pub outcome: String,
}

/// A case that ended in another way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Suite and case: `suite::case`.
    pub case: String,
    /// How it ended in A.
    pub a: String,
    /// How it ended in B.
    pub b: String,
}

/// A figure that both runs have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ratio {
    /// Suite and name: `suite::name`.
    pub name: String,
    /// The unit of both.
    pub unit: String,
    /// What A observed.
    pub a: f64,
    /// What B observed.
    pub b: f64,
    /// B over A. Absent where one of them is zero or their signs differ.
    pub ratio: Option<f64>,
    /// Whether the two differ by no more than the noise.
    pub inside: bool,
}

impl Ratio {
    fn of((name, unit): &Key, a: f64, b: f64, noise_percent: f64) -> Self {
        let ratio = Some(b / a).filter(|ratio| ratio.is_finite() && *ratio > 0.0);
        let within = |ratio: f64| ratio.max(1.0 / ratio) <= 1.0 + noise_percent / 100.0;
        Self {
            name: name.clone(),
            unit: unit.clone(),
            a,
            b,
            ratio,
            inside: a == b || ratio.is_some_and(within),
        }
    }
}

/// A figure that one run has alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Single {
    /// Suite and name: `suite::name`.
    pub name: String,
    /// The unit.
    pub unit: String,
    /// The value.
    pub value: f64,
    /// Which run has it: `A` or `B`.
    pub of: char,
}

/// A figure's name and unit.
type Key = (String, String);

/// Compares B with A.
///
/// # Errors
/// When the runs differ in host, model, backend, numerics version, platform or tier and comparing unlike runs was not
/// asked for, and when the noise band is no number.
pub fn compare(a: &Evidence, b: &Evidence, options: Options) -> Result<Comparison, CompareError> {
    let noise_percent = options.noise_percent;
    if !noise_percent.is_finite() || noise_percent < 0.0 {
        let found = noise_percent.to_string();
        return Err(CompareError::Noise { found });
    }
    let differences = alike::differences(a, b);
    if !options.unlike && !differences.is_empty() {
        return Err(CompareError::Unlike { differences });
    }
    let mut comparison = Comparison {
        a: Run::of(a),
        b: Run::of(b),
        noise_percent,
        differences,
        gained: Vec::new(),
        lost: Vec::new(),
        changed: Vec::new(),
        unchanged: 0,
        measurements: Vec::new(),
        measured_once: Vec::new(),
    };
    comparison.cases(&outcomes(a), &outcomes(b));
    comparison.figures(&measured(a), &measured(b));
    Ok(comparison)
}

impl Comparison {
    fn cases(&mut self, a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) {
        let names: BTreeSet<_> = a.keys().chain(b.keys()).cloned().collect();
        for case in names {
            match (a.get(&case).cloned(), b.get(&case).cloned()) {
                (Some(a), Some(b)) if a == b => self.unchanged += 1,
                (Some(a), Some(b)) => self.changed.push(Change { case, a, b }),
                (Some(outcome), None) => self.lost.push(Case { case, outcome }),
                (None, outcome) => self.gained.push(Case {
                    case,
                    outcome: outcome.unwrap_or_default(),
                }),
            }
        }
    }

    fn figures(&mut self, a: &BTreeMap<Key, f64>, b: &BTreeMap<Key, f64>) {
        for (key, &value) in a {
            match b.get(key) {
                Some(&other) => {
                    let ratio = Ratio::of(key, value, other, self.noise_percent);
                    self.measurements.push(ratio);
                }
                None => self.measured_once.push(single(key, value, 'A')),
            }
        }
        for (key, &value) in b.iter().filter(|(key, _)| !a.contains_key(*key)) {
            self.measured_once.push(single(key, value, 'B'));
        }
    }
}

fn single((name, unit): &Key, value: f64, of: char) -> Single {
    Single {
        name: name.clone(),
        unit: unit.clone(),
        value,
        of,
    }
}

/// How each case ended, by `suite::case`.
fn outcomes(evidence: &Evidence) -> BTreeMap<String, String> {
    let mut outcomes: BTreeMap<String, String> = BTreeMap::new();
    for case in &evidence.cases {
        outcomes
            .entry(format!("{}::{}", case.suite, case.name))
            .and_modify(|ends| {
                ends.push_str(", ");
                ends.push_str(case.outcome.as_str());
            })
            .or_insert_with(|| case.outcome.to_string());
    }
    outcomes
}

/// Each figure, by `suite::name` and unit.
fn measured(evidence: &Evidence) -> BTreeMap<Key, f64> {
    evidence
        .measurements
        .iter()
        .map(|figure| {
            let name = format!("{}::{}", figure.suite, figure.name);
            ((name, figure.unit.clone()), figure.value)
        })
        .collect()
}

#[cfg(test)]
mod tests;
