//! What a chat's answers look like: in one piece, or as chunks.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt};

use super::answer::{Answer, Part, ScoredToken};
use super::collect::{Whole, parts, whole};
use super::spent::Spent;
use super::{Shim, probabilities};
use crate::http::calls::{CallReader, Said};
use crate::http::error::{ApiError, ErrorKind};
use crate::http::forms::Calls;
use crate::http::responses::chat::{Call, CallDelta, Reply};
use crate::http::responses::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatLogprobs, Delta, FinishReason, Head,
};
use crate::http::sse;

/// What all pieces of a reply need.
pub(super) struct Replying {
    pub shim: Arc<Shim>,
    pub head: Head,
    pub logprobs: bool,
    pub spent: Spent,
    pub calls: Calls,
}

impl Replying {
    fn logprobs(&self, tokens: &[ScoredToken]) -> Result<Option<ChatLogprobs>, ApiError> {
        let wanted = self
            .logprobs
            .then(|| probabilities::of_chat(&self.shim.model, tokens));
        wanted.transpose()
    }

    pub(super) async fn whole(self, answers: Vec<Answer>) -> Result<Response, ApiError> {
        let answers = whole(answers).await?;
        let choices = (0..).zip(answers).map(|(index, answer)| {
            self.spent.count(index, answer.generated, answer.cached);
            let logprobs = self.logprobs(&answer.tokens)?;
            let (message, finish_reason) = message(self.calls, answer);
            Ok(ChatChoice {
                index,
                logprobs,
                message,
                finish_reason,
            })
        });
        let choices = choices.collect::<Result<_, ApiError>>()?;
        let usage = self.spent.usage();
        Ok(Json(ChatCompletion::new(self.head, choices, usage)).into_response())
    }

    pub(super) fn stream(self, answers: Vec<Answer>, include_usage: bool) -> Response {
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
            delta: match self.calls {
                Calls::Never => Delta::begin(),
                Calls::Whole | Calls::AfterText => Delta::begin_without_text(),
            },
            logprobs: None,
            finish_reason: None,
        });
        let begin: Vec<_> = begin.map(|choice| Ok(chunk(choice))).collect();
        let mut readers: Vec<_> = answers
            .iter()
            .map(|_| Some(CallReader::new(self.calls)))
            .collect();
        let more = parts(answers).map(move |part| {
            let (index, part) = part?;
            let lost = || ApiError::new(ErrorKind::Server, "an answer without a number");
            let reader = readers.get_mut(index as usize).ok_or_else(lost)?;
            self.choices(index, reader, part)
        });
        let more = more.flat_map(move |choices| {
            let chunks: Vec<_> = match choices {
                Ok(choices) => choices
                    .into_iter()
                    .map(|choice| Ok(chunk(choice)))
                    .collect(),
                Err(error) => vec![Err(error)],
            };
            stream::iter(chunks)
        });
        let usage = stream::iter(include_usage.then_some(())).map(move |()| {
            let usage = spent.usage();
            Ok(ChatChunk::new(head.clone(), Vec::new(), Some(Some(usage))))
        });
        sse::respond(stream::iter(begin).chain(more).chain(usage))
    }

    /// What a part of an answer adds. The tokens of it go with the first piece.
    fn choices(
        &self,
        index: u32,
        reader: &mut Option<CallReader>,
        part: Part,
    ) -> Result<Vec<ChatChunkChoice>, ApiError> {
        let piece = |delta, logprobs, finish_reason| ChatChunkChoice {
            index,
            delta,
            logprobs,
            finish_reason,
        };
        let over = || ApiError::new(ErrorKind::Server, "a part after the end");
        let mut choices = Vec::new();
        match part {
            Part::Text { text, tokens } => {
                let said = reader.as_mut().ok_or_else(over)?.push(&text);
                let mut logprobs = self.logprobs(&tokens)?;
                for said in said {
                    choices.push(piece(delta(said), logprobs.take(), None));
                }
                if logprobs.is_some() && !tokens.is_empty() {
                    choices.push(piece(Delta::default(), logprobs, None));
                }
            }
            Part::End {
                reason,
                generated,
                cached,
            } => {
                self.spent.count(index, generated, cached);
                let reader = reader.take().ok_or_else(over)?;
                let reason = finish(&reader, reason);
                for said in reader.finish() {
                    choices.push(piece(delta(said), None, None));
                }
                choices.push(piece(Delta::default(), None, Some(reason)));
            }
        }
        Ok(choices)
    }
}

/// What a whole answer says and calls, and why it ended.
fn message(calls: Calls, answer: Whole) -> (Reply, FinishReason) {
    let mut reader = CallReader::new(calls);
    let mut said = reader.push(&answer.text);
    let reason = finish(&reader, answer.reason);
    said.extend(reader.finish());
    let mut content = String::new();
    let mut called: Vec<(String, String)> = Vec::new();
    for said in said {
        match said {
            Said::Content(text) => content += &text,
            Said::Call { name, .. } => called.push((name, String::new())),
            Said::Arguments { text, .. } => {
                if let Some((_, arguments)) = called.last_mut() {
                    *arguments += &text;
                }
            }
        }
    }
    if called.is_empty() {
        return (Reply::text(content), reason);
    }
    let called = called
        .into_iter()
        .map(|(name, arguments)| Call::new(call_id(), name, arguments));
    let content = (!content.is_empty()).then_some(content);
    (Reply::calls(content, called.collect()), reason)
}

/// A model that has called what it wants to has stopped to hear what comes of it.
fn finish(reader: &CallReader, reason: FinishReason) -> FinishReason {
    match reason {
        FinishReason::Stop if reader.ends_with_a_call() => FinishReason::ToolCalls,
        other => other,
    }
}

fn delta(said: Said) -> Delta {
    match said {
        Said::Content(text) => Delta::text(text),
        Said::Call { index, name } => {
            let call = Call::new(call_id(), name, String::new());
            Delta::calls(vec![CallDelta::begin(index, call)])
        }
        Said::Arguments { index, text } => Delta::calls(vec![CallDelta::arguments(index, text)]),
    }
}

fn call_id() -> String {
    format!("call_{}", uuid::Uuid::new_v4().simple())
}
