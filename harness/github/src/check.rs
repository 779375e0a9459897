//! Check runs: a verdict on a commit, with a summary and annotations.

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::GithubError;
use crate::address::{RepoName, segment};
use crate::client::{Client, Purpose};

/// How many annotations GitHub takes in one request:
/// <https://docs.github.com/en/rest/checks/runs#update-a-check-run>.
pub const BATCH: usize = 50;
/// The most characters of a summary.
pub const SUMMARY: usize = 65_535;
/// The most characters of an annotation's title, and the most bytes of its message (64 KB).
const TITLE: usize = 255;
const MESSAGE: usize = 64_000;
/// How often a check run is tried to be made, or added to, when nobody knows whether it was.
const ATTEMPTS: u32 = 3;
const WRITE: &str = "checks: write";

/// A verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRun {
    /// What it is called.
    pub name: String,
    /// The commit.
    pub sha: String,
    /// Tells this run of the check from every other, so that one whose answer was lost is found again.
    pub external_id: String,
    /// Whether the check holds.
    pub success: bool,
    /// One line.
    pub title: String,
    /// Markdown.
    pub summary: String,
    /// Remarks.
    pub annotations: Vec<Annotation>,
}

/// A remark on a line of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Annotation {
    /// The file.
    pub path: String,
    /// The line, from 1.
    pub start_line: u64,
    /// The same.
    pub end_line: u64,
    /// How grave it is.
    pub annotation_level: Level,
    /// One line.
    pub title: String,
    /// All of it.
    pub message: String,
}

/// How grave a remark is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Good to know.
    Notice,
    /// It is accepted.
    Warning,
    /// It is not.
    Failure,
}

/// A check run that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its number.
    pub id: u64,
    /// Where people see it.
    pub url: Option<String>,
}

#[derive(Deserialize)]
struct Run {
    id: u64,
    html_url: Option<String>,
    external_id: Option<String>,
    output: Option<Output>,
}

#[derive(Deserialize)]
struct Output {
    annotations_count: usize,
}

#[derive(Deserialize)]
struct Runs {
    check_runs: Vec<Run>,
}

/// Makes a check run. With more annotations than one request takes, it is in progress until the last of them is there.
///
/// # Errors
/// When GitHub does not take it.
pub async fn check(
    client: &Client,
    repo: &RepoName,
    check: &CheckRun,
) -> Result<Made, GithubError> {
    let repo = &client.repository(repo).await?;
    let mut batches = check.annotations.chunks(BATCH);
    let first = batches.next().unwrap_or_default();
    let made = create(client, repo, check, first).await?;
    let mut sent = first.len();
    for batch in batches {
        sent += batch.len();
        add(client, repo, check, made.id, batch, sent).await?;
    }
    Ok(Made {
        id: made.id,
        url: made.html_url,
    })
}

/// Creates it. That is not repeated blindly: after a lost answer it is looked for first.
async fn create(
    client: &Client,
    repo: &RepoName,
    check: &CheckRun,
    annotations: &[Annotation],
) -> Result<Run, GithubError> {
    let what = format!("create the check run `{}`", check.name);
    let mut body = json!({
        "name": check.name,
        "head_sha": check.sha,
        "external_id": check.external_id,
        "output": output(check, annotations),
    });
    conclude(&mut body, check, annotations.len());
    let path = repo.path("/check-runs");
    let mut attempts = 0;
    loop {
        attempts += 1;
        let purpose = Purpose::once(&what, WRITE);
        let made = client
            .write(Method::POST, &path, body.clone(), purpose, &[])
            .await;
        match made {
            Err(GithubError::Unreachable { .. }) if attempts < ATTEMPTS => {}
            other => return other?.read(&what),
        }
        client.pause(attempts + 1, &what).await?;
        if let Some(run) = find(client, repo, check).await? {
            return Ok(run);
        }
    }
}

async fn find(
    client: &Client,
    repo: &RepoName,
    check: &CheckRun,
) -> Result<Option<Run>, GithubError> {
    let what = format!("look for the check run `{}`", check.name);
    let path = repo.path(&format!(
        "/commits/{}/check-runs?check_name={}&filter=all&per_page=100",
        check.sha,
        segment(&check.name)
    ));
    let runs: Runs = client
        .get(&path, Purpose::of(&what, WRITE), &[])
        .await?
        .read(&what)?;
    let is_ours = |run: &Run| run.external_id.as_deref() == Some(&check.external_id);
    Ok(runs.check_runs.into_iter().find(is_ours))
}

/// Adds annotations, of which there are `sent` then. After a lost answer they are counted first.
async fn add(
    client: &Client,
    repo: &RepoName,
    check: &CheckRun,
    id: u64,
    annotations: &[Annotation],
    sent: usize,
) -> Result<(), GithubError> {
    let what = format!("add annotations to the check run `{}`", check.name);
    let path = repo.path(&format!("/check-runs/{id}"));
    let mut body = json!({ "output": output(check, annotations) });
    conclude(&mut body, check, sent);
    for attempt in 1.. {
        let added = client
            .write(
                Method::PATCH,
                &path,
                body.clone(),
                Purpose::once(&what, WRITE),
                &[],
            )
            .await;
        match added {
            Ok(_) => break,
            Err(GithubError::Unreachable { .. }) if attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
        client.pause(attempt + 1, &what).await?;
        let run: Run = client
            .get(&path, Purpose::of(&what, WRITE), &[])
            .await?
            .read(&what)?;
        if run
            .output
            .is_some_and(|output| output.annotations_count >= sent)
        {
            break;
        }
    }
    Ok(())
}

/// The verdict comes with the last annotation, so that no half of them is taken for all.
fn conclude(body: &mut serde_json::Value, check: &CheckRun, sent: usize) {
    if sent < check.annotations.len() {
        body["status"] = json!("in_progress");
    } else {
        body["status"] = json!("completed");
        body["conclusion"] = json!(if check.success { "success" } else { "failure" });
    }
}

fn output(check: &CheckRun, annotations: &[Annotation]) -> serde_json::Value {
    json!({
        "title": check.title,
        "summary": clip(&check.summary, SUMMARY),
        "annotations": annotations.iter().map(fitting).collect::<Vec<_>>(),
    })
}

/// A remark that GitHub takes. One that is too long would lose all that are sent with it.
fn fitting(annotation: &Annotation) -> Annotation {
    Annotation {
        title: annotation.title.chars().take(TITLE).collect(),
        message: clip_bytes(&annotation.message, MESSAGE),
        ..annotation.clone()
    }
}

/// As [`clip`], by bytes.
fn clip_bytes(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most - CUT.len());
    format!("{}{CUT}", &text[..end])
}

/// What stands in the place of what is left out.
const CUT: &str = "\n\nThe rest is left out: it would be too long.\n";

/// The beginning of a text, where it is too long, with a line that says so.
pub fn clip(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most - CUT.len()).collect();
    kept + CUT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_that_is_too_long_is_cut_to_what_github_takes() {
        let of = |title: String, message: String| Annotation {
            path: "a".to_owned(),
            start_line: 1,
            end_line: 1,
            annotation_level: Level::Notice,
            title,
            message,
        };
        let short = of("t".to_owned(), "m".to_owned());
        assert_eq!(fitting(&short), short);
        let cut = fitting(&of("\u{fc}".repeat(300), "\u{fc}".repeat(40_000)));
        assert_eq!(cut.title.chars().count(), TITLE);
        assert!(cut.message.len() <= MESSAGE && cut.message.len() > MESSAGE - 4);
        assert!(cut.message.ends_with("too long.\n"));
    }

    #[test]
    fn a_long_summary_is_cut_and_says_so() {
        assert_eq!(clip("short", 100), "short");
        let cut = clip(&"ü".repeat(200), 100);
        assert_eq!(cut.chars().count(), 100);
        assert!(cut.ends_with("too long.\n"));
    }
}
