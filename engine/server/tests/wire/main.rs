//! The wire layer over a loopback port, with a real client and no engine.
//!
//! The engine's end of the channel is either closed, so that reaching it is impossible, or kept and looked at, so
//! that what reached it is known. Nothing here answers in the engine's place; what an engine answers is tested
//! against the real one, in the `grpc` suite of the gates.

mod clocks;
mod deadlines;
mod keys;
mod reflection;
mod request_ids;
mod requests;
mod stopping;
mod support;
mod tls;
