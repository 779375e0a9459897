//! The life of a session: every RPC, and every way to be gone.

use std::time::Duration;

use kakeya_core::{SessionId, StopReason};
use kakeya_runtime::EngineConfig;

use super::support::{ensure_not_found, parsed, serving, until};
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{
    SMALL, SMALL_LIMIT, greedy, kept_bytes, prose, random_ids, seeded, small, solo,
};
use crate::{ensure, ensure_eq, ensure_same_tokens};
use kakeya_suite::CaseResult;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "every_rpc_answers_through_the_life_of_a_session",
            every_rpc_answers_through_the_life_of_a_session,
        ),
        Case::fast(
            "closed_and_unknown_sessions_are_not_found_on_every_rpc",
            closed_and_unknown_sessions_are_not_found_on_every_rpc,
        ),
        Case::fast(
            "an_evicted_session_is_not_found_and_the_new_one_works",
            an_evicted_session_is_not_found_and_the_new_one_works,
        ),
        Case::fast(
            "an_idle_session_ends_by_itself_after_the_ttl",
            an_idle_session_ends_by_itself_after_the_ttl,
        ),
        Case::fast(
            "sessions_outlive_their_connection",
            sessions_outlive_their_connection,
        ),
    ]
}

fn every_rpc_answers_through_the_life_of_a_session(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let prompt = prose(context, SMALL_LIMIT + 10)?;
    let expected = solo(context, &config, &prompt, seeded(8, 1))?;
    let model = context.model()?.config();
    let bytes = |length| kept_bytes(model, &SMALL, length, model.head_dim * size_of::<u16>());
    serving(context, config, async |served| {
        let client = &mut served.client;
        let id = client.create(&[]).await?;
        parsed(&id)?;
        let info = client.info(&id).await?;
        ensure_eq!(
            (info.history_length, info.kv_live_bytes),
            (0, 0),
            "history and bytes of a new session"
        );
        ensure_eq!(
            client.append(&id, &prompt[..20]).await?,
            20,
            "the first append"
        );
        ensure_eq!(
            client.info(&id).await?.kv_live_bytes,
            bytes(20),
            "bytes of 20"
        );
        let length = client.append(&id, &prompt[20..]).await?;
        ensure_eq!(length, prompt.len() as u64, "the second append");
        let generated = client.generate(&id, seeded(8, 1)).await?.finish().await?;
        generated.ensure_same_as("the stream of the wire", &expected)?;
        ensure_eq!(generated.truncated, Some(10), "the dropped count");
        let info = client.info(&id).await?;
        ensure_eq!(
            (
                info.history_length,
                info.kv_live_bytes,
                info.cache_invariant_inv1_violations,
                info.cache_invariant_inv2_violations
            ),
            (length + 8, bytes(length + 8), 0, 0),
            "history, bytes and violations after a generation"
        );
        ensure!(
            (0.0..60.0).contains(&info.idle_seconds),
            "idle for {} seconds",
            info.idle_seconds
        );
        ensure_eq!(
            client.append(&id, &[]).await?,
            length + 8,
            "an empty append"
        );
        ensure_eq!(
            client.close(&id).await?,
            length + 8,
            "the final history length"
        );
        ensure_not_found(client, &id).await
    })
}

fn closed_and_unknown_sessions_are_not_found_on_every_rpc(context: &SuiteContext) -> CaseResult {
    serving(context, small(context), async |served| {
        let client = &mut served.client;
        let closed = client.create(&[]).await?;
        client.close(&closed).await?;
        for id in [&closed, &SessionId::random().to_string(), "", "sess-1"] {
            ensure_not_found(client, id).await?;
        }
        let stats = served.engine.stats().await?;
        ensure_eq!(
            (stats.sessions, stats.forward_passes),
            (0, 0),
            "sessions and passes"
        );
        Ok(())
    })
}

fn an_evicted_session_is_not_found_and_the_new_one_works(context: &SuiteContext) -> CaseResult {
    let config = EngineConfig {
        capacity: 2,
        ..small(context)
    };
    let prompt = prose(context, 20)?;
    let expected = solo(context, &config, &prompt, greedy(5))?;
    serving(context, config, async |served| {
        let client = &mut served.client;
        let oldest = client.create_with(&random_ids(context, 100, 50)?).await?;
        let newer = client.create_with(&prompt).await?;
        // Used last, so it is no longer the oldest.
        client.append(&oldest, &[]).await?;
        let newest = client.create_with(&prompt).await?;
        ensure_not_found(client, &newer).await?;
        ensure_eq!(
            client.info(&oldest).await?.history_length,
            50,
            "the one that stays"
        );
        let generated = client.generate(&newest, greedy(5)).await?.finish().await?;
        generated.ensure_same_as("the stream of the session that took the place", &expected)?;
        ensure_eq!(served.engine.stats().await?.evicted_lru, 1, "evictions");
        Ok(())
    })
}

fn an_idle_session_ends_by_itself_after_the_ttl(context: &SuiteContext) -> CaseResult {
    let config = EngineConfig {
        idle_ttl: Duration::from_millis(300),
        ..small(context)
    };
    serving(context, config, async |served| {
        let (client, engine) = (&mut served.client, &served.engine);
        let id = client.create(&[]).await?;
        // Nobody names the session meanwhile, and asking for the counts does not end it.
        until("the session ends", async || {
            Ok(engine.stats().await?.evicted_ttl == 1)
        })
        .await?;
        ensure_not_found(client, &id).await?;
        let stats = engine.stats().await?;
        ensure_eq!(
            (stats.sessions, stats.free_slabs),
            (0, 4),
            "sessions and free slabs"
        );
        Ok(())
    })
}

fn sessions_outlive_their_connection(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let prompt = prose(context, 30)?;
    let expected = solo(context, &config, &prompt, seeded(12, 2))?;
    serving(context, config, async |served| {
        let id = {
            let mut first = super::support::Client::connect(&served.address).await?;
            let id = first.create_with(&prompt).await?;
            let generated = first.generate(&id, seeded(5, 2)).await?.finish().await?;
            ensure_same_tokens("the first five", &generated.tokens, &expected.tokens[..5])?;
            id
        };
        let mut second = super::support::Client::connect(&served.address).await?;
        let generated = second.generate(&id, seeded(7, 2)).await?.finish().await?;
        ensure_same_tokens("the rest", &generated.tokens, &expected.tokens[5..])?;
        ensure_eq!(generated.done.reason, StopReason::MaxTokens, "the reason");
        Ok(())
    })
}
