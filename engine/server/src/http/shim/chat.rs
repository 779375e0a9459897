//! POST /v1/chat/completions.

use std::sync::Arc;

use axum::Json;
use axum::http::Extensions;
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt};
use kakeya_core::Tenant;

use super::answer::{Answer, Part, ScoredToken};
use super::collect::{parts, whole};
use super::spent::Spent;
use super::{Asked, Shared, Shim, probabilities};
use crate::door::access::engine_for;
use crate::http::body::ApiJson;
use crate::http::error::ApiError;
use crate::http::requests::{ChatBody, ChatRequest, Delivery, ResponseFormat, ToolChoice};
use crate::http::responses::chat::Reply;
use crate::http::responses::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatLogprobs, Delta, FinishReason, Head,
};
use crate::http::sse;

pub(super) async fn create(
    axum::extract::State(shim): Shared,
    extensions: Extensions,
    ApiJson(body): ApiJson<ChatBody>,
) -> Result<Response, ApiError> {
    let request = body.validate()?;
    shim.model.require(&request.model)?;
    served_here(&request)?;
    let delivery = request.delivery;
    let engine = engine_for(&shim.engine, &extensions);
    let asked = asked(&shim, engine.tenant(), request)?;
    let logprobs = asked.logprobs.is_some();
    let spent = asked.spent();
    let answers = shim.begin(&engine, asked).await?;
    let reply = Replying {
        head: shim.head("chatcmpl"),
        shim,
        logprobs,
        spent,
    };
    match delivery {
        Delivery::Whole => reply.whole(answers).await,
        Delivery::Stream { include_usage } => Ok(reply.stream(answers, include_usage)),
    }
}

/// Refuses what asks for an answer of a form that nothing here sees to.
fn served_here(request: &ChatRequest) -> Result<(), ApiError> {
    if request.format != ResponseFormat::Text {
        let what = "answers are free text";
        return Err(ApiError::unsupported("response_format", what));
    }
    if !request.tools.is_empty() && request.tool_choice != ToolChoice::None {
        let what = "the model is not held to calling functions; `tool_choice` may be `none`";
        return Err(ApiError::unsupported("tools", what));
    }
    Ok(())
}

fn asked(shim: &Shim, tenant: &Tenant, request: ChatRequest) -> Result<Asked, ApiError> {
    let variables = request.template_variables.as_ref();
    let text = shim
        .model
        .render(&request.messages, &request.tools, variables, true)?;
    // A template writes the token that begins a sequence by itself.
    let prompt = shim.model.tokens("messages", &text, false)?;
    // Nobody waits for more, and a session could go on for ever.
    let room = tenant.room_after(prompt.len() as u64, shim.model.context as u32);
    Ok(Asked {
        prompts: vec![prompt],
        n: request.n,
        max_tokens: request.max_tokens.unwrap_or(room),
        stop: request.stop,
        sampling: request.sampling,
        logprobs: request.logprobs,
    })
}

/// What all pieces of the reply need.
struct Replying {
    shim: Arc<Shim>,
    head: Head,
    logprobs: bool,
    spent: Spent,
}

impl Replying {
    fn logprobs(&self, tokens: &[ScoredToken]) -> Result<Option<ChatLogprobs>, ApiError> {
        let wanted = self
            .logprobs
            .then(|| probabilities::of_chat(&self.shim.model, tokens));
        wanted.transpose()
    }

    async fn whole(self, answers: Vec<Answer>) -> Result<Response, ApiError> {
        let answers = whole(answers).await?;
        let choices = (0..).zip(answers).map(|(index, answer)| {
            self.spent.count(index, answer.generated, answer.cached);
            Ok(ChatChoice {
                index,
                logprobs: self.logprobs(&answer.tokens)?,
                message: Reply::text(answer.text),
                finish_reason: answer.reason.unwrap_or(FinishReason::Length),
            })
        });
        let choices = choices.collect::<Result<_, ApiError>>()?;
        let usage = self.spent.usage();
        Ok(Json(ChatCompletion::new(self.head, choices, usage)).into_response())
    }

    fn stream(self, answers: Vec<Answer>, include_usage: bool) -> Response {
        // Absent, or null in all chunks but the last.
        let no_usage = include_usage.then_some(None);
        let head = self.head.clone();
        let spent = self.spent.clone();
        let chunk = {
            let head = head.clone();
            move |choice| ChatChunk::new(head.clone(), vec![choice], no_usage)
        };
        let begin = (0..answers.len() as u32).map(|index| ChatChunkChoice {
            index,
            delta: Delta::begin(),
            logprobs: None,
            finish_reason: None,
        });
        let begin: Vec<_> = begin.map(|choice| Ok(chunk(choice))).collect();
        let more = parts(answers).map(move |part| {
            let (index, part) = part?;
            let choice = match part {
                Part::Text { text, tokens } => ChatChunkChoice {
                    index,
                    delta: Delta::text(text),
                    logprobs: self.logprobs(&tokens)?,
                    finish_reason: None,
                },
                Part::End {
                    reason,
                    generated,
                    cached,
                } => {
                    self.spent.count(index, generated, cached);
                    ChatChunkChoice {
                        index,
                        delta: Delta::default(),
                        logprobs: None,
                        finish_reason: Some(reason),
                    }
                }
            };
            Ok(chunk(choice))
        });
        let usage = stream::iter(include_usage.then_some(())).map(move |()| {
            let usage = spent.usage();
            Ok(ChatChunk::new(head.clone(), Vec::new(), Some(Some(usage))))
        });
        sse::respond(stream::iter(begin).chain(more).chain(usage))
    }
}
