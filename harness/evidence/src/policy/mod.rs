//! The policy a run is judged by: what a platform asks of a host, what a gate asks of the cases, and which
//! files a run is bound to. All of it is data in the checkout; this module gives it a checked shape.

pub mod gate;
pub mod guarded;
pub mod platform;

pub use gate::{Gate, GatePolicy, Rule};
pub use guarded::{GuardedFiles, GuardedPolicy, PatternError};
pub use platform::{Check, Observed, Platform, check_host};
