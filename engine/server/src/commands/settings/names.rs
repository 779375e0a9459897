//! What a setting is called: its flag, its key, its variable.

use clap::{Arg, Command};

use super::{CHECK, CONFIG, Environment, SettingError};

const PREFIX: &str = "KAKEYA_";

/// How alike two names must be for one to be taken for a slip of the other.
const NEAR: f64 = 0.85;

/// The flags that are settings, in the order of the help.
pub(super) fn flags(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| {
        arg.get_long()
            .is_some_and(|long| ![CONFIG, CHECK, "help", "version"].contains(&long))
    })
}

/// The variable that a flag can be set by; the file to read has one as well.
pub(super) fn environment_name(arg: &Arg) -> Option<String> {
    if let Some(own) = arg.get_env() {
        return own.to_str().map(str::to_owned);
    }
    let long = arg
        .get_long()
        .filter(|long| ![CHECK, "help", "version"].contains(long))?;
    Some(format!("{PREFIX}{}", long.replace('-', "_").to_uppercase()))
}

/// The flag that a key of the file stands for.
pub(super) fn flag_of_key<'c>(command: &'c Command, key: &str) -> Option<&'c Arg> {
    flags(command).find(|arg| {
        let aliases = arg.get_all_aliases().unwrap_or_default();
        arg.get_long() == Some(key) || aliases.contains(&key)
    })
}

/// The text for a key that stands for none.
pub(super) fn unknown_key(command: &Command, key: &str) -> String {
    let near = nearest(
        &key.to_lowercase().replace('_', "-"),
        flags(command).filter_map(Arg::get_long),
    );
    match near {
        Some(near) => format!("unknown key `{key}`: is it `{near}`?"),
        None => format!(
            "unknown key `{key}`: `kakeya serve --help` lists the flags, whose names the keys are"
        ),
    }
}

/// Variables that are no setting's and look like one's.
pub(super) fn misspelt(command: &Command, environment: &dyn Environment) -> Vec<(String, String)> {
    let known: Vec<String> = command
        .get_arguments()
        .filter_map(environment_name)
        .collect();
    let mut found: Vec<_> = environment
        .names()
        .into_iter()
        .filter(|name| name.starts_with(PREFIX) && !known.contains(name))
        .filter_map(|name| {
            let known = known.iter().map(|known| &known[PREFIX.len()..]);
            let near = nearest(&name[PREFIX.len()..], known)?;
            Some((name.clone(), format!("{PREFIX}{near}")))
        })
        .collect();
    found.sort();
    found
}

/// The text of a variable; an empty one is as good as none.
pub(super) fn text_of(
    environment: &dyn Environment,
    name: &str,
) -> Result<Option<String>, SettingError> {
    match environment.value(name).map(std::ffi::OsString::into_string) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(Err(_)) => Err(SettingError::Variable {
            name: name.to_owned(),
            problem: "is no UTF-8 text".to_owned(),
        }),
    }
}

fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    known
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(likeness, _)| *likeness >= NEAR)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, known)| known)
}
