//! Sessions that several servers have in common: they go on elsewhere with the same bits, and live in one place at a time.
//!
//! The servers here are engines with a keeper each, over one folder. One that is killed is one whose step loop ends without
//! a word to the store.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kakeya_core::{
    EngineError, EngineHandle, GenerateParams, Limits, Meter, Owner, SessionId, Tenant,
};
use kakeya_runtime::{Engine, EngineConfig, SnapshotCodec, StateDigest, StepLoop, StepLoopThread};
use kakeya_server::shared::{Flushed, Keeper, Keeping, SharedStore};
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use tempfile::TempDir;

use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{
    Generated, PATIENCE, SMALL_LIMIT, block_on, engine_with, finish, prose, seeded, small, solo,
};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "a_session_goes_on_at_another_server_when_its_own_is_killed",
            goes_on_elsewhere,
        ),
        Case::fast(
            "a_server_that_has_lost_a_session_notices_before_it_answers",
            notices_a_loss,
        ),
        Case::fast(
            "a_session_that_was_closed_is_gone_for_all_servers",
            closed_for_all,
        ),
        Case::fast(
            "a_session_that_is_closed_while_it_is_saved_leaves_nothing",
            closed_while_saved,
        ),
        Case::fast(
            "an_idle_session_that_loses_its_place_comes_back_from_the_store",
            comes_back,
        ),
        Case::fast(
            "another_keys_session_is_not_taken_from_the_store",
            not_taken_by_another_key,
        ),
        Case::fast(
            "a_server_that_stops_saves_what_is_not_in_the_store_yet",
            saves_at_the_end,
        ),
        Case::fast(
            "a_session_of_the_store_that_nobody_used_has_ended",
            expires_in_the_store,
        ),
        Case::fast(
            "a_state_that_cannot_be_gone_on_with_is_told_and_stays",
            unusable_states_stay,
        ),
    ]
}

/// A server, as far as sessions go.
struct Server {
    door: EngineHandle,
    keeper: Arc<Keeper>,
    store: SharedStore,
    codec: Arc<SnapshotCodec>,
    step_loop: StepLoopThread,
}

impl Server {
    fn start(
        context: &SuiteContext,
        config: EngineConfig,
        folder: &Path,
        keeping: Keeping,
    ) -> Result<Self, CaseFailure> {
        let place = folder.to_string_lossy();
        let store = SharedStore::open(&place, [], "a case".to_owned())?;
        Self::start_on(context, config, store, keeping)
    }

    fn start_on(
        context: &SuiteContext,
        config: EngineConfig,
        store: SharedStore,
        keeping: Keeping,
    ) -> Result<Self, CaseFailure> {
        let weights = context.model_sha256().to_owned();
        let model = context.model()?.clone();
        let codec = Arc::new(SnapshotCodec::new(model, &config, weights, String::new())?);
        let mut engine = engine_with(context, config)?;
        let slot = Arc::new(OnceLock::new());
        engine.tell_ends(Keeper::ends(Arc::clone(&slot)));
        let (engine, step_loop) = StepLoop::start(engine)?;
        let keeper = Keeper::new(store.clone(), engine.clone(), Arc::clone(&codec), keeping);
        ensure!(slot.set(Arc::downgrade(&keeper)).is_ok(), "a second keeper");
        Ok(Self {
            door: engine.sharing(Arc::clone(&keeper) as _),
            keeper,
            store,
            codec,
            step_loop,
        })
    }

    /// A session that holds `tokens`.
    async fn open(&self, tokens: &[u32]) -> Result<SessionId, EngineError> {
        let id = self.door.create_session("gate".into(), Vec::new()).await?;
        self.door.append(id.clone(), tokens.to_vec()).await?;
        Ok(id)
    }

    async fn generate(
        &self,
        id: &SessionId,
        params: GenerateParams,
    ) -> Result<Generated, CaseFailure> {
        finish(self.door.generate(id.clone(), params).await?).await
    }

    async fn length(&self, id: &SessionId) -> Result<u64, EngineError> {
        Ok(self.door.info(id.clone()).await?.history_length)
    }

    async fn digest(&self, id: &SessionId) -> Result<StateDigest, EngineError> {
        Ok(self.codec.digest(&*self.door.export(id.clone()).await?))
    }

    /// Waits until nothing is on its way to the store, after so many snapshots.
    async fn saved(&self, snapshots: u64) -> CaseResult {
        let all = async {
            while self.keeper.counts().written.get() < snapshots {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        Ok(tokio::time::timeout(PATIENCE, all).await?)
    }

    /// Ends without a word to the store.
    async fn kill(self) -> CaseResult {
        drop(self.halt().await?);
        Ok(())
    }

    /// Ends its step loop, and returns what is left.
    async fn halt(self) -> Result<(Arc<Keeper>, Engine), CaseFailure> {
        self.door.shutdown(Duration::ZERO).await?;
        let Self {
            keeper, step_loop, ..
        } = self;
        let engine = tokio::task::spawn_blocking(|| step_loop.join()).await?;
        Ok((keeper, engine))
    }
}

const KEEPING: Keeping = Keeping {
    every: 1,
    idle_ttl: Duration::from_secs(1800),
};

/// Runs a case with a folder for the sessions.
fn sharing(case: impl AsyncFnOnce(&Path) -> CaseResult) -> CaseResult {
    let folder = TempDir::new()?;
    block_on(PATIENCE, async { case(folder.path()).await })
}

fn ensure_gone<T>(outcome: Result<T, EngineError>) -> CaseResult {
    match outcome {
        Err(EngineError::NotFound { .. }) => Ok(()),
        Err(other) => Err(other.into()),
        Ok(_) => Err(CaseFailure::violated("a session that has ended answers")),
    }
}

fn goes_on_elsewhere(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, SMALL_LIMIT + 14)?;
    let expected = solo(context, &small(context), &prompt, seeded(24, 5))?;
    sharing(async |folder| {
        let one = Server::start(context, small(context), folder, KEEPING)?;
        let id = one.open(&prompt).await?;
        let begun = one.generate(&id, seeded(8, 5)).await?;
        ensure_eq!(begun.tokens, expected.tokens[..8], "what it says at first");
        // One for the append and one for the generation; the first may have come late, and be of both.
        one.saved(1).await?;
        while one
            .store
            .newest_state(&id)
            .await?
            .is_none_or(|state| state.key.number < 2)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        one.kill().await?;

        // Of another number of threads.
        let elsewhere = EngineConfig {
            threads: 1,
            ..small(context)
        };
        let two = Server::start(context, elsewhere, folder, KEEPING)?;
        let length = prompt.len() as u64 + 8;
        ensure_eq!(two.length(&id).await?, length, "its history there");
        let more = two.generate(&id, seeded(16, 5)).await?;
        ensure_eq!(more.tokens, expected.tokens[8..], "what it goes on with");
        ensure_eq!(two.keeper.counts().fetched.get(), 1, "sessions fetched");

        let whole: Vec<_> = prompt.iter().chain(&expected.tokens).copied().collect();
        let fresh = two.open(&whole).await?;
        let (one, other) = (two.digest(&id).await?, two.digest(&fresh).await?);
        ensure_eq!(one, other, "the state after it, and one read at once");
        two.kill().await
    })
}

fn notices_a_loss(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 20)?;
    sharing(async |folder| {
        let one = Server::start(context, small(context), folder, KEEPING)?;
        let two = Server::start(context, small(context), folder, KEEPING)?;
        let id = one.open(&prompt).await?;
        one.saved(1).await?;
        // The second takes it while the first is alive, and goes on with it.
        ensure_eq!(
            two.door.append(id.clone(), vec![7, 8, 9]).await?,
            23,
            "there"
        );
        two.saved(1).await?;
        // The first has a copy of what was, and must not answer by it.
        ensure_eq!(one.length(&id).await?, 23, "tokens that the first knows of");
        ensure_eq!(one.keeper.counts().taken.get(), 1, "losses noticed");
        ensure_eq!(
            one.keeper.counts().fetched.get(),
            1,
            "sessions fetched back"
        );
        // Now it is the second that has lost it: what it still writes changes nothing.
        ensure_eq!(
            one.door.append(id.clone(), vec![1]).await?,
            24,
            "here again"
        );
        one.saved(2).await?;
        ensure_eq!(
            two.length(&id).await?,
            24,
            "tokens that the second knows of"
        );
        let digests = (one.digest(&id).await?, two.digest(&id).await?);
        ensure_eq!(digests.0, digests.1, "the state on either");
        one.kill().await?;
        two.kill().await
    })
}

/// In a store to which a state takes longer than a claim, as one across a network.
fn closed_while_saved(context: &SuiteContext) -> CaseResult {
    const SLOW: Duration = Duration::from_millis(250);
    let prompt = prose(context, 20)?;
    sharing(async |_| {
        let throttle = ThrottleConfig {
            wait_put_per_call: SLOW,
            ..ThrottleConfig::default()
        };
        let objects = Arc::new(ThrottledStore::new(InMemory::new(), throttle));
        let place = Arc::clone(&objects);
        let store = SharedStore::on(place, Default::default(), "a case".to_owned());
        let one = Server::start_on(context, small(context), store, KEEPING)?;
        let id = one.open(&prompt).await?;
        // Its snapshot is on its way by now.
        tokio::time::sleep(SLOW / 2).await;
        objects.config_mut(|throttle| throttle.wait_put_per_call = Duration::ZERO);
        ensure_eq!(one.door.close(id.clone()).await?, 20, "its last length");
        // Long enough for whatever was still under way.
        tokio::time::sleep(4 * SLOW).await;
        ensure!(one.keeper.counts().written.get() > 0, "nothing was written");
        let left = one.store.newest_state(&id).await?;
        ensure!(left.is_none(), "a state of it is left: {left:?}");
        ensure_eq!(one.store.ids().await?.len(), 0, "sessions of the store");
        one.kill().await
    })
}

fn closed_for_all(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 20)?;
    sharing(async |folder| {
        let one = Server::start(context, small(context), folder, KEEPING)?;
        let two = Server::start(context, small(context), folder, KEEPING)?;
        let (kept, closed) = (one.open(&prompt).await?, one.open(&prompt).await?);
        one.saved(2).await?;
        // Closed where it was not: it is taken there first.
        ensure_eq!(two.door.close(closed.clone()).await?, 20, "its last length");
        ensure_gone(two.length(&closed).await)?;
        ensure_gone(one.length(&closed).await)?;
        ensure_eq!(
            one.store.ids().await?,
            std::slice::from_ref(&kept),
            "sessions in the store"
        );
        ensure_eq!(one.door.close(kept.clone()).await?, 20, "the other's");
        ensure_gone(two.length(&kept).await)?;
        ensure_eq!(one.store.ids().await?, [], "sessions in the store");
        one.kill().await?;
        two.kill().await
    })
}

fn comes_back(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 20)?;
    let config = EngineConfig {
        capacity: 1,
        ..small(context)
    };
    sharing(async |folder| {
        let one = Server::start(context, config, folder, KEEPING)?;
        let first = one.open(&prompt).await?;
        one.saved(1).await?;
        let second = one.open(&prompt[..10]).await?;
        one.saved(2).await?;
        for _ in 0..2 {
            ensure_eq!(one.length(&first).await?, 20, "the first");
            ensure_eq!(one.length(&second).await?, 10, "the second");
        }
        ensure_eq!(one.keeper.counts().fetched.get(), 4, "sessions fetched");
        ensure_eq!(one.keeper.counts().taken.get(), 0, "by others");
        one.kill().await
    })
}

fn not_taken_by_another_key(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 20)?;
    let key = |number, name: &str| {
        let meter = Arc::<Meter>::default();
        let limits = Limits::default();
        Arc::new(Tenant::key(
            Owner::new(number),
            name.to_owned(),
            limits,
            meter,
        ))
    };
    sharing(async |folder| {
        let one = Server::start(context, small(context), folder, KEEPING)?;
        let two = Server::start(context, small(context), folder, KEEPING)?;
        let alice = one.door.on_behalf_of(key(1, "alice"));
        let id = alice.create_session(String::new(), Vec::new()).await?;
        alice.append(id.clone(), prompt.clone()).await?;
        one.saved(1).await?;
        let claim = one.store.newest(&id).await?;
        for stranger in [two.door.on_behalf_of(key(2, "bob")), two.door.clone()] {
            ensure_gone(stranger.info(id.clone()).await.map(drop))?;
            ensure_gone(stranger.close(id.clone()).await)?;
        }
        ensure_eq!(one.store.newest(&id).await?, claim, "whose the session is");
        let there = two.door.on_behalf_of(key(1, "alice"));
        ensure_eq!(
            there.info(id.clone()).await?.history_length,
            20,
            "for its own key"
        );
        // And what was brought for one is not the other's.
        let bob = two.door.on_behalf_of(key(2, "bob"));
        ensure_gone(bob.info(id).await.map(drop))?;
        one.kill().await?;
        two.kill().await
    })
}

fn saves_at_the_end(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 20)?;
    let seldom = Keeping {
        every: 1000,
        ..KEEPING
    };
    sharing(async |folder| {
        let one = Server::start(context, small(context), folder, seldom)?;
        let (told, killed) = (one.open(&prompt).await?, one.open(&prompt).await?);
        ensure_eq!(
            one.keeper.counts().written.get(),
            0,
            "snapshots of few tokens"
        );
        one.door.close(killed).await?;
        let (keeper, engine) = one.halt().await?;
        let flushed = keeper.flush(&engine).await;
        ensure_eq!(
            flushed,
            Flushed { saved: 1, lost: 0 },
            "sessions saved at the end"
        );
        let two = Server::start(context, small(context), folder, seldom)?;
        ensure_eq!(two.length(&told).await?, 20, "its history");
        // Of one that is killed, what came since its last snapshot is lost: here, all that was appended.
        let lost = two.open(&prompt).await?;
        two.kill().await?;
        let three = Server::start(context, small(context), folder, seldom)?;
        ensure_eq!(three.length(&lost).await?, 0, "its history");
        three.kill().await
    })
}

fn expires_in_the_store(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 20)?;
    let soon = Keeping {
        idle_ttl: Duration::from_millis(300),
        ..KEEPING
    };
    sharing(async |folder| {
        let one = Server::start(context, small(context), folder, KEEPING)?;
        let (asked, forgotten) = (one.open(&prompt).await?, one.open(&prompt).await?);
        one.saved(2).await?;
        one.kill().await?;
        tokio::time::sleep(3 * soon.idle_ttl).await;
        let two = Server::start(context, small(context), folder, soon)?;
        ensure_gone(two.length(&asked).await)?;
        ensure_eq!(
            two.store.ids().await?,
            std::slice::from_ref(&forgotten),
            "what is left"
        );
        ensure_eq!(two.keeper.tidy().await?, 1, "sessions tidied away");
        ensure_eq!(two.store.ids().await?, [], "what is left then");
        ensure_gone(two.length(&forgotten).await)?;
        two.kill().await
    })
}

fn unusable_states_stay(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 20)?;
    sharing(async |folder| {
        let one = Server::start(context, small(context), folder, KEEPING)?;
        let id = one.open(&prompt).await?;
        one.saved(1).await?;
        one.kill().await?;
        // Another window: its bits would be others.
        let mut other = small(context);
        other.cache.window = kakeya_core::Window::Sliding(16);
        let two = Server::start(context, other, folder, KEEPING)?;
        match two.length(&id).await {
            Err(EngineError::Store { detail }) => {
                ensure!(detail.contains("window"), "it is told as: {detail}");
            }
            outcome => {
                let what = format!("a state of other settings: {outcome:?}");
                return Err(CaseFailure::violated(what));
            }
        }
        two.kill().await?;
        let three = Server::start(context, small(context), folder, KEEPING)?;
        ensure_eq!(three.length(&id).await?, 20, "where it fits");
        three.kill().await
    })
}
