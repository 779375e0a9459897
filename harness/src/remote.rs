//! What `label` and `checks` share: the token and the client.

use std::time::Duration;

use kakeya_github::{ApiBase, Client, GithubError, Patience, RepoName};

use crate::cli::GithubArgs;
use crate::error::HarnessError;

/// Runs what speaks to GitHub to its end.
///
/// # Errors
/// When there is no token, the base makes no sense, or the work fails.
pub fn with_client<T>(
    arguments: &GithubArgs,
    work: impl AsyncFnOnce(&Client, &RepoName) -> Result<T, GithubError>,
) -> Result<T, HarnessError> {
    let repo: RepoName = arguments.repo.parse().map_err(usage)?;
    let base: ApiBase = arguments.api_base.parse().map_err(usage)?;
    let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    let token = variable("GITHUB_TOKEN")
        .or_else(|| variable("GH_TOKEN"))
        .ok_or(GithubError::NoToken)
        .map_err(usage)?;
    let patience = Patience {
        request: Duration::from_secs(arguments.request_limit),
        total: Duration::from_secs(arguments.time_limit),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(HarnessError::system("start the client"))?;
    let all = async {
        let client = Client::new(base, &token, patience)?;
        work(&client, &repo).await
    };
    Ok(runtime.block_on(all)?)
}

/// What is wrong with what was asked, and not with GitHub.
pub fn usage(error: GithubError) -> HarnessError {
    HarnessError::Request(error.to_string())
}
