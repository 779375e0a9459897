//! The arguments of what speaks to GitHub.

use std::path::PathBuf;

use clap::Args;

use super::QuestionArgs;

/// A repository on GitHub and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct GithubArgs {
    /// The repository
    #[arg(long, value_name = "OWNER/NAME", env = "GITHUB_REPOSITORY")]
    pub repo: String,
    /// Where the REST API is; that of GitHub Enterprise Server is https://HOST/api/v3
    #[arg(
        long,
        value_name = "URL",
        env = "GITHUB_API_URL",
        default_value = "https://api.github.com"
    )]
    pub api_base: String,
    /// How many seconds a request may take
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub request_limit: u64,
    /// How many seconds everything may take, waiting for rate limits included
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub time_limit: u64,
    /// Say what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `label`. The token is read from GITHUB_TOKEN or GH_TOKEN.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct LabelArgs {
    /// Where
    #[command(flatten)]
    pub github: GithubArgs,
    /// The number of the pull request [default: that of the event]
    #[arg(long, value_name = "NUMBER", required_unless_present = "event_path", value_parser = clap::value_parser!(u64).range(1..))]
    pub pr: Option<u64>,
    /// The file of the event that started the workflow; it must be about the same pull request
    #[arg(long, value_name = "FILE")]
    pub event_path: Option<PathBuf>,
    /// Read the labels from this file, instead of gates/labels.toml of the base branch
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
}

/// Arguments of `checks`. The token is read from GITHUB_TOKEN or GH_TOKEN.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ChecksArgs {
    /// Where
    #[command(flatten)]
    pub github: GithubArgs,
    /// The commit that the check run is of: the head of the pull request
    #[arg(long, value_name = "SHA", value_parser = commit_id)]
    pub sha: String,
    /// What the check run is called
    #[arg(long, value_name = "NAME", default_value = "kakeya evidence")]
    pub name: String,
    /// What is asked
    #[command(flatten)]
    pub question: QuestionArgs,
}

/// The id of a commit, whole: a check run takes no branch.
fn commit_id(text: &str) -> Result<String, String> {
    let is_whole = text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_whole {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("a commit is named by its 40 hexadecimal digits".to_owned())
    }
}
