//! What kakeya-core promises, each test named as the rule it holds.

mod cached_tokens;
mod config;
mod constraint;
mod device;
mod engine;
mod errors;
mod events;
mod metrics;
mod packed;
mod params;
mod pipeline;
mod prefix;
mod sampling;
mod saved;
mod scheduler;
mod session_store;
mod shared;
mod slab;
mod snapshot;
mod tenants;
