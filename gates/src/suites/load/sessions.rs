//! Many sessions that stay connected, of which some are at work at any time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use kakeya_core::StopReason;
use kakeya_runtime::EngineConfig;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::grpc::support::{Client, Served, serving_until};
use crate::suites::support::{SMALL, fresh, kept_bytes, random_ids, seeded, small};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

/// What is asked for at once, and for how long.
#[derive(Clone, Copy)]
struct Load {
    /// Each has a connection of its own.
    sessions: usize,
    at_work: usize,
    lasts: Duration,
    /// Tokens that each session begins with.
    prompt: usize,
}

const SHORT: Load = Load {
    sessions: 48,
    at_work: 8,
    lasts: Duration::from_secs(6),
    prompt: 8,
};
/// The prompts are as long as a ring, so that every slab's memory is there before anything is measured.
const LONG: Load = Load {
    sessions: 256,
    at_work: 16,
    lasts: Duration::from_secs(600),
    prompt: 300,
};

/// Tokens that a turn appends, and then generates.
const APPENDED: usize = 6;
const GENERATED: usize = 18;

/// By how much resident memory may grow from a fifth of the time to its end.
const GROWTH: f64 = 0.02;

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast("many_sessions_stay_and_some_work", |ctx| run(ctx, SHORT)),
        Case::full("256_sessions_stay_and_16_work_for_ten_minutes", |ctx| {
            run(ctx, LONG)
        }),
    ]
}

/// A session, what it has been told and has said, and how often it was its turn.
struct Held {
    client: Client,
    id: String,
    history: Vec<u32>,
    turns: u64,
}

fn run(context: &SuiteContext, load: Load) -> CaseResult {
    let config = EngineConfig {
        capacity: load.sessions,
        active: load.at_work,
        ..small(context)
    };
    let words = Arc::new(random_ids(context, 700, 4096)?);
    serving_until(
        context,
        config,
        kakeya_server::wire::Drain::default(),
        async |served| {
            let held = connect(&served, load, &words).await?;
            let held = work(context, held, load, &words).await?;
            account(context, &served, held).await?;
            served.stop().await
        },
    )
}

async fn connect(
    served: &Served,
    load: Load,
    words: &Arc<Vec<u32>>,
) -> Result<VecDeque<Held>, CaseFailure> {
    let opening = (0..load.sessions).map(|index| {
        let (address, words) = (served.address.clone(), Arc::clone(words));
        async move {
            let mut client = Client::connect(&address).await?;
            let history = words[index..index + load.prompt].to_vec();
            let id = client.create_with(&history).await?;
            Ok::<_, CaseFailure>(Held {
                client,
                id,
                history,
                turns: 0,
            })
        }
    });
    // All at once the last would wait for its prompt longer than a server lets anybody wait.
    let opened = futures::stream::iter(opening).buffer_unordered(load.at_work);
    opened.try_collect().await
}

/// Lets sessions take turns, so many at a time. Memory is looked at all the while.
async fn work(
    context: &SuiteContext,
    held: VecDeque<Held>,
    load: Load,
    words: &Arc<Vec<u32>>,
) -> Result<VecDeque<Held>, CaseFailure> {
    let line = Arc::new(Mutex::new(held));
    let start = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..load.at_work {
        let (line, words) = (Arc::clone(&line), Arc::clone(words));
        workers.spawn(async move {
            while start.elapsed() < load.lasts {
                let next = line.lock().await.pop_front();
                let Some(mut held) = next else { continue };
                held.turn(&words).await?;
                line.lock().await.push_back(held);
            }
            Ok::<_, CaseFailure>(())
        });
    }
    let mut resident = Resident(System::new()?);
    let mut settled = None;
    while start.elapsed() < load.lasts {
        tokio::time::sleep(Duration::from_millis(500)).await;
        if start.elapsed() >= load.lasts / 5 && settled.is_none() {
            settled = Some(resident.bytes());
        }
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    if let Some(settled) = settled {
        let ratio = resident.bytes() / settled;
        let name = format!("resident_over_settled.{}_sessions", load.sessions);
        context.measure(&name, ratio, "ratio")?;
        // In a few seconds the allocator has not come to rest.
        ensure!(
            load.sessions == SHORT.sessions || ratio <= 1.0 + GROWTH,
            "resident memory grew from {settled} bytes to {ratio} times as many"
        );
    }
    let held = std::mem::take(&mut *line.lock().await);
    Ok(held)
}

impl Held {
    async fn turn(&mut self, words: &[u32]) -> CaseResult {
        let from = (self.history.len() * 31 + self.turns as usize) % (words.len() - APPENDED);
        let appended = &words[from..from + APPENDED];
        self.client.append(&self.id, appended).await?;
        self.history.extend(appended);
        let params = seeded(GENERATED as u32, self.turns);
        let generated = self.client.generate(&self.id, params).await?;
        let generated = generated.finish().await?;
        ensure_eq!(
            generated.done.reason,
            StopReason::MaxTokens,
            "how a turn ended"
        );
        ensure_eq!(generated.tokens.len(), GENERATED, "tokens of a turn");
        self.history.extend(generated.tokens);
        self.turns += 1;
        Ok(())
    }
}

/// Every session is as long as its client knows, its cache as large as that makes it, and the bits of some are compared
/// with those of a session that was alone.
async fn account(context: &SuiteContext, served: &Served, held: VecDeque<Held>) -> CaseResult {
    let count = held.len();
    let stats = served.engine.stats().await?;
    ensure_eq!(stats.sessions, count as u64, "sessions");
    let model = context.model()?.config();
    let turns: u64 = held.iter().map(|held| held.turns).sum();
    context.measure(&format!("turns.{count}_sessions"), turns as f64, "turns")?;
    ensure!(turns > 0, "nobody had a turn");
    for (index, mut held) in held.into_iter().enumerate() {
        let info = held.client.info(&held.id).await?;
        let length = held.history.len() as u64;
        let bytes = kept_bytes(model, &SMALL, length, model.head_dim * size_of::<u16>());
        ensure_eq!(
            (
                info.history_length,
                info.kv_live_bytes,
                info.cache_invariant_inv1_violations,
                info.cache_invariant_inv2_violations
            ),
            (length, bytes, 0, 0),
            "length, bytes and violations of a session"
        );
        if index % (count / 8) == 0 {
            let id = held.id.parse()?;
            let image = served.engine.export(id).await?;
            ensure_eq!(image.history, held.history, "the history of a session");
            let alone = fresh(context, &small(context), &held.history)?;
            crate::ensure_same_bits("logits under load", &image.next_logits, &alone.logits)?;
        }
        held.client.close(&held.id).await?;
    }
    let stats = served.engine.stats().await?;
    ensure_eq!(
        (stats.sessions, stats.free_slabs, stats.active, stats.queued),
        (0, stats.capacity, 0, 0),
        "what is left at the end"
    );
    Ok(())
}

/// This process's memory.
struct Resident(System);

impl Resident {
    fn bytes(&mut self) -> f64 {
        let process = Pid::from_u32(std::process::id());
        let kind = ProcessRefreshKind::nothing().with_memory();
        let only = ProcessesToUpdate::Some(&[process]);
        self.0.refresh_processes_specifics(only, false, kind);
        self.0
            .process(process)
            .map_or(0.0, |process| process.memory() as f64)
    }
}
