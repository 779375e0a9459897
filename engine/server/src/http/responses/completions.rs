//! Answers to POST /v1/completions, which have one form for the whole and for its pieces.

use serde::Serialize;

use super::logprobs::CompletionLogprobs;
use super::{ChunkUsage, FinishReason, Head, Kind, Usage};

/// An answer, or a piece of one that is sent as events.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextCompletion {
    id: String,
    object: Kind,
    created: u64,
    model: String,
    choices: Vec<CompletionChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: ChunkUsage,
    system_fingerprint: Option<String>,
}

impl TextCompletion {
    /// An answer in one piece.
    pub fn new(head: Head, choices: Vec<CompletionChoice>, usage: Usage) -> Self {
        Self::chunk(head, choices, Some(Some(usage)))
    }

    /// A piece. The last, which tells the usage, has no choices.
    pub fn chunk(head: Head, choices: Vec<CompletionChoice>, usage: ChunkUsage) -> Self {
        Self {
            id: head.id,
            object: Kind::TextCompletion,
            created: head.created,
            model: head.model,
            choices,
            usage,
            system_fingerprint: head.system_fingerprint,
        }
    }
}

/// One of the answers that were asked for, or what is new in it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CompletionChoice {
    /// The text.
    pub text: String,
    /// Its number, from 0: those of the first prompt, then those of the next.
    pub index: u32,
    /// How likely its tokens were, where that was asked for.
    pub logprobs: Option<CompletionLogprobs>,
    /// Why it ended; in a stream, in its last piece.
    pub finish_reason: Option<FinishReason>,
}
