//! POST /v1/completions.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::{F64Deserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::Number;

use super::json::{Object, TextOr};
use super::settings::{
    Delivery, SamplingSettings, StreamOptionsBody, model, sampling_fields, stops,
};
use crate::http::error::ApiError;
use crate::http::ranges::{
    BEST_OF, LOGPROBS, MAX_PROMPTS, MAX_TOKENS, MAX_TOKENS_WITH_ECHO, N, TOKEN_ID,
};

/// The most tokens that are generated where nothing is said, as OpenAI has it.
pub const DEFAULT_MAX_TOKENS: u32 = 16;

/// The body as it was sent. Fields that are not here are not looked at.
#[derive(Debug, Clone, Deserialize)]
pub struct CompletionBody {
    model: Option<String>,
    prompt: Option<TextOr<Vec<ElementBody>>>,
    max_tokens: Option<Number>,
    stop: Option<TextOr<Vec<String>>>,
    temperature: Option<Number>,
    top_p: Option<Number>,
    top_k: Option<Number>,
    min_p: Option<Number>,
    seed: Option<Number>,
    presence_penalty: Option<Number>,
    frequency_penalty: Option<Number>,
    repetition_penalty: Option<Number>,
    logit_bias: Option<BTreeMap<String, Number>>,
    logprobs: Option<Number>,
    n: Option<Number>,
    best_of: Option<Number>,
    echo: Option<bool>,
    suffix: Option<String>,
    stream: Option<bool>,
    stream_options: Option<Object<StreamOptionsBody>>,
}

/// An element of a `prompt` that is a list, as it was sent.
#[derive(Debug, Clone)]
pub enum ElementBody {
    /// A prompt.
    Text(String),
    /// A token of the one prompt.
    Token(Number),
    /// The tokens of a prompt.
    Tokens(Vec<Number>),
}

impl<'de> Deserialize<'de> for ElementBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Element;

        impl<'de> Visitor<'de> for Element {
            type Value = ElementBody;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a string, a token id or an array of token ids")
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(ElementBody::Text(text.to_owned()))
            }

            fn visit_u64<E>(self, token: u64) -> Result<Self::Value, E> {
                Ok(ElementBody::Token(token.into()))
            }

            fn visit_i64<E>(self, token: i64) -> Result<Self::Value, E> {
                Ok(ElementBody::Token(token.into()))
            }

            fn visit_f64<E: serde::de::Error>(self, token: f64) -> Result<Self::Value, E> {
                Number::deserialize(F64Deserializer::new(token)).map(ElementBody::Token)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(ElementBody::Tokens)
            }
        }

        deserializer.deserialize_any(Element)
    }
}

/// A text to continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// As text.
    Text(String),
    /// As tokens, one or more.
    Tokens(Vec<u32>),
}

/// What the body asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionRequest {
    /// The model.
    pub model: String,
    /// The prompts, one or more. Each has `n` answers.
    pub prompts: Vec<Prompt>,
    /// The most tokens to generate; 0 only with `echo`.
    pub max_tokens: u32,
    /// Texts at which an answer ends besides.
    pub stop: Vec<String>,
    /// How tokens are drawn.
    pub sampling: SamplingSettings,
    /// How many alternatives are told for each token; none tells no probabilities at all.
    pub logprobs: Option<u32>,
    /// How many answers each prompt has.
    pub n: u32,
    /// Whether an answer begins with its prompt.
    pub echo: bool,
    /// How they are sent.
    pub delivery: Delivery,
}

impl CompletionBody {
    /// What the body asks for.
    ///
    /// # Errors
    /// A field that is missing, out of its range, at odds with another, or that asks for what is not served here.
    pub fn validate(self) -> Result<CompletionRequest, ApiError> {
        // Clients send an empty one for none.
        if self.suffix.is_some_and(|suffix| !suffix.is_empty()) {
            return Err(ApiError::unsupported(
                "suffix",
                "text is generated at the end",
            ));
        }
        let sampling = sampling_fields!(self).validate()?;
        let n = N.read(self.n.as_ref())?.unwrap_or(1);
        if BEST_OF
            .read(self.best_of.as_ref())?
            .is_some_and(|of| of != n)
        {
            let what = "every answer that is generated is sent, so it must be `n`";
            return Err(ApiError::unsupported(BEST_OF.name, what));
        }
        let echo = self.echo.unwrap_or(false);
        let most = if echo {
            MAX_TOKENS_WITH_ECHO
        } else {
            MAX_TOKENS
        };
        Ok(CompletionRequest {
            model: model(self.model)?,
            prompts: prompts(self.prompt)?,
            max_tokens: most
                .read(self.max_tokens.as_ref())?
                .map_or(DEFAULT_MAX_TOKENS, |most| most as u32),
            stop: stops(self.stop)?,
            sampling,
            logprobs: LOGPROBS.read(self.logprobs.as_ref())?.map(|top| top as u32),
            n: n as u32,
            echo,
            delivery: Delivery::read(self.stream, self.stream_options)?,
        })
    }
}

fn prompts(given: Option<TextOr<Vec<ElementBody>>>) -> Result<Vec<Prompt>, ApiError> {
    const PARAM: &str = "prompt";
    let elements = match given {
        None => return Err(ApiError::missing(PARAM)),
        Some(TextOr::Text(text)) => return Ok(vec![Prompt::Text(text)]),
        Some(TextOr::Other(elements)) => elements,
    };
    if elements.is_empty() {
        return Err(ApiError::invalid(
            PARAM,
            "`prompt` is empty, and must have an element or more",
        ));
    }
    if matches!(elements.first(), Some(ElementBody::Token(_))) {
        let token = |(index, element)| match element {
            ElementBody::Token(token) => token_id(PARAM, index, &token),
            ElementBody::Text(_) | ElementBody::Tokens(_) => Err(mixed(index)),
        };
        let tokens: Result<_, _> = elements.into_iter().enumerate().map(token).collect();
        return Ok(vec![Prompt::Tokens(tokens?)]);
    }
    if elements.len() > MAX_PROMPTS {
        let message = format!(
            "`prompt` has {} prompts, and may have {MAX_PROMPTS}",
            elements.len()
        );
        return Err(ApiError::invalid(PARAM, message));
    }
    let prompt = |(index, element)| match element {
        ElementBody::Text(text) => Ok(Prompt::Text(text)),
        ElementBody::Tokens(given) => {
            let param = format!("prompt[{index}]");
            if given.is_empty() {
                let message = format!("`{param}` is empty, and must have a token or more");
                return Err(ApiError::invalid(param, message));
            }
            token_ids(&param, &given).map(Prompt::Tokens)
        }
        ElementBody::Token(_) => Err(mixed(index)),
    };
    elements.into_iter().enumerate().map(prompt).collect()
}

fn mixed(index: usize) -> ApiError {
    let param = format!("prompt[{index}]");
    let message = format!("`{param}` mixes token ids with prompts: `prompt` is a list of either");
    ApiError::invalid(param, message)
}

/// The token ids of a list that stands at `param`.
pub(super) fn token_ids(param: &str, given: &[Number]) -> Result<Vec<u32>, ApiError> {
    let read = |(index, token)| token_id(param, index, token);
    given.iter().enumerate().map(read).collect()
}

fn token_id(param: &str, index: usize, given: &Number) -> Result<u32, ApiError> {
    match given.as_u64().map(u32::try_from) {
        Some(Ok(token)) => Ok(token),
        // A name is only made for one that is odd: a prompt may have a million of them.
        _ => Ok(TOKEN_ID.check(&format!("{param}[{index}]"), given)? as u32),
    }
}
