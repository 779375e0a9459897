//! Sessions that outlive the process: `--state-dir`.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use kakeya_runtime::{Engine, SnapshotCodec};
use kakeya_server::door::access::Access;
use kakeya_server::metrics::Metrics;
use kakeya_server::state::{Folder, Restored, restore, save};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::output::bytes;

/// Flags about what outlives the process.
#[derive(Debug, Clone, Args)]
pub struct StateArgs {
    /// Save the sessions in this folder when the server is told to stop, and go on with them, under their ids, when one
    /// is started there
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// The folder, if there is one, and what was found in it.
#[derive(Debug)]
pub struct Kept {
    folder: Option<Folder>,
    found: Restored,
}

impl StateArgs {
    /// Takes the folder, so that one in use is told before a model is loaded.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(&self) -> anyhow::Result<Kept> {
        let folder = self.state_dir.as_deref().map(Folder::open).transpose();
        Ok(Kept {
            folder: folder.map_err(|error| anyhow::Error::new(error).context("--state-dir"))?,
            found: Restored::default(),
        })
    }
}

impl Kept {
    /// Opens the sessions that were saved, for those that `access` lets in.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn restore(
        &mut self,
        engine: &mut Engine,
        codec: &SnapshotCodec,
        access: &Access,
    ) -> anyhow::Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        self.found = restore(folder, engine, codec, |owner| access.owned_by(owner))?;
        let Restored {
            restored,
            set_aside,
        } = self.found;
        tracing::info!(restored, set_aside, "sessions of the state folder");
        Ok(())
    }

    /// Counts what was found.
    pub fn register(&self, metrics: &mut Metrics) {
        if self.folder.is_none() {
            return;
        }
        let sessions: Family<[(&str, &str); 1], Counter> = Family::default();
        for (outcome, count) in [
            ("restored", self.found.restored),
            ("set_aside", self.found.set_aside),
        ] {
            sessions
                .get_or_create(&[("outcome", outcome)])
                .inc_by(count);
        }
        let help = "Saved sessions that were found at start, by what became of them";
        metrics
            .registry()
            .register("kakeya_state_sessions", help, sessions);
    }

    /// Saves the sessions of an engine that has stopped.
    ///
    /// # Errors
    /// When some could not be saved.
    pub fn save(&self, engine: &Engine, codec: &SnapshotCodec) -> anyhow::Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let saved = save(folder, engine, codec);
        let size = bytes(saved.bytes);
        tracing::info!(
            sessions = saved.saved,
            lost = saved.lost,
            size,
            "sessions saved"
        );
        if saved.lost > 0 {
            bail!(
                "{} sessions could not be saved: the log says why",
                saved.lost
            );
        }
        Ok(())
    }
}
