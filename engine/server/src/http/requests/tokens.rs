//! POST /tokenize and POST /detokenize.

use serde::Deserialize;
use serde_json::Number;
use serde_json::value::RawValue;

use super::chat::template_variables;
use super::completions::token_ids;
use super::json::{Object, RawObject};
use super::messages::{Message, MessageBody, messages};
use super::tools::{Tool, ToolBody, tools};
use crate::http::error::ApiError;

/// The body of POST /tokenize as it was sent. Fields that are not here are not looked at.
#[derive(Debug, Clone, Deserialize)]
pub struct TokenizeBody {
    model: Option<String>,
    prompt: Option<String>,
    add_special_tokens: Option<bool>,
    messages: Option<Vec<Object<MessageBody>>>,
    tools: Option<Vec<Object<ToolBody>>>,
    add_generation_prompt: Option<bool>,
    chat_template_kwargs: Option<Box<RawValue>>,
    return_token_strs: Option<bool>,
}

/// What is to become tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenizeInput {
    /// A text.
    Text {
        /// The text.
        prompt: String,
        /// Whether the tokens that the model wants around a text are added.
        add_special_tokens: bool,
    },
    /// What a chat becomes.
    Chat {
        /// The messages, one or more.
        messages: Vec<Message>,
        /// The functions that the model may call.
        tools: Vec<Tool>,
        /// Whether the text ends where the model is to answer.
        add_generation_prompt: bool,
        /// What the chat template is told besides.
        template_variables: Option<RawObject>,
    },
}

/// What the body asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenizeRequest {
    /// The model; none is the one that is served.
    pub model: Option<String>,
    /// What is to become tokens.
    pub input: TokenizeInput,
    /// Whether the text of each token is told.
    pub with_texts: bool,
}

impl TokenizeBody {
    /// What the body asks for.
    ///
    /// # Errors
    /// Neither a prompt nor messages, or both; or messages or tools that a chat would refuse.
    pub fn validate(self) -> Result<TokenizeRequest, ApiError> {
        let input = match (self.prompt, self.messages) {
            (None, None) => {
                return Err(ApiError::invalid(
                    "prompt",
                    "`prompt` or `messages` is required",
                ));
            }
            (Some(_), Some(_)) => {
                let message = "`prompt` and `messages` are both given: give one";
                return Err(ApiError::invalid("prompt", message));
            }
            (Some(prompt), None) => TokenizeInput::Text {
                prompt,
                add_special_tokens: self.add_special_tokens.unwrap_or(true),
            },
            (None, given) => TokenizeInput::Chat {
                messages: messages(given)?,
                tools: tools(self.tools, None)?.0,
                add_generation_prompt: self.add_generation_prompt.unwrap_or(true),
                template_variables: template_variables(self.chat_template_kwargs)?,
            },
        };
        Ok(TokenizeRequest {
            model: self.model,
            input,
            with_texts: self.return_token_strs.unwrap_or(false),
        })
    }
}

/// The body of POST /detokenize as it was sent. Fields that are not here are not looked at.
#[derive(Debug, Clone, Deserialize)]
pub struct DetokenizeBody {
    model: Option<String>,
    tokens: Option<Vec<Number>>,
}

/// What the body asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetokenizeRequest {
    /// The model; none is the one that is served.
    pub model: Option<String>,
    /// The tokens; none is the empty text.
    pub tokens: Vec<u32>,
}

impl DetokenizeBody {
    /// What the body asks for.
    ///
    /// # Errors
    /// No list of tokens, or one with what is no token id.
    pub fn validate(self) -> Result<DetokenizeRequest, ApiError> {
        let tokens = self.tokens.ok_or_else(|| ApiError::missing("tokens"))?;
        Ok(DetokenizeRequest {
            model: self.model,
            tokens: token_ids("tokens", &tokens)?,
        })
    }
}
