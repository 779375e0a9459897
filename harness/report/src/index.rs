//! The index of the results folder: a section of `results/README.md` that is made from the records.

use std::fs;
use std::io;
use std::path::Path;

use kakeya_evidence::Counts;
use kakeya_evidence::policy::GatePolicy;
use thiserror::Error;

use crate::collection::{Collection, Entry};
use crate::escape::{code, link, markdown};
use crate::store::{Existing, StoreError, put};
use crate::tables::{short, table};

/// The line before the section.
pub const BEGIN: &str = "<!-- index:begin, made by `harness report --index` -->";
/// The line after it.
pub const END: &str = "<!-- index:end -->";

const INTRO: &str = "# Results\n\n\
    What the gates found, run by run. Each record binds the tree it is about, the host and the model file; \
    beside it lie the same outcomes as JUnit, and signatures where it has any. Records are only ever added. \
    `harness verify` judges them; what a record says of itself counts for nothing.\n";

/// Why an index was not made.
#[derive(Debug, Error)]
pub enum IndexError {
    /// The page has no place for the section, or more than one.
    #[error(
        "{file} has the line `{BEGIN}` {begins} times and `{END}` {ends} times, expected once each, in that order"
    )]
    Markers {
        /// The page.
        file: String,
        /// How often the first marker is there.
        begins: usize,
        /// How often the second is there.
        ends: usize,
    },
    /// The page could not be read.
    #[error("cannot read {file}")]
    Read {
        /// The page.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// The page could not be written.
    #[error(transparent)]
    Write(#[from] StoreError),
}

/// The section: every record, the newest first. `folder` is the records' folder as seen from the page.
#[must_use]
pub fn section(collection: &Collection, gates: &GatePolicy, folder: &str) -> String {
    let rows: Vec<_> = collection
        .entries
        .iter()
        .map(|entry| row(entry, gates, folder))
        .collect();
    let headings = [
        "date",
        "platform",
        "tier",
        "cases",
        "gates that hold",
        "commit",
        "record",
    ];
    let mut text = table(&headings, &rows, "There is no record.");
    let unread = collection.unread.iter().map(|unread| &unread.name);
    let older = collection.older.iter().map(|older| &older.name);
    text.push_str(&list("Files that are no records:", unread, folder));
    text.push_str(&list(
        "Records of the first generation, kept and no longer judged:",
        older,
        folder,
    ));
    text
}

fn row(entry: &Entry, gates: &GatePolicy, folder: &str) -> Vec<String> {
    let evidence = &entry.evidence;
    let holding = entry.holding(gates);
    let commit = evidence.source.commit.as_deref().map(short);
    let counts = Counts::of(&evidence.cases);
    let part = if evidence.selection.partial {
        ", a part"
    } else {
        ""
    };
    vec![
        format!("{:.0}", evidence.started),
        markdown(&evidence.platform),
        format!("{}{part}", markdown(&evidence.tier)),
        counts.last_line(),
        match holding.is_empty() {
            true => "none".to_owned(),
            false => markdown(&holding.join(", ")),
        },
        commit.map_or("none".to_owned(), |commit| code(&commit)),
        anchor(&entry.name, folder),
    ]
}

fn anchor(name: &str, folder: &str) -> String {
    format!("[{}]({folder}/{})", markdown(name), link(name))
}

fn list<'a>(heading: &str, names: impl Iterator<Item = &'a String>, folder: &str) -> String {
    let lines: String = names
        .map(|name| format!("- {}\n", anchor(name, folder)))
        .collect();
    match lines.is_empty() {
        true => lines,
        false => format!("\n{heading}\n\n{lines}"),
    }
}

/// Puts the section into the page, which is made with an introduction where it is missing. Says whether the page
/// was changed.
///
/// # Errors
/// When the page has no place for the section, or the file system refuses.
pub fn update(page: &Path, section: &str) -> Result<bool, IndexError> {
    let (found, wanted) = states(page, section)?;
    let stale = found.as_ref() != Some(&wanted);
    if stale {
        put(page, wanted.as_bytes(), Existing::Replace)?;
    }
    Ok(stale)
}

/// Whether the page on disk is missing, or has another section than this one.
///
/// # Errors
/// When the page has no place for the section, or cannot be read.
pub fn is_stale(page: &Path, section: &str) -> Result<bool, IndexError> {
    let (found, wanted) = states(page, section)?;
    Ok(found.as_ref() != Some(&wanted))
}

/// The page as it is, where it is there, and as it should be.
fn states(page: &Path, section: &str) -> Result<(Option<String>, String), IndexError> {
    let file = page.display().to_string();
    let found = match fs::read_to_string(page) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(IndexError::Read { file, source }),
    };
    let empty = format!("{INTRO}\n{BEGIN}\n{END}\n");
    let text = found.as_deref().unwrap_or(&empty);
    let (begins, ends) = (text.matches(BEGIN).count(), text.matches(END).count());
    let parts = text
        .split_once(BEGIN)
        .and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    match parts.filter(|_| begins == 1 && ends == 1) {
        Some((before, after)) => {
            let wanted = format!("{before}{BEGIN}\n\n{section}\n{END}{after}");
            Ok((found, wanted))
        }
        None => Err(IndexError::Markers { file, begins, ends }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collection::Unread;
    use crate::fixture;
    use crate::folder::Older;

    fn collection() -> Collection {
        let entry = |evidence| Entry {
            name: "linux-cpu-1767323045-9b2f.json".into(),
            evidence,
            has_envelope: false,
        };
        let mut partial = fixture::good();
        partial.selection.partial = true;
        partial.source.commit = None;
        Collection {
            entries: vec![entry(fixture::good()), entry(partial)],
            unread: vec![Unread {
                name: "bad](x).json".into(),
                reason: "r".into(),
            }],
            older: vec![Older {
                name: "linux-cpu-1-old.json".into(),
                platform: None,
                started: None,
            }],
        }
    }

    fn text() -> String {
        section(&collection(), &fixture::policy().gates, "platform-tests")
    }

    #[test]
    fn each_record_is_a_row_and_what_is_none_a_line() {
        let text = text();
        for part in [
            "| 2026-01-02T03:04:05Z | linux-cpu | fast | 4 passed, 0 failed, 0 skipped | G1, G2, G3, G4, G5 | \
             <code>c0ffeec0ffee</code> | \
             [linux-cpu-1767323045-9b2f.json](platform-tests/linux-cpu-1767323045-9b2f.json) |",
            "| fast, a part | 4 passed, 0 failed, 0 skipped | none | none |",
            "Files that are no records:\n\n- [bad&#93;&#40;x&#41;.json](platform-tests/bad%5D%28x%29.json)\n",
            "no longer judged:\n\n- [linux-cpu-1-old.json](platform-tests/linux-cpu-1-old.json)\n",
        ] {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
        let empty = section(&Collection::default(), &fixture::policy().gates, "p");
        assert_eq!(empty, "There is no record.\n");
    }

    #[test]
    fn a_page_is_made_then_kept_and_then_found_stale() {
        let directory = tempfile::tempdir().unwrap();
        let page = directory.path().join("README.md");
        let text = text();
        assert!(is_stale(&page, &text).unwrap());
        assert!(update(&page, &text).unwrap());
        assert!(!is_stale(&page, &text).unwrap());
        assert!(!update(&page, &text).unwrap());
        let written = fs::read_to_string(&page).unwrap();
        assert!(written.starts_with("# Results\n\nWhat the gates found"));

        // What people wrote around the section stays.
        fs::write(&page, format!("mine\n{written}yours\n")).unwrap();
        assert!(update(&page, "another\n").unwrap());
        let written = fs::read_to_string(&page).unwrap();
        assert!(written.starts_with("mine\n") && written.ends_with("yours\n"));
        assert!(written.contains(&format!("{BEGIN}\n\nanother\n\n{END}\n")));
        assert!(is_stale(&page, &text).unwrap());
    }

    #[test]
    fn a_page_without_one_place_for_the_section_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let page = directory.path().join("README.md");
        for (text, counts) in [
            ("prose".to_owned(), "0 times"),
            (format!("{END}\n{BEGIN}"), "1 times"),
            (format!("{BEGIN}{END}{BEGIN}{END}"), "2 times"),
        ] {
            fs::write(&page, &text).unwrap();
            let error = update(&page, "x").unwrap_err().to_string();
            assert!(error.contains(counts), "{error}");
            assert_eq!(fs::read_to_string(&page).unwrap(), text);
        }
        let error = is_stale(directory.path(), "x").unwrap_err().to_string();
        assert!(error.starts_with("cannot read "), "{error}");
        let nowhere = directory.path().join("missing/README.md");
        let error = update(&nowhere, "x").unwrap_err().to_string();
        assert!(error.starts_with("cannot write "), "{error}");
    }
}
