//! The JSON that `cargo llvm-cov --json` writes, and which lines of a file ran.
//!
//! The lines are worked out from segments, as llvm-cov does for its own views, because the report's summaries say
//! how many lines did not run and not which. A closure that never ran on a line that did is found among the
//! functions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

const FORMAT: &str = "llvm.coverage.json.export";

/// Files by their paths, relative to the checkout where they are in it.
pub(super) type Files = BTreeMap<String, Lines>;

/// Why a report cannot be read.
#[derive(Debug, Error)]
pub enum CoverageError {
    /// The bytes are something else.
    #[error("the coverage report is not JSON, which `cargo llvm-cov --json` writes")]
    NotJson(#[source] serde_json::Error),
    /// The JSON is something else.
    #[error("the coverage report's type is {found}, not \"{FORMAT}\"")]
    OtherType {
        /// The type, as it stands there.
        found: String,
    },
    /// A field is missing, or of another type.
    #[error("the coverage report is not laid out as `cargo llvm-cov --json` writes it")]
    Layout(#[source] serde_json::Error),
    /// A segment that has another shape.
    #[error(
        "segment {index} of {file} is {found}, not [line, column, count, has count, starts a region, is a gap]"
    )]
    Segment {
        /// The file, as the report names it.
        file: String,
        /// The segment's place in the list, from 0.
        index: usize,
        /// The segment, as it stands there.
        found: String,
    },
    /// Segments that go back. Counts hold up to the next segment, so they mean nothing in another order.
    #[error("segment {index} of {file} starts before the one ahead of it, not after it")]
    Unordered {
        /// The file, as the report names it.
        file: String,
        /// The segment's place in the list, from 0.
        index: usize,
    },
    /// A function whose place is not known.
    #[error("function {name} has no file or no region [line, column, ...], and must have both")]
    NoPlace {
        /// The function's mangled name.
        name: String,
    },
    /// A file's summary that cannot be.
    #[error("the summary of {file} has {covered} of {count} lines covered, not at most all")]
    Summary {
        /// The file, as the report names it.
        file: String,
        /// Lines that ran.
        covered: u64,
        /// Lines that can run.
        count: u64,
    },
    /// A file that is listed twice. Either entry could hide what the other says.
    #[error("the coverage report has {file} twice, not once")]
    Twice {
        /// The file, as the report names it.
        file: String,
    },
}

#[derive(Deserialize)]
struct Report {
    data: Vec<Export>,
}

#[derive(Deserialize)]
struct Export {
    files: Vec<File>,
    functions: Vec<Function>,
}

#[derive(Deserialize)]
struct File {
    filename: String,
    segments: Vec<Value>,
    summary: Summary,
}

#[derive(Deserialize)]
struct Summary {
    lines: LineSummary,
}

#[derive(Deserialize)]
struct LineSummary {
    count: u64,
    covered: u64,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    count: u64,
    filenames: Vec<String>,
    regions: Vec<Vec<u64>>,
}

/// Where the count of the source changes: from here up to the next segment it is `count`.
struct Segment {
    line: usize,
    column: usize,
    count: u64,
    /// Code that can run, as against blanks between regions and code that is compiled out.
    has_count: bool,
    is_entry: bool,
    is_gap: bool,
}

impl Segment {
    fn starts_counted(&self) -> bool {
        self.is_entry && self.has_count
    }

    fn starts_region(&self) -> bool {
        self.starts_counted() && !self.is_gap
    }

    fn starts_skipped(&self) -> bool {
        self.is_entry && !self.has_count
    }
}

/// The lines of one file.
pub(super) struct Lines {
    /// How often each line that can run has run; 0 as well where a function on it never ran.
    pub(super) counts: BTreeMap<usize, u64>,
    /// How many the file's summary says did not run.
    summary_uncovered: u64,
}

impl Lines {
    /// The lines that did not run.
    pub(super) fn uncovered(&self) -> Vec<usize> {
        let idle = self.counts.iter().filter(|(_, count)| **count == 0);
        idle.map(|(&line, _)| line).collect()
    }

    /// How many more lines the summary counts as uncovered.
    pub(super) fn unexplained(&self) -> u64 {
        self.summary_uncovered
            .saturating_sub(self.uncovered().len() as u64)
    }
}

/// The files of a report.
pub(super) fn read(bytes: &[u8], root: &Path) -> Result<Files, CoverageError> {
    let value: Value = serde_json::from_slice(bytes).map_err(CoverageError::NotJson)?;
    match value.get("type") {
        Some(Value::String(format)) if format == FORMAT => {}
        other => {
            let found = other.map_or("missing".to_owned(), Value::to_string);
            return Err(CoverageError::OtherType { found });
        }
    }
    let report: Report = serde_json::from_value(value).map_err(CoverageError::Layout)?;
    let idle = idle_functions(report.data.iter().flat_map(|export| &export.functions))?;
    let mut files = Files::new();
    for file in report.data.into_iter().flat_map(|export| export.files) {
        let mut counts = line_counts(&segments(&file)?);
        let idle = idle.get(&file.filename).into_iter().flatten();
        counts.extend(idle.map(|&line| (line, 0)));
        let LineSummary { count, covered } = file.summary.lines;
        let Some(summary_uncovered) = count.checked_sub(covered) else {
            return Err(CoverageError::Summary {
                file: file.filename,
                covered,
                count,
            });
        };
        let lines = Lines {
            counts,
            summary_uncovered,
        };
        if files
            .insert(relative(&file.filename, root), lines)
            .is_some()
        {
            return Err(CoverageError::Twice {
                file: file.filename,
            });
        }
    }
    Ok(files)
}

fn relative(filename: &str, root: &Path) -> String {
    let path = Path::new(filename);
    let path = path.strip_prefix(root).unwrap_or(path);
    path.to_string_lossy().into_owned()
}

/// The first lines of the functions that never ran, by file. Instances of a generic function count as one.
fn idle_functions<'a>(
    functions: impl Iterator<Item = &'a Function>,
) -> Result<BTreeMap<String, BTreeSet<usize>>, CoverageError> {
    let mut runs: BTreeMap<(&str, u64, u64), bool> = BTreeMap::new();
    for function in functions {
        let region = function.regions.first().map(Vec::as_slice);
        let (Some(file), Some([line, column, ..])) = (function.filenames.first(), region) else {
            return Err(CoverageError::NoPlace {
                name: function.name.clone(),
            });
        };
        *runs.entry((file, *line, *column)).or_default() |= function.count > 0;
    }
    let mut idle: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for ((file, line, _), ran) in runs {
        if !ran {
            idle.entry(file.to_owned())
                .or_default()
                .insert(line as usize);
        }
    }
    Ok(idle)
}

fn segments(file: &File) -> Result<Vec<Segment>, CoverageError> {
    let mut segments: Vec<Segment> = Vec::with_capacity(file.segments.len());
    for (index, found) in file.segments.iter().enumerate() {
        let Ok((line, column, count, has_count, is_entry, is_gap)) =
            Deserialize::deserialize(found)
        else {
            return Err(CoverageError::Segment {
                file: file.filename.clone(),
                index,
                found: found.to_string(),
            });
        };
        if segments
            .last()
            .is_some_and(|last| (line, column) < (last.line, last.column))
        {
            return Err(CoverageError::Unordered {
                file: file.filename.clone(),
                index,
            });
        }
        segments.push(Segment {
            line,
            column,
            count,
            has_count,
            is_entry,
            is_gap,
        });
    }
    Ok(segments)
}

/// How often each line that can run has run: LLVM's `LineCoverageStats`.
fn line_counts(segments: &[Segment]) -> BTreeMap<usize, u64> {
    let mut counts = BTreeMap::new();
    let mut rest = segments;
    // The segment that a line starts in.
    let mut wrapped: Option<&Segment> = None;
    let last = segments.last().map_or(0, |last| last.line);
    let first = segments.first().map_or(1, |first| first.line);
    for line in first..=last {
        let (here, later) = rest.split_at(rest.partition_point(|segment| segment.line == line));
        rest = later;
        let starting = here.iter().filter(|segment| segment.starts_region());
        let most = starting.map(|segment| segment.count).max();
        let skipped = here.first().is_some_and(Segment::starts_skipped);
        let inside = wrapped.is_some_and(|segment| segment.has_count);
        let runs = !skipped && (inside || most.is_some());
        if runs || here.iter().any(Segment::starts_counted) {
            let around = wrapped.map(|segment| segment.count);
            counts.insert(line, most.max(around).unwrap_or(0));
        }
        wrapped = here.last().or(wrapped);
    }
    counts
}
