//! Log probabilities of tokens, in the two forms that there are.

use std::fmt::Write;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

/// What OpenAI writes for a token that cannot come at all: JSON has no infinity.
const NEVER: f32 = -9999.0;

/// A token and its log probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenLogprob {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

impl TokenLogprob {
    /// Of a token with these bytes, which may be a part of a character.
    pub fn new(bytes: Vec<u8>, logprob: f32) -> Self {
        Self {
            token: text(&bytes, ""),
            logprob: logprob.max(NEVER),
            bytes,
        }
    }
}

/// The tokens of an answer to a chat.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ChatLogprobs {
    content: Vec<ChatToken>,
    refusal: (),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct ChatToken {
    #[serde(flatten)]
    token: TokenLogprob,
    top_logprobs: Vec<TokenLogprob>,
}

impl ChatLogprobs {
    /// Adds a token, and the most likely ones in its place, the most likely first.
    pub fn push(&mut self, token: TokenLogprob, top_logprobs: Vec<TokenLogprob>) {
        self.content.push(ChatToken {
            token,
            top_logprobs,
        });
    }
}

/// The tokens of a completion.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CompletionLogprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<Option<f32>>,
    top_logprobs: Vec<Option<Top>>,
    text_offset: Vec<usize>,
}

/// The most likely tokens in one place, the most likely first.
#[derive(Debug, Clone, PartialEq)]
struct Top(Vec<TokenLogprob>);

impl Serialize for Top {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for token in &self.0 {
            map.serialize_entry(&text(&token.bytes, "bytes:"), &token.logprob)?;
        }
        map.end()
    }
}

impl CompletionLogprobs {
    /// Adds a token that begins at character `offset` of the text, and the most likely ones in its place.
    pub fn push(&mut self, token: TokenLogprob, top: Vec<TokenLogprob>, offset: usize) {
        self.add(&token.bytes, Some(token.logprob), Some(Top(top)), offset);
    }

    /// Adds the first token of an echoed prompt: nothing stands before it, so it has no probability.
    pub fn push_first(&mut self, bytes: &[u8]) {
        self.add(bytes, None, None, 0);
    }

    fn add(&mut self, bytes: &[u8], logprob: Option<f32>, top: Option<Top>, offset: usize) {
        self.tokens.push(text(bytes, "bytes:"));
        self.token_logprobs.push(logprob);
        self.top_logprobs.push(top);
        self.text_offset.push(offset);
    }
}

/// The text of a token. One that is no text is written as its bytes, after `mark`: tokens must not look alike.
fn text(bytes: &[u8], mark: &str) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold(mark.to_owned(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
            text
        }),
    }
}
