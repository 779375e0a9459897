//! What Prometheus and probes read, with an engine that tells, one that is gone and one that is not there yet.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use kakeya_core::{Command, EngineHandle, EngineStats};
use kakeya_server::http::{loading, probes};
use kakeya_server::metrics::{self, Build, Metrics};
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::support::Answer;

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).expect("a request")
}

fn stats() -> EngineStats {
    EngineStats {
        sessions: 3,
        capacity: 16,
        queued: 2,
        active: 1,
        kv_live_bytes: 4096,
        history_tokens: 120,
        closed: 5,
        completed: 6,
        abandoned: 7,
        violated: 8,
        failed: 9,
        refused: 9,
        inv1_violations: 10,
        inv2_violations: 11,
        evicted_ttl: 12,
        evicted_lru: 13,
        forward_passes: 14,
        tokens_appended: 15,
        tokens_generated: 16,
        ..EngineStats::default()
    }
}

/// A handle whose engine answers this many questions for its counts, and is then gone.
fn telling(times: usize) -> EngineHandle {
    let (engine, mut commands) = EngineHandle::channel(4);
    tokio::spawn(async move {
        for _ in 0..times {
            let Some(kakeya_core::Request {
                command: Command::Stats { reply },
                ..
            }) = commands.recv().await
            else {
                panic!("not a question for counts")
            };
            reply.send(Ok(stats())).expect("somebody waits");
        }
    });
    engine
}

fn build() -> Build {
    Build {
        model: "m \"x\"".to_owned(),
        model_sha256: "ab".repeat(32),
        numerics: 2,
    }
}

fn assert_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "{line}: {text}");
    }
}

#[tokio::test]
async fn counts_are_the_engines_and_stay_when_it_is_gone() {
    let engine = telling(1);
    let waiting = Arc::new(AtomicUsize::new(5));
    let mut metrics = Metrics::new(engine, build()).with_queue(waiting);
    let own = Counter::<u64>::default();
    own.inc();
    metrics.registry().register("own", "One of its own", own);
    let router = metrics::router(Arc::new(metrics));
    let answer = Answer::to(router.clone(), get("/metrics")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let kept = [
        "session_active 3",
        "session_capacity 16",
        "session_kv_live_bytes 4096",
        "session_history_tokens 120",
        "requests_active 1",
        "queue_depth 7",
        "forward_passes_total 14",
        "tokens_appended_total 15",
        "tokens_generated_total 16",
        "session_total{outcome=\"closed\"} 5",
        "session_total{outcome=\"completed\"} 6",
        "session_total{outcome=\"abandoned\"} 7",
        "session_total{outcome=\"expired\"} 12",
        "session_total{outcome=\"evicted\"} 13",
        "session_total{outcome=\"violated\"} 8",
        "session_total{outcome=\"failed\"} 9",
        "session_total{outcome=\"refused\"} 9",
        "session_evicted_total{reason=\"ttl\"} 12",
        "session_evicted_total{reason=\"lru\"} 13",
        "cache_invariant_violations_total{kind=\"inv1\"} 10",
        "cache_invariant_violations_total{kind=\"inv2\"} 11",
        "own_total 1",
        "batch_rows_count 0",
    ];
    assert_lines(&answer.text, &kept);
    let version = env!("CARGO_PKG_VERSION");
    let info = format!(
        "kakeya_build_info{{version=\"{version}\",numerics=\"2\",model=\"m \\\"x\\\"\",model_sha256=\"{}\"}} 1",
        "ab".repeat(32)
    );
    assert_lines(&answer.text, &["kakeya_engine_up 1", &info]);
    let answer = Answer::to(router, get("/metrics")).await;
    assert_lines(&answer.text, &kept);
    assert_lines(&answer.text, &["kakeya_engine_up 0"]);
}

#[tokio::test]
async fn ready_until_stopping_or_gone_and_alive_all_along() {
    let stopping = CancellationToken::new();
    let router = probes::router(telling(1), stopping.clone());
    let ready = Answer::to(router.clone(), get("/readyz")).await;
    assert_eq!(
        (ready.status, ready.text.as_str()),
        (StatusCode::OK, "ready\n")
    );
    let gone = Answer::to(router.clone(), get("/readyz")).await;
    assert_eq!(gone.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(gone.text.contains("stopped"), "{}", gone.text);
    stopping.cancel();
    let draining = Answer::to(router.clone(), get("/readyz")).await;
    assert_eq!(draining.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(draining.text.contains("draining"), "{}", draining.text);
    let live = Answer::to(router, get("/healthz")).await;
    assert_eq!((live.status, live.text.as_str()), (StatusCode::OK, "ok\n"));
}

/// The status and the body of a GET over a connection of its own.
async fn fetch(address: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status");
    (status.to_owned(), body.to_owned())
}

#[tokio::test]
async fn a_port_tells_that_the_model_loads_and_then_what_is_measured() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let loaded = CancellationToken::new();
    let listener = loading::answer(listener, loaded.clone()).expect("shared");
    assert_eq!(fetch(&address, "/healthz").await.0, "200");
    for path in ["/readyz", "/metrics", "/v1/models"] {
        let (status, body) = fetch(&address, path).await;
        assert_eq!(status, "503", "{path}");
        assert!(body.contains("the model is loading"), "{body}");
    }

    loaded.cancel();
    let (stopping, end) = (CancellationToken::new(), CancellationToken::new());
    let metrics = Arc::new(Metrics::new(telling(2), build()));
    let serving = metrics::serve(listener, metrics, stopping.clone(), end.clone());
    let serving = tokio::spawn(serving);
    // The port has two owners until the first has noticed.
    let ready = loop {
        let (status, body) = fetch(&address, "/readyz").await;
        if !body.contains("loading") {
            break status;
        }
    };
    assert_eq!(ready, "200");
    let (status, body) = fetch(&address, "/metrics").await;
    assert_eq!(status, "200");
    assert_lines(&body, &["session_active 3"]);
    assert_eq!(fetch(&address, "/v1/models").await.0, "404");
    stopping.cancel();
    assert_eq!(fetch(&address, "/readyz").await.0, "503");
    assert_eq!(fetch(&address, "/healthz").await.0, "200");
    end.cancel();
    serving.await.expect("no panic").expect("a clean end");
}
