//! `kakeya key`: API keys for a key file.

use clap::{Args, Subcommand};
use kakeya_server::door::keys::FreshKey;

use super::{Failure, Outcome, output};

/// Flags of `kakeya key`.
#[derive(Debug, Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Print a new key, once, and the lines of a key file that let it in
    New {
        /// What logs and errors call it: letters, digits, `-`, `_` and `.`
        name: String,
    },
}

/// Runs `kakeya key`. The key is a comment above the lines, so the output as it stands is a key file, from which the
/// comment is to be taken.
pub fn run(args: KeyArgs) -> Outcome {
    let KeyCommand::New { name } = args.command;
    let key = FreshKey::new(&name).map_err(Failure::usage)?;
    let told = "which is shown this once. Give it to its holder, and delete these two lines:";
    let (secret, lines) = (key.secret(), key.lines());
    let text = format!("# The key of {name}, {told}\n# {secret}\n{lines}");
    Ok(output::print(&text)?)
}
