//! What a team meets on GitHub: labels, check runs and workflows, by the real program against a loopback server that keeps
//! the state of a repository (`../../github/tests/support`, which says what of it is true to GitHub); and another
//! repository that adopts all of it.
#![cfg(feature = "github")]

#[cfg(target_os = "linux")]
mod adoption;
mod checks;
mod label;
mod label_faults;
#[path = "../support/repository.rs"]
mod repository;
#[path = "../../github/tests/support/mod.rs"]
mod support;
mod workflows;
