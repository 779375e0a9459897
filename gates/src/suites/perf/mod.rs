//! How fast it runs, recorded in evidence.
//!
//! No case judges a time: the machine may be busy, and a slow run is not a wrong one. Regressions show as ratios
//! between the evidence of two runs. What a case does require is what holds on any machine: the same tokens, and
//! memory that stays as it is.

mod long;
mod speed;

use std::time::Duration;

use crate::suite::Suite;

/// Speed and memory.
pub fn suite() -> Suite {
    Suite::new(
        "perf",
        "speed and memory are recorded, batched streams are those of one alone, and memory does not grow",
    )
    .timeout(Duration::from_secs(300))
    // A million tokens of one session.
    .full_timeout(Duration::from_secs(3 * 3600))
    .cases(speed::cases())
    .cases(long::cases())
}
