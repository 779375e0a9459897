//! What a generation says.

use std::time::Duration;

/// Why a generation stopped. Where several reasons hold at one token, it is the first of `Eos`, `StopSequence`,
/// `Complete`, `MaxTokens` and `Truncated`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// As many tokens as were asked for.
    MaxTokens,
    /// An end-of-sequence token, which was emitted.
    Eos,
    /// The caller, or the end of the session, stopped it.
    Cancelled,
    /// With a full window, the model's context is used up.
    Truncated,
    /// A stop sequence was completed; its tokens were emitted.
    StopSequence,
    /// The text has the form that it is held to, and nothing may follow it.
    Complete,
}

/// How a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerateDone {
    /// Why it stopped.
    pub reason: StopReason,
    /// Tokens emitted.
    pub generated: u32,
    /// Time up to the first token.
    pub prefill: Duration,
    /// Time in all.
    pub total: Duration,
}

/// A token, and how likely the model thought it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLogprob {
    /// The token id.
    pub token: u32,
    /// The natural logarithm of its probability, 0 or below.
    pub logprob: f64,
}

/// What the model itself thought of the next token: the log-softmax of its logits, as they were before any
/// penalty, bias or temperature. So they tell of the model, not of the draw, and a token that the settings made
/// likely can have a low one.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprobs {
    /// The natural logarithm of the emitted token's probability, 0 or below.
    pub logprob: f64,
    /// As many of the likeliest tokens as were asked for, the likeliest first, the lower id first among equals.
    /// The emitted token is among them only if it is as likely.
    pub top: Vec<TokenLogprob>,
}

/// A token that was generated.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratedToken {
    /// The token id.
    pub id: u32,
    /// How likely it was, if that was asked for. Boxed, because most generations do not ask.
    pub logprobs: Option<Box<TokenLogprobs>>,
}

/// A token without log-probabilities.
impl From<u32> for GeneratedToken {
    fn from(id: u32) -> Self {
        Self { id, logprobs: None }
    }
}

/// What a generation says, in this order: `Truncated` at most once and first, the tokens, `Done` once and last.
#[derive(Debug, Clone, PartialEq)]
pub enum GenerateEvent {
    /// So many tokens of the history are no longer in the cache.
    Truncated {
        /// History length less cached length.
        dropped: u64,
    },
    /// A token was generated.
    Token(GeneratedToken),
    /// The generation is over.
    Done(GenerateDone),
}
