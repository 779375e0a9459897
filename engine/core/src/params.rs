//! What one generation is asked to do, beyond how its tokens are drawn.

use std::ops::RangeInclusive;

use crate::constraint::Constraint;
use crate::error::InvalidArgument;
use crate::sampling::Sampling;

/// The most biases of one generation. OpenAI takes about 300; this leaves room, and keeps a request small.
pub const MAX_LOGIT_BIASES: usize = 1024;

/// The most stop sequences of one generation.
pub const MAX_STOP_SEQUENCES: usize = 16;

/// The most tokens of one stop sequence.
pub const MAX_STOP_LENGTH: usize = 64;

/// The most likely tokens whose probabilities can be asked for.
pub const MAX_TOP_LOGPROBS: u32 = 20;

const BIASES: RangeInclusive<f32> = -100.0..=100.0;

/// What a generation is asked to do.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateParams {
    /// The most tokens to generate, 1 or more.
    pub max_tokens: u32,
    /// How each is drawn.
    pub sampling: Sampling,
    /// Added to the logits of these tokens: pairs of a token id and a bias from -100 to 100, each token once, at
    /// most [`MAX_LOGIT_BIASES`]. The ends of the range all but forbid and force a token.
    pub logit_bias: Vec<(u32, f32)>,
    /// Stop sequences as token ids: at most [`MAX_STOP_SEQUENCES`], each of 1 to [`MAX_STOP_LENGTH`] tokens. The
    /// generation ends after the token that completes one. Only tokens that it has emitted itself are matched, and
    /// all of them are emitted and stay in the history.
    pub stop: Vec<Vec<u32>>,
    /// With each token, its log-probability and those of so many of the likeliest tokens, 0 to
    /// [`MAX_TOP_LOGPROBS`]; `None` for no log-probabilities at all. See [`crate::TokenLogprobs`].
    pub top_logprobs: Option<u32>,
    /// The form that the text is held to from its first token on; `None` for any text. What it does not allow is not
    /// drawn: it is left out before the temperature, `top_k`, `top_p` and `min_p`.
    pub constraint: Option<Constraint>,
}

/// A bias that cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum LogitBiasError {
    /// Too many.
    #[error("logit_bias has {count} entries, and may have at most {MAX_LOGIT_BIASES}")]
    TooMany {
        /// The entries given.
        count: usize,
    },
    /// A bias out of its range, or no number.
    #[error("logit_bias of token {token} is {value}, and must be from {} to {}", BIASES.start(), BIASES.end())]
    Value {
        /// The token id.
        token: u32,
        /// The bias given.
        value: f32,
    },
    /// Two biases for one token.
    #[error("logit_bias names token {token} twice")]
    Duplicate {
        /// The token id.
        token: u32,
    },
    /// A token id the model does not have.
    #[error("logit_bias names token {token}, which is outside the vocabulary of {vocabulary}")]
    OutOfVocabulary {
        /// The token id.
        token: u32,
        /// Tokens the model has: ids from 0 up to, and without, this.
        vocabulary: u32,
    },
}

/// A stop sequence that cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    /// Too many.
    #[error("{count} stop sequences are given, and at most {MAX_STOP_SEQUENCES} may be")]
    TooMany {
        /// The sequences given.
        count: usize,
    },
    /// A sequence of no tokens, or of too many.
    #[error("stop sequence {index} has {length} tokens, and must have from 1 to {MAX_STOP_LENGTH}")]
    Length {
        /// Its index in the request.
        index: usize,
        /// Its tokens.
        length: usize,
    },
    /// A token id the model does not have: the sequence could never be completed.
    #[error(
        "stop sequence {index} has token {token}, which is outside the vocabulary of {vocabulary}"
    )]
    OutOfVocabulary {
        /// Its index in the request.
        index: usize,
        /// The token id.
        token: u32,
        /// Tokens the model has: ids from 0 up to, and without, this.
        vocabulary: u32,
    },
}

impl GenerateParams {
    /// `max_tokens` drawn with `sampling`, and every option off.
    pub const fn new(max_tokens: u32, sampling: Sampling) -> Self {
        Self {
            max_tokens,
            sampling,
            logit_bias: Vec::new(),
            stop: Vec::new(),
            top_logprobs: None,
            constraint: None,
        }
    }

    /// Refuses what no session could run.
    ///
    /// # Errors
    /// [`InvalidArgument::ZeroMaxTokens`], [`InvalidArgument::Sampling`], [`InvalidArgument::LogitBias`],
    /// [`InvalidArgument::Stop`] or [`InvalidArgument::TopLogprobs`], the first that holds.
    pub fn validate(&self) -> Result<(), InvalidArgument> {
        if self.max_tokens == 0 {
            return Err(InvalidArgument::ZeroMaxTokens);
        }
        self.sampling.validate()?;
        self.validate_biases()?;
        self.validate_stop()?;
        match self.top_logprobs {
            Some(value) if value > MAX_TOP_LOGPROBS => Err(InvalidArgument::TopLogprobs { value }),
            _ => Ok(()),
        }
    }

    /// Refuses tokens that a model with ids below `vocabulary` does not have.
    ///
    /// # Errors
    /// [`InvalidArgument::LogitBias`] or [`InvalidArgument::Stop`].
    pub fn validate_tokens(&self, vocabulary: u32) -> Result<(), InvalidArgument> {
        for &(token, _) in &self.logit_bias {
            if token >= vocabulary {
                return Err(LogitBiasError::OutOfVocabulary { token, vocabulary }.into());
            }
        }
        for (index, sequence) in self.stop.iter().enumerate() {
            if let Some(&token) = sequence.iter().find(|token| **token >= vocabulary) {
                return Err(StopError::OutOfVocabulary {
                    index,
                    token,
                    vocabulary,
                }
                .into());
            }
        }
        Ok(())
    }

    fn validate_biases(&self) -> Result<(), LogitBiasError> {
        let count = self.logit_bias.len();
        if count > MAX_LOGIT_BIASES {
            return Err(LogitBiasError::TooMany { count });
        }
        for &(token, value) in &self.logit_bias {
            if !BIASES.contains(&value) {
                return Err(LogitBiasError::Value { token, value });
            }
        }
        let mut tokens: Vec<u32> = self.logit_bias.iter().map(|(token, _)| *token).collect();
        tokens.sort_unstable();
        match tokens.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(LogitBiasError::Duplicate { token: pair[0] }),
            None => Ok(()),
        }
    }

    fn validate_stop(&self) -> Result<(), StopError> {
        let count = self.stop.len();
        if count > MAX_STOP_SEQUENCES {
            return Err(StopError::TooMany { count });
        }
        for (index, sequence) in self.stop.iter().enumerate() {
            let length = sequence.len();
            if !(1..=MAX_STOP_LENGTH).contains(&length) {
                return Err(StopError::Length { index, length });
            }
        }
        Ok(())
    }
}
