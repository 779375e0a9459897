//! The `harness` program.

use std::process::ExitCode;

#[cfg(feature = "engine")]
fn main() -> ExitCode {
    harness::main(&harness::kakeya::Kakeya)
}

#[cfg(not(feature = "engine"))]
fn main() -> ExitCode {
    harness::main_without_suites()
}
