//! The form that an answer must have.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::{Object, RawObject};
use super::tools::name;
use crate::http::error::ApiError;

/// `response_format` as it was sent.
#[derive(Debug, Clone, Deserialize)]
pub struct FormatBody {
    r#type: Option<String>,
    json_schema: Option<Object<SchemaBody>>,
}

/// Its `json_schema`.
#[derive(Debug, Clone, Deserialize)]
pub struct SchemaBody {
    name: Option<String>,
    schema: Option<Box<RawValue>>,
    strict: Option<bool>,
}

/// The form that an answer must have.
#[derive(Debug, Clone, PartialEq)]
pub enum ResponseFormat {
    /// Any text.
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema describes.
    JsonSchema {
        /// What the schema is called.
        name: String,
        /// The schema.
        schema: RawObject,
        /// Whether what the schema does not allow must not come.
        strict: bool,
    },
}

pub(super) fn format(given: Option<Object<FormatBody>>) -> Result<ResponseFormat, ApiError> {
    const TYPE: &str = "response_format.type";
    const SCHEMA: &str = "response_format.json_schema";
    let Some(Object(body)) = given else {
        return Ok(ResponseFormat::Text);
    };
    match body.r#type.as_deref() {
        None => Err(ApiError::missing(TYPE)),
        Some("text") => Ok(ResponseFormat::Text),
        Some("json_object") => Ok(ResponseFormat::JsonObject),
        Some("json_schema") => {
            let Object(given) = body.json_schema.ok_or_else(|| ApiError::missing(SCHEMA))?;
            let at = format!("{SCHEMA}.schema");
            let schema = given.schema.ok_or_else(|| ApiError::missing(&at))?;
            Ok(ResponseFormat::JsonSchema {
                name: name(&format!("{SCHEMA}.name"), given.name)?,
                schema: RawObject::read(&at, schema)?,
                strict: given.strict.unwrap_or(false),
            })
        }
        Some(_) => {
            let message = format!("`{TYPE}` must be `text`, `json_object` or `json_schema`");
            Err(ApiError::invalid(TYPE, message))
        }
    }
}
