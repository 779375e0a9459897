//! What an engine observes, as a reader finds it.

use kakeya_core::{EngineHandle, EngineMetrics};
use prometheus_client::encoding::prometheus_text::encode;
use prometheus_client::registry::Registry;

fn text(metrics: &EngineMetrics) -> String {
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).expect("a text takes everything");
    text
}

#[test]
fn every_observation_is_found_under_its_name() {
    let metrics = EngineMetrics::default();
    let shared = metrics.clone();
    for (histogram, value) in [
        (&shared.prefill_tokens, 40.0),
        (&shared.prefill_seconds, 0.5),
        (&shared.first_token_seconds, 0.25),
        (&shared.inter_token_seconds, 0.125),
        (&shared.batch_rows, 3.0),
    ] {
        histogram.observe(value);
    }
    let text = text(&metrics);
    for line in [
        "generate_prefill_tokens_sum 40.0",
        "generate_prefill_tokens_bucket{le=\"16\"} 0",
        "generate_prefill_tokens_bucket{le=\"64\"} 1",
        "generate_prefill_duration_seconds_sum 0.5",
        "time_to_first_token_seconds_sum 0.25",
        "inter_token_seconds_sum 0.125",
        "batch_rows_sum 3.0",
        "batch_rows_bucket{le=\"4\"} 1",
        "batch_rows_count 1",
        "# TYPE batch_rows histogram",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}

#[test]
fn a_handle_knows_the_metrics_of_its_engine() {
    let (handle, _commands) = EngineHandle::channel(1);
    handle.clone().metrics().batch_rows.observe(1.0);
    assert!(text(handle.metrics()).contains("batch_rows_count 1\n"));
}
