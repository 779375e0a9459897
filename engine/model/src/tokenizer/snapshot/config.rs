//! What stands beside `tokenizer.json`: which tokens begin and end a text.

use std::path::Path;

use serde_json::Value;

use super::super::TokenizerError;
use super::files;
use crate::chat::TemplateText;

/// What the snapshot's small files say of its tokenizer.
#[derive(Debug, Default)]
pub(super) struct Configs {
    pub(super) bos_text: Option<String>,
    pub(super) eos_text: Option<String>,
    pub(super) add_bos_token: Option<bool>,
    /// In the file's order.
    pub(super) generation_ends: Vec<u32>,
    pub(super) chat_templates: Vec<TemplateText>,
}

impl Configs {
    /// Reads the files that are there.
    pub(super) fn read(folder: &Path) -> Result<Self, TokenizerError> {
        let mut configs = Self::default();
        let path = folder.join("tokenizer_config.json");
        if let Some(config) = files::optional_json(&path)? {
            let named = |error| TokenizerError::in_file(&path, error);
            configs.bos_text = token(&config, "bos_token").map_err(named)?;
            configs.eos_text = token(&config, "eos_token").map_err(named)?;
            configs.add_bos_token = flag(&config, "add_bos_token").map_err(named)?;
            configs.chat_templates = templates(&config, &path).map_err(named)?;
        }
        let path = folder.join("generation_config.json");
        if let Some(config) = files::optional_json(&path)? {
            configs.generation_ends = ids(&config, "eos_token_id")
                .map_err(|error| TokenizerError::in_file(&path, error))?;
        }
        // Where both are, the file of its own is the newer one.
        let path = folder.join("chat_template.jinja");
        if let Some(text) = files::optional_text(&path)? {
            let others = std::mem::take(&mut configs.chat_templates).into_iter();
            let template = TemplateText {
                name: TemplateText::DEFAULT.to_owned(),
                text,
                source: path.display().to_string(),
            };
            configs.chat_templates = std::iter::once(template)
                .chain(others.filter(|other| other.name != TemplateText::DEFAULT))
                .collect();
        }
        Ok(configs)
    }
}

/// A token, written as its text or as an object that holds it.
fn token(config: &Value, key: &'static str) -> Result<Option<String>, TokenizerError> {
    match &config[key] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Object(fields) => match fields.get("content") {
            Some(Value::String(text)) => Ok(Some(text.clone())),
            _ => Err(field(key, &config[key], "a text, or an object with one")),
        },
        other => Err(field(key, other, "a text, or an object with one")),
    }
}

/// The chat templates: the text of one, or a list of named ones.
fn templates(config: &Value, path: &Path) -> Result<Vec<TemplateText>, TokenizerError> {
    let key = "chat_template";
    let template = |name: &str, text: &str| TemplateText {
        name: name.to_owned(),
        text: text.to_owned(),
        source: format!("{}, {key}", path.display()),
    };
    match &config[key] {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![template(TemplateText::DEFAULT, text)]),
        Value::Array(named) => named
            .iter()
            .map(|entry| match (&entry["name"], &entry["template"]) {
                (Value::String(name), Value::String(text)) => Ok(template(name, text)),
                _ => Err(field(
                    key,
                    entry,
                    "a text, or a list of names and templates",
                )),
            })
            .collect(),
        other => Err(field(
            key,
            other,
            "a text, or a list of names and templates",
        )),
    }
}

fn flag(config: &Value, key: &'static str) -> Result<Option<bool>, TokenizerError> {
    match &config[key] {
        Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(*flag)),
        other => Err(field(key, other, "true or false")),
    }
}

fn ids(config: &Value, key: &'static str) -> Result<Vec<u32>, TokenizerError> {
    let id = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| field(key, value, "a token id, or a list of them"))
    };
    match &config[key] {
        Value::Null => Ok(Vec::new()),
        Value::Array(found) => found.iter().map(id).collect(),
        one => Ok(vec![id(one)?]),
    }
}

fn field(key: &'static str, found: &Value, expected: &'static str) -> TokenizerError {
    let found: String = found.to_string().chars().take(60).collect();
    TokenizerError::Field {
        key,
        found,
        expected,
    }
}
