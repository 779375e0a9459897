//! What Prometheus reads: parsed by its own parser, and held against what the engine was made to do.

use std::collections::BTreeMap;

use kakeya_core::SessionId;
use kakeya_runtime::EngineConfig;
use serde_json::json;

use super::curl::post_json;
use super::server::{Queue, Served, serving};
use crate::context::SuiteContext;
use crate::packages;
use crate::suite::Case;
use crate::suites::support::{SMALL, greedy, kept_bytes, prose, small};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

/// The package, as pip writes it.
const PACKAGES: [&str; 1] = ["prometheus_client==0.26.0"];
const SCRIPT: &str = "prometheus_text.py";

pub fn cases() -> Vec<Case> {
    vec![Case::fast(
        "metrics.what_prometheus_reads_is_what_was_done",
        |ctx| {
            let config = EngineConfig {
                capacity: 3,
                ..small(ctx)
            };
            serving(ctx, config, Queue::PATIENT, async |served| {
                what_was_done(ctx, served).await
            })
        },
    )]
}

async fn read(
    context: &SuiteContext,
    served: &Served,
) -> Result<BTreeMap<String, f64>, CaseFailure> {
    let scratch = context.scratch()?;
    let place = packages::once("prometheus", &scratch, async |place| {
        packages::pip(place, &PACKAGES).await
    })
    .await?;
    let script = context.goldens().with_file_name("clients").join(SCRIPT);
    let mut command = packages::python(&place, &[])?;
    command
        .arg(script)
        .arg(format!("{}/metrics", served.base_url));
    Ok(serde_json::from_str(
        &packages::output(&mut command).await?,
    )?)
}

/// Opens a session with so many tokens.
async fn open(served: &Served, tokens: &[u32]) -> Result<SessionId, CaseFailure> {
    let id = served
        .engine
        .create_session(String::new(), Vec::new())
        .await?;
    if !tokens.is_empty() {
        served.engine.append(id.clone(), tokens.to_vec()).await?;
    }
    Ok(id)
}

async fn what_was_done(context: &SuiteContext, served: &Served) -> CaseResult {
    let text = prose(context, 60)?;
    let engine = &served.engine;
    let first = open(served, &text[..40]).await?;
    let mut events = engine.generate(first.clone(), greedy(5)).await?;
    while let Some(event) = events.next().await {
        event?;
    }
    let second = open(served, &text[..10]).await?;
    let third = open(served, &[]).await?;
    // All three places are taken: the first session has been idle longest.
    let fourth = open(served, &[]).await?;
    ensure!(
        engine.info(first).await.is_err(),
        "the first session is still there"
    );
    engine.close(second).await?;
    let body =
        json!({"model": served.model, "prompt": text[..7], "max_tokens": 4, "temperature": 0});
    let answer = post_json(served, "/v1/completions", body).await?;
    let answered = answer["usage"]["completion_tokens"].as_u64().unwrap_or(0);
    ensure!(answered > 0, "the answer has no tokens: {answer}");
    engine.append(third.clone(), text[..20].to_vec()).await?;

    let found = read(context, served).await?;
    let model = context.model()?.config();
    let vector = small(context).kv.vector_bytes(model.head_dim).unwrap_or(0);
    let bytes = kept_bytes(model, &SMALL, 20, vector);
    let passes = engine.stats().await?.forward_passes;
    let appended = 40 + 10 + 7 + 20;
    let build = format!(
        "kakeya_build_info{{model={},model_sha256={},numerics={},version={}}}",
        served.model,
        context.model_sha256(),
        kakeya_model::NUMERICS_VERSION,
        env!("CARGO_PKG_VERSION")
    );
    for (name, expected) in [
        ("session_active", 2),
        ("session_capacity", 3),
        ("session_history_tokens", 20),
        ("session_kv_live_bytes", bytes),
        ("session_total{outcome=closed}", 1),
        ("session_total{outcome=completed}", 1),
        ("session_total{outcome=evicted}", 1),
        ("session_total{outcome=expired}", 0),
        ("session_total{outcome=violated}", 0),
        ("session_total{outcome=abandoned}", 0),
        ("session_total{outcome=refused}", 0),
        ("session_evicted_total{reason=lru}", 1),
        ("session_evicted_total{reason=ttl}", 0),
        ("cache_invariant_violations_total{kind=inv1}", 0),
        ("cache_invariant_violations_total{kind=inv2}", 0),
        ("tokens_appended_total", appended),
        ("tokens_generated_total", 5 + answered),
        ("forward_passes_total", passes),
        ("queue_depth", 0),
        ("requests_active", 0),
        ("generate_prefill_tokens_count", 4),
        ("generate_prefill_tokens_sum", appended),
        ("generate_prefill_duration_seconds_count", 4),
        ("time_to_first_token_seconds_count", 2),
        ("inter_token_seconds_count", 4 + answered - 1),
        ("batch_rows_count", passes),
        ("batch_rows_sum", appended + 5 + answered),
        ("kakeya_engine_up", 1),
        (&build, 1),
    ] {
        ensure_eq!(found.get(name).copied(), Some(expected as f64), "{name}");
    }
    for name in [
        "generate_prefill_duration_seconds_sum",
        "time_to_first_token_seconds_sum",
        "inter_token_seconds_sum",
    ] {
        let sum = found.get(name).copied().unwrap_or_default();
        ensure!(sum > 0.0 && sum < 120.0, "{name} is {sum}");
    }
    engine.close(third).await?;
    engine.close(fourth).await?;
    Ok(())
}
