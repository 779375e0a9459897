//! Clients that connect, ask, and go away in the middle of the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use kakeya_core::EngineHandle;
use kakeya_server::wire::Drain;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::http::ensure_works;
use super::wire::Connection;
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::grpc::support::{Client, WITHOUT_END, serving_until};
use crate::suites::http::server::{Queue, four, serving};
use crate::suites::support::{PATIENCE, random_ids, seeded, small};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast("dropped_grpc_streams_leave_nothing", |ctx| grpc(ctx, 120)),
        Case::fast("dropped_http_streams_leave_nothing", |ctx| http(ctx, 120)),
        Case::full("5000_dropped_grpc_streams_leave_nothing", |ctx| {
            grpc(ctx, 5000)
        }),
        Case::full("5000_dropped_http_streams_leave_nothing", |ctx| {
            http(ctx, 5000)
        }),
    ]
}

/// Clients that drop at the same time.
const CLIENTS: usize = 8;

/// Each time a new connection, a generation without end, and nobody there any more after a token or a few.
fn grpc(context: &SuiteContext, total: usize) -> CaseResult {
    let mut config = small(context);
    config.capacity = CLIENTS;
    let words = Arc::new(random_ids(context, 710, 4096)?);
    serving_until(context, config, Drain::default(), async |served| {
        // Both ends have all their own tasks once they have spoken, and somebody else has come and gone.
        let mut once = Client::connect(&served.address).await?;
        let id = once.create_with(&words[..4]).await?;
        served.client.clone().close(&id).await?;
        drop(once);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let before = Handle::current().metrics().num_alive_tasks();
        let (asked, mut all) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        for index in 0..CLIENTS {
            let address = served.address.clone();
            let (asked, words) = (Arc::clone(&asked), Arc::clone(&words));
            all.spawn(async move {
                let prompt = &words[index * 20..][..12];
                let id = Client::connect(&address).await?.create_with(prompt).await?;
                let (mut drops, mut seen) = (0, prompt.len());
                while asked.fetch_add(1, Ordering::Relaxed) < total {
                    let mut client = Client::connect(&address).await?;
                    let mut stream = client.generate(&id, seeded(WITHOUT_END, drops)).await?;
                    // The first event may be the notice that the history was truncated.
                    stream.read(2 + drops as usize % 3).await?;
                    seen += stream.tokens().len();
                    drops += 1;
                }
                let mut client = Client::connect(&address).await?;
                let length = client.settled_length(&id).await?;
                ensure!(
                    length as usize >= seen,
                    "a session of {length} tokens whose clients saw {seen}"
                );
                client.close(&id).await?;
                Ok::<_, CaseFailure>(drops)
            });
        }
        let mut drops = 0;
        while let Some(client) = all.join_next().await {
            drops += client??;
        }
        ensure_eq!(drops as usize, total, "dropped streams");
        nothing_left(&served.engine, before).await?;
        served.stop().await
    })
}

/// The same over HTTP, where a session ends with its request.
fn http(context: &SuiteContext, total: usize) -> CaseResult {
    serving(context, four(context), Queue::PATIENT, async |served| {
        // The server has all its own tasks once it has answered somebody.
        ensure_works(served).await?;
        let before = Handle::current().metrics().num_alive_tasks();
        let (asked, mut all) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        for _ in 0..CLIENTS {
            let (base_url, model) = (served.base_url.clone(), served.model.clone());
            let asked = Arc::clone(&asked);
            all.spawn(async move {
                loop {
                    let number = asked.fetch_add(1, Ordering::Relaxed);
                    if number >= total {
                        return Ok::<_, CaseFailure>(());
                    }
                    // Half of them begin with the answer, the others with none of it read.
                    let body = json!({
                        "model": model, "prompt": format!("Story number {number}:"), "max_tokens": 100_000,
                        "seed": number, "stream": true,
                    });
                    let mut connection = Connection::open(&base_url).await?;
                    let response = connection.post("/v1/completions", body.to_string()).await?;
                    ensure_eq!(response.status().as_u16(), 200, "the status of a stream");
                    if number % 2 == 0 {
                        let first = response.into_body().frame().await;
                        ensure!(first.is_some(), "a stream without an event");
                    }
                }
            });
        }
        while let Some(client) = all.join_next().await {
            client??;
        }
        nothing_left(&served.engine, before).await
    })
}

/// No session, no work, every slab free, and no task more than before, once what was dropped has been seen to be gone.
async fn nothing_left(engine: &EngineHandle, tasks: usize) -> CaseResult {
    let start = Instant::now();
    loop {
        let stats = engine.stats().await?;
        let alive = Handle::current().metrics().num_alive_tasks();
        let found = (stats.sessions, stats.active, stats.queued, stats.free_slabs);
        if found == (0, 0, 0, stats.capacity) && alive <= tasks {
            return Ok(());
        }
        ensure!(
            start.elapsed() < PATIENCE / 4,
            "sessions, at work, queued and free slabs are {found:?}, and {alive} tasks, where there were {tasks}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
