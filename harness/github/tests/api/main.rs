//! The crate against a loopback server that keeps the state of a repository (`../support`).

mod checks;
mod faults;
mod labels;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use kakeya_github::{Client, GithubError, LabelReport, LabelRequest, Patience, RepoName, label};
use support::Github;

fn patience() -> Patience {
    Patience {
        request: Duration::from_secs(2),
        total: Duration::from_secs(20),
    }
}

/// Runs what speaks to the server, in a runtime of its own.
fn with<T>(github: &Github, patience: Patience, work: impl AsyncFnOnce(&Client) -> T) -> T {
    let base = github.base().parse().unwrap();
    let token = github.state().token.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = Client::new(base, &token, patience).unwrap();
        work(&client).await
    })
}

fn repo(name: &str) -> RepoName {
    name.parse().unwrap()
}

/// Labels pull request 7 of `o/r`.
fn run(github: &Github) -> Result<LabelReport, GithubError> {
    run_with(github, patience())
}

fn run_with(github: &Github, patience: Patience) -> Result<LabelReport, GithubError> {
    run_on(github, patience, &repo("o/r"))
}

fn run_on(
    github: &Github,
    patience: Patience,
    repo: &RepoName,
) -> Result<LabelReport, GithubError> {
    with(github, patience, async |client| {
        let request = LabelRequest {
            repo,
            number: 7,
            event: None,
            policy: None,
            dry_run: false,
        };
        label(client, request).await
    })
}
