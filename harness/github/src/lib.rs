//! Labels and check runs of pull requests, over GitHub's REST API.
//!
//! What is decided ([`decide`]) is apart from what is asked of GitHub, and both from when a request is repeated. Each error
//! says what was attempted, and which permission a token lacks. Nothing takes longer than its [`Patience`].

mod address;
mod check;
mod client;
pub mod decide;
mod error;
mod event;
mod label;
mod limits;
mod link;
mod policy;
mod pull;
mod said;

pub use address::{ApiBase, RepoName};
pub use check::{Annotation, BATCH, CheckRun, Level, Made, SUMMARY, check, clip};
pub use client::{Client, Patience};
pub use error::GithubError;
pub use event::PullRequestEvent;
pub use label::{Change, LabelReport, LabelRequest, Labelled, label};
pub use policy::{LABELS, Label, LabelPolicy, Pattern};
