//! The commands, and the exit code each outcome has.
//!
//! Flags are parsed into plain values by clap, then validated together into what a command needs: a mistake in
//! either step is a usage error and leaves with 2, before anything is loaded.

mod align;
mod bench;
mod chat;
mod config;
mod digest;
mod engine;
mod generate;
mod inspect;
mod keep;
mod key;
mod logs;
mod memory;
mod model;
mod observe;
mod options;
mod output;
mod perplexity;
mod prefix_cache;
mod proposer;
mod resident;
mod sampling;
mod security;
mod serve;
mod session;
mod settings;
mod signals;
mod store;
mod token_file;
#[cfg(feature = "otel")]
mod traces;

use std::ffi::OsString;
use std::fmt::Display;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use settings::{ProcessEnvironment, Refused};

/// A session-bound inference runtime with a KV cache of fixed size.
#[derive(Debug, Parser)]
#[command(
    name = "kakeya",
    version,
    after_help = "Exit codes: 0 success, 1 the command failed, 2 the flags are wrong, \
                  3 `inspect` found that the model cannot be run."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a model over gRPC (kakeya.v1.RuntimeService)
    Serve(serve::ServeArgs),
    /// Validate the settings of `serve` and say where each comes from
    Config(config::ConfigArgs),
    /// Chat with a model in this terminal
    Chat(chat::ChatArgs),
    /// Continue one prompt and print what the model says
    Generate(generate::GenerateArgs),
    /// Print digests of the logits and the KV cache of a token sequence, to check that chunking changes no bit
    Digest(digest::DigestArgs),
    /// Say what a model's files are, whether they can be run, and the memory they take
    Inspect(inspect::InspectArgs),
    /// Measure prefill and decode speed
    Bench(bench::BenchArgs),
    /// Train a draft head for a model, which guesses its tokens ahead
    Align(align::AlignArgs),
    /// Make API keys
    Key(key::KeyArgs),
    /// Measure how well the model predicts a text
    Perplexity(perplexity::PerplexityArgs),
}

/// Why a command did not succeed, sorted by the exit code it leaves with.
#[derive(Debug)]
enum Failure {
    /// The flags are wrong or contradict each other: exit code 2.
    Usage(String),
    /// The command failed: exit code 1.
    Run(anyhow::Error),
    /// The command has said why a model cannot be run: exit code 3.
    CannotRun,
}

impl Failure {
    /// A usage error in words.
    fn usage(message: impl Display) -> Self {
        Self::Usage(message.to_string())
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Run(error.into())
    }
}

/// What a command ends with.
type Outcome = Result<(), Failure>;

/// Runs the command line and says how it went: 0 success, 1 failure, 2 wrong usage.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = arguments.into_iter().collect();
    let (cli, effective) = match settings::parse::<Cli>(arguments, &ProcessEnvironment) {
        Ok(parsed) => parsed,
        Err(Refused::Setting(error)) => return exit(Err(Failure::usage(error))),
        Err(Refused::Line(error)) => {
            // Help and version are answers, not mistakes, and go to standard output.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(2)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let outcome = match cli.command {
        Command::Serve(args) => serve::run(args, &effective),
        Command::Config(args) => config::run(args, &effective),
        Command::Chat(args) => chat::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Digest(args) => digest::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Align(args) => align::run(args),
        Command::Key(args) => key::run(args),
        Command::Perplexity(args) => perplexity::run(args),
    };
    exit(outcome)
}

/// Tells what went wrong, and says the exit code.
fn exit(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Run(error)) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(Failure::Run(error)) => {
            eprintln!("error: {}", describe(&error));
            ExitCode::from(1)
        }
        Err(Failure::CannotRun) => ExitCode::from(3),
        Err(Failure::Usage(message)) => {
            eprintln!("error: {message}\n\nFor more information, try '--help'.");
            ExitCode::from(2)
        }
    }
}

/// An error and its causes in one line. A cause that the text before it already tells is not told again.
fn describe(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |told, cause| {
        let cause = cause.to_string();
        match (told.is_empty(), told.contains(&cause)) {
            (true, _) => cause,
            (false, true) => told,
            (false, false) => format!("{told}: {cause}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_of_every_command_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_cause_is_told_once() {
        let cause = std::io::Error::other("disk on fire");
        let error = anyhow::Error::new(cause);
        assert_eq!(describe(&error), "disk on fire");
        assert_eq!(
            describe(&error.context("cannot read m")),
            "cannot read m: disk on fire"
        );
        let told = anyhow::anyhow!("disk on fire").context("cannot read m: disk on fire");
        assert_eq!(describe(&told), "cannot read m: disk on fire");
    }
}
