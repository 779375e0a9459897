//! The file of the event that started a workflow, as far as it tells of a pull request.
//!
//! Its form is that of the webhook: <https://docs.github.com/en/webhooks/webhook-events-and-payloads#pull_request>.

use serde_json::Value;

use crate::GithubError;

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequestEvent {
    /// The pull request.
    pub number: u64,
    /// The repository that it is in.
    pub repository: String,
    /// The commit that was its head when the event happened.
    pub head: String,
}

impl PullRequestEvent {
    /// Reads an event. `place` is what an error calls it.
    ///
    /// # Errors
    /// When it is no JSON, or an event of another kind.
    pub fn parse(text: &str, place: &str) -> Result<Self, GithubError> {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| GithubError::Event(format!("{place} is no event: {error}")))?;
        let pull = &value["pull_request"];
        if !pull.is_object() {
            return Err(GithubError::Event(format!(
                "{place} is an event of another kind{}; what is needed is one of a pull request, of a workflow on \
                 `pull_request_target` or `pull_request`",
                describe(&value)
            )));
        }
        let lacks = |what: &str| GithubError::Event(format!("{place}: the event lacks `{what}`"));
        let text = |value: &Value, what: &str| {
            let text = value.as_str().map(str::to_owned);
            text.ok_or_else(|| lacks(what))
        };
        Ok(Self {
            number: pull["number"]
                .as_u64()
                .ok_or_else(|| lacks("pull_request.number"))?,
            repository: text(&value["repository"]["full_name"], "repository.full_name")?,
            head: text(&pull["head"]["sha"], "pull_request.head.sha")?,
        })
    }
}

/// What one can tell of an event that has no pull request.
fn describe(value: &Value) -> String {
    let kinds = [
        ("workflow_run", "workflow_run"),
        ("check_run", "check_run"),
        ("comment", "issue_comment"),
        ("issue", "issues"),
        ("commits", "push"),
        ("schedule", "schedule"),
        ("inputs", "workflow_dispatch"),
    ];
    match value.as_object() {
        None => " (it is no object)".to_owned(),
        Some(object) => kinds
            .iter()
            .find(|(key, _)| object.contains_key(*key))
            .map_or_else(String::new, |(_, kind)| format!(" ({kind})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"action": "synchronize", "number": 7, "pull_request": {"number": 7, "head": {"sha": "abc"}},
        "repository": {"full_name": "o/r"}}"#;

    #[test]
    fn the_event_of_a_pull_request_is_read() {
        let event = PullRequestEvent::parse(GOOD, "event.json").unwrap();
        assert_eq!((event.number, event.head.as_str()), (7, "abc"));
        assert_eq!(event.repository, "o/r");
    }

    #[test]
    fn events_of_other_kinds_are_named() {
        for (text, part) in [
            (r#"{"commits": [], "ref": "x"}"#, "of another kind (push)"),
            (r#"{"issue": {}, "comment": {}}"#, "(issue_comment)"),
            (r#"{"schedule": "0 0 * * *"}"#, "(schedule)"),
            ("{}", "of another kind; what is needed"),
            ("[]", "(it is no object)"),
            ("{", "event.json is no event: EOF"),
        ] {
            let error = PullRequestEvent::parse(text, "event.json").unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn an_event_that_lacks_something_says_what() {
        for (part, path) in [
            (r#""number": 7, "head""#, "pull_request.number"),
            (r#""sha""#, "pull_request.head.sha"),
            (r#""full_name""#, "repository.full_name"),
        ] {
            let renamed = part.replacen('"', "\"no", 1);
            let error = PullRequestEvent::parse(&GOOD.replace(part, &renamed), "e").unwrap_err();
            assert!(error.to_string().contains(path), "{error}");
        }
    }
}
