//! How much of the code tests ran: a report of `cargo llvm-cov --json`, judged by `gates/coverage.toml`.
//!
//! The share that evidence records and the lines that a person has to look at come from the same count, so the
//! two cannot disagree. A line that no test can reach is excused by its text and with a reason; an excuse that
//! excuses nothing is a problem as well, or the list of them would only ever grow.

mod problem;
mod report;
mod table;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::hex;
use crate::policy::{CoveragePolicy, CoveredModule, Excuse};
use crate::record::{Coverage, ModuleCoverage};

pub use problem::{Problem, Stale};
pub use report::CoverageError;
use report::{Files, Lines};
pub use table::{Row, Table};

/// What a report amounts to.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Outcome {
    /// What evidence keeps of it.
    pub coverage: Coverage,
    /// What is wrong, module by module. Empty when the policy is met.
    pub problems: Vec<Problem>,
    /// Every file of the modules.
    pub table: Table,
}

/// Judges a report. `root` is the checkout it was made in, as the report spells it, and `source` reads a file by its
/// path relative to it.
///
/// The lines of a module are named only where it falls short of what the policy asks, since below 100% a line that
/// did not run is no fault in itself.
///
/// # Errors
/// When the bytes are not a report as `cargo llvm-cov --json` writes it.
pub fn measure(
    report_bytes: &[u8],
    root: &Path,
    policy: &CoveragePolicy,
    source: &dyn Fn(&str) -> Option<String>,
) -> Result<Outcome, CoverageError> {
    let files = report::read(report_bytes, root)?;
    let mut problems = Vec::new();
    if policy.module.is_empty() {
        problems.push(Problem::NoModule);
    }
    let mut table = Table::default();
    let mut modules = Vec::new();
    for wanted in &policy.module {
        let mut module = Module::new(wanted, source);
        for (name, lines) in files
            .iter()
            .filter(|(name, _)| is_below(name, &wanted.path))
        {
            module.add(name, lines);
        }
        table.add(&wanted.path, module.rows.clone());
        modules.push(module.judge(&files, &mut problems));
    }
    let coverage = Coverage {
        report_sha256: hex::sha256(report_bytes),
        modules,
    };
    Ok(Outcome {
        coverage,
        problems,
        table,
    })
}

/// Whether a file is the module, or in its folder.
fn is_below(name: &str, module: &str) -> bool {
    name.strip_prefix(module.trim_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// One module's count while its files are gone through.
struct Module<'a> {
    wanted: &'a CoveredModule,
    source: &'a dyn Fn(&str) -> Option<String>,
    /// Of the policy's excuses, those that have excused a line.
    used: Vec<bool>,
    rows: Vec<Row>,
    /// The sum of the files.
    sum: ModuleCoverage,
    /// The lines to name if the module falls short.
    missing: Vec<Problem>,
}

impl<'a> Module<'a> {
    fn new(wanted: &'a CoveredModule, source: &'a dyn Fn(&str) -> Option<String>) -> Self {
        let sum = ModuleCoverage {
            path: wanted.path.clone(),
            files: 0,
            lines: 0,
            covered: 0,
            excused: 0,
        };
        Self {
            wanted,
            source,
            used: vec![false; wanted.excuse.len()],
            rows: Vec::new(),
            sum,
            missing: Vec::new(),
        }
    }

    fn add(&mut self, name: &str, file: &Lines) {
        let uncovered = file.uncovered();
        let total = file.counts.len() as u64;
        self.rows.push(Row {
            name: name.to_owned(),
            lines: total,
            uncovered: uncovered.len() as u64,
        });
        let mut missing = Vec::new();
        let text = if uncovered.is_empty() {
            None
        } else {
            (self.source)(name)
        };
        let text: Vec<&str> = text.iter().flat_map(|text| text.lines()).collect();
        for &line in &uncovered {
            let text = text.get(line.wrapping_sub(1)).map(|text| text.trim());
            if text.is_some_and(|text| self.excuse(name, text)) {
                self.sum.excused += 1;
            } else {
                missing.push(Problem::NotCovered {
                    file: name.to_owned(),
                    line,
                    text: text.unwrap_or_default().to_owned(),
                });
            }
        }
        // Summaries count a line once per function on it, so a file that falls short anyway can have more there.
        let unexplained = if missing.is_empty() {
            file.unexplained()
        } else {
            0
        };
        if unexplained > 0 {
            missing.push(Problem::Unexplained {
                file: name.to_owned(),
                lines: unexplained,
            });
        }
        self.missing.append(&mut missing);
        self.sum.files += u64::from(total > 0);
        self.sum.lines += total;
        // Nobody can tell which lines these are, but evidence must not say that all ran.
        self.sum.covered += (total - uncovered.len() as u64).saturating_sub(unexplained);
    }

    /// Uses up the first excuse for such a line. One excuse is for one line: a second line of the same text, which
    /// may come with a later change, was not what the reason was written for.
    fn excuse(&mut self, name: &str, text: &str) -> bool {
        let fits = |excuse: &Excuse| {
            excuse.file == name && excuse.line == text && !excuse.reason.trim().is_empty()
        };
        let excuses = self.wanted.excuse.iter().zip(&mut self.used);
        for (excuse, used) in excuses {
            if !*used && fits(excuse) {
                *used = true;
                return true;
            }
        }
        false
    }

    fn judge(self, files: &Files, problems: &mut Vec<Problem>) -> ModuleCoverage {
        for (excuse, &used) in self.wanted.excuse.iter().zip(&self.used) {
            if excuse.reason.trim().is_empty() {
                problems.push(Problem::NoReason {
                    file: excuse.file.clone(),
                    line: excuse.line.clone(),
                });
            } else if !used {
                problems.push(Problem::StaleExcuse {
                    file: excuse.file.clone(),
                    line: excuse.line.clone(),
                    why: self.stale(excuse, files),
                });
            }
        }
        if self.sum.lines == 0 {
            problems.push(Problem::NoLine {
                module: self.sum.path.clone(),
            });
            return self.sum;
        }
        // As the verifier counts it from the record.
        let counted = self.sum.covered + self.sum.excused;
        let enough = 100.0 * counted as f64 / self.sum.lines as f64 >= self.wanted.lines;
        if !enough {
            problems.extend(self.missing);
            problems.push(Problem::Below {
                module: self.sum.path.clone(),
                covered: self.sum.covered,
                excused: self.sum.excused,
                lines: self.sum.lines,
                wanted: self.wanted.lines,
            });
        }
        self.sum
    }

    /// Why an excuse excused nothing.
    fn stale(&self, excuse: &Excuse, files: &Files) -> Stale {
        if !is_below(&excuse.file, &self.wanted.path) {
            return Stale::OtherModule;
        }
        let Some(text) = (self.source)(&excuse.file) else {
            return Stale::NoFile;
        };
        if !text.lines().any(|line| line.trim() == excuse.line) {
            Stale::NoSuchLine
        } else if files.contains_key(&excuse.file) {
            Stale::Covered
        } else {
            Stale::NotReported
        }
    }
}
