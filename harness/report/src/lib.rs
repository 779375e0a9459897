//! What people and tools read of evidence, and how it is kept in a folder.
//!
//! The record itself, and whether it counts, is `kakeya-evidence`'s business. This crate writes records to files
//! ([`store`], [`checkpoint`]) with their JUnit form ([`junit`]), finds them again ([`folder`], [`collection`]), and
//! says what is in them: two side by side ([`compare`]), a pull request's in Markdown ([`markdown`]), all of them as
//! one page ([`html`]), and the index of the results folder ([`index`]).
//!
//! Records are written by whoever runs a gate, so every text in them is untrusted ([`escape`]), and verdicts shown
//! are recomputed, never copied.

pub mod checkpoint;
pub mod collection;
pub mod compare;
pub mod escape;
#[cfg(test)]
#[path = "../../evidence/tests/support/good.rs"]
#[rustfmt::skip]
mod fixture;
pub mod folder;
pub mod html;
pub mod index;
pub mod junit;
pub mod markdown;
pub mod store;
mod tables;

pub use checkpoint::Checkpoint;
pub use collection::{Collection, Entry, Unread};
pub use folder::{Folder, Older, PassedOver};
pub use store::{StoreError, Written};
