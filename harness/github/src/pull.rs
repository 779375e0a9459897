//! What is asked of GitHub about a pull request, and of its labels. Each function is one kind of request.
//!
//! The forms of the answers are those of GitHub's published description (`github/rest-api-description`), of which no
//! more is read than is used: `pull-request`, `diff-entry`, `label`, `git-tree`, `full-repository`.

use http::Method;
use serde::Deserialize;
use serde_json::json;

use crate::GithubError;
use crate::address::{RepoName, segment};
use crate::client::{Call, Client, JSON, Purpose, RAW};
use crate::decide::ChangedFile;
use crate::policy::{LABELS, Label};
use crate::said::message;

/// The most pages that are read of any list: those of 3,000 files, and one.
const PAGES: usize = 31;
/// What reading takes.
const READ_PULLS: &str = "pull-requests: read";
const READ_CONTENTS: &str = "contents: read";
const WRITE_LABELS: &str = "pull-requests: write";
const MAKE_LABELS: &str = "issues: write";

/// A pull request as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Pull {
    pub state: String,
    pub changed_files: u64,
    pub head: Head,
    pub base: Base,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Head {
    pub sha: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Base {
    #[serde(rename = "ref")]
    pub branch: String,
    pub sha: String,
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
}

#[derive(Deserialize)]
struct Entry {
    filename: String,
    previous_filename: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Tree {
    tree: Vec<Node>,
    truncated: bool,
}

#[derive(Deserialize)]
struct Node {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Client {
    /// What a repository is called now, which is another name where it was renamed.
    pub(crate) async fn repository(&self, name: &RepoName) -> Result<RepoName, GithubError> {
        let what = format!("read the repository {name}");
        let reply = self
            .get(&name.path(""), Purpose::of(&what, "metadata: read"), &[])
            .await?;
        reply.read::<Repository>(&what)?.full_name.parse()
    }

    pub(crate) async fn pull(&self, repo: &RepoName, number: u64) -> Result<Pull, GithubError> {
        let what = format!("read pull request #{number} of {repo}");
        let path = repo.path(&format!("/pulls/{number}"));
        self.get(&path, Purpose::of(&what, READ_PULLS), &[])
            .await?
            .read(&what)
    }

    /// All files of a pull request, and whether the list came to its end.
    pub(crate) async fn files(
        &self,
        repo: &RepoName,
        number: u64,
    ) -> Result<(Vec<ChangedFile>, bool), GithubError> {
        let what = format!("list the files of pull request #{number}");
        let path = repo.path(&format!("/pulls/{number}/files?per_page=100"));
        let (entries, is_whole) = self.pages::<Entry>(&path, &what, READ_PULLS).await?;
        let of = |entry: Entry| ChangedFile {
            path: entry.filename,
            previous: entry.previous_filename,
        };
        Ok((entries.into_iter().map(of).collect(), is_whole))
    }

    /// The names of the labels that a pull request has.
    pub(crate) async fn labels(
        &self,
        repo: &RepoName,
        number: u64,
    ) -> Result<Vec<String>, GithubError> {
        let what = format!("list the labels of pull request #{number}");
        let path = repo.path(&format!("/issues/{number}/labels?per_page=100"));
        let (labels, _) = self.pages::<Named>(&path, &what, READ_PULLS).await?;
        Ok(labels.into_iter().map(|label| label.name).collect())
    }

    /// The policy of a branch, as text; none where it has none.
    pub(crate) async fn policy(
        &self,
        repo: &RepoName,
        branch: &str,
    ) -> Result<Option<String>, GithubError> {
        let what = format!("read {LABELS} of branch {branch}");
        let query = format!("/contents/{LABELS}?ref={}", segment(branch));
        let call = Call {
            method: Method::GET,
            address: self.base().join(&repo.path(&query)),
            accept: RAW,
            body: None,
            purpose: Purpose::of(&what, READ_CONTENTS),
        };
        let reply = self.send(call, &[404]).await?;
        Ok((reply.status != 404).then_some(reply.text))
    }

    /// Every path of a branch; none where there are more than GitHub lists.
    pub(crate) async fn paths(
        &self,
        repo: &RepoName,
        branch: &str,
    ) -> Result<Option<Vec<String>>, GithubError> {
        let what = format!("list the files of branch {branch}");
        let path = repo.path(&format!("/git/trees/{}?recursive=1", segment(branch)));
        let reply = self
            .get(&path, Purpose::of(&what, READ_CONTENTS), &[])
            .await?;
        let tree: Tree = reply.read(&what)?;
        let files = tree.tree.into_iter().filter(|node| node.kind != "tree");
        Ok((!tree.truncated).then(|| files.map(|node| node.path).collect()))
    }

    /// Makes sure that the repository has a label. Says whether it was missing.
    pub(crate) async fn make_label(
        &self,
        repo: &RepoName,
        label: &Label,
    ) -> Result<bool, GithubError> {
        let what = format!("look up the label {}", label.name);
        let path = repo.path(&format!("/labels/{}", segment(&label.name)));
        let found = self
            .get(&path, Purpose::of(&what, READ_PULLS), &[404])
            .await?;
        if found.status != 404 {
            return Ok(false);
        }
        let what = format!("create the label {}", label.name);
        let body = json!({
            "name": label.name, "color": label.colour, "description": label.description,
        });
        // Another run may have made it meanwhile, or this one before an answer was lost: 422, `already_exists`.
        let made = self
            .write(
                Method::POST,
                &repo.path("/labels"),
                body,
                Purpose::of(&what, MAKE_LABELS),
                &[422],
            )
            .await?;
        if made.status == 422 && !made.text.contains("already_exists") {
            return Err(GithubError::Refused {
                what,
                status: 422,
                message: message(&made.text),
            });
        }
        Ok(made.status != 422)
    }

    /// Adds one label to a pull request. One that is there stays.
    pub(crate) async fn add_label(
        &self,
        repo: &RepoName,
        number: u64,
        name: &str,
    ) -> Result<(), GithubError> {
        let what = format!("add the label {name} to pull request #{number}");
        let path = repo.path(&format!("/issues/{number}/labels"));
        let body = json!({ "labels": [name] });
        self.write(
            Method::POST,
            &path,
            body,
            Purpose::of(&what, WRITE_LABELS),
            &[],
        )
        .await?;
        Ok(())
    }

    /// Removes one label from a pull request. One that is absent is removed already.
    pub(crate) async fn remove_label(
        &self,
        repo: &RepoName,
        number: u64,
        name: &str,
    ) -> Result<(), GithubError> {
        let what = format!("remove the label {name} from pull request #{number}");
        let path = format!("/issues/{number}/labels/{}", segment(name));
        let call = Call {
            method: Method::DELETE,
            address: self.base().join(&repo.path(&path)),
            accept: JSON,
            body: None,
            purpose: Purpose::of(&what, WRITE_LABELS),
        };
        self.send(call, &[404]).await?;
        Ok(())
    }

    /// Reads a list to its end, or to the last page that is read of any. Says which.
    async fn pages<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        what: &str,
        permission: &'static str,
    ) -> Result<(Vec<T>, bool), GithubError> {
        let mut items = Vec::new();
        let mut address = self.base().join(path);
        for _ in 0..PAGES {
            let call = Call {
                method: Method::GET,
                address,
                accept: JSON,
                body: None,
                purpose: Purpose::of(what, permission),
            };
            let reply = self.send(call, &[]).await?;
            items.extend(reply.read::<Vec<T>>(what)?);
            let Some(next) = reply.next else {
                return Ok((items, true));
            };
            address = self
                .base()
                .same_host(&next)
                .ok_or_else(|| GithubError::Redirected {
                    what: what.to_owned(),
                    to: next.clone(),
                    reason: "for the next page, which is another host",
                })?;
        }
        Ok((items, false))
    }
}
