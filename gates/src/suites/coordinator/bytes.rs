//! What a session's cache weighs, and that its slab comes back however it ends.

use std::time::{Duration, Instant};

use futures::FutureExt;
use kakeya_core::{CacheInspector, EngineError, KvElement, SessionId};
use kakeya_runtime::{AppendCoordinator, Engine, EngineConfig, StepLoop};

use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{
    PATIENCE, SMALL, SMALL_LIMIT, block_on, engine_with, ensure_ended, ensure_holds, generate,
    greedy, kept_bytes, open, open_with, random_ids, small,
};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "kv_live_bytes_count_every_cached_position_and_plateau_at_the_cap",
            kv_live_bytes_count_every_cached_position_and_plateau_at_the_cap,
        ),
        Case::fast(
            "every_way_a_session_can_end_frees_its_slab",
            every_way_a_session_can_end_frees_its_slab,
        ),
        Case::fast(
            "a_session_whose_caller_has_gone_is_not_kept",
            a_session_whose_caller_has_gone_is_not_kept,
        ),
        Case::fast(
            "an_append_whose_caller_has_gone_runs_to_its_end",
            an_append_whose_caller_has_gone_runs_to_its_end,
        ),
    ]
}

fn kv_live_bytes_count_every_cached_position_and_plateau_at_the_cap(
    context: &SuiteContext,
) -> CaseResult {
    let model = context.model()?.config();
    // Where every layer keeps as much as it ever will: a layer with a window of its own keeps that.
    let own = model.kinds.iter().filter_map(|kind| kind.window);
    let cap = own.fold(SMALL_LIMIT, usize::max);
    let tokens = random_ids(context, 20, cap + 114)?;
    for (kv, vector) in [
        (KvElement::F16, model.head_dim * 2),
        (KvElement::F32, model.head_dim * 4),
        (KvElement::Int8, model.head_dim + model.head_dim / 16),
    ] {
        let config = EngineConfig {
            kv,
            capacity: 1,
            ..small(context)
        };
        let mut engine = engine_with(context, config)?;
        let id = open(&mut engine)?;
        let ensure_bytes = |engine: &Engine, history: usize| {
            let expected = kept_bytes(model, &SMALL, history as u64, vector);
            let bytes = engine.info(&id, Instant::now())?.kv_live_bytes;
            ensure_eq!(bytes, expected, "{kv} bytes after {history} tokens");
            Ok::<_, CaseFailure>(bytes)
        };
        ensure_bytes(&engine, 0)?;
        let (mut done, mut at_cap) = (0, Vec::new());
        for piece in [1, 3, 4, 20, 7, 1, 1, cap, 36, 40, 1] {
            AppendCoordinator::append(&mut engine, &id, &tokens[done..done + piece])?;
            done += piece;
            let bytes = ensure_bytes(&engine, done)?;
            if done >= cap {
                at_cap.push(bytes);
            }
        }
        generate(&mut engine, &id, greedy(5))?;
        at_cap.push(ensure_bytes(&engine, done + 5)?);
        ensure!(
            at_cap.len() > 3 && at_cap.iter().all(|bytes| *bytes == at_cap[0]),
            "{kv} bytes at the cap are not flat: {at_cap:?}"
        );
    }
    Ok(())
}

/// A cache that has lost the values of its first layer, or its place.
struct Broken {
    values: u64,
    position: u64,
}

impl CacheInspector for Broken {
    fn layers(&self) -> usize {
        1
    }
    fn k_length(&self, _: usize) -> u64 {
        SMALL_LIMIT as u64
    }
    fn v_length(&self, _: usize) -> u64 {
        self.values
    }
    fn position(&self) -> u64 {
        self.position
    }
}

fn end_by_violation(engine: &mut Engine, id: &SessionId, broken: &Broken) -> CaseResult {
    let checked = engine.check_invariants(id, broken);
    ensure!(
        matches!(checked, Err(EngineError::Invariant(_))),
        "a broken cache was answered with {checked:?}"
    );
    Ok(())
}

/// One way for a session to end.
type Ending = fn(&mut Engine, &SessionId) -> CaseResult;

const ENDINGS: [(&str, Ending); 5] = [
    ("close", |engine, id| {
        engine.close_session(id)?;
        Ok(())
    }),
    ("idle TTL", |engine, _| {
        engine.expire(Instant::now() + Duration::from_secs(3600));
        Ok(())
    }),
    ("eviction", |engine, _| {
        // The one place goes to another, which is closed in its turn.
        let next = open(engine)?;
        engine.close_session(&next)?;
        Ok(())
    }),
    ("INV-1", |engine, id| {
        let (values, position) = (SMALL_LIMIT as u64 - 1, 70);
        end_by_violation(engine, id, &Broken { values, position })
    }),
    ("INV-2", |engine, id| {
        let (values, position) = (SMALL_LIMIT as u64, 0);
        end_by_violation(engine, id, &Broken { values, position })
    }),
];

fn every_way_a_session_can_end_frees_its_slab(context: &SuiteContext) -> CaseResult {
    // One slab, so that one that is lost is missed at once.
    let config = EngineConfig {
        capacity: 1,
        ..small(context)
    };
    let mut engine = engine_with(context, config)?;
    let tokens = random_ids(context, 21, 70)?;
    for (how, end) in ENDINGS.iter().chain(&ENDINGS) {
        ensure_eq!(engine.free_slabs(), 1, "free slabs before the end by {how}");
        let id = open_with(&mut engine, &tokens)?;
        ensure_eq!(engine.free_slabs(), 0, "free slabs while a session lives");
        // What the sessions before left in the slab is not seen.
        ensure_holds(context, &engine, &id, &tokens)?;
        end(&mut engine, &id)?;
        ensure_eq!(engine.free_slabs(), 1, "free slabs after the end by {how}");
        ensure_eq!(
            engine.stats().sessions,
            0,
            "sessions after the end by {how}"
        );
        ensure_ended(&mut engine, &id)?;
    }
    let stats = engine.stats();
    ensure_eq!(
        (
            stats.evicted_ttl,
            stats.evicted_lru,
            stats.inv1_violations,
            stats.inv2_violations
        ),
        (2, 2, 2, 2),
        "ends by TTL, by eviction, by INV-1 and by INV-2"
    );
    Ok(())
}

fn a_session_whose_caller_has_gone_is_not_kept(context: &SuiteContext) -> CaseResult {
    let config = EngineConfig {
        capacity: 1,
        ..small(context)
    };
    let (engine, thread) = StepLoop::spawn(context.model()?.clone(), config)?;
    block_on(PATIENCE, async {
        for _ in 0..3 {
            let mut call = Box::pin(engine.create_session(String::new(), Vec::new()));
            // Polled once, the command is on its way; nobody is left to hear the answer.
            let answered = (&mut call).now_or_never();
            drop(call);
            if let Some(Ok(id)) = answered {
                engine.close(id).await?;
            }
            let stats = engine.stats().await?;
            ensure_eq!(
                (stats.sessions, stats.free_slabs),
                (0, 1),
                "sessions and free slabs once the caller has gone"
            );
        }
        engine.shutdown(PATIENCE).await?;
        Ok(())
    })?;
    thread.join();
    Ok(())
}

fn an_append_whose_caller_has_gone_runs_to_its_end(context: &SuiteContext) -> CaseResult {
    let tokens = random_ids(context, 22, 600)?;
    let (engine, thread) = StepLoop::spawn(context.model()?.clone(), small(context))?;
    block_on(PATIENCE, async {
        let id = engine.create_session(String::new(), Vec::new()).await?;
        let mut call = Box::pin(engine.append(id.clone(), tokens.clone()));
        let answered = (&mut call).now_or_never();
        ensure!(answered.is_none(), "600 tokens in no time: {answered:?}");
        drop(call);
        // An append waits for those before it, so its answer is that the other is over.
        let length = engine.append(id, Vec::new()).await?;
        ensure_eq!(
            length,
            600,
            "the history after an append that nobody awaited"
        );
        ensure_eq!(
            engine.stats().await?.tokens_appended,
            600,
            "tokens appended"
        );
        engine.shutdown(PATIENCE).await?;
        Ok(())
    })?;
    thread.join();
    Ok(())
}
