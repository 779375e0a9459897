//! The engine's counts, as metrics.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use kakeya_core::EngineStats;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// The counts as they were last told.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    stats: EngineStats,
    /// Whether the engine has told them just now.
    answers: bool,
    waiting: u64,
}

impl Counts {
    /// Takes new counts, or keeps the old ones of an engine that does not tell.
    pub(super) fn renew(&mut self, stats: Option<EngineStats>, waiting: u64) {
        self.answers = stats.is_some();
        self.stats = stats.unwrap_or(self.stats);
        self.waiting = waiting;
    }
}

/// What the registry asks.
#[derive(Debug)]
pub(super) struct Collecting(pub(super) Arc<Mutex<Counts>>);

impl Collector for Collecting {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Counts {
            stats,
            answers,
            waiting,
        } = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, help, value) in [
            (
                "kakeya_engine_up",
                "Whether the engine answers",
                u64::from(answers),
            ),
            ("session_active", "Sessions that live", stats.sessions),
            (
                "session_capacity",
                "Sessions that can live at once",
                stats.capacity,
            ),
            (
                "session_kv_live_bytes",
                "Keys and values in use, of all sessions",
                stats.kv_live_bytes,
            ),
            (
                "session_history_tokens",
                "Tokens of the histories of all sessions",
                stats.history_tokens,
            ),
            (
                "prefix_cache_entries",
                "Cached beginnings of prompts",
                stats.prefix.entries,
            ),
            ("prefix_cache_bytes", "Bytes of them", stats.prefix.bytes),
            (
                "requests_active",
                "Appends and generations at work",
                stats.active,
            ),
            (
                "queue_depth",
                "Requests that wait for a place",
                stats.queued + waiting,
            ),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        for (name, help, value) in [
            (
                "forward_passes",
                "Forward passes of the model",
                stats.forward_passes,
            ),
            (
                "tokens_appended",
                "Tokens that the model read",
                stats.tokens_appended,
            ),
            (
                "tokens_generated",
                "Tokens that the model generated",
                stats.tokens_generated,
            ),
            (
                "prefix_cache_tokens_reused",
                "Tokens of prompts that were not computed anew",
                stats.prefix.tokens_reused,
            ),
            (
                "prefix_cache_evicted",
                "Cached beginnings that went to make room for others",
                stats.prefix.evicted,
            ),
            (
                "constraint_failures",
                "Generations that ended because they could not be held to their form",
                stats.constraint_failures,
            ),
            (
                "speculation_verifications",
                "Steps of a session in which guessed tokens were verified",
                stats.speculation.verifications,
            ),
            (
                "speculation_drafted_tokens",
                "Guessed tokens that were verified",
                stats.speculation.drafted,
            ),
            (
                "speculation_accepted_tokens",
                "Guessed tokens that were right: each has saved a step",
                stats.speculation.accepted,
            ),
        ] {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        for (name, help, label, values) in [
            (
                "session",
                "Sessions that ended, by how, and those that could not be opened",
                "outcome",
                &[
                    ("closed", stats.closed),
                    ("completed", stats.completed),
                    ("abandoned", stats.abandoned),
                    ("expired", stats.evicted_ttl),
                    ("evicted", stats.evicted_lru),
                    ("violated", stats.violated),
                    ("failed", stats.failed),
                    ("refused", stats.refused),
                ][..],
            ),
            (
                "prefix_cache_prompts",
                "Prompts of single requests, by whether their beginning was cached",
                "outcome",
                &[("hit", stats.prefix.hits), ("miss", stats.prefix.misses)],
            ),
            (
                "forward_passes_ahead",
                "Passes that a GPU has begun before it was known that they come next",
                "outcome",
                &[
                    ("taken", stats.ahead.taken),
                    ("dropped", stats.ahead.dropped),
                ],
            ),
            (
                "session_evicted",
                "Sessions that ended unasked: unused for too long, or for another's sake",
                "reason",
                &[("ttl", stats.evicted_ttl), ("lru", stats.evicted_lru)],
            ),
            (
                "proposer_faults",
                "What proposers did wrong: answers that were cut, and proposers that a session went on without",
                "kind",
                &[
                    ("too_many", stats.speculation.too_many),
                    ("out_of_vocabulary", stats.speculation.out_of_vocabulary),
                    ("failed", stats.speculation.failed),
                    ("panicked", stats.speculation.panicked),
                    ("stalled", stats.speculation.stalled),
                ],
            ),
            (
                "cache_invariant_violations",
                "Caches that were not what was recorded: each is a bug",
                "kind",
                &[
                    ("inv1", stats.inv1_violations),
                    ("inv2", stats.inv2_violations),
                ],
            ),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (value, count) in values {
                let labels = [(label, *value)];
                ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
