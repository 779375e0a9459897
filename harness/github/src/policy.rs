//! `gates/labels.toml`: which label a change needs, by the paths it touches.

use globset::{Glob, GlobBuilder, GlobMatcher};
use serde::Deserialize;

use crate::GithubError;

/// Where the policy lies in a repository.
pub const LABELS: &str = "gates/labels.toml";

/// The labels.
#[derive(Debug, Clone)]
pub struct LabelPolicy {
    /// In the order of the file.
    pub labels: Vec<Label>,
}

/// One label.
#[derive(Debug, Clone)]
pub struct Label {
    /// Its name.
    pub name: String,
    /// Six hexadecimal digits: what it looks like, should it have to be made.
    pub colour: String,
    /// What it means, should it have to be made.
    pub description: String,
    /// A change to any of these needs it.
    pub globs: Vec<Pattern>,
    /// Though not to these.
    pub except: Vec<Pattern>,
}

/// A glob. `*` stays within a folder, `**` does not.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    matcher: GlobMatcher,
}

impl Pattern {
    /// As written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it matches a path, parted by `/`.
    pub fn matches(&self, path: &str) -> bool {
        self.matcher.is_match(path)
    }
}

impl Label {
    /// The glob by which a path needs the label.
    pub fn needed_by(&self, path: &str) -> Option<&Pattern> {
        if self.except.iter().any(|except| except.matches(path)) {
            return None;
        }
        self.globs.iter().find(|glob| glob.matches(path))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    label: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    colour: String,
    description: String,
    globs: Vec<String>,
    #[serde(default)]
    except: Vec<String>,
}

impl LabelPolicy {
    /// Reads the policy. `place` is what an error calls it.
    ///
    /// # Errors
    /// When it is malformed, or says what GitHub would not take.
    pub fn parse(text: &str, place: &str) -> Result<Self, GithubError> {
        let refuse = |reason: String| GithubError::Policy {
            place: place.to_owned(),
            reason,
        };
        let file: File = toml::from_str(text).map_err(|error| refuse(error.to_string()))?;
        let mut labels: Vec<Label> = Vec::new();
        for entry in file.label {
            let name = entry.name.clone();
            if labels
                .iter()
                .any(|known| known.name.eq_ignore_ascii_case(&name))
            {
                return Err(refuse(format!("label `{name}` is there twice")));
            }
            let label = entry
                .compile()
                .map_err(|reason| refuse(format!("label `{name}`: {reason}")))?;
            labels.push(label);
        }
        if labels.is_empty() {
            return Err(refuse("it names no label".to_owned()));
        }
        Ok(Self { labels })
    }
}

impl Entry {
    fn compile(self) -> Result<Label, String> {
        // GitHub's limits, in characters.
        if self.name.trim().is_empty() || self.name.chars().count() > 50 || self.name.contains(',')
        {
            return Err("a name has 1 to 50 characters and no comma".to_owned());
        }
        // As the last part of an address they mean the folder itself, and the one above it.
        if matches!(self.name.as_str(), "." | "..") {
            return Err("a name is more than dots".to_owned());
        }
        let is_colour =
            self.colour.len() == 6 && self.colour.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_colour {
            let colour = &self.colour;
            return Err(format!(
                "the colour `{colour}` is not six hexadecimal digits"
            ));
        }
        if self.description.chars().count() > 100 {
            return Err("a description has at most 100 characters".to_owned());
        }
        if self.globs.is_empty() {
            return Err("it has no globs, so no change would need it".to_owned());
        }
        let compile = |globs: Vec<String>| -> Result<Vec<Pattern>, String> {
            globs.into_iter().map(pattern).collect()
        };
        Ok(Label {
            globs: compile(self.globs)?,
            except: compile(self.except)?,
            name: self.name,
            colour: self.colour,
            description: self.description,
        })
    }
}

fn pattern(text: String) -> Result<Pattern, String> {
    if text.starts_with('/') || text.starts_with("./") || text.contains('\\') {
        return Err(format!(
            "the glob `{text}` matches nothing: paths begin at the repository's top, without `/` or `./`, parted by `/`"
        ));
    }
    let glob: Glob = GlobBuilder::new(&text)
        .literal_separator(true)
        .build()
        .map_err(|error| format!("the glob `{text}`: {}", error.kind()))?;
    Ok(Pattern {
        matcher: glob.compile_matcher(),
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[[label]]\nname = 'n'\ncolour = '5319e7'\ndescription = 'd'\nglobs = ['src/**', '*.toml']\n\
        except = ['**/*.md']\n";

    fn refused(text: &str) -> String {
        LabelPolicy::parse(text, "labels.toml")
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_path_needs_a_label_by_a_glob() {
        let policy = LabelPolicy::parse(GOOD, "labels.toml").unwrap();
        let by = |path: &str| policy.labels[0].needed_by(path).map(Pattern::text);
        assert_eq!(by("src/a/b.rs"), Some("src/**"));
        assert_eq!(by("Cargo.toml"), Some("*.toml"));
        assert_eq!(by("a/Cargo.toml"), None);
        assert_eq!(by("src/notes.md"), None);
    }

    #[test]
    fn the_shipped_policy_is_read() {
        let text = include_str!("../../../gates/labels.toml");
        let policy = LabelPolicy::parse(text, LABELS).unwrap();
        let names: Vec<_> = policy.labels.iter().map(|label| &label.name).collect();
        assert_eq!(names, ["needs-mac-m4", "needs-cuda"]);
        assert!(
            policy.labels[0]
                .needed_by("engine/model/src/lib.rs")
                .is_some()
        );
        assert!(policy.labels[0].needed_by("docs/adopting.md").is_none());
    }

    #[test]
    fn a_policy_that_github_or_nobody_would_take_is_refused() {
        for (from, to, part) in [
            (
                "'5319e7'",
                "'purple'",
                "label `n`: the colour `purple` is not six",
            ),
            ("'n'", "'a,b'", "no comma"),
            ("'n'", "' '", "1 to 50 characters"),
            ("'n'", "'.'", "more than dots"),
            ("'n'", "'..'", "more than dots"),
            ("['src/**', '*.toml']", "[]", "it has no globs"),
            (
                "'src/**'",
                "'/src/**'",
                "the glob `/src/**` matches nothing",
            ),
            (
                "'src/**'",
                "'src/[**'",
                "the glob `src/[**`: unclosed character class",
            ),
            ("except", "excepts", "unknown field `excepts`"),
        ] {
            let message = refused(&GOOD.replace(from, to));
            assert!(message.contains(part), "{message}");
            assert!(message.starts_with("labels.toml is malformed"), "{message}");
        }
        let long = GOOD.replace("'d'", &format!("'{}'", "d".repeat(101)));
        assert!(refused(&long).contains("at most 100 characters"));
        let twice = format!("{GOOD}{}", GOOD.replace("'n'", "'N'"));
        assert!(refused(&twice).contains("label `N` is there twice"));
        assert!(refused("label = []").contains("names no label"));
    }
}
