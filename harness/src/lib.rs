//! The gate runner: what a maintainer types, and what a release hangs on.
//!
//! Each command is a module; what they share is a module each. The parts that judge ([`plan`], [`fold`],
//! [`conclude`]) are pure, so that every way a run can go wrong is a test without a model.

pub mod build_facts;
pub mod cli;
pub mod compare;
pub mod conclude;
pub mod coverage;
pub mod doctor;
pub mod error;
pub mod event;
pub mod exit;
pub mod explain;
#[cfg(test)]
#[path = "../evidence/tests/support/good.rs"]
mod fixture;
pub mod float_modes;
pub mod fold;
pub mod gate;
pub mod host;
pub mod keys;
pub mod list;
pub mod plan;
pub mod policy;
pub mod prewarm;
pub mod progress;
pub mod report;
pub mod repository;
pub mod required;
pub mod run_suite;
pub mod soak;
pub mod source;
pub mod supervise;
pub mod table;
pub mod verify;
pub mod weights;

use std::io;

use kakeya_gates::Workspace;

use crate::cli::{Cli, Command};
use crate::error::HarnessError;
use crate::exit::Exit;

/// Runs a command, in the checkout that holds the current directory where it needs one.
///
/// # Errors
/// Those of the command.
pub fn run(cli: &Cli) -> Result<Exit, HarnessError> {
    let output = &mut io::stdout();
    match &cli.command {
        Command::List(arguments) => list::run(arguments, &checkout()?, output),
        Command::Doctor(arguments) => doctor::run(arguments, &checkout()?, output),
        Command::Prewarm(arguments) => prewarm::run(arguments, &checkout()?, output),
        Command::Gate(arguments) => gate::run(arguments, &checkout()?, output),
        Command::Verify(arguments) => verify::run(arguments, &checkout()?, output),
        Command::RunSuite(arguments) => run_suite::run(arguments, &checkout()?),
        Command::RunServer(arguments) => soak::run_server(arguments),
        Command::Report(arguments) => report::run(arguments, &checkout()?, output),
        Command::Coverage(arguments) => coverage::run(arguments, &checkout()?, output),
        Command::Compare(arguments) => compare::run(arguments, output),
        Command::Required(arguments) => required::run(arguments, output),
        Command::Explain(arguments) => explain::run(arguments, output),
        Command::Keygen(arguments) => keys::keygen(arguments, output),
        Command::Sign(arguments) => keys::sign(arguments, output),
    }
}

/// The checkout that holds the current directory.
fn checkout() -> Result<Workspace, HarnessError> {
    let here =
        std::env::current_dir().map_err(HarnessError::system("find the current directory"))?;
    Ok(Workspace::find(&here)?)
}
