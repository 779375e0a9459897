//! The file: TOML, a key for each flag.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use clap::Command;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::layers::Given;
use super::names::{flag_of_key, unknown_key};
use super::{Origin, SettingError, is_several, is_switch};

/// Reads the settings of a file. Every key must be a setting's.
///
/// # Errors
/// The file, the line and the key that is at fault.
pub(super) fn read(command: &Command, path: &Path) -> Result<Vec<Given>, SettingError> {
    let text = fs::read_to_string(path).map_err(|source| SettingError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    of_text(command, path, &text)
}

/// [`read`], of a text that is at hand.
///
/// # Errors
/// As [`read`].
pub(super) fn of_text(
    command: &Command,
    path: &Path,
    text: &str,
) -> Result<Vec<Given>, SettingError> {
    let line_of = |span: Range<usize>| 1 + text[..span.start].matches('\n').count();
    let wrong = |line, problem| SettingError::File {
        path: path.to_owned(),
        line,
        problem,
    };
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, line_of);
        wrong(line, format!("not TOML: {}", error.message()))
    })?;
    let mut lines: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut given = Vec::new();
    for (key, value) in table.get_ref() {
        let line = line_of(key.span());
        let key = key.get_ref().as_ref();
        let arg =
            flag_of_key(command, key).ok_or_else(|| wrong(line, unknown_key(command, key)))?;
        let id = arg.get_id().to_string();
        if let Some((before, other)) = lines.insert(id, (line, key.to_owned())) {
            let problem = format!("`{key}` and `{other}` in line {before} are the same setting");
            return Err(wrong(line, problem));
        }
        let values = values(value, is_switch(arg), is_several(arg))
            .map_err(|problem| wrong(line_of(value.span()), format!("`{key}` {problem}")))?;
        let origin = Origin::File(path.to_owned(), line);
        let one = Given::new(arg, values, origin);
        one.check(command)
            .map_err(|problem| wrong(line, format!("`{key}` {problem}")))?;
        given.push(one);
    }
    Ok(given)
}

/// The texts of a value, as flags would have them.
fn values(
    value: &Spanned<DeValue<'_>>,
    switch: bool,
    several: bool,
) -> Result<Vec<String>, String> {
    match value.get_ref() {
        DeValue::Boolean(set) if switch => Ok(vec![set.to_string()]),
        _ if switch => Err("is true or false".to_owned()),
        DeValue::Array(all) if several => all.iter().map(|one| text_of(one.get_ref())).collect(),
        DeValue::Array(_) => Err("takes one value, and is a list".to_owned()),
        one => Ok(vec![text_of(one)?]),
    }
}

fn text_of(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.as_ref().to_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|_| format!("is {number}, a number beyond 64 bits")),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Table(_) => {
            Err("is a table: settings stand at the top, as KEY = VALUE".to_owned())
        }
        other => Err(format!(
            "is a {}: expected a text or a number",
            other.type_str()
        )),
    }
}
