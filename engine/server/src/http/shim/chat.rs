//! POST /v1/chat/completions.

use axum::http::Extensions;
use axum::response::Response;

use super::chat_reply::Replying;
use super::{Asked, ServedModel, Shared};
use crate::door::access::engine_for;
use crate::http::body::ApiJson;
use crate::http::error::ApiError;
use crate::http::forms::{AnswerForm, Calls};
use crate::http::requests::{ChatBody, ChatRequest, Delivery, Tool, ToolChoice};

pub(super) async fn create(
    axum::extract::State(shim): Shared,
    extensions: Extensions,
    ApiJson(body): ApiJson<ChatBody>,
) -> Result<Response, ApiError> {
    let request = body.validate()?;
    shim.model.require(&request.model)?;
    let engine = engine_for(&shim.engine, &extensions);
    let form = AnswerForm::of(&request)?;
    let calls = form.as_ref().map_or(Calls::Never, |form| form.calls);
    let constraint = match form {
        Some(form) => Some(shim.model.compiler.compile(form).await?),
        None => None,
    };
    let read = move |model: &ServedModel| Ok((prompt(model, &request)?, request));
    let (prompt, request) = shim.model.apart(read).await?;
    // Nobody waits for more, and a session could go on for ever.
    let context = shim.model.context as u32;
    let room = engine.tenant().room_after(prompt.len() as u64, context);
    let asked = Asked {
        prompts: vec![prompt],
        n: request.n,
        max_tokens: request.max_tokens.unwrap_or(room),
        stop: request.stop,
        sampling: request.sampling,
        logprobs: request.logprobs,
        constraint,
    };
    let spent = asked.spent();
    let answers = shim.begin(&engine, asked).await?;
    let reply = Replying {
        head: shim.head("chatcmpl"),
        shim,
        logprobs: request.logprobs.is_some(),
        spent,
        calls,
    };
    match request.delivery {
        Delivery::Whole => reply.whole(answers).await,
        Delivery::Stream { include_usage } => Ok(reply.stream(answers, include_usage)),
    }
}

fn prompt(model: &ServedModel, request: &ChatRequest) -> Result<Vec<u32>, ApiError> {
    let variables = request.template_variables.as_ref();
    // A model that may not call functions is not told of any.
    let tools: &[Tool] = match request.tool_choice {
        ToolChoice::None => &[],
        ToolChoice::Auto | ToolChoice::Required | ToolChoice::Function(_) => &request.tools[..],
    };
    let text = model.render(&request.messages, tools, variables, true)?;
    // A template writes the token that begins a sequence by itself.
    model.tokens("messages", &text, false)
}
