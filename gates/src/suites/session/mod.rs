//! How sessions end, and that an end is never undone.

mod eviction;
mod invariants;
mod single;

use crate::suite::Suite;

/// The `session` suite.
pub fn suite() -> Suite {
    Suite::new(
        "session",
        "a session ends by close, by TTL, by eviction or by a violated invariant, and stays ended",
    )
    .cases(invariants::cases())
    .cases(eviction::cases())
    .cases(single::cases())
}
