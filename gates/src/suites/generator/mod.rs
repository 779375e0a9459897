//! Generating: which events come, in which order, and what the session holds afterwards.

mod ahead;
mod cancel;
mod events;
mod options;
mod sampling;
mod stop;

use crate::suite::Suite;

/// The `generator` suite.
pub fn suite() -> Suite {
    Suite::new(
        "generator",
        "a generation says what it did, and leaves the session with exactly what it said",
    )
    .cases(events::cases())
    .cases(stop::cases())
    .cases(cancel::cases())
    .cases(sampling::cases())
    .cases(options::cases())
    .cases(ahead::cases())
}
