//! POST /v1/chat/completions.

use axum::response::Response;

use super::chat_reply::Replying;
use super::{Asked, ServedModel, Shared};
use crate::http::body::ApiJson;
use crate::http::error::ApiError;
use crate::http::forms::{AnswerForm, Calls};
use crate::http::requests::{ChatBody, ChatRequest, Delivery, Tool, ToolChoice};

pub(super) async fn create(
    axum::extract::State(shim): Shared,
    ApiJson(body): ApiJson<ChatBody>,
) -> Result<Response, ApiError> {
    let request = body.validate()?;
    shim.model.require(&request.model)?;
    let delivery = request.delivery;
    let form = AnswerForm::of(&request)?;
    let calls = form.as_ref().map_or(Calls::Never, |form| form.calls);
    let constraint = match form {
        Some(form) => Some(shim.model.compiler.compile(form).await?),
        None => None,
    };
    let read = move |model: &ServedModel| asked(model, request);
    let asked = Asked {
        constraint,
        ..shim.model.apart(read).await?
    };
    let logprobs = asked.logprobs.is_some();
    let prompt = asked.prompt_tokens();
    let answers = shim.begin(asked).await?;
    let reply = Replying {
        head: shim.head("chatcmpl"),
        shim,
        logprobs,
        prompt,
        calls,
    };
    match delivery {
        Delivery::Whole => reply.whole(answers).await,
        Delivery::Stream { include_usage } => Ok(reply.stream(answers, include_usage)),
    }
}

fn asked(model: &ServedModel, request: ChatRequest) -> Result<Asked, ApiError> {
    let variables = request.template_variables.as_ref();
    // A model that may not call functions is not told of any.
    let tools: &[Tool] = match request.tool_choice {
        ToolChoice::None => &[],
        ToolChoice::Auto | ToolChoice::Required | ToolChoice::Function(_) => &request.tools[..],
    };
    let text = model.render(&request.messages, tools, variables, true)?;
    // A template writes the token that begins a sequence by itself.
    let prompt = model.tokens("messages", &text, false)?;
    Ok(Asked {
        prompts: vec![prompt],
        n: request.n,
        // Nobody waits for more, and a session could go on for ever.
        max_tokens: request.max_tokens.unwrap_or(model.context as u32),
        stop: request.stop,
        sampling: request.sampling,
        logprobs: request.logprobs,
        constraint: None,
    })
}
