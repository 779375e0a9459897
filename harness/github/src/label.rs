//! Labels of one pull request: what it needs, what it has, and what has to change.

use std::fmt;

use crate::GithubError;
use crate::address::RepoName;
use crate::client::Client;
use crate::decide::{self, ChangedFile, Doubt, Reason};
use crate::event::PullRequestEvent;
use crate::policy::{LABELS, Label, LabelPolicy};
use crate::pull::Pull;

/// How often the files are read anew because the head, or the base, changed meanwhile.
const ROUNDS: usize = 3;

/// What is asked.
#[derive(Debug)]
pub struct LabelRequest<'a> {
    /// The repository.
    pub repo: &'a RepoName,
    /// The pull request.
    pub number: u64,
    /// What started this, where an event did.
    pub event: Option<&'a PullRequestEvent>,
    /// Instead of the policy of the base branch.
    pub policy: Option<LabelPolicy>,
    /// Whether to change nothing.
    pub dry_run: bool,
}

/// What was found, and done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelReport {
    /// What somebody should know.
    pub notes: Vec<String>,
    /// What somebody should mend.
    pub warnings: Vec<String>,
    /// How many files the pull request changes, as listed.
    pub files: usize,
    /// Each label of the policy, in its order; none where the pull request is closed.
    pub labels: Vec<Labelled>,
}

/// One label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    /// Its name.
    pub name: String,
    /// Why it is needed, if it is.
    pub reason: Option<Reason>,
    /// What became of it.
    pub change: Change,
}

/// What became of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was added, and the repository had it.
    Added,
    /// It was made, and added.
    Created,
    /// It was removed.
    Removed,
    /// It is as it was.
    Kept,
}

impl fmt::Display for Labelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match (self.change, &self.reason) {
            (Change::Added, Some(reason)) => write!(f, "added {name}: {reason}"),
            (Change::Created, Some(reason)) => write!(f, "created and added {name}: {reason}"),
            (Change::Removed, _) => write!(f, "removed {name}: no file needs it"),
            (_, Some(reason)) => write!(f, "kept {name}: {reason}"),
            (_, None) => write!(f, "not needed: {name}"),
        }
    }
}

/// Labels a pull request.
///
/// # Errors
/// When GitHub does not let it be read or labelled, or there is no policy.
pub async fn label(client: &Client, request: LabelRequest<'_>) -> Result<LabelReport, GithubError> {
    let mut report = LabelReport {
        notes: Vec::new(),
        warnings: Vec::new(),
        files: 0,
        labels: Vec::new(),
    };
    let repo = &client.repository(request.repo).await?;
    if !request.repo.is(&repo.to_string()) {
        let was = request.repo;
        report.notes.push(format!("{was} is called {repo} now"));
    }
    check_event(&request, repo)?;
    let number = request.number;
    let pull = client.pull(repo, number).await?;
    if let Some(event) = request.event
        && event.head != pull.head.sha
    {
        report.notes.push(format!(
            "pull request #{number} was pushed to since the event: its head is {}, no longer {}",
            pull.head.sha, event.head
        ));
    }
    let Some((pull, files, doubt)) = settled(client, repo, number, pull).await? else {
        let note = format!("pull request #{number} is closed, so nothing is changed");
        report.notes.push(note);
        return Ok(report);
    };
    report.files = files.len();
    let policy = match request.policy {
        Some(policy) => policy,
        None => policy_of(client, repo, &pull.base.branch).await?,
    };
    let present = client.labels(repo, number).await?;
    let mut failed = None;
    for label in &policy.labels {
        let reason = decide::reason(label, &files, doubt.as_ref());
        let has = present
            .iter()
            .find(|name| name.eq_ignore_ascii_case(&label.name));
        let place = (repo, number, request.dry_run);
        match change(client, place, label, reason.is_some(), has).await {
            Ok(change) => report.labels.push(Labelled {
                name: label.name.clone(),
                reason,
                change,
            }),
            // The others are none the worse for it.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    match idle(client, repo, &pull.base.branch, &policy, &files).await {
        Ok(warnings) => report.warnings = warnings,
        // The labels are what counts.
        Err(error) => report.notes.push(format!(
            "globs that match nothing are not looked for: {error}"
        )),
    }
    failed.map_or(Ok(report), Err)
}

/// Gives the pull request a label, or takes it away, as it is needed.
async fn change(
    client: &Client,
    (repo, number, dry_run): (&RepoName, u64, bool),
    label: &Label,
    is_needed: bool,
    has: Option<&String>,
) -> Result<Change, GithubError> {
    Ok(match (is_needed, has) {
        (true, None) if dry_run => Change::Added,
        (true, None) => {
            let made = client.make_label(repo, label).await?;
            client.add_label(repo, number, &label.name).await?;
            if made { Change::Created } else { Change::Added }
        }
        (false, Some(name)) => {
            if !dry_run {
                client.remove_label(repo, number, name).await?;
            }
            Change::Removed
        }
        _ => Change::Kept,
    })
}

/// An event of another pull request would label this one by mistake.
fn check_event(request: &LabelRequest<'_>, repo: &RepoName) -> Result<(), GithubError> {
    let Some(event) = request.event else {
        return Ok(());
    };
    if event.number != request.number {
        return Err(GithubError::Event(format!(
            "the event is of pull request #{}, and --pr is {}",
            event.number, request.number
        )));
    }
    if !repo.is(&event.repository) && !request.repo.is(&event.repository) {
        return Err(GithubError::Event(format!(
            "the event is of the repository {}, and --repo is {}",
            event.repository, request.repo
        )));
    }
    Ok(())
}

/// The pull request with files that are those of its head; none where it is closed.
async fn settled(
    client: &Client,
    repo: &RepoName,
    number: u64,
    mut pull: Pull,
) -> Result<Option<(Pull, Vec<ChangedFile>, Option<Doubt>)>, GithubError> {
    let mut round = 0;
    loop {
        round += 1;
        if pull.state != "open" {
            return Ok(None);
        }
        let (files, is_whole) = client.files(repo, number).await?;
        let after = client.pull(repo, number).await?;
        let is_settled =
            (&after.head, &after.base, &after.state) == (&pull.head, &pull.base, &pull.state);
        if is_settled || (round == ROUNDS && after.state == "open") {
            let doubt = if !is_settled {
                Some(Doubt::Moving)
            } else if !is_whole {
                Some(Doubt::Endless)
            } else {
                decide::doubt(&files, after.changed_files)
            };
            return Ok(Some((after, files, doubt)));
        }
        pull = after;
    }
}

async fn policy_of(
    client: &Client,
    repo: &RepoName,
    branch: &str,
) -> Result<LabelPolicy, GithubError> {
    let text = client.policy(repo, branch).await?;
    let text = text.ok_or_else(|| GithubError::NoPolicy {
        branch: branch.to_owned(),
        path: LABELS.to_owned(),
    })?;
    LabelPolicy::parse(&text, &format!("{LABELS} of branch {branch}"))
}

/// A warning for each glob that matches neither a file of the base branch nor one of the change: it is likely a slip.
async fn idle(
    client: &Client,
    repo: &RepoName,
    branch: &str,
    policy: &LabelPolicy,
    files: &[ChangedFile],
) -> Result<Vec<String>, GithubError> {
    let Some(mut paths) = client.paths(repo, branch).await? else {
        return Ok(Vec::new());
    };
    paths.extend(files.iter().map(|file| file.path.clone()));
    let warning = |(label, glob)| {
        format!(
            "label {label}: the glob `{glob}` matches no file of branch {branch}, nor of this change"
        )
    };
    Ok(decide::idle(policy, &paths)
        .into_iter()
        .map(warning)
        .collect())
}
