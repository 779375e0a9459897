//! The command line, as parsed. Whether it makes sense is for the commands to say.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kakeya_gates::Tier;

use crate::exit::Exit;

/// Runs the gates on a named kind of host and writes the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "harness", version, after_help = Exit::help(), arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Show platforms, suites and cases
    List(ListArgs),
    /// Compare this host with what a platform asks
    Doctor(DoctorArgs),
    /// Fetch models, check them, and repair them if need be
    Prewarm(PrewarmArgs),
    /// Run a platform's suites against the real model and write evidence
    Gate(GateArgs),
    /// Run one suite in this process, for the gate that started it
    #[command(hide = true)]
    RunSuite(RunSuiteArgs),
}

/// For people or for programs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables and sentences.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

/// Arguments of `list`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ListArgs {
    /// Only what this platform runs
    #[arg(long, value_name = "NAME")]
    pub platform: Option<String>,
    /// Only this suite
    #[arg(long, value_name = "ID")]
    pub suite: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Arguments of `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DoctorArgs {
    /// The platform to compare with
    #[arg(long, value_name = "NAME")]
    pub platform: String,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Arguments of `prewarm`. Without any, the catalogue's default model.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PrewarmArgs {
    /// Every model this platform needs
    #[arg(long, value_name = "NAME", conflicts_with = "model")]
    pub platform: Option<String>,
    /// This model
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
}

/// Arguments of `gate`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct GateArgs {
    /// The platform whose gate to run
    #[arg(long, value_name = "NAME")]
    pub platform: String,
    /// How much to run: fast or full
    #[arg(long, default_value = "fast")]
    pub tier: Tier,
    /// Only this suite (repeatable); the run is then a partial one
    #[arg(long, value_name = "ID")]
    pub suite: Vec<String>,
    /// Only cases whose suite::name contains this text; the run is then a partial one
    #[arg(long, value_name = "TEXT")]
    pub case: Option<String>,
    /// Where to write evidence instead of results/platform-tests
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Arguments of `run-suite`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RunSuiteArgs {
    /// The suite
    #[arg(long)]
    pub suite: String,
    /// How much of it
    #[arg(long)]
    pub tier: Tier,
    /// Only cases whose suite::name contains this text
    #[arg(long)]
    pub case: Option<String>,
    /// The model's name in the catalogue
    #[arg(long)]
    pub model_name: String,
    /// The model's file
    #[arg(long)]
    pub model_path: PathBuf,
    /// The digest the model must have
    #[arg(long)]
    pub model_sha256: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Command, clap::error::ErrorKind> {
        Cli::try_parse_from(line.split(' '))
            .map(|cli| cli.command)
            .map_err(|error| error.kind())
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains("5  nothing ran"), "{help}");
        assert!(!help.contains("run-suite"), "{help}");
    }

    #[test]
    fn gate_takes_many_suites_and_one_filter() {
        let Ok(Command::Gate(gate)) = parse(
            "harness gate --platform linux-cpu --tier full --suite inv3 --suite grpc --case eos --out d",
        ) else {
            panic!("not a gate command");
        };
        assert_eq!(
            gate,
            GateArgs {
                platform: "linux-cpu".into(),
                tier: Tier::Full,
                suite: vec!["inv3".into(), "grpc".into()],
                case: Some("eos".into()),
                out: Some("d".into()),
            }
        );
    }

    #[test]
    fn the_fast_tier_and_text_are_the_defaults() {
        assert!(matches!(
            parse("harness gate --platform p"),
            Ok(Command::Gate(GateArgs {
                tier: Tier::Fast,
                ..
            }))
        ));
        assert!(matches!(
            parse("harness list"),
            Ok(Command::List(ListArgs {
                format: Format::Text,
                platform: None,
                suite: None,
            }))
        ));
    }

    #[test]
    fn what_makes_no_sense_is_a_usage_error() {
        use clap::error::ErrorKind;
        for (line, kind) in [
            ("harness gate", ErrorKind::MissingRequiredArgument),
            ("harness doctor", ErrorKind::MissingRequiredArgument),
            (
                "harness gate --platform p --tier slow",
                ErrorKind::ValueValidation,
            ),
            ("harness list --format xml", ErrorKind::InvalidValue),
            (
                "harness prewarm --platform p --model m",
                ErrorKind::ArgumentConflict,
            ),
            ("harness verify", ErrorKind::InvalidSubcommand),
            (
                "harness",
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
            ),
        ] {
            assert_eq!(parse(line).err(), Some(kind), "{line}");
        }
    }
}
