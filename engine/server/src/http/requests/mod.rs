//! Request bodies: as they were sent, and as what they ask for.

pub mod json;

pub use json::{Object, RawObject, Texts};
