//! What a bounded cache costs in quality, on real weights and real English: perplexity against full attention, against
//! a window that is computed anew for each token, and without sinks; the types of a cache's elements; and what can still
//! be recalled.
//!
//! The text is Newton's *Opticks* (`gates/goldens/README.md`). `docs/quality.md` shows the figures.

mod elements;
mod losses;
mod needle;
mod stretches;

use std::time::Duration;

use crate::suite::Suite;

/// The suite behind the claim that a session can run for ever.
pub fn suite() -> Suite {
    Suite::new(
        "quality",
        "sinks and a window predict a text as well as a window computed anew, however long the session",
    )
    .timeout(Duration::from_secs(300))
    .full_timeout(Duration::from_secs(4 * 3600))
    .cases(elements::cases())
    .cases(stretches::cases())
    .cases(needle::cases())
}
