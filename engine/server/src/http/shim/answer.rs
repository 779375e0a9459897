//! One answer: from the engine's events to pieces of text.

use std::sync::Arc;

use kakeya_core::{
    Completion, Consumer, EngineError, EngineHandle, GenerateEvent, GenerateParams, GeneratedToken,
    PrefixOwner, StopReason, TokenLogprobs,
};
use kakeya_model::tokenizer::StreamDecoder;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::served::ServedModel;
use crate::http::error::{ApiError, ErrorKind};
use crate::http::responses::FinishReason;
use crate::http::stop::StopText;

/// The label of the sessions behind requests, in the engine's logs.
const LABEL: &str = "http";

/// What an answer is to be.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What it continues.
    pub prompt: Vec<u32>,
    /// The engine's settings.
    pub params: GenerateParams,
    /// Texts at which it ends.
    pub stop: Vec<String>,
    /// Whose cached prefixes the prompt may begin with.
    pub owner: Option<PrefixOwner>,
}

/// A token of an answer, with what was asked for about it.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredToken {
    /// The token.
    pub id: u32,
    /// How likely it and the others were.
    pub logprobs: Box<TokenLogprobs>,
}

/// What comes next of an answer.
#[derive(Debug)]
pub enum Part {
    /// A piece of text, which may be empty where only tokens are to be told.
    Text {
        /// The text.
        text: String,
        /// The tokens since the last piece, if they are asked for.
        tokens: Vec<ScoredToken>,
    },
    /// The end.
    End {
        /// Why it ended.
        reason: FinishReason,
        /// Tokens that were generated.
        generated: u32,
        /// Tokens of the prompt that were cached.
        cached: u64,
    },
}

/// An answer under way. Dropping it stops the work.
#[derive(Debug)]
pub struct Answer {
    events: Consumer<GenerateEvent, EngineError>,
    cached: oneshot::Receiver<u64>,
    model: Arc<ServedModel>,
    decoder: Option<StreamDecoder>,
    stop: StopText,
    /// Tokens whose text is held back.
    scored: Vec<ScoredToken>,
    generated: u32,
    end: Option<FinishReason>,
    over: bool,
    _slot: Arc<OwnedSemaphorePermit>,
}

impl Answer {
    /// Asks the engine for an answer.
    ///
    /// # Errors
    /// What the engine refuses.
    pub async fn start(
        engine: &EngineHandle,
        model: Arc<ServedModel>,
        wanted: Wanted,
        slot: Arc<OwnedSemaphorePermit>,
    ) -> Result<Self, ApiError> {
        let eos = model.tokenizer.end_of_generation().collect();
        let (label, owner) = (LABEL.to_owned(), wanted.owner);
        let Completion { events, cached } = engine
            .complete(label, eos, wanted.prompt, wanted.params, owner)
            .await?;
        Ok(Self {
            events,
            cached,
            model,
            decoder: Some(StreamDecoder::continuing(true)),
            stop: StopText::new(&wanted.stop),
            scored: Vec::new(),
            generated: 0,
            end: None,
            over: false,
            _slot: slot,
        })
    }

    /// The next part; `None` after the end or an error.
    pub async fn next(&mut self) -> Option<Result<Part, ApiError>> {
        if self.over {
            return None;
        }
        let part = self.advance().await;
        self.over = matches!(part, Ok(Part::End { .. }) | Err(_));
        Some(part)
    }

    async fn advance(&mut self) -> Result<Part, ApiError> {
        loop {
            if let Some(reason) = self.end {
                return Ok(Part::End {
                    reason,
                    generated: self.generated,
                    cached: self.cached.try_recv().unwrap_or(0),
                });
            }
            let event = self.events.next().await;
            let event = event.ok_or_else(|| lost("the generation ended without saying how"))?;
            match event.map_err(EngineError::from)? {
                GenerateEvent::Truncated { .. } => {}
                GenerateEvent::Token(token) => {
                    self.generated += 1;
                    let text = self.read(token)?;
                    if self.stop.met().is_some() {
                        // What the engine has generated since is of no use to anybody.
                        self.events.cancel();
                        self.end = Some(FinishReason::Stop);
                        self.decoder = None;
                        return Ok(self.piece(text));
                    }
                    if !text.is_empty() {
                        return Ok(self.piece(text));
                    }
                }
                GenerateEvent::Done(done) => {
                    self.end = Some(finish(done.reason)?);
                    let unfinished = self.decoder.take().map(StreamDecoder::finish);
                    let mut text = self.stop.push(&unfinished.unwrap_or_default());
                    if self.stop.met().is_some() {
                        self.end = Some(FinishReason::Stop);
                    } else {
                        let stop = std::mem::replace(&mut self.stop, StopText::new::<&str>(&[]));
                        text += &stop.finish();
                    }
                    if !text.is_empty() || !self.scored.is_empty() {
                        return Ok(self.piece(text));
                    }
                }
            }
        }
    }

    /// The text that a token makes certain.
    fn read(&mut self, token: GeneratedToken) -> Result<String, ApiError> {
        let GeneratedToken { id, logprobs } = token;
        if let Some(logprobs) = logprobs {
            self.scored.push(ScoredToken { id, logprobs });
        }
        let tokenizer = &self.model.tokenizer;
        let decoder = self
            .decoder
            .as_mut()
            .ok_or_else(|| lost("a token after the end"))?;
        let piece = decoder
            .push(tokenizer, id)
            .map_err(|error| lost(&error.to_string()))?;
        Ok(self.stop.push(&piece))
    }

    fn piece(&mut self, text: String) -> Part {
        Part::Text {
            text,
            tokens: std::mem::take(&mut self.scored),
        }
    }
}

fn finish(reason: StopReason) -> Result<FinishReason, ApiError> {
    match reason {
        StopReason::Eos | StopReason::StopSequence | StopReason::Complete => Ok(FinishReason::Stop),
        StopReason::MaxTokens | StopReason::Truncated => Ok(FinishReason::Length),
        StopReason::Cancelled => Err(EngineError::Draining.into()),
    }
}

fn lost(what: &str) -> ApiError {
    ApiError::new(ErrorKind::Server, what)
}
