//! What kakeya-core promises, each test named as the rule it holds.

mod cached_tokens;
mod config;
mod constraint;
mod engine;
mod errors;
mod events;
mod params;
mod pipeline;
mod sampling;
mod scheduler;
mod session_store;
mod slab;
