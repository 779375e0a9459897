//! From a suite's reports and its end to the record of its cases.
//!
//! Pure, so that every way a process can go wrong is a test with recorded lines. The rule throughout: a case
//! passed only where its process said so, in order, once, and then ended well enough to be believed.

use std::time::Duration;

use kakeya_evidence::{Backend, FloatModes, Measurement, Outcome, SuiteEnding, SuiteRun, TestCase};

use crate::event::{CaseOutcome, Event, Figure};

/// A case the process was asked to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Its name.
    pub name: String,
    /// The tier it belongs to.
    pub tier: String,
    /// The history it is about.
    pub history: Option<String>,
}

/// How the process came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessEnd {
    /// It left with this status.
    Exited(i32),
    /// A signal ended it.
    Signalled(i32),
    /// Its time was over, and it was killed.
    TimedOut,
    /// The run was interrupted, and it was killed.
    Interrupted,
    /// It could not be started.
    NotStarted(String),
}

/// A suite as it came out.
#[derive(Debug, Clone, PartialEq)]
pub struct SuiteRecord {
    /// Its process.
    pub run: SuiteRun,
    /// Its cases, all that were asked for, in order.
    pub cases: Vec<TestCase>,
    /// What its cases observed.
    pub measurements: Vec<Measurement>,
}

/// Something worth showing while a suite runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Shown {
    /// A case begins.
    Started(String),
    /// A case came to its end.
    Finished(Box<TestCase>),
}

/// Folds reports as they come.
#[derive(Debug)]
pub struct Fold {
    suite: String,
    cases: Vec<TestCase>,
    ended: Vec<bool>,
    running: Option<(usize, Duration)>,
    backend: Option<Backend>,
    float_modes: Option<FloatModes>,
    forward_passes: u64,
    figures: Vec<Figure>,
    done: bool,
    fault: Option<String>,
}

impl Fold {
    /// A suite of which nothing is known yet.
    pub fn new(suite: &str, expected: &[Expected]) -> Self {
        let cases: Vec<_> = expected
            .iter()
            .map(|case| TestCase {
                suite: suite.to_owned(),
                name: case.name.clone(),
                tier: case.tier.clone(),
                history: case.history.clone(),
                outcome: Outcome::NotRun,
                duration_seconds: 0.0,
                forward_passes: None,
                comparisons: Vec::new(),
                message: None,
            })
            .collect();
        Self {
            suite: suite.to_owned(),
            ended: vec![false; cases.len()],
            cases,
            running: None,
            backend: None,
            float_modes: None,
            forward_passes: 0,
            figures: Vec::new(),
            done: false,
            fault: None,
        }
    }

    /// Takes one line of the process's output, `at` after its start.
    pub fn line(&mut self, line: &str, at: Duration) -> Option<Shown> {
        match Event::from_line(line) {
            Ok(Some(event)) => self.event(event, at),
            Ok(None) => None,
            Err(garbled) => {
                self.fault(format!("a report does not read: {}", garbled.reason));
                None
            }
        }
    }

    fn event(&mut self, event: Event, at: Duration) -> Option<Shown> {
        if self.done {
            self.fault("it reported more after saying that it was done".to_owned());
            return None;
        }
        match event {
            Event::Up { float_modes } => self.modes(float_modes),
            Event::Computed { backend } => {
                if self.backend.as_ref().is_some_and(|known| *known != backend) {
                    self.fault("its backend changed while it ran".to_owned());
                }
                self.backend = Some(backend);
            }
            Event::Started { case } => return self.started(&case, at),
            Event::Finished {
                case,
                outcome,
                duration_seconds,
                forward_passes,
                comparisons,
                message,
            } => {
                let index = self.finished(&case)?;
                self.forward_passes += forward_passes;
                let record = &mut self.cases[index];
                record.duration_seconds = duration_seconds;
                record.forward_passes = Some(forward_passes);
                record.comparisons = comparisons;
                record.outcome = match outcome {
                    CaseOutcome::Passed => Outcome::Passed,
                    CaseOutcome::Failed => Outcome::Failed,
                    CaseOutcome::Skipped => Outcome::Skipped,
                };
                record.message = message;
                return Some(Shown::Finished(Box::new(record.clone())));
            }
            Event::Done {
                forward_passes,
                float_modes,
                figures,
            } => {
                self.modes(float_modes);
                if forward_passes < self.forward_passes {
                    self.fault(format!(
                        "it counts {forward_passes} forward passes, and its cases {}",
                        self.forward_passes
                    ));
                }
                self.forward_passes = forward_passes;
                self.figures = figures;
                self.done = true;
            }
        }
        None
    }

    fn started(&mut self, name: &str, at: Duration) -> Option<Shown> {
        let index = self.index(name)?;
        if let Some((running, _)) = self.running {
            let other = self.cases[running].name.clone();
            self.fault(format!("it started {name} while {other} was running"));
        } else if self.ended[index] {
            self.fault(format!("it ran {name} twice"));
        } else {
            self.running = Some((index, at));
            return Some(Shown::Started(name.to_owned()));
        }
        None
    }

    fn finished(&mut self, name: &str) -> Option<usize> {
        let index = self.index(name)?;
        if self.running.is_none_or(|(running, _)| running != index) {
            self.fault(format!("it finished {name}, which was not running"));
            return None;
        }
        self.running = None;
        self.ended[index] = true;
        Some(index)
    }

    fn index(&mut self, name: &str) -> Option<usize> {
        let found = self.cases.iter().position(|case| case.name == name);
        if found.is_none() {
            self.fault(format!("it reported {name}, which it was not asked to run"));
        }
        found
    }

    fn modes(&mut self, modes: FloatModes) {
        if self.float_modes.is_some_and(|known| known != modes) {
            self.fault("its floating-point modes changed while it ran".to_owned());
        }
        self.float_modes = Some(modes);
    }

    /// Keeps the first fault: what follows is mostly its consequence.
    fn fault(&mut self, what: String) {
        self.fault.get_or_insert(what);
    }

    /// Closes the record. `last_words` is the end of what the process wrote to standard error.
    pub fn end(
        mut self,
        end: &ProcessEnd,
        at: Duration,
        limit: Duration,
        last_words: &str,
    ) -> SuiteRecord {
        let (ending, detail) = self.ending(end, limit);
        let running = self.running.take();
        for (index, case) in self.cases.iter_mut().enumerate() {
            if self.ended[index] {
                continue;
            }
            let why = detail.as_deref().unwrap_or_default();
            if let Some((_, since)) = running.filter(|(running, _)| *running == index) {
                case.duration_seconds = at.saturating_sub(since).as_secs_f64();
                case.outcome = match ending {
                    SuiteEnding::TimedOut => Outcome::TimedOut,
                    SuiteEnding::Interrupted => Outcome::NotRun,
                    _ => Outcome::Crashed,
                };
                case.message = Some(format!("while it ran, the suite's process {why}"));
            } else {
                case.message = Some(format!("before it ran, the suite's process {why}"));
            }
        }
        let detail = detail.map(|detail| match last_words.trim() {
            "" => detail,
            words => format!("{detail}; last words: {words}"),
        });
        let suite = self.suite.clone();
        SuiteRecord {
            run: SuiteRun {
                id: self.suite,
                ending,
                detail,
                duration_seconds: at.as_secs_f64(),
                limit_seconds: limit.as_secs_f64(),
                forward_passes: self.forward_passes,
                backend: self.backend,
                float_modes: self.float_modes,
            },
            cases: self.cases,
            measurements: self
                .figures
                .into_iter()
                .map(|figure| Measurement {
                    suite: suite.clone(),
                    name: figure.name,
                    value: figure.value,
                    unit: figure.unit,
                })
                .collect(),
        }
    }

    fn ending(&self, end: &ProcessEnd, limit: Duration) -> (SuiteEnding, Option<String>) {
        let crashed = |detail: String| (SuiteEnding::Crashed, Some(detail));
        match end {
            ProcessEnd::NotStarted(reason) => (
                SuiteEnding::NotStarted,
                Some(format!("was not started: {reason}")),
            ),
            ProcessEnd::Interrupted => (
                SuiteEnding::Interrupted,
                Some("was stopped by an interrupt".to_owned()),
            ),
            ProcessEnd::TimedOut => (
                SuiteEnding::TimedOut,
                Some(format!("passed its limit of {} s", limit.as_secs())),
            ),
            ProcessEnd::Signalled(signal) => crashed(format!("was killed by signal {signal}")),
            ProcessEnd::Exited(status) => {
                let unfinished = self.ended.iter().filter(|ended| !**ended).count();
                if let Some(fault) = &self.fault {
                    crashed(format!("could not be believed: {fault}"))
                } else if *status != 0 {
                    crashed(format!("exited with status {status}"))
                } else if !self.done {
                    crashed("exited without saying that it was done".to_owned())
                } else if unfinished > 0 {
                    crashed(format!("said it was done, but left out {unfinished} cases"))
                } else {
                    (SuiteEnding::Completed, None)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
