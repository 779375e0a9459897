//! The command line, as parsed. Whether it makes sense is for the commands to say.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
#[cfg(feature = "engine")]
use jiff::SignedDuration;
use kakeya_suite::{ModelFile, Tier};

use crate::exit::Exit;

mod adopt;
#[cfg(feature = "github")]
mod github;

pub use adopt::{InitArgs, InstallArgs, WorkflowsCommand};
#[cfg(feature = "github")]
pub use github::{ChecksArgs, GithubArgs, LabelArgs};

/// Runs the gates on a named kind of host and writes the evidence.
///
/// `C` is what the program can do: [`Command`] without suites, [`FullCommand`] with them.
#[derive(Debug, Clone, PartialEq, Parser)]
#[command(name = "harness", version, after_help = Exit::help(), arg_required_else_help = true)]
pub struct Cli<C: Subcommand> {
    /// What to do.
    #[command(subcommand)]
    pub command: C,
}

/// What every build does.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Command {
    /// Say whether there is good evidence for this tree
    Verify(VerifyArgs),
    /// Compare two records
    Compare(CompareArgs),
    /// Write what evidence says: a page, a summary, the index
    Report(ReportArgs),
    /// Say whether tests cover what gates/coverage.toml asks
    Coverage(CoverageArgs),
    /// Say what a reason to reject evidence means
    Explain(ExplainArgs),
    /// Make a key to sign evidence with
    Keygen(KeygenArgs),
    /// Sign a record of evidence
    Sign(SignArgs),
    /// Label a pull request by the files it changes
    #[cfg(feature = "github")]
    Label(LabelArgs),
    /// Report what `verify` finds as a check run
    #[cfg(feature = "github")]
    Checks(ChecksArgs),
    /// Install the workflows, or say whether they are as installed
    #[command(subcommand)]
    Workflows(WorkflowsCommand),
    /// Begin to use gates in another repository
    Init(InitArgs),
}

/// What a program does that has suites to run.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum FullCommand {
    /// Show platforms, suites and cases
    List(ListArgs),
    /// Compare this host with what a platform asks
    Doctor(DoctorArgs),
    /// Fetch models, check them, and repair them if need be
    Prewarm(PrewarmArgs),
    /// Run a platform's suites against the real model and write evidence
    Gate(GateArgs),
    /// Print the list of required cases, made from the suites and a record
    Required(RequiredArgs),
    /// Run one suite in this process, for the gate that started it
    #[command(hide = true)]
    RunSuite(RunSuiteArgs),
    /// Serve a model over gRPC, for the gate that started it
    #[cfg(feature = "engine")]
    #[command(hide = true)]
    RunServer(RunServerArgs),
    /// What every build does
    #[command(flatten)]
    Other(Command),
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
    /// Sign the evidence with the key in this file (repeatable)
    #[arg(long, value_name = "FILE")]
    pub sign: Vec<PathBuf>,
    /// A long session
    #[command(flatten)]
    pub soak: SoakArgs,
    /// Also say which cases passed in another form, beside the record
    #[arg(long, value_enum, value_name = "FORM")]
    pub export: Option<Export>,
    /// Record the coverage that this report of `cargo llvm-cov --json` shows
    #[arg(long, value_name = "FILE")]
    pub coverage: Option<PathBuf>,
}

/// The long session of a gate. It is Kakeya's server that it drives, so a build without it takes none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct SoakArgs {
    /// After the suites, drive one session for so long over the wire: 60s, 30m, 4h
    #[cfg(feature = "engine")]
    #[arg(long = "soak", value_name = "TIME", value_parser = soak_time)]
    pub time: Option<SignedDuration>,
}

/// Forms that other tools read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Export {
    /// An in-toto statement with the predicate test-result v0.1.
    TestResult,
}

/// A time that a long session can be cut into parts of.
#[cfg(feature = "engine")]
fn soak_time(text: &str) -> Result<SignedDuration, String> {
    let time: SignedDuration = text.parse().map_err(|error| {
        format!("{error}; a time is a number and a unit, such as 60s, 30m or 4h")
    })?;
    let range = SignedDuration::from_secs(10)..=SignedDuration::from_hours(24 * 31);
    if range.contains(&time) {
        Ok(time)
    } else {
        Err("a long session lasts from 10 seconds to 31 days".to_owned())
    }
}

/// For people, for programs, or for a workflow on GitHub.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum VerifyFormat {
    /// A line for each reason.
    #[default]
    Text,
    /// One JSON document.
    Json,
    /// Workflow commands.
    Github,
}

/// Arguments of `verify`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct VerifyArgs {
    /// What is asked
    #[command(flatten)]
    pub question: QuestionArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: VerifyFormat,
}

/// What verifying is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct QuestionArgs {
    /// Records, instead of all in results/platform-tests
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The commit or branch that the change goes into: policy is read there [default: HEAD]
    #[arg(long, value_name = "REF")]
    pub base: Option<String>,
    /// A platform that needs evidence (repeatable) [default: those of gates/evidence.toml]
    #[arg(long, value_name = "NAME")]
    pub platform: Vec<String>,
    /// Ask for what general availability takes
    #[arg(long)]
    pub ga: bool,
}

/// Arguments of `compare`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct CompareArgs {
    /// The record to compare with
    #[arg(value_name = "A")]
    pub a: PathBuf,
    /// The record that is compared
    #[arg(value_name = "B")]
    pub b: PathBuf,
    /// By how many percent a figure may differ and be called the same
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0)]
    pub noise: f64,
    /// Compare runs of other hosts, models, platforms or tiers as well
    #[arg(long)]
    pub unlike: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Arguments of `report`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["html", "markdown", "index", "check"]))]
pub struct ReportArgs {
    /// Write one page over all committed evidence to this file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// The folder of the records as seen from that page [default: platform-tests]
    #[arg(long, value_name = "PATH", requires = "html")]
    pub folder: Option<String>,
    /// Write a summary of what `verify` finds to this file, or to standard output for -
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Write the index in results/README.md anew
    #[arg(long)]
    pub index: bool,
    /// Leave with status 1 where the index in results/README.md is stale
    #[arg(long)]
    pub check: bool,
    /// What the summary is about
    #[command(flatten)]
    pub verify: QuestionArgs,
}

/// Arguments of `coverage`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CoverageArgs {
    /// What `cargo llvm-cov --json` wrote
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
}

/// Arguments of `required`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RequiredArgs {
    /// The record that says what cases take
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
}

/// Arguments of `explain`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ExplainArgs {
    /// The code, such as EV-042, or an exit status, such as 6; without it, all codes are listed
    #[arg(value_name = "CODE")]
    pub code: Option<String>,
}

/// Arguments of `keygen`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct KeygenArgs {
    /// The file to write the secret to; it must not exist
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// What the key is called in reports
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// Who holds it
    #[arg(long, value_name = "WHO")]
    pub owner: String,
    /// For how many days it is good
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3660))]
    pub days: u32,
}

/// Arguments of `sign`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SignArgs {
    /// The record
    #[arg(value_name = "FILE")]
    pub record: PathBuf,
    /// The file of a key (repeatable)
    #[arg(long, value_name = "FILE", required = true)]
    pub key: Vec<PathBuf>,
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
    /// What the platform computes with
    #[arg(long)]
    pub backend: String,
    /// The model
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Arguments of `run-server`.
#[cfg(feature = "engine")]
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RunServerArgs {
    /// The model
    #[command(flatten)]
    pub model: ModelArgs,
}

/// A model that was resolved already.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ModelArgs {
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

impl ModelArgs {
    /// The model that they name.
    pub fn file(&self) -> ModelFile {
        ModelFile {
            name: self.model_name.clone(),
            path: self.model_path.clone(),
            sha256: self.model_sha256.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<FullCommand, clap::error::ErrorKind> {
        Cli::<FullCommand>::try_parse_from(line.split(' '))
            .map(|cli| cli.command)
            .map_err(|error| error.kind())
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::<FullCommand>::command().debug_assert();
        let help = Cli::<FullCommand>::command().render_long_help().to_string();
        assert!(help.contains("5  nothing ran"), "{help}");
        assert!(!help.contains("run-suite"), "{help}");
    }

    #[test]
    fn gate_takes_many_suites_and_one_filter() {
        let Ok(FullCommand::Gate(gate)) = parse(
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
                sign: Vec::new(),
                soak: SoakArgs::default(),
                export: None,
                coverage: None,
            }
        );
    }

    #[test]
    fn the_fast_tier_and_text_are_the_defaults() {
        assert!(matches!(
            parse("harness gate --platform p"),
            Ok(FullCommand::Gate(GateArgs {
                tier: Tier::Fast,
                ..
            }))
        ));
        assert!(matches!(
            parse("harness list"),
            Ok(FullCommand::List(ListArgs {
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
            #[cfg(feature = "engine")]
            (
                "harness gate --platform p --soak 5s",
                ErrorKind::ValueValidation,
            ),
            #[cfg(feature = "engine")]
            (
                "harness gate --platform p --soak long",
                ErrorKind::ValueValidation,
            ),
            ("harness list --format xml", ErrorKind::InvalidValue),
            (
                "harness prewarm --platform p --model m",
                ErrorKind::ArgumentConflict,
            ),
            ("harness notarise", ErrorKind::InvalidSubcommand),
            (
                "harness",
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
            ),
        ] {
            assert_eq!(parse(line).err(), Some(kind), "{line}");
        }
    }
}
