//! Long sessions: latency and memory over time.

use kakeya_evidence::{Bucket, LongSession};
use serde::Serialize;

use super::{Figure, File, host_line};
use crate::collection::Entry;
use crate::escape::plain;
use crate::tables::{bytes, figure};

/// The most sessions that are drawn, the newest first.
const MOST: usize = 8;
const MIB: f64 = (1_u64 << 20) as f64;

/// The sessions of a collection.
#[derive(Debug, Serialize)]
pub(super) struct Sessions {
    shown: Vec<Session>,
    left_out: usize,
}

#[derive(Debug, Serialize)]
struct Session {
    platform: String,
    file: File,
    started: String,
    host: String,
    client: String,
    asked: String,
    ran: String,
    complete: bool,
    turns: u64,
    violations: u64,
    figures: Vec<Figure>,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    minutes: String,
    turns: u64,
    tokens: u64,
    p50: String,
    p95: String,
    kv: String,
    resident: String,
}

pub(super) fn sessions(entries: &[Entry], folder: &str) -> Sessions {
    let all: Vec<_> = entries
        .iter()
        .filter_map(|entry| Some((entry, entry.evidence.long_session.as_ref()?)))
        .collect();
    Sessions {
        left_out: all.len().saturating_sub(MOST),
        shown: all
            .into_iter()
            .take(MOST)
            .map(|(entry, session)| Session::of(entry, session, folder))
            .collect(),
    }
}

impl Session {
    fn of(entry: &Entry, session: &LongSession, folder: &str) -> Self {
        let client = &session.client;
        let violations = session.violations;
        Self {
            platform: plain(&entry.evidence.platform),
            file: File::of(&entry.name, folder),
            started: format!("{:.0}", entry.evidence.started),
            host: host_line(entry),
            client: plain(&format!("{} {}", client.name, client.version)),
            asked: duration(session.asked_seconds),
            ran: duration(session.ran_seconds),
            complete: session.complete,
            turns: session.turns,
            violations: violations.inv1 + violations.inv2,
            figures: figures(session),
            rows: session
                .buckets
                .iter()
                .map(|each| Row::of(session, each))
                .collect(),
        }
    }
}

impl Row {
    fn of(session: &LongSession, bucket: &Bucket) -> Self {
        Self {
            minutes: figure(minutes(session, bucket)),
            turns: bucket.turns,
            tokens: bucket.tokens,
            p50: figure(bucket.turn_p50_seconds),
            p95: figure(bucket.turn_p95_seconds),
            kv: bytes(bucket.kv_bytes_peak),
            resident: bytes(bucket.resident_bytes_peak),
        }
    }
}

/// When a bucket ended, in minutes from where the first began.
fn minutes(session: &LongSession, bucket: &Bucket) -> f64 {
    let begin = session
        .buckets
        .first()
        .map_or(bucket.from, |first| first.from);
    bucket.to.duration_since(begin).as_secs_f64() / 60.0
}

fn figures(session: &LongSession) -> Vec<Figure> {
    if session.buckets.is_empty() {
        return Vec::new();
    }
    let over_time = |value: fn(&Bucket) -> f64| -> Vec<(f64, f64)> {
        let point = |bucket| (minutes(session, bucket), value(bucket));
        session.buckets.iter().map(point).collect()
    };
    let across = "minutes";
    vec![
        Figure::of(
            "Time of a turn, in seconds",
            across,
            &[
                ("median", over_time(|bucket| bucket.turn_p50_seconds)),
                (
                    "95th percentile",
                    over_time(|bucket| bucket.turn_p95_seconds),
                ),
            ],
        ),
        Figure::of(
            "KV cache at its peak, in MiB",
            across,
            &[(
                "KV cache",
                over_time(|bucket| bucket.kv_bytes_peak as f64 / MIB),
            )],
        ),
        Figure::of(
            "Resident memory at its peak, in MiB",
            across,
            &[(
                "resident memory",
                over_time(|bucket| bucket.resident_bytes_peak as f64 / MIB),
            )],
        ),
    ]
}

/// A length of time, in the unit that suits it.
fn duration(seconds: f64) -> String {
    if seconds < 120.0 {
        format!("{} s", figure(seconds))
    } else if seconds < 7200.0 {
        format!("{} min", figure(seconds / 60.0))
    } else {
        format!("{} h", figure(seconds / 3600.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_has_the_unit_that_suits_it() {
        for (seconds, text) in [(30.0, "30 s"), (600.0, "10 min"), (14_400.0, "4 h")] {
            assert_eq!(duration(seconds), text);
        }
    }
}
