//! POST /v1/chat/completions.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Number;
use serde_json::value::RawValue;

use super::format::{FormatBody, ResponseFormat, format};
use super::json::{Object, RawObject, TextOr};
use super::messages::{Message, MessageBody, messages};
use super::settings::{
    Delivery, SamplingSettings, StreamOptionsBody, model, sampling_fields, stops,
};
use super::tools::{ChoiceBody, Tool, ToolBody, ToolChoice, tools};
use crate::http::error::ApiError;
use crate::http::ranges::{MAX_COMPLETION_TOKENS, MAX_TOKENS, N, TOP_LOGPROBS};

/// The body as it was sent. Fields that are not here are not looked at.
#[derive(Debug, Clone, Deserialize)]
pub struct ChatBody {
    model: Option<String>,
    messages: Option<Vec<Object<MessageBody>>>,
    max_tokens: Option<Number>,
    max_completion_tokens: Option<Number>,
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
    logprobs: Option<bool>,
    top_logprobs: Option<Number>,
    n: Option<Number>,
    stream: Option<bool>,
    stream_options: Option<Object<StreamOptionsBody>>,
    response_format: Option<Object<FormatBody>>,
    tools: Option<Vec<Object<ToolBody>>>,
    tool_choice: Option<ChoiceBody>,
    parallel_tool_calls: Option<bool>,
    chat_template_kwargs: Option<Box<RawValue>>,
    functions: Option<IgnoredAny>,
    function_call: Option<IgnoredAny>,
    audio: Option<IgnoredAny>,
}

/// What it asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// The model.
    pub model: String,
    /// The messages, one or more.
    pub messages: Vec<Message>,
    /// The most tokens to generate; none leaves it to the context.
    pub max_tokens: Option<u32>,
    /// Texts at which an answer ends besides.
    pub stop: Vec<String>,
    /// How tokens are drawn.
    pub sampling: SamplingSettings,
    /// How many alternatives are told for each token; none tells no probabilities at all.
    pub logprobs: Option<u32>,
    /// How many answers are generated.
    pub n: u32,
    /// How they are sent.
    pub delivery: Delivery,
    /// The form they must have.
    pub format: ResponseFormat,
    /// The functions that the model may call.
    pub tools: Vec<Tool>,
    /// Whether it calls one.
    pub tool_choice: ToolChoice,
    /// Whether it may call several at once.
    pub parallel_tool_calls: bool,
    /// What the chat template is told besides.
    pub template_variables: Option<RawObject>,
}

impl ChatBody {
    /// What the body asks for.
    ///
    /// # Errors
    /// A field that is missing, out of its range, at odds with another, or that asks for what is not served here.
    pub fn validate(self) -> Result<ChatRequest, ApiError> {
        for (given, param) in [
            (self.functions, "functions"),
            (self.function_call, "function_call"),
        ] {
            if given.is_some() {
                return Err(ApiError::unsupported(
                    param,
                    "use `tools` and `tool_choice`",
                ));
            }
        }
        if self.audio.is_some() {
            return Err(ApiError::unsupported("audio", "answers are text"));
        }
        let sampling = sampling_fields!(self).validate()?;
        let (tools, tool_choice) = tools(self.tools, self.tool_choice)?;
        Ok(ChatRequest {
            model: model(self.model)?,
            messages: messages(self.messages)?,
            max_tokens: max_tokens(
                self.max_tokens.as_ref(),
                self.max_completion_tokens.as_ref(),
            )?,
            stop: stops(self.stop)?,
            sampling,
            logprobs: logprobs(self.logprobs, self.top_logprobs.as_ref())?,
            n: N.read(self.n.as_ref())?.map_or(1, |n| n as u32),
            delivery: Delivery::read(self.stream, self.stream_options)?,
            format: format(self.response_format)?,
            tools,
            tool_choice,
            parallel_tool_calls: self.parallel_tool_calls.unwrap_or(true),
            template_variables: template_variables(self.chat_template_kwargs)?,
        })
    }
}

fn max_tokens(old: Option<&Number>, new: Option<&Number>) -> Result<Option<u32>, ApiError> {
    match (MAX_TOKENS.read(old)?, MAX_COMPLETION_TOKENS.read(new)?) {
        (Some(old), Some(new)) if old != new => {
            let message = format!(
                "`max_tokens` is {old} and `max_completion_tokens` is {new}: give one, or the same"
            );
            Err(ApiError::invalid(MAX_COMPLETION_TOKENS.name, message))
        }
        (old, new) => Ok(new.or(old).map(|most| most as u32)),
    }
}

fn logprobs(wanted: Option<bool>, top: Option<&Number>) -> Result<Option<u32>, ApiError> {
    let top = TOP_LOGPROBS.read(top)?;
    match (wanted.unwrap_or(false), top) {
        (true, top) => Ok(Some(top.unwrap_or(0) as u32)),
        (false, None) => Ok(None),
        (false, Some(_)) => {
            let message = "`top_logprobs` is only allowed with `logprobs` set";
            Err(ApiError::invalid(TOP_LOGPROBS.name, message))
        }
    }
}

/// `chat_template_kwargs` as it was sent.
pub(super) fn template_variables(
    given: Option<Box<RawValue>>,
) -> Result<Option<RawObject>, ApiError> {
    let read = |given| RawObject::read("chat_template_kwargs", given);
    given.map(read).transpose()
}
