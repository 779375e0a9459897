//! What an engine observes while it works, for whoever watches it.
//!
//! Counts and levels are in [`EngineStats`](crate::engine::EngineStats), which is asked for when somebody looks. Here is
//! what only the moment knows: durations and sizes, as histograms. Observing one takes a lock that nobody else holds but
//! a reader, for as long as it copies, and allocates nothing.

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The histograms of one engine. Clones share them.
#[derive(Debug, Clone)]
pub struct EngineMetrics {
    /// Tokens of an append, or of the prompt of a single answer, once the model has read them.
    pub prefill_tokens: Histogram,
    /// Seconds from the first of them to the last, without the wait before.
    pub prefill_seconds: Histogram,
    /// Seconds from when a generation was asked for to its first token: waiting, and for a single answer reading the
    /// prompt, included.
    pub first_token_seconds: Histogram,
    /// Seconds between two tokens of a stream whose client keeps up.
    pub inter_token_seconds: Histogram,
    /// Rows of a forward pass: one for each stream, and those of the prompts beside them.
    pub batch_rows: Histogram,
}

impl Default for EngineMetrics {
    fn default() -> Self {
        // From a decoded token on a fast machine to a prompt on a slow one.
        let seconds = |from: f64, count| Histogram::new(exponential_buckets(from, 2.0, count));
        Self {
            prefill_tokens: Histogram::new(exponential_buckets(1.0, 4.0, 10)),
            prefill_seconds: seconds(0.004, 16),
            first_token_seconds: seconds(0.004, 16),
            inter_token_seconds: seconds(0.001, 14),
            batch_rows: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
        }
    }
}

impl EngineMetrics {
    /// Puts them in a registry, under the names they are known by.
    pub fn register(&self, registry: &mut Registry) {
        for (name, help, histogram) in [
            (
                "generate_prefill_tokens",
                "Tokens of an append, or of the prompt of a single answer",
                &self.prefill_tokens,
            ),
            (
                "generate_prefill_duration_seconds",
                "From the first of those tokens to the last, without the wait before",
                &self.prefill_seconds,
            ),
            (
                "time_to_first_token_seconds",
                "From when a generation was asked for to its first token",
                &self.first_token_seconds,
            ),
            (
                "inter_token_seconds",
                "Between two tokens of a stream whose client keeps up",
                &self.inter_token_seconds,
            ),
            ("batch_rows", "Rows of a forward pass", &self.batch_rows),
        ] {
            registry.register(name, help, histogram.clone());
        }
    }
}
