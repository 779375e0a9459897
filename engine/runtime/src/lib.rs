//! Sessions that run: the verifier of one session, the coordinators that append and generate, and the loop
//! that gives every session its turn.

mod adjust;
pub mod append;
pub mod config;
mod constrained;
mod copies;
pub mod digest;
pub mod engine;
pub mod generate;
pub mod likelihood;
pub mod logprobs;
pub mod pass;
pub mod prefix;
pub mod sampler;
pub mod snapshot;
pub mod speculation;
mod state;
pub mod step_loop;
mod stop;
mod tenants;
pub mod verifier;

pub use append::AppendCoordinator;
pub use config::{EngineConfig, EngineStartError};
pub use engine::{Ends, Engine};
pub use generate::GenerationCoordinator;
pub use likelihood::negative_log_likelihood;
pub use logprobs::token_logprobs;
pub use pass::Pass;
pub use sampler::Sampler;
pub use snapshot::{SnapshotCodec, StateDigest};
pub use speculation::Speculation;
pub use step_loop::{StepLoop, StepLoopThread};
pub use verifier::{MAX_CHUNK, SinkWindowVerifier, longest_append};
