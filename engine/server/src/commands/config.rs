//! `kakeya config --check`: the settings of `serve` as they would be, without serving.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::serve::ServeArgs;
use super::settings::{Effective, Origin, Setting};
use super::{Failure, Outcome, output};

/// Flags of `kakeya config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Read and validate the settings as `serve` would, those of FILE included, and print each with where it comes from
    #[arg(long, value_name = "FILE", required = true, num_args = 0..=1)]
    check: Option<Option<PathBuf>>,
    #[command(flatten)]
    serve: ServeArgs,
}

impl ConfigArgs {
    /// Validates the settings, and says what file they were read from.
    ///
    /// # Errors
    /// As `serve` would refuse them.
    pub fn check(self) -> Result<Option<PathBuf>, Failure> {
        let file = self.check.flatten().or_else(|| self.serve.file());
        self.serve.check()?;
        Ok(file)
    }
}

/// Runs `kakeya config`.
pub fn run(args: ConfigArgs, effective: &Effective) -> Outcome {
    let file = args.check()?;
    output::print(&text(file.as_deref(), effective))?;
    Ok(())
}

/// The settings as a file that `serve` could read, each with where its value comes from.
fn text(file: Option<&Path>, effective: &Effective) -> String {
    let mut text = match file {
        Some(path) => format!("# {} is valid\n", path.display()),
        None => "# no file was named: --check FILE, --config FILE or KAKEYA_CONFIG\n".to_owned(),
    };
    for (variable, near) in &effective.misspelt {
        // Writing to a text does not fail.
        let _ = writeln!(
            text,
            "# {variable} is in the environment, and not a setting: is it {near}?"
        );
    }
    let lines: Vec<_> = effective.settings.iter().map(line).collect();
    let width = lines.iter().map(|(line, _)| line.len()).max().unwrap_or(0);
    for (line, origin) in lines {
        let _ = writeln!(text, "{line:width$}  # {origin}");
    }
    text
}

fn line(setting: &Setting) -> (String, String) {
    let name = &setting.name;
    let origin = match &setting.origin {
        Origin::Flag => format!("--{name}"),
        Origin::Environment(variable) => variable.clone(),
        Origin::File(path, line) => format!("{}:{line}", path.display()),
        Origin::Default if setting.values.is_empty() => "not set".to_owned(),
        Origin::Default => "default".to_owned(),
    };
    if setting.values.is_empty() {
        return (format!("# {name}"), origin);
    }
    if setting.secret {
        return (format!("# {name}"), format!("{origin}, and not shown"));
    }
    let values: Vec<_> = setting
        .values
        .iter()
        .map(|value| toml_value(value))
        .collect();
    let value = if setting.several {
        format!("[{}]", values.join(", "))
    } else {
        values.concat()
    };
    (format!("{name} = {value}"), origin)
}

/// As TOML has it: numbers and switches as they are, everything else quoted.
fn toml_value(text: &str) -> String {
    let plain = text
        .parse::<i64>()
        .is_ok_and(|number| number.to_string() == text);
    if plain || ["true", "false"].contains(&text) {
        text.to_owned()
    } else {
        toml::Value::from(text).to_string()
    }
}
