//! Aligning a draft head with a model: see [`kakeya_model::head`] for what a head is.
//!
//! The model is frozen. Its embedding and its output matrix are shared with the head; what is learnt are the bridges from
//! the model's width to the head's and back, and what lies between. It goes in three steps, each of which can be stopped at
//! any moment and goes on where it was: [`collect`] lets the model talk and writes down what it thinks, [`train`] fits a
//! head to that, and [`evaluate`] says what the head is worth.

mod checkpoint;
pub mod collect;
mod error;
pub mod evaluate;
mod frozen;
mod head;
mod loss;
mod optimizer;
pub mod plot;
mod schedule;
pub mod shard;
pub mod train;

pub use error::AlignError;
