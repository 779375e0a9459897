//! The settings of `serve` from everywhere they can stand: flags over environment over file over defaults.
//!
//! Nothing here knows a single setting. The flags of the command are the list: each has a key of the same name in the
//! file and an environment variable `KAKEYA_` and its name, so that a new flag has both by being there. What the
//! weaker places say is put before the flags that were typed, as flags, and then everything is read and validated as
//! if it had been typed.

mod error;
mod file;
mod layers;
mod names;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};

pub use error::SettingError;
use layers::Layers;
use names::{environment_name, flags};

/// The commands whose settings can stand in a file and in the environment.
const LAYERED: [&str; 2] = ["serve", "config"];
/// Flags that say where settings are, and are none.
const CONFIG: &str = "config";
const CHECK: &str = "check";

/// The environment that settings are read from.
pub trait Environment {
    /// The variable of this name.
    fn value(&self, name: &str) -> Option<OsString>;
    /// The names of all variables, those that are no Unicode left out.
    fn names(&self) -> Vec<String>;
}

/// The environment of this process.
#[derive(Debug)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn value(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn names(&self) -> Vec<String> {
        std::env::vars_os()
            .filter_map(|(name, _)| name.into_string().ok())
            .collect()
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag that was typed.
    Flag,
    /// An environment variable of this name.
    Environment(String),
    /// A file, and the line in it.
    File(PathBuf, usize),
    /// The program's own.
    Default,
}

/// A setting as it is in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The flag, without its dashes.
    pub name: String,
    /// What it is set to; nothing where it is not set. A switch has `true` or `false`.
    pub values: Vec<String>,
    /// Whether it takes several values.
    pub several: bool,
    /// Whether its value is nobody's business.
    pub secret: bool,
    /// Where the value comes from.
    pub origin: Origin,
}

/// The settings in effect, for those who ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effective {
    /// Every setting, in the order of the help.
    pub settings: Vec<Setting>,
    /// Variables that look like a setting's and are none's, each with the one it may have meant.
    pub misspelt: Vec<(String, String)>,
}

impl Effective {
    /// Says in the log what looks like a mistake.
    pub fn log(&self) {
        for (variable, near) in &self.misspelt {
            tracing::warn!("{variable} is in the environment, and not a setting: is it {near}?");
        }
    }
}

/// Why a command line is not carried out.
#[derive(Debug)]
pub enum Refused {
    /// What clap says: also help and version.
    Line(clap::Error),
    /// A setting from the file or the environment.
    Setting(SettingError),
}

impl From<clap::Error> for Refused {
    fn from(error: clap::Error) -> Self {
        Self::Line(error)
    }
}

impl From<SettingError> for Refused {
    fn from(error: SettingError) -> Self {
        Self::Setting(error)
    }
}

/// Reads a command line, and where its command has settings, those.
///
/// # Errors
/// [`Refused`], before anything is done.
pub fn parse<C: CommandFactory + FromArgMatches>(
    arguments: Vec<OsString>,
    environment: &dyn Environment,
) -> Result<(C, Effective), Refused> {
    let Some(name) = LAYERED
        .into_iter()
        .find(|name| arguments.get(1).is_some_and(|typed| typed == name))
    else {
        let matches = C::command().try_get_matches_from(arguments)?;
        return Ok((C::from_arg_matches(&matches)?, Effective::default()));
    };
    let all = C::command();
    let command = all.find_subcommand(name).cloned().unwrap_or_default();
    // What was typed, without the rules between flags: what one needs may stand in the file.
    let typed = lone(&command)
        .bin_name(format!("kakeya {name}"))
        .try_get_matches_from(&arguments[1..])
        .map_err(|error| with_variables(&all, name, &arguments, error))?;
    let layers = Layers::read(&command, &typed, environment)?;
    let full: Vec<OsString> = arguments[..2]
        .iter()
        .cloned()
        .chain(layers.as_flags())
        .chain(arguments[2..].iter().cloned())
        .collect();
    let matches = all
        .clone()
        .mut_subcommand(name, |command| command.mut_args(without_variable))
        .try_get_matches_from(full)?;
    let parsed = C::from_arg_matches(&matches)?;
    let settings = match matches.subcommand() {
        Some((_, matches)) => effective(&command, &typed, matches, &layers),
        None => Vec::new(),
    };
    Ok((
        parsed,
        Effective {
            settings,
            misspelt: names::misspelt(&command, environment),
        },
    ))
}

/// Help names the variables; any other refusal stays as it is.
fn with_variables(
    all: &Command,
    name: &str,
    arguments: &[OsString],
    error: clap::Error,
) -> clap::Error {
    if error.kind() != ErrorKind::DisplayHelp {
        return error;
    }
    let named = |arg: Arg| match environment_name(&arg) {
        Some(variable) => arg.env(variable).hide_env_values(true),
        None => arg,
    };
    let all = all
        .clone()
        .mut_subcommand(name, |command| command.mut_args(named));
    all.try_get_matches_from(arguments).err().unwrap_or(error)
}

/// The command without rules between its flags and without variables: each flag by itself.
fn lone(command: &Command) -> Command {
    command.clone().mut_args(|arg| {
        without_variable(arg)
            .requires(Resettable::Reset)
            .conflicts_with(Resettable::Reset)
            .required(false)
    })
}

fn without_variable(arg: Arg) -> Arg {
    arg.env(None::<&'static str>)
}

/// Whether the flag was typed.
fn is_typed(typed: &ArgMatches, arg: &Arg) -> bool {
    typed.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine)
}

/// Whether it is there or not, and takes no value.
fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::SetFalse)
}

/// Whether it may be given several times, or several values at once.
fn is_several(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append) || arg.get_value_delimiter().is_some()
}

fn effective(
    command: &Command,
    typed: &ArgMatches,
    matches: &ArgMatches,
    layers: &Layers,
) -> Vec<Setting> {
    flags(command)
        .filter_map(|arg| {
            let id = arg.get_id().as_str();
            let values = if is_switch(arg) {
                vec![matches.get_flag(id).to_string()]
            } else {
                let raw = matches.get_raw(id).into_iter().flatten();
                raw.map(|value: &OsStr| value.to_string_lossy().into_owned())
                    .collect()
            };
            let origin = if is_typed(typed, arg) {
                Origin::Flag
            } else {
                layers.origin(arg).unwrap_or(Origin::Default)
            };
            Some(Setting {
                name: arg.get_long()?.to_owned(),
                values,
                several: is_several(arg),
                secret: arg.is_hide_env_values_set(),
                origin,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
