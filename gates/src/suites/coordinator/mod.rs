//! Appending: what a session holds after every way of being told its tokens, and after every refusal.

mod append;
mod bytes;
mod isolation;
mod refusals;

use crate::suite::Suite;

/// The `coordinator` suite.
pub fn suite() -> Suite {
    Suite::new(
        "coordinator",
        "an append leaves a session with exactly its tokens, or as it was",
    )
    .cases(append::cases())
    .cases(refusals::cases())
    .cases(bytes::cases())
    .cases(isolation::cases())
}
