//! The model behind the shim, as far as texts are concerned.

use std::time::SystemTime;

use kakeya_core::{StateSettings, Window};
use kakeya_model::Model;
use kakeya_model::chat::{ChatInput, ChatTemplate, ChatTemplateError, TemplateText, TemplateValue};
use kakeya_model::tokenizer::{Tokenizer, TokenizerError};

use crate::http::error::{ApiError, ErrorKind};
use crate::http::requests::{Message, RawObject, Tool, messages_json, tools_json};

/// The model that is served.
#[derive(Debug)]
pub struct ServedModel {
    /// What requests call it.
    pub name: String,
    /// From text to tokens and back.
    pub tokenizer: Tokenizer,
    /// Tells answers of another model, numerics version or setting apart.
    pub fingerprint: String,
    /// When it was loaded, in seconds since 1970.
    pub created: u64,
    /// Positions that the model was trained for.
    pub context: usize,
    /// Token ids from 0 up to, and without, this.
    pub vocabulary: usize,
    /// Whether a session's tokens are bounded by the context.
    pub full_window: bool,
    /// Or why it cannot chat.
    templates: Result<Templates, String>,
}

/// The chat templates.
#[derive(Debug)]
struct Templates {
    default: ChatTemplate,
    /// The one for chats with tools, where it is another.
    tool_use: Option<ChatTemplate>,
}

impl ServedModel {
    /// The model under `name`, with its own tokenizer and chat templates.
    #[must_use]
    pub fn new(
        name: String,
        model: &Model,
        tokenizer: Tokenizer,
        settings: &StateSettings,
    ) -> Self {
        let created = SystemTime::UNIX_EPOCH.elapsed();
        Self {
            name,
            templates: Templates::of(&tokenizer),
            tokenizer,
            fingerprint: fingerprint(settings),
            created: created.map_or(0, |since| since.as_secs()),
            context: model.config().context,
            vocabulary: model.config().vocabulary,
            full_window: settings.window == Window::Full.to_string(),
        }
    }

    /// Requires that a request means this model.
    ///
    /// # Errors
    /// An unknown model.
    pub fn require(&self, name: &str) -> Result<(), ApiError> {
        if name == self.name {
            Ok(())
        } else {
            Err(ApiError::unknown_model(name))
        }
    }

    /// The tokens of a text. The text of a control token stands for that token.
    ///
    /// # Errors
    /// A text that the vocabulary cannot spell.
    pub fn tokens(&self, param: &str, text: &str, whole: bool) -> Result<Vec<u32>, ApiError> {
        let encoded = if whole {
            self.tokenizer.encode_prompt(text, true)
        } else {
            self.tokenizer.encode(text, true)
        };
        encoded.map_err(|error| unspeakable(param, &error))
    }

    /// The text of tokens, with that of control tokens.
    ///
    /// # Errors
    /// A token outside the vocabulary.
    pub fn text(&self, param: &str, tokens: &[u32]) -> Result<String, ApiError> {
        let decoded = self.tokenizer.decode(tokens, false);
        decoded.map_err(|error| ApiError::invalid(param, format!("`{param}`: {error}")))
    }

    /// The text that a chat becomes, as the model's template writes it.
    ///
    /// # Errors
    /// A model without a template, or messages that the template refuses.
    pub fn render(
        &self,
        messages: &[Message],
        tools: &[Tool],
        variables: Option<&RawObject>,
        add_generation_prompt: bool,
    ) -> Result<String, ApiError> {
        let templates = self.templates.as_ref().map_err(|why| {
            let name = &self.name;
            let message = format!("the model `{name}` cannot chat: {why}; use /v1/completions");
            ApiError::new(ErrorKind::Unprocessable, message)
        })?;
        let Templates { default, tool_use } = templates;
        let with_tools = !tools.is_empty();
        let template = tool_use.as_ref().filter(|_| with_tools).unwrap_or(default);
        let unreadable =
            |error: serde_json::Error| ApiError::new(ErrorKind::Server, error.to_string());
        let value = |json: String| serde_json::from_str::<TemplateValue>(&json).map_err(unreadable);
        let text_of = |token: Option<u32>| {
            token
                .and_then(|token| self.tokenizer.token_text(token))
                .map(str::to_owned)
        };
        let input = ChatInput {
            messages: value(messages_json(messages).map_err(unreadable)?)?,
            tools: tools_json(tools)
                .map_err(unreadable)?
                .map(value)
                .transpose()?,
            add_generation_prompt,
            bos_token: text_of(self.tokenizer.bos_token_id()),
            eos_token: text_of(self.tokenizer.eos_token_id()),
            variables: variables.map(variables_of).transpose()?.unwrap_or_default(),
        };
        template.render(&input).map_err(|error| refused(&error))
    }
}

/// `fp_` and 16 hex digits, other ones for another model, numerics version or setting.
fn fingerprint(settings: &StateSettings) -> String {
    let digest = settings.digest();
    let hex: String = digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("fp_{hex}")
}

impl Templates {
    /// Those of the model's files; or why it cannot chat.
    fn of(tokenizer: &Tokenizer) -> Result<Self, String> {
        let default = tokenizer
            .chat_template()
            .ok_or("its files have no chat template")?;
        let compile = |template: &TemplateText| {
            ChatTemplate::compile(template).map_err(|error| error.to_string())
        };
        let mut named = tokenizer.chat_templates().iter();
        let tool_use = named.find(|template| template.name == "tool_use");
        Ok(Self {
            default: compile(default)?,
            tool_use: tool_use.map(compile).transpose()?,
        })
    }
}

fn variables_of(given: &RawObject) -> Result<Vec<(String, TemplateValue)>, ApiError> {
    const PARAM: &str = "chat_template_kwargs";
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(given.text())
        .map_err(|error| ApiError::invalid(PARAM, format!("`{PARAM}` cannot be read: {error}")))?;
    Ok(object
        .into_iter()
        .map(|(name, value)| (name, TemplateValue::from_serialize(value)))
        .collect())
}

/// What a template refuses is wrong with the messages; the text is the template's own.
fn refused(error: &ChatTemplateError) -> ApiError {
    ApiError::invalid("messages", error.to_string())
}

fn unspeakable(param: &str, error: &TokenizerError) -> ApiError {
    ApiError::invalid(param, format!("`{param}` has no tokens: {error}"))
}
