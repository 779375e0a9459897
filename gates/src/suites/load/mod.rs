//! Many clients at once, clients that go away, and clients that send nonsense: nobody gets an error that is not theirs,
//! and nothing is left behind.
//!
//! The fast tier does a small part of each.

mod dropped;
mod http;
mod malformed;
mod schemathesis;
mod sessions;
mod wire;

use std::time::Duration;

use crate::suite::Suite;

/// The `load` suite.
pub fn suite() -> Suite {
    Suite::new(
        "load",
        "under load nobody gets an error that is not theirs, and nothing is left behind",
    )
    .timeout(Duration::from_secs(300))
    .full_timeout(Duration::from_secs(3600))
    .cases(sessions::cases())
    .cases(http::cases())
    .cases(dropped::cases())
    .cases(malformed::cases())
    .cases(schemathesis::cases())
}
