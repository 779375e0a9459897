//! `harness workflows install`: the workflows of this build, copied byte for byte to where GitHub looks for them.
//!
//! `workflows/` is where they are written and linted. They name no crate of ours, so that another repository can use them
//! as they are: what they run is a program called `harness`, and `.ci/independent`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kakeya_suite::Workspace;

use crate::cli::InstallArgs;
use crate::error::HarnessError;
use crate::exit::Exit;

/// Where GitHub looks.
pub const FOLDER: &str = ".github/workflows";

/// Each workflow: the name of its file, and what is in it.
pub const ALL: [(&str, &str); 4] = [
    (
        "auto-label.yml",
        include_str!("../../workflows/auto-label.yml"),
    ),
    ("ci.yml", include_str!("../../workflows/ci.yml")),
    (
        "integration.yml",
        include_str!("../../workflows/integration.yml"),
    ),
    ("verify.yml", include_str!("../../workflows/verify.yml")),
];

/// Copies them, or says whether they are as they would be copied.
///
/// # Errors
/// When there is no repository, or a file cannot be read or written.
pub fn install(arguments: &InstallArgs, output: &mut impl Write) -> Result<Exit, HarnessError> {
    let root = match &arguments.into {
        Some(root) => root.clone(),
        None => checkout()?,
    };
    let unwritable = || HarnessError::system("write the result");
    let mut stale = 0;
    for (name, text) in ALL {
        let path = root.join(FOLDER).join(name);
        let state = state_of(&path, text)?;
        let said = if arguments.check {
            stale += usize::from(state != State::Same);
            match state {
                State::Same => continue,
                State::Absent => "is missing",
                State::Other => "is another one",
            }
        } else {
            match state {
                State::Same => "is there",
                State::Absent => "written",
                State::Other => "written anew",
            }
        };
        if !arguments.check && state != State::Same {
            write(&path, text)?;
        }
        writeln!(output, "{FOLDER}/{name}: {said}").map_err(unwritable())?;
    }
    if arguments.check && stale == 0 {
        let count = ALL.len();
        writeln!(output, "all {count} workflows are those of this build").map_err(unwritable())?;
    }
    if stale > 0 {
        writeln!(output, "`harness workflows install` writes them").map_err(unwritable())?;
        return Ok(Exit::CaseFailed);
    }
    Ok(Exit::Success)
}

fn checkout() -> Result<PathBuf, HarnessError> {
    let here =
        std::env::current_dir().map_err(HarnessError::system("find the current directory"))?;
    Ok(Workspace::find(&here)?.root().to_owned())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Same,
    Absent,
    Other,
}

fn state_of(path: &Path, text: &str) -> Result<State, HarnessError> {
    match fs::read(path) {
        Ok(bytes) if bytes == text.as_bytes() => Ok(State::Same),
        Ok(_) => Ok(State::Other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::Absent),
        Err(error) => Err(HarnessError::system(format!("read {}", path.display()))(
            error,
        )),
    }
}

/// Writes a file, and the folders that it lies in.
///
/// # Errors
/// When the system refuses.
pub fn write(path: &Path, text: &str) -> Result<(), HarnessError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, text))
        .map_err(HarnessError::system(format!("write {}", path.display())))
}
