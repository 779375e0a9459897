//! Response bodies, with the fields, their order and their nulls as OpenAI sends them.

pub mod chat;
pub mod completions;
pub mod logprobs;
pub mod models;
pub mod sessions;
pub mod tokens;

use serde::Serialize;

pub use chat::{ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, Delta};
pub use completions::{CompletionChoice, TextCompletion};
pub use logprobs::{ChatLogprobs, CompletionLogprobs, TokenLogprob};
pub use models::{Model, ModelList};
pub use sessions::{History, Session, SessionEvent, SessionList, Tokens};
pub use tokens::{Detokenized, Tokenized};

/// What every piece of an answer begins with, and what tells one answer from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The answer's id, the same in every chunk of it.
    pub id: String,
    /// When it was begun, in seconds since 1970.
    pub created: u64,
    /// The model.
    pub model: String,
    /// What the result depends on besides the request: the model's file and the numerics.
    pub system_fingerprint: Option<String>,
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Kind {
    #[serde(rename = "chat.completion")]
    ChatCompletion,
    #[serde(rename = "chat.completion.chunk")]
    ChatCompletionChunk,
    #[serde(rename = "text_completion")]
    TextCompletion,
    #[serde(rename = "list")]
    List,
    #[serde(rename = "model")]
    Model,
    #[serde(rename = "session")]
    Session,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended it, or a stop string did.
    Stop,
    /// It has as many tokens as were asked for, or as fit.
    Length,
    /// The model calls functions.
    ToolCalls,
}

/// How many tokens a request took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
}

impl Usage {
    /// The usage of a request with so many tokens in its prompts, `cached` of them not computed anew, and so many in
    /// its answers.
    pub fn new(prompt: u64, cached: u64, completion: u64) -> Self {
        Self {
            prompt_tokens: prompt,
            completion_tokens: completion,
            total_tokens: prompt.saturating_add(completion),
            prompt_tokens_details: PromptDetails {
                cached_tokens: cached,
            },
        }
    }
}

/// The usage in a chunk: absent unless it was asked for, and then `null` in all chunks but the last.
pub type ChunkUsage = Option<Option<Usage>>;
