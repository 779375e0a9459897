//! The wire, end to end: a tonic client, a loopback port, the server, the step loop and the real model.
//!
//! Each case has a server of its own and ends with a clean stop of it. FAILED_PRECONDITION has no case here:
//! it takes a bug in the cache to reach it, and the `session` suite shows what such a bug would do.

mod concurrency;
mod copies;
mod limits;
mod security;
mod sessions;
mod several;
mod statuses;
mod stopping;
mod streams;
pub(in crate::suites) mod support;

use std::time::Duration;

use crate::suite::Suite;

/// The `grpc` suite.
pub fn suite() -> Suite {
    Suite::new(
        "grpc",
        "a client on the wire gets what the engine alone would give it",
    )
    .timeout(Duration::from_secs(420))
    .cases(sessions::cases())
    .cases(streams::cases())
    .cases(concurrency::cases())
    .cases(copies::cases())
    .cases(statuses::cases())
    .cases(limits::cases())
    .cases(security::cases())
    .cases(stopping::cases())
    .cases(several::cases())
}
