//! Answers to POST /v1/chat/completions.

use serde::Serialize;

use super::logprobs::ChatLogprobs;
use super::{ChunkUsage, FinishReason, Head, Kind, Usage};

/// An answer in one piece.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatCompletion {
    id: String,
    object: Kind,
    created: u64,
    model: String,
    choices: Vec<ChatChoice>,
    usage: Usage,
    system_fingerprint: Option<String>,
}

impl ChatCompletion {
    /// The answer of these choices.
    pub fn new(head: Head, choices: Vec<ChatChoice>, usage: Usage) -> Self {
        Self {
            id: head.id,
            object: Kind::ChatCompletion,
            created: head.created,
            model: head.model,
            choices,
            usage,
            system_fingerprint: head.system_fingerprint,
        }
    }
}

/// One of the answers that were asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatChoice {
    /// Its number, from 0.
    pub index: u32,
    /// What the model says.
    pub message: Reply,
    /// How likely its tokens were, where that was asked for.
    pub logprobs: Option<ChatLogprobs>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// What the model says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reply {
    role: Assistant,
    content: Option<String>,
    refusal: (),
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Assistant {
    Assistant,
}

impl Reply {
    /// A text.
    pub fn text(content: impl Into<String>) -> Self {
        Self {
            role: Assistant::Assistant,
            content: Some(content.into()),
            refusal: (),
            tool_calls: Vec::new(),
        }
    }

    /// Calls of functions, and what is said with them, if anything.
    pub fn calls(content: Option<String>, tool_calls: Vec<Call>) -> Self {
        Self {
            role: Assistant::Assistant,
            content,
            refusal: (),
            tool_calls,
        }
    }
}

/// A call of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Call {
    id: String,
    r#type: Function,
    function: Called,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Function {
    Function,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Called {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    arguments: String,
}

impl Call {
    /// A call with its arguments as JSON text.
    pub fn new(id: String, name: String, arguments: String) -> Self {
        Self {
            id,
            r#type: Function::Function,
            function: Called {
                name: Some(name),
                arguments,
            },
        }
    }
}

/// A piece of an answer that is sent as events.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatChunk {
    id: String,
    object: Kind,
    created: u64,
    model: String,
    system_fingerprint: Option<String>,
    choices: Vec<ChatChunkChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: ChunkUsage,
}

impl ChatChunk {
    /// A piece. The last, which tells the usage, has no choices.
    pub fn new(head: Head, choices: Vec<ChatChunkChoice>, usage: ChunkUsage) -> Self {
        Self {
            id: head.id,
            object: Kind::ChatCompletionChunk,
            created: head.created,
            model: head.model,
            system_fingerprint: head.system_fingerprint,
            choices,
            usage,
        }
    }
}

/// What is new in one of the answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatChunkChoice {
    /// The answer's number, from 0.
    pub index: u32,
    /// What is new.
    pub delta: Delta,
    /// How likely the tokens of it were, where that was asked for.
    pub logprobs: Option<ChatLogprobs>,
    /// Why the answer ended, in its last piece.
    pub finish_reason: Option<FinishReason>,
}

/// What is new in an answer; nothing, in its last piece.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<Assistant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CallDelta>,
}

impl Delta {
    /// What an answer begins with.
    pub fn begin() -> Self {
        Self {
            role: Some(Assistant::Assistant),
            content: Some(String::new()),
            ..Self::default()
        }
    }

    /// What an answer begins with that may have no text.
    pub fn begin_without_text() -> Self {
        Self {
            role: Some(Assistant::Assistant),
            ..Self::default()
        }
    }

    /// More text.
    pub fn text(content: impl Into<String>) -> Self {
        Self {
            content: Some(content.into()),
            ..Self::default()
        }
    }

    /// More of calls.
    pub fn calls(tool_calls: Vec<CallDelta>) -> Self {
        Self {
            tool_calls,
            ..Self::default()
        }
    }
}

/// What is new in a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CallDelta {
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<Function>,
    function: Called,
}

impl CallDelta {
    /// The beginning of call `index` of the answer, or all of it.
    pub fn begin(index: u32, call: Call) -> Self {
        Self {
            index,
            id: Some(call.id),
            r#type: Some(call.r#type),
            function: call.function,
        }
    }

    /// More of its arguments.
    pub fn arguments(index: u32, arguments: String) -> Self {
        Self {
            index,
            id: None,
            r#type: None,
            function: Called {
                name: None,
                arguments,
            },
        }
    }
}
