//! What the weaker places say, as far as nothing stronger contradicts.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command};

use super::error::reason;
use super::names::{environment_name, flags, text_of};
use super::{CHECK, CONFIG, Environment, Origin, SettingError, file, is_several, is_switch};
use super::{is_typed, lone};

/// A setting that a place gives.
#[derive(Debug, Clone)]
pub(super) struct Given {
    id: String,
    long: String,
    switch: bool,
    values: Vec<String>,
    origin: Origin,
}

/// What file and environment give, and flags do not.
#[derive(Debug, Default)]
pub(super) struct Layers {
    given: Vec<Given>,
    /// The file, where a variable names it.
    file: Option<PathBuf>,
}

impl Given {
    pub(super) fn new(arg: &Arg, values: Vec<String>, origin: Origin) -> Self {
        Self {
            id: arg.get_id().to_string(),
            long: arg.get_long().unwrap_or_default().to_owned(),
            switch: is_switch(arg),
            values,
            origin,
        }
    }

    fn as_flags(&self) -> Vec<OsString> {
        let flag = |value: &String| match (self.switch, value.as_str()) {
            (true, "true") => Some(format!("--{}", self.long).into()),
            (true, _) => None,
            (false, value) => Some(format!("--{}={value}", self.long).into()),
        };
        self.values.iter().filter_map(flag).collect()
    }

    /// Reads the value by itself, as the flag would.
    pub(super) fn check(&self, command: &Command) -> Result<(), String> {
        let line = std::iter::once("kakeya".into()).chain(self.as_flags());
        match lone(command).try_get_matches_from(line) {
            Ok(_) => Ok(()),
            Err(error) => {
                let value = self.values.join(", ");
                Err(format!("is `{value}`: {}", reason(&error)))
            }
        }
    }
}

impl Layers {
    /// Reads the file that is named, and the environment.
    pub(super) fn read(
        command: &Command,
        typed: &ArgMatches,
        environment: &dyn Environment,
    ) -> Result<Self, SettingError> {
        let typed_file = typed_file(typed);
        let file = match typed_file {
            Some(_) => None,
            None => file_of_variable(command, environment)?,
        };
        let from_file = match typed_file.or(file.as_ref()) {
            Some(path) => file::read(command, path)?,
            None => Vec::new(),
        };
        let mut taken: Vec<&Arg> = flags(command).filter(|arg| is_typed(typed, arg)).collect();
        let mut layers = Self {
            given: Vec::new(),
            file,
        };
        for layer in [from_environment(command, environment)?, from_file] {
            let stronger = taken.clone();
            for one in layer {
                let Some(arg) = flags(command).find(|arg| arg.get_id() == one.id.as_str()) else {
                    continue;
                };
                let outdone = stronger
                    .iter()
                    .any(|other| other.get_id() == arg.get_id() || excludes(command, other, arg));
                if !outdone {
                    taken.push(arg);
                    layers.given.push(one);
                }
            }
        }
        Ok(layers)
    }

    pub(super) fn as_flags(&self) -> impl Iterator<Item = OsString> + '_ {
        let file = self.file.iter().map(|path| {
            let mut flag = OsString::from(format!("--{CONFIG}="));
            flag.push(path);
            flag
        });
        file.chain(self.given.iter().flat_map(Given::as_flags))
    }

    pub(super) fn origin(&self, arg: &Arg) -> Option<Origin> {
        let found = self
            .given
            .iter()
            .find(|one| arg.get_id() == one.id.as_str());
        found.map(|one| one.origin.clone())
    }
}

/// Whether one of the two excludes the other.
fn excludes(command: &Command, one: &Arg, other: &Arg) -> bool {
    let named = |from: &Arg, id: &clap::Id| {
        let conflicts = command.get_arg_conflicts_with(from);
        conflicts.iter().any(|found| found.get_id() == id)
    };
    named(one, other.get_id()) || named(other, one.get_id())
}

/// The file that `--check FILE` or `--config FILE` names.
fn typed_file(typed: &ArgMatches) -> Option<&PathBuf> {
    let given = |id| typed.try_get_one(id).ok().flatten();
    given(CHECK).or_else(|| given(CONFIG))
}

/// The file that the variable names.
fn file_of_variable(
    command: &Command,
    environment: &dyn Environment,
) -> Result<Option<PathBuf>, SettingError> {
    let mut all = command.get_arguments();
    let arg = all.find(|arg| arg.get_long() == Some(CONFIG));
    match arg.and_then(environment_name) {
        Some(name) => Ok(text_of(environment, &name)?.map(PathBuf::from)),
        None => Ok(None),
    }
}

fn from_environment(
    command: &Command,
    environment: &dyn Environment,
) -> Result<Vec<Given>, SettingError> {
    let mut given = Vec::new();
    for arg in flags(command) {
        let Some(name) = environment_name(arg) else {
            continue;
        };
        let Some(text) = text_of(environment, &name)? else {
            continue;
        };
        let wrong = |problem| SettingError::Variable {
            name: name.clone(),
            problem,
        };
        let values = if is_switch(arg) {
            vec![switch(&text).map_err(wrong)?.to_string()]
        } else if is_several(arg) {
            text.split(',').map(|part| part.trim().to_owned()).collect()
        } else {
            vec![text]
        };
        let one = Given::new(arg, values, Origin::Environment(name.clone()));
        one.check(command).map_err(wrong)?;
        given.push(one);
    }
    Ok(given)
}

fn switch(text: &str) -> Result<bool, String> {
    match text.to_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!("is `{text}`: expected true or false")),
    }
}
