//! The messages of a chat, up to the form in which chat templates read them.

use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use super::json::{Object, RawObject, TextOr};
use super::tools::{name, only_function};
use crate::http::error::ApiError;
use crate::http::ranges::MAX_NAME;

/// An element of `messages`, as it was sent.
#[derive(Debug, Clone, Deserialize)]
pub struct MessageBody {
    role: Option<String>,
    content: Option<ContentBody>,
    name: Option<String>,
    tool_calls: Option<Vec<Object<CallBody>>>,
    tool_call_id: Option<String>,
}

/// The content of a message, as it was sent: a text, or a list of parts.
pub type ContentBody = TextOr<Vec<Object<PartBody>>>;

/// A part of a content, as it was sent.
#[derive(Debug, Clone, Deserialize)]
pub struct PartBody {
    r#type: Option<String>,
    text: Option<String>,
}

/// A call of a function in an earlier answer, as it was sent.
#[derive(Debug, Clone, Deserialize)]
pub struct CallBody {
    id: Option<String>,
    r#type: Option<String>,
    function: Option<Object<CalledBody>>,
}

/// Its `function`.
#[derive(Debug, Clone, Deserialize)]
pub struct CalledBody {
    name: Option<String>,
    arguments: Option<String>,
}

/// Who speaks. Templates know no developer: what one says is said as the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Whoever set the model up.
    System,
    /// The same, as OpenAI's newer models call it.
    #[serde(rename = "system")]
    Developer,
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
    /// A function that the model called.
    Tool,
}

/// A message. Serialized, it is what chat templates read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said: the texts of all parts, on lines of their own; empty where only functions are called, because
    /// templates join it with other text.
    pub content: String,
    /// Who it is, among several of the same role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The functions that are called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// The call that is answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

/// A call of a function.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// By what its answer refers to it.
    pub id: String,
    /// The function.
    pub name: String,
    /// The arguments, as the model wrote them.
    pub arguments: String,
}

impl Serialize for ToolCall {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Called<'c> {
            name: &'c str,
            arguments: Arguments<'c>,
        }

        // Templates write an object as JSON and a text with quotes around it; a model writes an object.
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Arguments<'c> {
            Object(RawObject),
            Text(&'c str),
        }

        let object = serde_json::from_str(&self.arguments)
            .ok()
            .and_then(|raw| RawObject::read("arguments", raw).ok());
        let called = Called {
            name: &self.name,
            arguments: object.map_or(Arguments::Text(&self.arguments), Arguments::Object),
        };
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("type", "function")?;
        map.serialize_entry("function", &called)?;
        map.end()
    }
}

/// Messages as chat templates read them, in JSON.
///
/// # Errors
/// None that validated messages could have.
pub fn messages_json(messages: &[Message]) -> serde_json::Result<String> {
    serde_json::to_string(messages)
}

/// The messages of a request.
pub(super) fn messages(given: Option<Vec<Object<MessageBody>>>) -> Result<Vec<Message>, ApiError> {
    const PARAM: &str = "messages";
    let given = given.ok_or_else(|| ApiError::missing(PARAM))?;
    if given.is_empty() {
        let message = "`messages` is empty, and must have a message or more";
        return Err(ApiError::invalid(PARAM, message));
    }
    let read = |(index, Object(body))| message(&format!("{PARAM}[{index}]"), body);
    given.into_iter().enumerate().map(read).collect()
}

fn message(at: &str, body: MessageBody) -> Result<Message, ApiError> {
    let role = role(&format!("{at}.role"), body.role.as_deref())?;
    let param = format!("{at}.tool_calls");
    let given = body.tool_calls.unwrap_or_default();
    if role != Role::Assistant && !given.is_empty() {
        let message = format!("`{param}` is only allowed in a message of the assistant");
        return Err(ApiError::invalid(param, message));
    }
    let call = |(index, Object(body))| call(&format!("{param}[{index}]"), body);
    let tool_calls: Vec<_> = given
        .into_iter()
        .enumerate()
        .map(call)
        .collect::<Result<_, _>>()?;
    let param = format!("{at}.content");
    let content = match body.content {
        Some(content) => text(&param, content)?,
        None if !tool_calls.is_empty() => String::new(),
        None => return Err(ApiError::missing(&param)),
    };
    let param = format!("{at}.tool_call_id");
    if role == Role::Tool && body.tool_call_id.is_none() {
        return Err(ApiError::missing(&param));
    }
    if role != Role::Tool && body.tool_call_id.is_some() {
        let message = format!("`{param}` is only allowed in a message of a tool");
        return Err(ApiError::invalid(param, message));
    }
    Ok(Message {
        role,
        content,
        name: body
            .name
            .map(|name| author(&format!("{at}.name"), name))
            .transpose()?,
        tool_calls,
        tool_call_id: body.tool_call_id,
    })
}

fn role(param: &str, given: Option<&str>) -> Result<Role, ApiError> {
    match given {
        Some("system") => Ok(Role::System),
        Some("developer") => Ok(Role::Developer),
        Some("user") => Ok(Role::User),
        Some("assistant") => Ok(Role::Assistant),
        Some("tool") => Ok(Role::Tool),
        Some(_) => {
            let message =
                format!("`{param}` must be `system`, `developer`, `user`, `assistant` or `tool`");
            Err(ApiError::invalid(param, message))
        }
        None => Err(ApiError::missing(param)),
    }
}

/// The name of a message's author: people have blanks and letters of all kinds in theirs.
fn author(param: &str, name: String) -> Result<String, ApiError> {
    if (1..=MAX_NAME).contains(&name.chars().count()) {
        return Ok(name);
    }
    let message = format!("`{param}` must have 1 to {MAX_NAME} characters");
    Err(ApiError::invalid(param, message))
}

fn text(param: &str, content: ContentBody) -> Result<String, ApiError> {
    let parts = match content {
        TextOr::Text(text) => return Ok(text),
        TextOr::Other(parts) => parts,
    };
    let mut texts = Vec::with_capacity(parts.len());
    for (index, Object(part)) in parts.into_iter().enumerate() {
        let at = format!("{param}[{index}]");
        let missing = |field: &str| ApiError::missing(&format!("{at}.{field}"));
        match part.r#type.as_deref() {
            None => return Err(missing("type")),
            Some("text") => texts.push(part.text.ok_or_else(|| missing("text"))?),
            Some(other) => {
                let other: String = other.chars().take(MAX_NAME).collect();
                let message =
                    format!("`{at}` is of type `{other}`, and this model takes only `text`");
                return Err(ApiError::invalid(format!("{at}.type"), message));
            }
        }
    }
    if texts.is_empty() {
        let message = format!("`{param}` is empty, and must have a part or more");
        return Err(ApiError::invalid(param, message));
    }
    Ok(texts.join("\n"))
}

fn call(at: &str, body: CallBody) -> Result<ToolCall, ApiError> {
    let missing = |field: &str| ApiError::missing(&format!("{at}.{field}"));
    only_function(&format!("{at}.type"), body.r#type.as_deref())?;
    let Object(function) = body.function.ok_or_else(|| missing("function"))?;
    Ok(ToolCall {
        id: body.id.ok_or_else(|| missing("id"))?,
        name: name(&format!("{at}.function.name"), function.name)?,
        arguments: function
            .arguments
            .ok_or_else(|| missing("function.arguments"))?,
    })
}
