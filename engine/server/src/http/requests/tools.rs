//! The functions that a model may call, and whether it must.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::json::{Object, RawObject, TextOr};
use crate::http::error::ApiError;
use crate::http::ranges::{MAX_NAME, MAX_TOOLS};

/// An element of `tools`, as it was sent.
#[derive(Debug, Clone, Deserialize)]
pub struct ToolBody {
    r#type: Option<String>,
    function: Option<Object<FunctionBody>>,
}

/// Its `function`.
#[derive(Debug, Clone, Deserialize)]
pub struct FunctionBody {
    name: Option<String>,
    description: Option<String>,
    parameters: Option<Box<RawValue>>,
    strict: Option<bool>,
}

/// A function that the model may call. Its fields stand in the order in which models saw them in training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Function {
    /// What it is called by: letters, digits, `_` and `-`.
    pub name: String,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The JSON schema of its arguments; none takes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<RawObject>,
    /// Whether the arguments must fit the schema. Models are not shown it.
    #[serde(skip)]
    pub strict: bool,
}

/// A tool as templates read it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", content = "function", rename_all = "lowercase")]
pub enum Tool {
    /// A function, the only kind of tool there is.
    Function(Function),
}

impl Tool {
    /// Its function.
    pub fn function(&self) -> &Function {
        let Self::Function(function) = self;
        function
    }
}

/// Tools as chat templates read them, in JSON. Templates tell no tools from an empty list, so that is `None`.
///
/// # Errors
/// None that validated tools could have.
pub fn tools_json(tools: &[Tool]) -> serde_json::Result<Option<String>> {
    let given = (!tools.is_empty()).then_some(tools);
    given.map(serde_json::to_string).transpose()
}

/// Whether the model calls a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// It does not.
    None,
    /// It decides.
    Auto,
    /// It calls at least one.
    Required,
    /// It calls this one.
    Function(String),
}

/// The functions of a request, and whether the model calls one.
pub(super) fn tools(
    given: Option<Vec<Object<ToolBody>>>,
    choice: Option<ChoiceBody>,
) -> Result<(Vec<Tool>, ToolChoice), ApiError> {
    let given = given.unwrap_or_default();
    if given.len() > MAX_TOOLS {
        let message = format!(
            "`tools` has {} tools, and may have {MAX_TOOLS}",
            given.len()
        );
        return Err(ApiError::invalid("tools", message));
    }
    let mut tools = Vec::with_capacity(given.len());
    for (index, Object(body)) in given.into_iter().enumerate() {
        tools.push(tool(&format!("tools[{index}]"), body)?);
    }
    let mut names = HashSet::new();
    for (index, tool) in tools.iter().enumerate() {
        let name = &tool.function().name;
        if !names.insert(name.as_str()) {
            let param = format!("tools[{index}].function.name");
            let message = format!("`{param}` is `{name}`, as is that of a tool before it");
            return Err(ApiError::invalid(param, message));
        }
    }
    let choice = choose(choice, &names)?;
    Ok((tools, choice))
}

fn tool(at: &str, body: ToolBody) -> Result<Tool, ApiError> {
    only_function(&format!("{at}.type"), body.r#type.as_deref())?;
    let at = format!("{at}.function");
    let Object(function) = body.function.ok_or_else(|| ApiError::missing(&at))?;
    let parameters = function
        .parameters
        .map(|given| RawObject::read(&format!("{at}.parameters"), given))
        .transpose()?;
    Ok(Tool::Function(Function {
        name: name(&format!("{at}.name"), function.name)?,
        description: function.description,
        parameters,
        strict: function.strict.unwrap_or(false),
    }))
}

/// Refuses a tool, or a call of one, that is no function.
pub(super) fn only_function(param: &str, given: Option<&str>) -> Result<(), ApiError> {
    match given {
        Some("function") => Ok(()),
        Some(_) => Err(ApiError::invalid(
            param,
            format!("`{param}` must be `function`"),
        )),
        None => Err(ApiError::missing(param)),
    }
}

/// A name of letters, digits, `_` and `-`.
pub(super) fn name(param: &str, given: Option<String>) -> Result<String, ApiError> {
    let name = given.ok_or_else(|| ApiError::missing(param))?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(fits) {
        return Ok(name);
    }
    let message =
        format!("`{param}` must be 1 to {MAX_NAME} characters from a-z, A-Z, 0-9, `_` and `-`");
    Err(ApiError::invalid(param, message))
}

/// `tool_choice` as it was sent: a word, or a function.
pub type ChoiceBody = TextOr<Object<NamedChoice>>;

/// A function that is to be called, as it was sent.
#[derive(Debug, Clone, Deserialize)]
pub struct NamedChoice {
    r#type: Option<String>,
    function: Option<Object<NameBody>>,
}

/// Its `function`.
#[derive(Debug, Clone, Deserialize)]
pub struct NameBody {
    name: Option<String>,
}

fn choose(given: Option<ChoiceBody>, names: &HashSet<&str>) -> Result<ToolChoice, ApiError> {
    const PARAM: &str = "tool_choice";
    let choice = match given {
        None if names.is_empty() => ToolChoice::None,
        None => ToolChoice::Auto,
        Some(TextOr::Text(word)) => match word.as_str() {
            "none" => ToolChoice::None,
            "auto" => ToolChoice::Auto,
            "required" => ToolChoice::Required,
            _ => {
                let message = "`tool_choice` must be `none`, `auto`, `required` or a function";
                return Err(ApiError::invalid(PARAM, message));
            }
        },
        Some(TextOr::Other(Object(body))) => {
            const FUNCTION: &str = "tool_choice.function";
            only_function("tool_choice.type", body.r#type.as_deref())?;
            let Object(function) = body.function.ok_or_else(|| ApiError::missing(FUNCTION))?;
            ToolChoice::Function(name("tool_choice.function.name", function.name)?)
        }
    };
    if names.is_empty() && choice != ToolChoice::None {
        let message = "`tool_choice` is only allowed with `tools`";
        return Err(ApiError::invalid(PARAM, message));
    }
    match &choice {
        ToolChoice::Function(name) if !names.contains(name.as_str()) => Err(ApiError::invalid(
            "tool_choice.function.name",
            format!("`tool_choice` names `{name}`, which is not among `tools`"),
        )),
        _ => Ok(choice),
    }
}
