//! Sessions over a restart (`--state-dir`): put away once the engine has stopped, and opened again, under the ids they
//! had, before the next one begins.
//!
//! A file is there while its session is not: it is removed as soon as the session lives again, before anybody can
//! reach it. So an id that has ended does not come back, and what is lost by a kill is what lived.

mod folder;
#[cfg(feature = "engine")]
mod keep;

pub use folder::{Folder, FolderError};
#[cfg(feature = "engine")]
pub use keep::{Restored, Saved, StateError, restore, save};
