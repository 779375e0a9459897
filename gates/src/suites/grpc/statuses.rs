//! Refusals: the status of each, and that the session is as it was.

use std::time::Duration;

use kakeya_core::{AdmissionPolicy, Window};
use kakeya_proto::v1;
use kakeya_runtime::EngineConfig;
use tonic::Code;

use super::support::{WITHOUT_END, ensure_status, request, serving, until};
use crate::context::SuiteContext;
use crate::ensure_eq;
use crate::suite::Case;
use crate::suites::support::{SMALL, greedy, prose, random_ids, seeded, small, solo};
use kakeya_suite::CaseResult;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "bad_arguments_are_invalid_and_leave_the_history",
            bad_arguments_are_invalid_and_leave_the_history,
        ),
        Case::fast(
            "an_append_past_the_context_is_invalid_and_names_the_limit",
            an_append_past_the_context_is_invalid_and_names_the_limit,
        ),
        Case::fast(
            "with_every_session_busy_create_is_exhausted",
            with_every_session_busy_create_is_exhausted,
        ),
        Case::fast(
            "with_every_slot_taken_work_is_exhausted_under_reject",
            with_every_slot_taken_work_is_exhausted_under_reject,
        ),
        Case::fast(
            "with_the_queue_full_work_is_exhausted_and_those_in_it_get_their_turn",
            with_the_queue_full_work_is_exhausted_and_those_in_it_get_their_turn,
        ),
        Case::fast(
            "a_wait_that_is_too_long_is_exhausted",
            a_wait_that_is_too_long_is_exhausted,
        ),
        Case::fast(
            "a_client_that_leaves_the_queue_makes_room",
            a_client_that_leaves_the_queue_makes_room,
        ),
    ]
}

fn bad_arguments_are_invalid_and_leave_the_history(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let vocabulary = context.model()?.config().vocabulary as u32;
    let prompt = prose(context, 30)?;
    let expected = solo(context, &config, &prompt, seeded(8, 1))?;
    serving(context, config, async |served| {
        let client = &mut served.client;
        let (id, empty) = (
            client.create_with(&prompt).await?,
            client.create(&[]).await?,
        );
        let with = |change: fn(&mut v1::GenerateRequest)| {
            let mut request = request(&id, greedy(4));
            change(&mut request);
            request
        };
        for (request, part) in [
            (with(|r| r.max_tokens = 0), "max_tokens is 0"),
            (with(|r| r.temperature = Some(-1.0)), "temperature is -1"),
            (
                with(|r| r.temperature = Some(f32::NAN)),
                "temperature is NaN",
            ),
            (with(|r| r.temperature = Some(101.0)), "temperature is 101"),
            (with(|r| r.top_p = Some(0.0)), "top_p is 0"),
            (with(|r| r.top_p = Some(1.5)), "top_p is 1.5"),
            (request(&empty, greedy(4)), "is empty"),
        ] {
            let answer = client.send(request).await.map(|_| ());
            ensure_status("Generate", answer, Code::InvalidArgument, part)?;
        }
        for (index, token) in [(0, vocabulary), (15, u32::MAX), (29, vocabulary + 7)] {
            let mut wrong = prompt.clone();
            wrong[index] = token;
            let part = format!("token {token} at index {index}");
            for id in [&id, &empty] {
                let answer = client.append(id, &wrong).await;
                ensure_status("AppendTokens", answer, Code::InvalidArgument, &part)?;
            }
        }
        ensure_eq!(client.info(&id).await?.history_length, 30, "the history");
        ensure_eq!(
            client.info(&empty).await?.history_length,
            0,
            "the empty history"
        );
        let generated = client.generate(&id, seeded(8, 1)).await?.finish().await?;
        generated.ensure_same_as("the stream after all refusals", &expected)
    })
}

fn an_append_past_the_context_is_invalid_and_names_the_limit(context: &SuiteContext) -> CaseResult {
    let limit = context.model()?.config().context;
    let mut config = small(context);
    config.cache = kakeya_core::CacheConfig {
        window: Window::Full,
        ..SMALL
    };
    config.capacity = 1;
    let prompt = prose(context, 30)?;
    let expected = solo(context, &config, &prompt, greedy(4))?;
    let tokens = random_ids(context, 120, limit)?;
    serving(context, config, async |served| {
        let client = &mut served.client;
        let id = client.create_with(&prompt).await?;
        let answer = client.append(&id, &tokens).await;
        let part = format!("context of {limit}");
        ensure_status("AppendTokens", answer, Code::InvalidArgument, &part)?;
        ensure_eq!(client.info(&id).await?.history_length, 30, "the history");
        let generated = client.generate(&id, greedy(4)).await?.finish().await?;
        generated.ensure_same_as("the stream after the refusal", &expected)
    })
}

fn with_every_session_busy_create_is_exhausted(context: &SuiteContext) -> CaseResult {
    let config = EngineConfig {
        capacity: 1,
        ..small(context)
    };
    let prompt = prose(context, 20)?;
    serving(context, config, async |served| {
        let client = &mut served.client;
        let id = client.create_with(&prompt).await?;
        let mut stream = client.generate(&id, greedy(WITHOUT_END)).await?;
        stream.read(1).await?;
        for _ in 0..2 {
            let answer = client.create(&[]).await;
            ensure_status(
                "CreateSession",
                answer,
                Code::ResourceExhausted,
                "all 1 sessions",
            )?;
        }
        stream.read(1).await?;
        drop(stream);
        let length = client.settled_length(&id).await?;
        ensure_eq!(
            client.info(&id).await?.history_length,
            length,
            "the history of the session that was not evicted"
        );
        // Idle again, it gives way.
        client.create(&[]).await?;
        super::support::ensure_not_found(client, &id).await
    })
}

/// One slot, so that a second session's work meets the policy.
fn one_slot(context: &SuiteContext, admission: AdmissionPolicy) -> EngineConfig {
    EngineConfig {
        active: 1,
        admission,
        ..small(context)
    }
}

fn with_every_slot_taken_work_is_exhausted_under_reject(context: &SuiteContext) -> CaseResult {
    let config = one_slot(context, AdmissionPolicy::Reject);
    let prompt = prose(context, 20)?;
    let expected = solo(context, &config, &prompt, greedy(4))?;
    serving(context, config, async |served| {
        let client = &mut served.client;
        let (first, second) = (
            client.create_with(&prompt).await?,
            client.create_with(&prompt).await?,
        );
        let mut stream = client.generate(&first, greedy(WITHOUT_END)).await?;
        stream.read(1).await?;
        let generate = client.generate(&second, greedy(4)).await.map(|_| ());
        ensure_status("Generate", generate, Code::ResourceExhausted, "busy")?;
        let append = client.append(&second, &prompt).await;
        ensure_status("AppendTokens", append, Code::ResourceExhausted, "busy")?;
        ensure_eq!(
            client.info(&second).await?.history_length,
            20,
            "the history"
        );
        drop(stream);
        // Nothing may wait here, so the end of the work is looked for.
        let engine = &served.engine;
        until("the slot is free", async || {
            Ok(engine.stats().await?.active == 0)
        })
        .await?;
        let generated = client.generate(&second, greedy(4)).await?.finish().await?;
        generated.ensure_same_as("the stream once the slot was free", &expected)
    })
}

fn with_the_queue_full_work_is_exhausted_and_those_in_it_get_their_turn(
    context: &SuiteContext,
) -> CaseResult {
    let (max_wait, cap) = (Duration::from_secs(3600), 1);
    let config = one_slot(context, AdmissionPolicy::Queue { max_wait, cap });
    let prompt = prose(context, 20)?;
    let expected = solo(context, &config, &prompt, greedy(4))?;
    serving(context, config, async |served| {
        let client = &mut served.client;
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.push(client.create_with(&prompt).await?);
        }
        let mut running = client.generate(&ids[0], greedy(WITHOUT_END)).await?;
        running.read(1).await?;
        let queued = client.generate(&ids[1], greedy(4)).await?;
        let stats = served.engine.stats().await?;
        ensure_eq!(
            (stats.active, stats.queued),
            (1, 1),
            "work under way and waiting"
        );
        let generate = client.generate(&ids[2], greedy(4)).await.map(|_| ());
        ensure_status(
            "Generate",
            generate,
            Code::ResourceExhausted,
            "queue of 1 is full",
        )?;
        let append = client.append(&ids[2], &prompt).await;
        ensure_status(
            "AppendTokens",
            append,
            Code::ResourceExhausted,
            "queue of 1 is full",
        )?;
        ensure_eq!(
            client.info(&ids[2]).await?.history_length,
            20,
            "the history"
        );
        drop(running);
        let generated = queued.finish().await?;
        generated.ensure_same_as("the stream that waited", &expected)?;
        let generated = client.generate(&ids[2], greedy(4)).await?.finish().await?;
        generated.ensure_same_as("the stream that was refused first", &expected)
    })
}

fn a_wait_that_is_too_long_is_exhausted(context: &SuiteContext) -> CaseResult {
    let (max_wait, cap) = (Duration::from_millis(50), 4);
    let config = one_slot(context, AdmissionPolicy::Queue { max_wait, cap });
    let prompt = prose(context, 20)?;
    let expected = solo(context, &config, &prompt, greedy(4))?;
    serving(context, config, async |served| {
        let client = &mut served.client;
        let (first, second) = (
            client.create_with(&prompt).await?,
            client.create_with(&prompt).await?,
        );
        let mut running = client.generate(&first, greedy(WITHOUT_END)).await?;
        running.read(1).await?;
        let status = client.generate(&second, greedy(4)).await?.failure().await?;
        ensure_status::<()>(
            "the wait",
            Err(status),
            Code::ResourceExhausted,
            "0.05 seconds",
        )?;
        let append = client.append(&second, &prompt).await;
        ensure_status(
            "AppendTokens",
            append,
            Code::ResourceExhausted,
            "0.05 seconds",
        )?;
        // The one that runs was not disturbed, and the one that gave up lost nothing.
        running.read(1).await?;
        drop(running);
        client.settled_length(&first).await?;
        ensure_eq!(
            client.info(&second).await?.history_length,
            20,
            "the history"
        );
        let generated = client.generate(&second, greedy(4)).await?.finish().await?;
        generated.ensure_same_as("the stream once the slot was free", &expected)
    })
}

fn a_client_that_leaves_the_queue_makes_room(context: &SuiteContext) -> CaseResult {
    let (max_wait, cap) = (Duration::from_secs(3600), 1);
    let config = one_slot(context, AdmissionPolicy::Queue { max_wait, cap });
    let prompt = prose(context, 20)?;
    serving(context, config, async |served| {
        let (client, engine) = (&mut served.client, &served.engine);
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.push(client.create_with(&prompt).await?);
        }
        let mut running = client.generate(&ids[0], greedy(WITHOUT_END)).await?;
        running.read(1).await?;
        let queued = client.generate(&ids[1], greedy(4)).await?;
        drop(queued);
        until("the queue is empty", async || {
            Ok(engine.stats().await?.queued == 0)
        })
        .await?;
        let queued = client.generate(&ids[2], greedy(4)).await?;
        drop(running);
        ensure_eq!(
            queued.finish().await?.tokens.len(),
            4,
            "tokens of the next in line"
        );
        ensure_eq!(
            client.settled_length(&ids[1]).await?,
            20,
            "the history of the one that left"
        );
        Ok(())
    })
}
