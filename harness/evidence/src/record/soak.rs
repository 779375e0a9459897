//! A long session: one conversation of many turns over the wire, measured in time buckets.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a long session measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LongSession {
    /// How long it was meant to run, in seconds.
    pub asked_seconds: f64,
    /// How long it ran, in seconds.
    pub ran_seconds: f64,
    /// Whether it ran to its end. A checkpoint that nothing followed stays incomplete.
    pub complete: bool,
    /// Why it ended early, where it did.
    #[serde(deserialize_with = "super::present")]
    pub fault: Option<String>,
    /// What drove it.
    pub client: Client,
    /// Turns that came to their end.
    pub turns: u64,
    /// Generate calls that came to their end.
    pub generates: u64,
    /// Of these, how many the client made over the wire.
    pub generates_over_the_wire: u64,
    /// Tokens that the session holds at the end.
    pub history_length: u64,
    /// The server's counters of violated invariants at the end.
    pub violations: Violations,
    /// The time it ran in equal parts, in order.
    pub buckets: Vec<Bucket>,
}

/// What drove a long session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// Its name: `grpc` for calls made by the harness itself, an SDK's package name otherwise.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Whether it is an SDK that people use.
    pub sdk: bool,
}

/// Counters of violated invariants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Violations {
    /// The recorded tokens disagreed with the length of a layer's keys or values.
    pub inv1: u64,
    /// A position went back.
    pub inv2: u64,
}

/// A part of the time a long session ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// When it began.
    pub from: Timestamp,
    /// When it ended.
    pub to: Timestamp,
    /// Turns that ended in it.
    pub turns: u64,
    /// Tokens generated in it.
    pub tokens: u64,
    /// The median time of a turn, from its append to its last token, in seconds.
    pub turn_p50_seconds: f64,
    /// The 95th percentile of it.
    pub turn_p95_seconds: f64,
    /// The most KV bytes that the session was seen to hold.
    pub kv_bytes_peak: u64,
    /// The most memory that the server was seen to hold, in bytes.
    pub resident_bytes_peak: u64,
    /// The counters at its end.
    pub violations: Violations,
}
