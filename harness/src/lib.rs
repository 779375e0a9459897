//! The gate runner: what a maintainer types, and what a release hangs on.
//!
//! Each command is a module; what they share is a module each. The parts that judge ([`plan`], [`fold`],
//! [`conclude`]) are pure, so that every way a run can go wrong is a test without a model.
//!
//! What is gated is a [`Subject`]: Kakeya's own engine ([`kakeya`]), or that of another repository, whose program is
//! [`main`] with its own. A program without one ([`main_without_suites`]) verifies, labels and reports.

pub mod actions;
pub mod build_facts;
#[cfg(feature = "github")]
pub mod checks;
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
pub mod init;
#[cfg(feature = "engine")]
pub mod kakeya;
pub mod keys;
#[cfg(feature = "github")]
pub mod label;
pub mod list;
pub mod locked;
mod long_run;
pub mod plan;
pub mod policy;
pub mod prewarm;
pub mod progress;
#[cfg(feature = "github")]
mod remote;
pub mod report;
pub mod repository;
pub mod required;
pub mod run_suite;
#[cfg(feature = "engine")]
pub mod soak;
pub mod source;
pub mod subject;
pub mod supervise;
pub mod table;
pub mod verify;
pub mod weights;
pub mod workflows;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use kakeya_suite::Workspace;

pub use crate::subject::Subject;
pub use kakeya_evidence as evidence;
pub use kakeya_suite as suite;

use crate::cli::{Cli, Command, FullCommand, WorkflowsCommand};
use crate::error::HarnessError;
use crate::exit::Exit;

/// The whole program for a subject: parses the command line, runs the command, and says what went wrong.
///
/// Its own executable is started again for each suite, so the program that calls this does nothing else.
pub fn main<S: Subject>(subject: &S) -> ExitCode {
    conclude_with(run(&Cli::parse().command, subject))
}

/// The program without suites: what it cannot do is not in its help.
pub fn main_without_suites() -> ExitCode {
    conclude_with(run_other(&Cli::parse().command, &mut io::stdout()))
}

fn conclude_with(result: Result<Exit, HarnessError>) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("{}", actions::inert(&format!("error: {error}")));
            error.exit().into()
        }
    }
}

/// Runs a command, in the checkout that holds the current directory where it needs one.
///
/// # Errors
/// Those of the command.
pub fn run<S: Subject>(command: &FullCommand, subject: &S) -> Result<Exit, HarnessError> {
    let output = &mut io::stdout();
    match command {
        FullCommand::List(arguments) => list::run(arguments, subject, &checkout()?, output),
        FullCommand::Doctor(arguments) => doctor::run(arguments, subject, &checkout()?, output),
        FullCommand::Prewarm(arguments) => prewarm::run(arguments, subject, &checkout()?, output),
        FullCommand::Gate(arguments) => gate::run(arguments, subject, &checkout()?, output),
        FullCommand::Required(arguments) => required::run(arguments, subject, output),
        FullCommand::RunSuite(arguments) => run_suite::run(arguments, subject, &checkout()?),
        #[cfg(feature = "engine")]
        FullCommand::RunServer(arguments) => soak::run_server(arguments),
        FullCommand::Other(command) => run_other(command, output),
    }
}

fn run_other(command: &Command, output: &mut impl Write) -> Result<Exit, HarnessError> {
    match command {
        Command::Verify(arguments) => verify::run(arguments, &checkout()?, output),
        Command::Report(arguments) => report::run(arguments, &checkout()?, output),
        Command::Coverage(arguments) => coverage::run(arguments, &checkout()?, output),
        Command::Compare(arguments) => compare::run(arguments, output),
        Command::Explain(arguments) => explain::run(arguments, output),
        Command::Keygen(arguments) => keys::keygen(arguments, output),
        Command::Sign(arguments) => keys::sign(arguments, output),
        #[cfg(feature = "github")]
        Command::Label(arguments) => label::run(arguments, output),
        #[cfg(feature = "github")]
        Command::Checks(arguments) => checks::run(arguments, &checkout()?, output),
        Command::Workflows(WorkflowsCommand::Install(arguments)) => {
            workflows::install(arguments, output)
        }
        Command::Init(arguments) => init::run(arguments, output),
    }
}

/// The checkout that holds the current directory.
fn checkout() -> Result<Workspace, HarnessError> {
    let here =
        std::env::current_dir().map_err(HarnessError::system("find the current directory"))?;
    Ok(Workspace::find(&here)?)
}
