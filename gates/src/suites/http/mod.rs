//! The HTTP routes, as clients that nobody here wrote see them.

mod clients;
mod curl;
mod metrics;
mod node;
mod security;
pub(in crate::suites) mod server;
mod sessions;

use std::time::Duration;

use crate::suite::Suite;

/// The suite behind gate G6.
pub fn suite() -> Suite {
    Suite::new(
        "http",
        "OpenAI's own clients and curl get what the engine says, and leave nothing behind",
    )
    .timeout(Duration::from_secs(300))
    .cases(clients::cases())
    .cases(node::cases())
    .cases(curl::cases())
    .cases(security::cases())
    .cases(sessions::cases())
    .cases(metrics::cases())
}
