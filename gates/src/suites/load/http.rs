//! Many short requests over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use hdrhistogram::Histogram;
use kakeya_runtime::EngineConfig;
use serde_json::json;
use tokio::task::JoinSet;

use super::wire::Connection;
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::http::server::{Queue, Served, four, serving};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast("short_http_requests_get_no_error", |ctx| {
            requests(ctx, 120, 16)
        }),
        Case::full("2000_short_http_requests_32_at_a_time", |ctx| {
            requests(ctx, 2000, 32)
        }),
    ]
}

/// What one client saw.
struct Seen {
    /// Microseconds to the first event of each answer.
    first: Histogram<u64>,
    busy: usize,
}

/// `total` streamed answers, asked for by `clients` that each wait for one before they ask for the next.
fn requests(context: &SuiteContext, total: usize, clients: usize) -> CaseResult {
    let config = EngineConfig {
        capacity: 16,
        ..four(context)
    };
    serving(context, config, Queue::PATIENT, async |served| {
        let (asked, mut all) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        for _ in 0..clients {
            let (base_url, model) = (served.base_url.clone(), served.model.clone());
            let asked = Arc::clone(&asked);
            all.spawn(async move { client(&base_url, &model, &asked, total).await });
        }
        let (mut first, mut busy) = (histogram()?, 0);
        while let Some(seen) = all.join_next().await {
            let seen = seen??;
            first += &seen.first;
            busy += seen.busy;
        }
        ensure_eq!(first.len() as usize + busy, total, "answers");
        ensure_eq!(
            busy,
            0,
            "answers that asked to come back, where all may wait"
        );
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
            let seconds = first.value_at_quantile(quantile) as f64 / 1e6;
            let name = format!("time_to_first_event.{name}.{total}_requests_{clients}_at_a_time");
            context.measure(&name, seconds, "seconds")?;
        }
        ensure_works(served).await
    })
}

async fn client(
    base_url: &str,
    model: &str,
    asked: &AtomicUsize,
    total: usize,
) -> Result<Seen, CaseFailure> {
    let mut connection = Connection::open(base_url).await?;
    let mut seen = Seen {
        first: histogram()?,
        busy: 0,
    };
    loop {
        let number = asked.fetch_add(1, Ordering::Relaxed);
        if number >= total {
            return Ok(seen);
        }
        let body = json!({
            "model": model,
            "messages": [{"role": "user", "content": format!("Say {} in other words.", number % 97)}],
            "max_tokens": 4 + number % 9,
            "seed": number,
            "stream": true,
        });
        let start = Instant::now();
        let answer = connection
            .stream("/v1/chat/completions", body.to_string())
            .await?;
        let text = String::from_utf8_lossy(&answer.body);
        match (answer.status, answer.first) {
            (200, Some(first)) => {
                ensure!(
                    text.ends_with("data: [DONE]\n\n"),
                    "an answer ends with {text}"
                );
                ensure!(
                    !text.contains("\"error\""),
                    "an answer has an error: {text}"
                );
                seen.first
                    .saturating_record((first - start).as_micros() as u64);
            }
            (429, _) => seen.busy += 1,
            (status, _) => {
                return Err(CaseFailure::violated(format!("status {status}: {text}")));
            }
        }
    }
}

pub(super) async fn ensure_works(served: &Served) -> CaseResult {
    let body = json!({"model": served.model, "prompt": "Hello", "max_tokens": 2});
    let mut connection = Connection::open(&served.base_url).await?;
    let answer = connection
        .stream("/v1/completions", body.to_string())
        .await?;
    ensure_eq!(answer.status, 200, "the status of a plain request");
    Ok(())
}

fn histogram() -> Result<Histogram<u64>, CaseFailure> {
    // Up to an hour, to three digits.
    Histogram::new_with_bounds(1, 3_600_000_000, 3)
        .map_err(|error| CaseFailure::violated(error.to_string()))
}
