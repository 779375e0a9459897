//! The gate runner: what a maintainer types, and what a release hangs on.
//!
//! Each command is a module; what they share is a module each. The parts that judge ([`plan`], [`fold`],
//! [`conclude`]) are pure, so that every way a run can go wrong is a test without a model.

pub mod build_facts;
pub mod cli;
pub mod conclude;
pub mod doctor;
pub mod error;
pub mod event;
pub mod exit;
pub mod float_modes;
pub mod fold;
pub mod gate;
pub mod host;
pub mod list;
pub mod plan;
pub mod policy;
pub mod prewarm;
pub mod progress;
pub mod run_suite;
pub mod source;
pub mod supervise;
pub mod table;

use std::io;

use kakeya_gates::Workspace;

use crate::cli::{Cli, Command};
use crate::error::HarnessError;
use crate::exit::Exit;

/// Runs a command in the checkout that holds the current directory.
///
/// # Errors
/// Those of the command.
pub fn run(cli: &Cli) -> Result<Exit, HarnessError> {
    let here =
        std::env::current_dir().map_err(HarnessError::system("find the current directory"))?;
    let workspace = Workspace::find(&here)?;
    let mut output = io::stdout();
    match &cli.command {
        Command::List(arguments) => list::run(arguments, &workspace, &mut output),
        Command::Doctor(arguments) => doctor::run(arguments, &workspace, &mut output),
        Command::Prewarm(arguments) => prewarm::run(arguments, &workspace, &mut output),
        Command::Gate(arguments) => gate::run(arguments, &workspace, &mut output),
        Command::RunSuite(arguments) => run_suite::run(arguments, &workspace),
    }
}
