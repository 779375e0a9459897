//! Tools in words, for models whose chat template says nothing of them.
//!
//! The words are those of the Hermes and Qwen families, whose templates have them built in: the functions in the system
//! message, calls in the assistant's text, and what came of them in a message of the user.

use std::fmt::Write as _;

use super::error::{ApiError, ErrorKind};
use super::forms::{BEFORE_ARGUMENTS, BEFORE_NAME, CALL_BEGINS, CALL_ENDS};
use super::requests::{Message, Role, Tool};

/// The same messages, with the tools, the calls and what came of them in their texts.
///
/// # Errors
/// None that validated tools could have.
pub fn in_words(messages: &[Message], tools: &[Tool]) -> Result<Vec<Message>, ApiError> {
    let mut told: Vec<Message> = Vec::with_capacity(messages.len() + 1);
    // Whether the last message is in words what a function answered.
    let mut answers = false;
    for message in messages {
        let is_answer = message.role == Role::Tool;
        let plain = in_plain_words(message);
        match told.last_mut() {
            // Templates want the user and the assistant to take turns.
            Some(last) if (is_answer || answers) && last.role == plain.role => {
                last.content = join(&last.content, "\n", &plain.content);
            }
            _ => told.push(plain),
        }
        answers = is_answer || (answers && message.role == Role::User);
    }
    if !tools.is_empty() {
        let text = instructions(tools)?;
        match told.first_mut() {
            Some(first) if matches!(first.role, Role::System | Role::Developer) => {
                first.content = join(&first.content, "\n\n", &text);
            }
            _ => told.insert(0, saying(Role::System, text)),
        }
    }
    Ok(told)
}

/// Whether messages have calls or answers to them.
pub fn has_calls(messages: &[Message]) -> bool {
    let mentions = |message: &Message| message.role == Role::Tool || !message.tool_calls.is_empty();
    messages.iter().any(mentions)
}

fn in_plain_words(message: &Message) -> Message {
    if message.role == Role::Tool {
        let text = format!("<tool_response>\n{}\n</tool_response>", message.content);
        return saying(Role::User, text);
    }
    let calls = message.tool_calls.iter().map(|call| {
        let (name, arguments) = (&call.name, &call.arguments);
        format!("{CALL_BEGINS}{BEFORE_NAME}{name}{BEFORE_ARGUMENTS}{arguments}{CALL_ENDS}")
    });
    let content = calls.fold(message.content.clone(), |text, call| {
        join(&text, "\n", &call)
    });
    Message {
        content,
        tool_calls: Vec::new(),
        ..message.clone()
    }
}

fn saying(role: Role, content: String) -> Message {
    Message {
        role,
        content,
        name: None,
        tool_calls: Vec::new(),
        tool_call_id: None,
    }
}

fn join(one: &str, between: &str, other: &str) -> String {
    match one {
        "" => other.to_owned(),
        one => format!("{one}{between}{other}"),
    }
}

/// What a model is told of the functions that it may call.
fn instructions(tools: &[Tool]) -> Result<String, ApiError> {
    let mut text = String::from(
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with \
         function signatures within <tools></tools> XML tags:\n<tools>",
    );
    for tool in tools {
        let json = serde_json::to_string(tool)
            .map_err(|error| ApiError::new(ErrorKind::Server, error.to_string()))?;
        let _ = write!(text, "\n{json}");
    }
    let _ = write!(
        text,
        "\n</tools>\n\nFor each function call, return a json object with function name and arguments within \
         <tool_call></tool_call> XML tags:\n{CALL_BEGINS}{BEFORE_NAME}<function-name>{BEFORE_ARGUMENTS}\
         <args-json-object>{CALL_ENDS}"
    );
    Ok(text)
}
