//! The SDKs, and the page: their own tests against the real server with the real model, and against doors with none; their types,
//! packages and generated stubs.
//!
//! A test file is run once, and each of its tests is a case.

mod page;
mod python;
mod rust;
mod servers;
mod tests;
mod typescript;

use std::time::Duration;

use crate::suite::Suite;

/// The suite.
pub fn suite() -> Suite {
    Suite::new(
        "sdk",
        "the SDKs and the page say what the engine says, and tell what goes wrong",
    )
    .timeout(Duration::from_secs(1800))
    .cases(python::cases())
    .cases(typescript::cases())
    .cases(rust::cases())
    .cases(page::cases())
}
