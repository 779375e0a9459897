//! How long clients are waited for, and how many are let in at once.

use std::time::Duration;

/// How long clients are waited for, and how many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a TLS handshake, for a connection's first bytes, for the headers of a request, and for the whole body of one
    /// over HTTP; over gRPC, for each piece of a body.
    pub arrival: Duration,
    /// For a client to take what is sent to it: then its answer is given up, and the work for it.
    pub departure: Duration,
    /// Connections at once on each port. More wait, unaccepted, until one closes.
    pub connections: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            arrival: Duration::from_secs(30),
            departure: Duration::from_secs(60),
            connections: 1024,
        }
    }
}

/// The largest head of a request, in bytes, on either port.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;
