//! Request bodies: as they were sent, and as what they ask for.

pub mod chat;
pub mod completions;
pub mod format;
pub mod json;
pub mod messages;
pub mod sessions;
pub mod settings;
pub mod tokens;
pub mod tools;

pub use chat::{ChatBody, ChatRequest};
pub use completions::{CompletionBody, CompletionRequest, Prompt};
pub use format::ResponseFormat;
pub use json::{Object, RawObject, TextOr};
pub use messages::{Message, Role, ToolCall, messages_json};
pub use sessions::{AppendBody, Continue, ContinueBody, HistoryQuery, NewSession, NewSessionBody};
pub use settings::{Delivery, SamplingSettings};
pub use tokens::{DetokenizeBody, DetokenizeRequest, TokenizeBody, TokenizeInput, TokenizeRequest};
pub use tools::{Function, Tool, ToolChoice, tools_json};
