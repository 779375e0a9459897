//! Fetching from the Hugging Face hub through its own client.
//!
//! The client's cache-filling download starts again from nothing after a break and has no time limit on a
//! host that does not answer. Its byte-range stream has neither fault once the waiting is bounded here, and
//! writing the blob ourselves means that one rule (hash first, name after) holds for every source.

use std::thread;

use futures::StreamExt;
use hf_hub::{HFClient, HFError, HFRepository, RepoTypeModel};
use tokio::time::timeout;

use super::blob::BlobWriter;
use super::disk::{self, Need};
use super::entry::{FileEntry, ModelEntry};
use super::error::ResolveError;
use super::layout::{Layout, create_dir};
use super::progress::{Progress, ProgressEvent};
use super::settings::CacheSettings;

/// Gets those files of the entry that are missing.
pub(super) fn fetch(
    repo: &str,
    revision: &str,
    entry: &ModelEntry,
    missing: &[&FileEntry],
    layout: &Layout,
    settings: &CacheSettings,
    progress: &mut dyn Progress,
) -> Result<(), ResolveError> {
    check_room(entry, missing, layout)?;
    let (owner, name) = repo
        .split_once('/')
        .expect("the catalogue only holds repositories with an owner");
    // A thread of its own, because the caller may itself run inside an async runtime, where starting a
    // second one panics.
    thread::scope(|scope| {
        scope
            .spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(|error| ResolveError::Hub {
                        detail: format!("its client could not start: {error}"),
                    })?;
                runtime.block_on(async {
                    let download = Download {
                        repository: client(settings)?.model(owner, name),
                        revision,
                        layout,
                        settings,
                    };
                    for file in missing {
                        download.file(file, progress).await?;
                    }
                    Ok(())
                })
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn client(settings: &CacheSettings) -> Result<HFClient, ResolveError> {
    // One retry: the list of sources is the plan for a hub that is down.
    let mut builder = HFClient::builder()
        .cache_dir(&settings.cache)
        .retry_max_attempts(1);
    if let Some(endpoint) = &settings.hub_endpoint {
        builder = builder.endpoint(endpoint);
    }
    builder.build().map_err(refused)
}

fn check_room(
    entry: &ModelEntry,
    missing: &[&FileEntry],
    layout: &Layout,
) -> Result<(), ResolveError> {
    create_dir(&layout.blobs())?;
    let needs: Vec<Need> = missing
        .iter()
        .map(|file| {
            let there = layout.partial(file).metadata().map_or(0, |data| data.len());
            Need {
                bytes: file.size.saturating_sub(there),
                what: match there {
                    0 => file.name.clone(),
                    _ => format!("the rest of {}", file.name),
                },
            }
        })
        .collect();
    disk::check(&entry.name, &layout.blobs(), &needs)
}

struct Download<'a> {
    repository: HFRepository<RepoTypeModel>,
    revision: &'a str,
    layout: &'a Layout,
    settings: &'a CacheSettings,
}

impl Download<'_> {
    async fn file(
        &self,
        file: &FileEntry,
        progress: &mut dyn Progress,
    ) -> Result<(), ResolveError> {
        let writer = BlobWriter::resume(self.layout, file)?;
        let resumed = writer.written() > 0;
        match self.stream(file, writer, progress).await {
            // What was there before may have been the wrong part; a whole download says which.
            Err(ResolveError::WrongContent { .. }) if resumed => {
                let writer = BlobWriter::fresh(self.layout, file)?;
                self.stream(file, writer, progress).await
            }
            outcome => outcome,
        }
    }

    async fn stream(
        &self,
        file: &FileEntry,
        mut writer: BlobWriter,
        progress: &mut dyn Progress,
    ) -> Result<(), ResolveError> {
        if writer.remaining() == 0 {
            return writer.commit();
        }
        let patience = self.settings.answer_timeout;
        let request = self
            .repository
            .download_file_stream()
            .filename(&file.name)
            .revision(self.revision)
            .maybe_range((writer.written() > 0).then(|| writer.written()..file.size))
            .send();
        let (length, mut bytes) = timeout(patience, request)
            .await
            .map_err(|_| ResolveError::NoAnswer {
                waited: patience,
                said: String::new(),
            })?
            .map_err(refused)?;
        if writer.written() > 0 && length == Some(file.size) {
            // A proxy that does not do ranges sends everything again.
            writer = BlobWriter::fresh(self.layout, file)?;
        }
        loop {
            let patience = self.settings.stall_timeout;
            let chunk =
                timeout(patience, bytes.next())
                    .await
                    .map_err(|_| ResolveError::Stalled {
                        waited: patience,
                        received: writer.written(),
                    })?;
            let Some(chunk) = chunk else {
                return writer.commit();
            };
            writer.write(&chunk.map_err(refused)?)?;
            progress.event(ProgressEvent::Bytes {
                done: writer.written(),
                total: file.size,
            });
        }
    }
}

/// The client's errors name their cause in the chain below them, which a person needs: "error sending
/// request" alone does not say that the name could not be looked up.
fn refused(error: HFError) -> ResolveError {
    let mut detail = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !detail.contains(&text) {
            detail = format!("{detail}: {text}");
        }
        cause = inner.source();
    }
    ResolveError::Hub { detail }
}
