//! The files of the modules, for people.

use std::fmt::{self, Display, Formatter};
use std::path::Path;

/// What the report says of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The file, relative to the checkout.
    pub name: String,
    /// Lines that can run.
    pub lines: u64,
    /// Of these, lines that did not, excused or not.
    pub uncovered: u64,
}

/// The files, module by module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    modules: Vec<(String, Vec<Row>)>,
}

impl Table {
    pub(super) fn add(&mut self, module: &str, rows: Vec<Row>) {
        self.modules.push((module.to_owned(), rows));
    }

    /// The files, in the order of the modules.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.modules.iter().flat_map(|(_, rows)| rows)
    }

    /// Adds the Rust sources among `files` that are of a module and that the report does not have, tests left out.
    /// They have nothing to run; one that should have is only noticed if it is shown. Paths are relative to the
    /// checkout.
    #[must_use]
    pub fn with_unreported(mut self, files: &[String]) -> Self {
        let mut sources: Vec<_> = files.iter().filter(|file| is_source(file)).collect();
        sources.sort();
        sources.dedup();
        for (module, rows) in &mut self.modules {
            for &source in &sources {
                let known = rows.iter().any(|row| row.name == *source);
                if !known && super::is_below(source, module) {
                    rows.push(Row {
                        name: source.clone(),
                        lines: 0,
                        uncovered: 0,
                    });
                }
            }
        }
        self
    }
}

fn is_source(file: &str) -> bool {
    let path = Path::new(file);
    let is_test = path
        .with_extension("")
        .components()
        .any(|part| part.as_os_str() == "tests");
    path.extension().is_some_and(|extension| extension == "rs") && !is_test
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let total = Row {
            name: "total".to_owned(),
            lines: self.rows().map(|row| row.lines).sum(),
            uncovered: self.rows().map(|row| row.uncovered).sum(),
        };
        let width = self.rows().map(|row| row.name.len()).max();
        let width = width.unwrap_or(0).max(total.name.len());
        writeln!(f, "{:width$}  lines  uncovered  covered", "file")?;
        for row in self.rows().chain([&total]) {
            let share = if row.lines == 0 {
                "nothing to run".to_owned()
            } else {
                let covered = row.lines - row.uncovered;
                format!("{:.2}%", 100.0 * covered as f64 / row.lines as f64)
            };
            let Row {
                name,
                lines,
                uncovered,
            } = row;
            writeln!(f, "{name:width$}  {lines:5}  {uncovered:9}  {share}")?;
        }
        Ok(())
    }
}
