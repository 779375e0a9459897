//! What was said, by GitHub or by the network, in the words that an error repeats.

use serde_json::Value;

/// The most of what GitHub said that an error repeats.
const SAID: usize = 300;

/// What GitHub says in an answer: the `message` of its errors, with those of the single `errors`, else the text itself.
pub(crate) fn message(text: &str) -> String {
    let said = match serde_json::from_str::<Value>(text) {
        Ok(value) if value["message"].is_string() => {
            let errors = value["errors"].as_array().into_iter().flatten();
            let each = errors.filter_map(|error| {
                let text = |name: &str| error[name].as_str().map(str::to_owned);
                text("message").or_else(|| Some(format!("{} {}", text("field")?, text("code")?)))
            });
            let all = value["message"]
                .as_str()
                .map(str::to_owned)
                .into_iter()
                .chain(each);
            Vec::from_iter(all).join("; ")
        }
        _ => text.trim().to_owned(),
    };
    said.chars().take(SAID).collect()
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    // A stack of its own making is nobody's news.
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_github_says_is_its_message_and_its_errors() {
        let text = r#"{"message": "Validation Failed", "errors": [
            {"message": "Name is too long"}, {"field": "color", "code": "invalid"}, {"code": "custom"}]}"#;
        assert_eq!(
            message(text),
            "Validation Failed; Name is too long; color invalid"
        );
        assert_eq!(message(" <html> "), "<html>");
        assert_eq!(message(r#"{"message": 1}"#), r#"{"message": 1}"#);
        assert_eq!(message(&"x".repeat(SAID + 1)).len(), SAID);
    }
}
