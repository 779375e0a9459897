//! Sessions that several servers have in common: `--store`.

use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use kakeya_core::EngineHandle;
use kakeya_runtime::{Engine, SnapshotCodec};
use kakeya_server::metrics::Metrics;
use kakeya_server::shared::{Flushed, Keeper, Keeping, SharedStore, tidy_regularly};
use sysinfo::System;
use tokio::runtime::Runtime;

use super::options::positive;

/// Flags about sessions that other servers can go on with.
#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// Keep the sessions where other servers that are given the same can go on with them: a folder, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "PLACE", conflicts_with = "state_dir")]
    store: Option<String>,
    /// Save a session there once so many tokens of it may be unsaved, between two turns [default: 1, after each]
    #[arg(long, value_name = "TOKENS", requires = "store", value_parser = positive)]
    store_every: Option<NonZeroUsize>,
}

/// The store that was given, before there is an engine.
#[derive(Debug)]
pub struct Store {
    place: Option<SharedStore>,
    every: u64,
    keeper: Arc<OnceLock<Weak<Keeper>>>,
}

impl StoreArgs {
    /// Looks at the place, so that one that cannot be used is told before a model is loaded.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(&self, runtime: &Runtime) -> anyhow::Result<Store> {
        let place = match &self.store {
            None => None,
            Some(place) => {
                let store = SharedStore::open(place, options(), server_name())?;
                let listed = runtime.block_on(store.ids());
                let sessions = listed.with_context(|| format!("--store {place}"))?.len();
                tracing::info!(%store, sessions, "sessions are shared");
                Some(store)
            }
        };
        Ok(Store {
            place,
            every: self.store_every.map_or(1, |tokens| tokens.get() as u64),
            keeper: Arc::default(),
        })
    }
}

/// What the variables of the environment say of the store: `AWS_ENDPOINT` is the option `aws_endpoint`.
fn options() -> Vec<(String, String)> {
    let named = |(name, value): (String, String)| {
        let name = name.to_ascii_lowercase();
        name.starts_with("aws_").then_some((name, value))
    };
    std::env::vars().filter_map(named).collect()
}

/// Who has a session, for people who look at the store.
fn server_name() -> String {
    let host = System::host_name().unwrap_or_else(|_| "unknown".to_owned());
    format!("{host}:{}", std::process::id())
}

impl Store {
    /// Has the engine tell of the sessions that end.
    pub fn watch(&self, engine: &mut Engine) {
        if self.place.is_some() {
            engine.tell_ends(Keeper::ends(Arc::clone(&self.keeper)));
        }
    }

    /// Starts to keep the sessions of `engine`, and returns the door to it that sees to that.
    pub fn keep(
        self,
        runtime: &Runtime,
        engine: &EngineHandle,
        codec: &Arc<SnapshotCodec>,
        idle_ttl: Duration,
        metrics: &mut Metrics,
    ) -> (EngineHandle, Option<Arc<Keeper>>) {
        let Some(place) = self.place else {
            return (engine.clone(), None);
        };
        let _inside = runtime.enter();
        let keeping = Keeping {
            every: self.every,
            idle_ttl,
        };
        let keeper = Keeper::new(place, engine.clone(), Arc::clone(codec), keeping);
        // It was empty: there is one keeper.
        drop(self.keeper.set(Arc::downgrade(&keeper)));
        keeper.register(metrics);
        tidy_regularly(&keeper);
        (engine.sharing(Arc::clone(&keeper) as _), Some(keeper))
    }
}

/// Saves what is not in the store yet of the sessions of an engine that has stopped.
///
/// # Errors
/// When the last tokens of some could not be saved.
pub async fn flush(keeper: &Keeper, engine: &Engine) -> anyhow::Result<()> {
    let Flushed { saved, lost } = keeper.flush(engine).await;
    tracing::info!(saved, lost, "the last tokens of sessions went to the store");
    if lost > 0 {
        bail!("the last tokens of {lost} sessions could not be saved: the log says why");
    }
    Ok(())
}
