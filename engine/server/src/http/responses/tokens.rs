//! Answers to POST /tokenize and POST /detokenize.

use serde::Serialize;

/// The tokens of a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tokenized {
    count: usize,
    max_model_len: u64,
    tokens: Vec<u32>,
    token_strs: Option<Vec<String>>,
}

impl Tokenized {
    /// These tokens, with the text of each where that was asked for, of a model with such a context.
    pub fn new(tokens: Vec<u32>, texts: Option<Vec<String>>, max_model_len: u64) -> Self {
        Self {
            count: tokens.len(),
            max_model_len,
            tokens,
            token_strs: texts,
        }
    }
}

/// The text of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Detokenized {
    /// The text.
    pub prompt: String,
}
