//! The form that an answer is held to, as a grammar's text: what `response_format`, `tools` and `tool_choice` come to.
//!
//! A call is written as models of the Hermes and Qwen families write it, whatever the model's own template does:
//!
//! ```text
//! <tool_call>
//! {"name": "look", "arguments": {"city": "Paris"}}
//! </tool_call>
//! ```
//!
//! An answer that may call a function and need not is free text up to the first `<tool_call>`, after which only calls
//! come. JSON has no blanks but one behind each `,` and `:`, so a call's arguments end with their line.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::error::ApiError;
use super::requests::{ChatRequest, RawObject, ResponseFormat, Tool, ToolChoice};
use super::schema::MAX_SCHEMA_BYTES;

/// What a call begins with.
pub const CALL_BEGINS: &str = "<tool_call>";
/// What stands between that and the function's name.
pub const BEFORE_NAME: &str = "\n{\"name\": \"";
/// What stands between the name and the arguments.
pub const BEFORE_ARGUMENTS: &str = "\", \"arguments\": ";
/// What a call ends with. The line break in it is the first since the name.
pub const CALL_ENDS: &str = "}\n</tool_call>";

/// The form of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerForm {
    /// A grammar in llguidance's kind of Lark, which names the schemas as `@name`.
    pub grammar: String,
    /// The schemas.
    pub schemas: Vec<NamedSchema>,
    /// Whether what looks like a call is one, and where.
    pub calls: Calls,
}

/// A schema of a grammar.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedSchema {
    /// What the grammar calls it.
    pub name: String,
    /// The schema itself, its properties in the order that they are to come in.
    pub schema: Value,
    /// The field of the request that it stands in.
    pub param: String,
    /// Whether a keyword that cannot be held to is left out, rather than refused.
    pub lenient: bool,
}

/// Where an answer may call functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// Nowhere.
    Never,
    /// From its first character on, or not at all.
    Whole,
    /// After any text.
    AfterText,
}

impl AnswerForm {
    /// The form that a request asks for; `None` for any text.
    ///
    /// # Errors
    /// Schemas that are too long, or of what no function takes.
    pub fn of(request: &ChatRequest) -> Result<Option<Self>, ApiError> {
        let mut form = Self {
            grammar: String::new(),
            schemas: Vec::new(),
            calls: Calls::Whole,
        };
        let content = form.content(&request.format)?;
        let only = match &request.tool_choice {
            ToolChoice::Function(name) => Some(name.as_str()),
            ToolChoice::None | ToolChoice::Auto | ToolChoice::Required => None,
        };
        // A function that is named is called once.
        let several = request.parallel_tool_calls && only.is_none();
        let more = if several { " (sep body)*" } else { "" };
        let start = match (&request.tool_choice, content) {
            (ToolChoice::None, Some(content)) => {
                form.calls = Calls::Never;
                content.to_owned()
            }
            (ToolChoice::None, None) => return Ok(None),
            (ToolChoice::Auto, Some(content)) => format!("{content} | open body{more}"),
            (ToolChoice::Auto, None) => {
                form.calls = Calls::AfterText;
                format!("TEXT | lead body{more}")
            }
            (ToolChoice::Required | ToolChoice::Function(_), _) => {
                form.schemas.clear();
                format!("open body{more}")
            }
        };
        let _ = writeln!(form.grammar, "start: {start}");
        if form.calls == Calls::AfterText {
            form.grammar += "TEXT: /(.|\\n)*/\n";
            // The shortest text that ends so: from there on, only a call can follow.
            let _ = writeln!(form.grammar, "lead[lazy]: /(.|\\n)*{CALL_BEGINS}/");
        }
        if form.calls != Calls::Never {
            form.bodies(&request.tools, only)?;
        }
        Ok(Some(form))
    }

    /// What stands for the answer's text, where it has a form.
    fn content(&mut self, format: &ResponseFormat) -> Result<Option<&'static str>, ApiError> {
        const NAME: &str = "answer";
        let param = "response_format";
        let schema = match format {
            ResponseFormat::Text => return Ok(None),
            ResponseFormat::JsonObject => json!({ "type": "object" }),
            ResponseFormat::JsonSchema { schema, .. } => {
                let length = schema.text().len();
                if length > MAX_SCHEMA_BYTES {
                    return Err(too_long(param, "has a schema", length));
                }
                Value::Object(schema.fields().clone())
            }
        };
        self.schemas.push(NamedSchema {
            name: NAME.to_owned(),
            schema,
            param: param.to_owned(),
            lenient: false,
        });
        Ok(Some("@answer"))
    }

    /// The rules of calls: of all functions, or of `only` one.
    fn bodies(&mut self, tools: &[Tool], only: Option<&str>) -> Result<(), ApiError> {
        let offered = tools
            .iter()
            .enumerate()
            .map(|(index, tool)| (index, tool.function()))
            .filter(|(_, function)| only.is_none_or(|only| only == function.name));
        let mut length = 0;
        let mut names = Vec::new();
        for (index, function) in offered {
            let param = format!("tools[{index}].function.parameters");
            let schema = arguments(&param, function.parameters.as_ref())?;
            length += function
                .parameters
                .as_ref()
                .map_or(0, |given| given.text().len());
            let _ = writeln!(
                self.grammar,
                "tool_{index}: {} @args_{index} {}",
                quoted(&format!("{BEFORE_NAME}{}{BEFORE_ARGUMENTS}", function.name)),
                quoted(CALL_ENDS),
            );
            self.schemas.push(NamedSchema {
                name: format!("args_{index}"),
                schema,
                param,
                lenient: !function.strict,
            });
            names.push(format!("tool_{index}"));
        }
        if length > MAX_SCHEMA_BYTES {
            return Err(too_long("tools", "have schemas", length));
        }
        let _ = writeln!(self.grammar, "body: {}", names.join(" | "));
        let _ = writeln!(self.grammar, "open: {}", quoted(CALL_BEGINS));
        let _ = writeln!(self.grammar, "sep: {}", quoted(&format!("\n{CALL_BEGINS}")));
        Ok(())
    }
}

/// The schema of a function's arguments, which are an object.
fn arguments(param: &str, given: Option<&RawObject>) -> Result<Value, ApiError> {
    let Some(given) = given else {
        return Ok(json!({ "type": "object", "properties": {}, "additionalProperties": false }));
    };
    let mut schema = given.fields().clone();
    let kind = schema.entry("type").or_insert_with(|| "object".into());
    if kind != "object" {
        let message = format!("`{param}` must be of the `type` `object`, as arguments are");
        return Err(ApiError::invalid(param, message));
    }
    Ok(Value::Object(schema))
}

/// A text as a grammar writes it. JSON's escapes are among those it knows.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn too_long(param: &str, what: &str, length: usize) -> ApiError {
    let message =
        format!("`{param}` {what} of {length} bytes, and {MAX_SCHEMA_BYTES} are the most");
    ApiError::invalid(param, message)
}
