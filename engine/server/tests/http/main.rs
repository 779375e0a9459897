//! The HTTP door without an engine: bodies in, refusals and answers out.

mod body;
mod errors;
mod support;
