//! How sessions end, that an end is never undone, and what they can be copied to.

mod copies;
mod eviction;
mod forms;
mod invariants;
mod prefix;
mod reuse;
mod saved;
mod shared;
mod single;

use std::time::Duration;

use crate::suite::Suite;

/// The `session` suite.
pub fn suite() -> Suite {
    Suite::new(
        "session",
        "a session ends by close, by TTL, by eviction or by a violated invariant, and stays ended",
    )
    .timeout(Duration::from_secs(600))
    .cases(invariants::cases())
    .cases(eviction::cases())
    .cases(single::cases())
    .cases(forms::cases())
    .cases(copies::cases())
    .cases(saved::cases())
    .cases(shared::cases())
    .cases(prefix::cases())
    .cases(reuse::cases())
}
