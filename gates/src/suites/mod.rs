//! The suites this build knows, in the order a gate runs them.

mod architectures;
mod coordinator;
mod fast;
mod generator;
mod grpc;
mod http;
mod inv3;
mod isa;
mod load;
mod model;
mod perf;
mod quality;
mod sdk;
mod session;
mod speculative;
mod support;
mod tokenizer;
mod tokenizer_files;
mod tokenizer_qwen3;

use crate::suite::Suite;

/// The model that most goldens are of.
const SMOLLM2: &str = "smollm2-135m";

/// Suites about what only a GPU does: a platform without one has nothing to run of them.
pub const OF_A_GPU: [&str; 1] = ["fast"];

/// Every suite. Names and tiers are known without a model, so building the list is cheap.
pub fn registry() -> Vec<Suite> {
    vec![
        inv3::suite(),
        isa::suite(),
        model::suite(),
        architectures::suite(),
        quality::suite(),
        coordinator::suite(),
        generator::suite(),
        session::suite(),
        speculative::suite(),
        grpc::suite(),
        http::suite(),
        sdk::suite(),
        load::suite(),
        fast::suite(),
        perf::suite(),
    ]
}
