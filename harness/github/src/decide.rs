//! Which labels a change needs. Where anything about the list of files is in doubt, it needs all of them.

use std::collections::HashSet;
use std::fmt;

use crate::policy::{Label, LabelPolicy, Pattern};

/// How many files GitHub lists at most:
/// <https://docs.github.com/en/rest/pulls/pulls#list-pull-requests-files>.
pub const FILE_CAP: usize = 3000;

/// A file of a pull request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChangedFile {
    /// Its path.
    pub path: String,
    /// What it was called before, where it was renamed.
    pub previous: Option<String>,
}

/// Why a list of files may not be all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// As many as GitHub lists at most.
    Capped,
    /// The pull request has another number of them.
    Disagrees {
        /// How many were listed.
        listed: usize,
        /// How many the pull request says it has.
        told: u64,
    },
    /// The list has no end.
    Endless,
    /// The head kept changing while the list was read.
    Moving,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capped => write!(
                f,
                "GitHub lists no more than {FILE_CAP} files, so there may be others"
            ),
            Self::Disagrees { listed, told } => write!(
                f,
                "GitHub lists {listed} files, and the pull request has {told}"
            ),
            Self::Endless => f.write_str("the list of files has no end"),
            Self::Moving => f.write_str(
                "the pull request was pushed to again and again while its files were read",
            ),
        }
    }
}

/// Why a label is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A path matches.
    Path {
        /// The path.
        path: String,
        /// The glob.
        glob: String,
        /// Whether the path is the previous name of a renamed file.
        previous: bool,
    },
    /// Nobody knows.
    Doubt(Doubt),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path {
                path,
                glob,
                previous,
            } => {
                let was = if *previous {
                    " (its previous name)"
                } else {
                    ""
                };
                let path = printable(path);
                write!(f, "{path}{was} matches {glob}")
            }
            Self::Doubt(doubt) => doubt.fmt(f),
        }
    }
}

/// A path on one line. Whoever changes files chooses their names, and a line break among them could begin a line that says
/// something else.
fn printable(path: &str) -> String {
    let one = |c: char| match c {
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    path.chars().map(one).collect()
}

/// What can be said against a list of files.
pub fn doubt(files: &[ChangedFile], told: u64) -> Option<Doubt> {
    // A list that shifts while it is read names files twice.
    let listed = files
        .iter()
        .map(|file| &file.path)
        .collect::<HashSet<_>>()
        .len();
    if listed >= FILE_CAP {
        Some(Doubt::Capped)
    } else if listed as u64 != told || listed != files.len() {
        Some(Doubt::Disagrees { listed, told })
    } else {
        None
    }
}

/// Why a label is needed, if it is.
pub fn reason(label: &Label, files: &[ChangedFile], doubt: Option<&Doubt>) -> Option<Reason> {
    if let Some(doubt) = doubt {
        return Some(Reason::Doubt(doubt.clone()));
    }
    let names = |file: &ChangedFile| {
        let previous = file.previous.clone().map(|path| (path, true));
        std::iter::once((file.path.clone(), false)).chain(previous)
    };
    files.iter().flat_map(names).find_map(|(path, previous)| {
        let glob = label.needed_by(&path)?.text().to_owned();
        Some(Reason::Path {
            path,
            glob,
            previous,
        })
    })
}

/// The globs that do nothing for any of the paths: each with its label. A glob whose every path is excepted does nothing,
/// and neither does an exception of what no glob matches.
pub fn idle(policy: &LabelPolicy, paths: &[String]) -> Vec<(String, String)> {
    let mut idle = Vec::new();
    for label in &policy.labels {
        let matched = |globs: &[Pattern], path: &str| globs.iter().any(|glob| glob.matches(path));
        for (own, others, counts) in [
            (&label.globs, &label.except, false),
            (&label.except, &label.globs, true),
        ] {
            for glob in own {
                let works = |path: &String| glob.matches(path) && matched(others, path) == counts;
                if !paths.iter().any(works) {
                    idle.push((label.name.clone(), glob.text().to_owned()));
                }
            }
        }
    }
    idle
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> LabelPolicy {
        let text = "[[label]]\nname = 'n'\ncolour = '5319e7'\ndescription = 'd'\nglobs = ['src/**', 'gone/**']\n";
        LabelPolicy::parse(text, "labels.toml").unwrap()
    }

    fn file(path: &str, previous: Option<&str>) -> ChangedFile {
        ChangedFile {
            path: path.to_owned(),
            previous: previous.map(str::to_owned),
        }
    }

    #[test]
    fn a_file_that_was_moved_away_counts_by_its_previous_name() {
        let label = &policy().labels[0];
        let why = |files: &[ChangedFile]| reason(label, files, None).map(|why| why.to_string());
        let moved = [file("docs/a", None), file("old/b", Some("src/b"))];
        assert_eq!(
            why(&moved).unwrap(),
            "src/b (its previous name) matches src/**"
        );
        assert_eq!(why(&[file("src/a", None)]).unwrap(), "src/a matches src/**");
        assert_eq!(why(&[file("docs/a", Some("docs/b"))]), None);
        assert_eq!(why(&[]), None);
        let line = why(&[file("src/a\n::error::b", None)]).unwrap();
        assert_eq!(line, "src/a\\n::error::b matches src/**");
    }

    #[test]
    fn any_doubt_needs_the_label() {
        let label = &policy().labels[0];
        let docs = [file("docs/a", None), file("docs/b", None)];
        assert_eq!(doubt(&docs, 2), None);
        for told in [1, 3] {
            let doubt = doubt(&docs, told);
            let why = reason(label, &docs, doubt.as_ref()).unwrap().to_string();
            assert_eq!(
                why,
                format!("GitHub lists 2 files, and the pull request has {told}")
            );
        }
        let twice = [file("docs/a", None), file("docs/a", None)];
        assert!(matches!(
            doubt(&twice, 1),
            Some(Doubt::Disagrees { listed: 1, .. })
        ));
        assert!(matches!(doubt(&twice, 2), Some(Doubt::Disagrees { .. })));
        let many: Vec<_> = (0..FILE_CAP).map(|n| file(&n.to_string(), None)).collect();
        assert_eq!(doubt(&many, FILE_CAP as u64), Some(Doubt::Capped));
        assert_eq!(doubt(&many[1..], FILE_CAP as u64 - 1), None);
        for (doubt, part) in [
            (Doubt::Capped, "3000"),
            (Doubt::Endless, "no end"),
            (Doubt::Moving, "again and again"),
        ] {
            let why = reason(label, &[], Some(&doubt)).unwrap().to_string();
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn globs_that_match_nothing_are_named() {
        let idle_of = |text: &str| {
            let policy = LabelPolicy::parse(text, "labels.toml").unwrap();
            let paths = ["src/a.md".to_owned(), "docs/b".to_owned()];
            let idle = idle(&policy, &paths).into_iter();
            idle.map(|(label, glob)| format!("{label} {glob}"))
                .collect::<Vec<_>>()
        };
        const HEAD: &str = "[[label]]\nname = 'n'\ncolour = '5319e7'\ndescription = 'd'\n";
        let with = |rest: &str| idle_of(&format!("{HEAD}{rest}"));
        assert_eq!(with("globs = ['src/**', 'gone/**']"), ["n gone/**"]);
        // What is hidden whole, and what hides nothing.
        let hidden = "globs = ['docs/**', 'src/**']\nexcept = ['**/*.md', 'other/*']";
        assert_eq!(with(hidden), ["n src/**", "n other/*"]);
    }
}
