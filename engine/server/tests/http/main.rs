//! The HTTP door without an engine: bodies in, refusals and answers out.

mod body;
mod calls;
mod chat;
mod completions;
mod door;
mod errors;
mod forms;
mod messages;
mod metrics;
mod openapi;
mod page;
mod responses;
mod sessions;
mod settings;
mod sse;
mod stop;
mod support;
mod tokens;
mod tool_text;
mod tools;
