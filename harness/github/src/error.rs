//! Why GitHub was not asked, or did not do what it was asked.

use std::time::Duration;

use thiserror::Error;

/// What stopped a command that speaks to GitHub.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GithubError {
    /// The name of a repository that is none.
    #[error("`{0}` is no repository: it is OWNER/NAME, of letters, digits, `-`, `_` and `.`")]
    Repository(String),
    /// A base address that cannot be used.
    #[error(
        "`{base}` is no base of GitHub's REST API: {reason}; it is https://api.github.com or https://HOST/api/v3"
    )]
    Base {
        /// What was given.
        base: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is no token.
    #[error(
        "there is no token: set GITHUB_TOKEN (in a workflow: `env: GITHUB_TOKEN: ${{{{ github.token }}}}`) or GH_TOKEN"
    )]
    NoToken,
    /// A token that cannot be sent.
    #[error("the token holds characters that no token has, such as a line break")]
    BadToken,
    /// The client could not be made.
    #[error("cannot make an HTTP client: {0}")]
    Client(String),
    /// The token counts for nothing.
    #[error("cannot {what}: the token is not valid, or has expired: {message}")]
    Unauthorised {
        /// What was attempted.
        what: String,
        /// What GitHub said.
        message: String,
    },
    /// The token does not reach so far.
    #[error("cannot {what}: the token lacks the permission `{permission}`: {message}")]
    Forbidden {
        /// What was attempted.
        what: String,
        /// The permission that is missing, as a workflow spells it.
        permission: String,
        /// What GitHub said.
        message: String,
    },
    /// It is not there, or the token does not see it, which GitHub does not tell apart.
    #[error(
        "cannot {what}: there is none, or the token does not see it (that takes `{permission}`)"
    )]
    NotFound {
        /// What was attempted.
        what: String,
        /// The permission that would show it.
        permission: String,
    },
    /// GitHub understood and refused.
    #[error("cannot {what}: GitHub refuses it ({status}): {message}")]
    Refused {
        /// What was attempted.
        what: String,
        /// The status.
        status: u16,
        /// What GitHub said.
        message: String,
    },
    /// A rate limit that lasts longer than there is time.
    #[error(
        "cannot {what}: a rate limit asks to wait {} s, and {} s are left of the time limit (--time-limit)",
        wait.as_secs(),
        left.as_secs()
    )]
    RateLimited {
        /// What was attempted.
        what: String,
        /// How long GitHub asks to wait.
        wait: Duration,
        /// How much time is left.
        left: Duration,
    },
    /// No answer that counts, often enough.
    #[error("cannot {what}: tried {attempts} times, the last time: {reason}")]
    Unreachable {
        /// What was attempted.
        what: String,
        /// How often.
        attempts: u32,
        /// Why the last attempt failed.
        reason: String,
    },
    /// The time is up.
    #[error("cannot {what}: the time limit of {} s is over (--time-limit); the last attempt: {reason}", limit.as_secs())]
    OutOfTime {
        /// What was attempted.
        what: String,
        /// The limit.
        limit: Duration,
        /// Why the last attempt failed.
        reason: String,
    },
    /// An answer that sends us on to where the token must not go, or nowhere.
    #[error("cannot {what}: GitHub sends us on to `{to}`, {reason}")]
    Redirected {
        /// What was attempted.
        what: String,
        /// Where to.
        to: String,
        /// Why we do not go.
        reason: &'static str,
    },
    /// An answer of another form than GitHub documents.
    #[error("cannot {what}: the answer is not what GitHub documents: {reason}")]
    Unreadable {
        /// What was attempted.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The branch that the pull request goes into has no policy.
    #[error(
        "the base branch `{branch}` has no {path}, so nothing says which labels a change needs; add it there, or name a file with --labels"
    )]
    NoPolicy {
        /// The branch.
        branch: String,
        /// The file.
        path: String,
    },
    /// The policy makes no sense.
    #[error("{place} is malformed: {reason}")]
    Policy {
        /// Where it was read.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// The event makes no sense here.
    #[error("{0}")]
    Event(String),
}
