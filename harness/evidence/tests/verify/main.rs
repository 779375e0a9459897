//! The verifier, from outside: what it accepts, and what it rejects.

mod attacks;
#[path = "../support/good.rs"]
mod good;
mod mutations;
mod rules;
mod world;
