//! The HTTP door without an engine: bodies in, refusals and answers out.

mod body;
mod chat;
mod completions;
mod door;
mod errors;
mod messages;
mod metrics;
mod openapi;
mod responses;
mod settings;
mod sse;
mod stop;
mod support;
mod tokens;
mod tools;
