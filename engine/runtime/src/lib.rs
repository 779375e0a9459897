//! Sessions that run: the verifier of one session, the coordinators that append and generate, and the loop
//! that gives every session its turn.

pub mod append;
pub mod digest;
pub mod engine;
pub mod generate;
pub mod likelihood;
pub mod pass;
pub mod sampler;
pub mod step_loop;
pub mod verifier;

pub use append::AppendCoordinator;
pub use engine::{Engine, EngineConfig, EngineStartError};
pub use generate::GenerationCoordinator;
pub use likelihood::negative_log_likelihood;
pub use pass::Pass;
pub use sampler::Sampler;
pub use step_loop::{StepLoop, StepLoopThread};
pub use verifier::{MAX_CHUNK, SinkWindowVerifier};
