//! POST /v1/completions.

use std::sync::Arc;

use axum::Json;
use axum::http::Extensions;
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt};

use super::answer::{Answer, Part, ScoredToken};
use super::collect::{parts, whole};
use super::spent::Spent;
use super::{Asked, ServedModel, Shared, Shim, probabilities};
use crate::door::access::engine_for;
use crate::http::body::ApiJson;
use crate::http::error::{ApiError, ErrorKind};
use crate::http::requests::{CompletionBody, CompletionRequest, Delivery, Prompt};
use crate::http::responses::{
    CompletionChoice, CompletionLogprobs, FinishReason, Head, TextCompletion,
};
use crate::http::sse;

pub(super) async fn create(
    axum::extract::State(shim): Shared,
    extensions: Extensions,
    ApiJson(body): ApiJson<CompletionBody>,
) -> Result<Response, ApiError> {
    let request = body.validate()?;
    shim.model.require(&request.model)?;
    if request.echo && request.logprobs.is_some() {
        let what = "the probabilities of a prompt are not told, so it goes without `logprobs`";
        return Err(ApiError::unsupported("echo", what));
    }
    let (delivery, only_echo) = (request.delivery, request.max_tokens == 0);
    let read = move |model: &ServedModel| Ok((echoed(model, &request)?, asked(model, request)?));
    let (echoed, asked) = shim.model.apart(read).await?;
    let logprobs = asked.logprobs.is_some();
    let spent = asked.spent();
    let answers = if only_echo {
        Vec::new()
    } else {
        let engine = engine_for(&shim.engine, &extensions);
        shim.begin(&engine, asked).await?
    };
    let reply = Replying {
        head: shim.head("cmpl"),
        shim,
        logprobs,
        spent,
        echoed,
    };
    match delivery {
        Delivery::Whole => reply.whole(answers).await,
        Delivery::Stream { include_usage } => Ok(reply.stream(answers, include_usage)),
    }
}

/// What each answer begins with: its prompt, where it is to be repeated.
fn echoed(model: &ServedModel, request: &CompletionRequest) -> Result<Vec<String>, ApiError> {
    let mut all = Vec::new();
    for prompt in &request.prompts {
        let text = match prompt {
            _ if !request.echo => String::new(),
            Prompt::Text(text) => text.clone(),
            Prompt::Tokens(tokens) => model.text("prompt", tokens)?,
        };
        all.extend(std::iter::repeat_n(text, request.n as usize));
    }
    Ok(all)
}

fn asked(model: &ServedModel, request: CompletionRequest) -> Result<Asked, ApiError> {
    let several = request.prompts.len() > 1;
    let tokens = |(index, prompt)| {
        let param = if several {
            format!("prompt[{index}]")
        } else {
            "prompt".to_owned()
        };
        let tokens = match prompt {
            Prompt::Text(text) => model.tokens(&param, &text, true)?,
            Prompt::Tokens(tokens) => tokens,
        };
        if tokens.is_empty() {
            let message = format!("`{param}` has no tokens: there must be something to continue");
            return Err(ApiError::invalid(param, message));
        }
        Ok(tokens)
    };
    let prompts = request.prompts.into_iter().enumerate().map(tokens);
    Ok(Asked {
        prompts: prompts.collect::<Result<_, _>>()?,
        n: request.n,
        max_tokens: request.max_tokens,
        stop: request.stop,
        sampling: request.sampling,
        logprobs: request.logprobs,
        constraint: None,
    })
}

/// A prompt that nothing is to follow.
fn only_echoed((index, text): (u32, String)) -> CompletionChoice {
    CompletionChoice {
        text,
        index,
        logprobs: None,
        finish_reason: Some(FinishReason::Length),
    }
}

/// What all pieces of the reply need.
struct Replying {
    shim: Arc<Shim>,
    head: Head,
    logprobs: bool,
    spent: Spent,
    echoed: Vec<String>,
}

impl Replying {
    fn logprobs(
        &self,
        tokens: &[ScoredToken],
        offset: &mut usize,
    ) -> Result<Option<CompletionLogprobs>, ApiError> {
        let told = || probabilities::of_completion(&self.shim.model, tokens, offset);
        self.logprobs.then(told).transpose()
    }

    async fn whole(mut self, answers: Vec<Answer>) -> Result<Response, ApiError> {
        let only_echo = answers.is_empty();
        let answers = whole(answers).await?;
        let echoed = std::mem::take(&mut self.echoed);
        let choices = if only_echo {
            (0..).zip(echoed).map(only_echoed).collect()
        } else {
            let both = (0..).zip(answers.into_iter().zip(echoed));
            let choices = both.map(|(index, (answer, echoed))| {
                self.spent.count(index, answer.generated, answer.cached);
                Ok(CompletionChoice {
                    logprobs: self.logprobs(&answer.tokens, &mut 0)?,
                    text: echoed + &answer.text,
                    index,
                    finish_reason: Some(answer.reason),
                })
            });
            choices.collect::<Result<_, ApiError>>()?
        };
        let usage = self.spent.usage();
        Ok(Json(TextCompletion::new(self.head, choices, usage)).into_response())
    }

    fn stream(mut self, answers: Vec<Answer>, include_usage: bool) -> Response {
        // Absent, or null in all chunks but the last.
        let no_usage = include_usage.then_some(None);
        let head = self.head.clone();
        let spent = self.spent.clone();
        let chunk = {
            let head = head.clone();
            move |choice| TextCompletion::chunk(head.clone(), vec![choice], no_usage)
        };
        let only_echo = answers.is_empty();
        let mut offsets = vec![0; answers.len()];
        let echoed = std::mem::take(&mut self.echoed);
        let begin = (0..)
            .zip(echoed)
            .filter(|(_, text)| only_echo || !text.is_empty());
        let begin = begin.map(|(index, text)| CompletionChoice {
            text,
            index,
            logprobs: None,
            finish_reason: only_echo.then_some(FinishReason::Length),
        });
        let begin: Vec<_> = begin.map(|choice| Ok(chunk(choice))).collect();
        let more = parts(answers).map(move |part| {
            let (index, part) = part?;
            let lost = || ApiError::new(ErrorKind::Server, "an answer without a number");
            let offset = offsets.get_mut(index as usize).ok_or_else(lost)?;
            let choice = match part {
                Part::Text { text, tokens } => CompletionChoice {
                    text,
                    index,
                    logprobs: self.logprobs(&tokens, offset)?,
                    finish_reason: None,
                },
                Part::End {
                    reason,
                    generated,
                    cached,
                } => {
                    self.spent.count(index, generated, cached);
                    CompletionChoice {
                        text: String::new(),
                        index,
                        logprobs: None,
                        finish_reason: Some(reason),
                    }
                }
            };
            Ok(chunk(choice))
        });
        let usage = stream::iter(include_usage.then_some(())).map(move |()| {
            let usage = Some(Some(spent.usage()));
            Ok(TextCompletion::chunk(head.clone(), Vec::new(), usage))
        });
        sse::respond(stream::iter(begin).chain(more).chain(usage))
    }
}
