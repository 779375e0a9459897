//! The values that requests may hold. What refuses a value and the OpenAPI document both read them here.

use serde_json::{Number, Value, json};

use super::error::ApiError;

/// A field that takes integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Integers {
    /// The field's name.
    pub name: &'static str,
    /// The least that is taken.
    pub least: i64,
    /// The most that is taken.
    pub most: i64,
}

/// A field that takes numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Numbers {
    /// The field's name.
    pub name: &'static str,
    /// The least that is taken, or the value above which every one is.
    pub least: f32,
    /// Whether `least` itself is refused.
    pub above: bool,
    /// The most that is taken.
    pub most: f32,
}

/// Softens or sharpens the distribution; 0 takes the most likely token.
pub const TEMPERATURE: Numbers = Numbers {
    name: "temperature",
    least: 0.0,
    above: false,
    most: 2.0,
};
/// The probability mass that is kept.
pub const TOP_P: Numbers = Numbers {
    name: "top_p",
    least: 0.0,
    above: true,
    most: 1.0,
};
/// How many of the most likely tokens are kept; -1 and 0 keep all.
pub const TOP_K: Integers = Integers {
    name: "top_k",
    least: -1,
    most: u32::MAX as i64,
};
/// The least probability that is kept, as a share of the largest.
pub const MIN_P: Numbers = Numbers {
    name: "min_p",
    least: 0.0,
    above: false,
    most: 1.0,
};
/// What makes a draw repeatable.
pub const SEED: Integers = Integers {
    name: "seed",
    least: i64::MIN,
    most: i64::MAX,
};
/// Taken from the logits of tokens that were generated before.
pub const PRESENCE_PENALTY: Numbers = Numbers {
    name: "presence_penalty",
    least: -2.0,
    above: false,
    most: 2.0,
};
/// Taken from the logits of tokens for each time they were generated before.
pub const FREQUENCY_PENALTY: Numbers = Numbers {
    name: "frequency_penalty",
    least: -2.0,
    above: false,
    most: 2.0,
};
/// Divides the logits of tokens that came before; 1 changes nothing.
pub const REPETITION_PENALTY: Numbers = Numbers {
    name: "repetition_penalty",
    least: 0.0,
    above: true,
    most: 10.0,
};
/// Added to the logit of one token.
pub const LOGIT_BIAS: Numbers = Numbers {
    name: "logit_bias",
    least: -100.0,
    above: false,
    most: 100.0,
};
/// The most tokens to generate.
pub const MAX_TOKENS: Integers = Integers {
    name: "max_tokens",
    least: 1,
    most: u32::MAX as i64,
};
/// The same, under the name that newer clients use.
pub const MAX_COMPLETION_TOKENS: Integers = Integers {
    name: "max_completion_tokens",
    least: 1,
    most: u32::MAX as i64,
};
/// The same for a completion, which may only echo its prompt.
pub const MAX_TOKENS_WITH_ECHO: Integers = Integers {
    name: "max_tokens",
    least: 0,
    most: u32::MAX as i64,
};
/// How many answers are generated.
pub const N: Integers = Integers {
    name: "n",
    least: 1,
    most: 16,
};
/// How many are generated of which `n` are answered; here they must be the same.
pub const BEST_OF: Integers = Integers {
    name: "best_of",
    least: 1,
    most: N.most,
};
/// How many alternatives are told for each token of a chat.
pub const TOP_LOGPROBS: Integers = Integers {
    name: "top_logprobs",
    least: 0,
    most: 20,
};
/// How many alternatives are told for each token of a completion.
pub const LOGPROBS: Integers = Integers {
    name: "logprobs",
    least: 0,
    most: 20,
};
/// A token id of a prompt; the model's vocabulary bounds it further.
pub const TOKEN_ID: Integers = Integers {
    name: "prompt",
    least: 0,
    most: u32::MAX as i64,
};

/// The most stop strings of a request.
pub const MAX_STOPS: usize = 16;
/// The most prompts of a request.
pub const MAX_PROMPTS: usize = 128;
/// The most tools of a request.
pub const MAX_TOOLS: usize = 128;
/// The longest label of a session, in characters.
pub const MAX_LABEL: usize = 256;
/// The longest name of a function, of a schema and of a message's author, in characters.
pub const MAX_NAME: usize = 64;

impl Integers {
    /// The value of the field; absent and null are `None`.
    ///
    /// # Errors
    /// A value out of the range, or one with a fraction. An integer that is written with one (`5.0`) is taken.
    pub fn read(&self, given: Option<&Number>) -> Result<Option<i64>, ApiError> {
        given.map(|given| self.check(self.name, given)).transpose()
    }

    /// As [`Integers::read`], of a value that stands at `param`.
    ///
    /// # Errors
    /// As [`Integers::read`].
    pub fn check(&self, param: &str, given: &Number) -> Result<i64, ApiError> {
        integer(given)
            .filter(|value| (self.least..=self.most).contains(value))
            .ok_or_else(|| {
                let Self { least, most, .. } = self;
                let message =
                    format!("`{param}` is {given}, and must be an integer from {least} to {most}");
                ApiError::invalid(param, message)
            })
    }

    /// The JSON schema of the field.
    pub fn schema(&self) -> Value {
        json!({ "type": "integer", "minimum": self.least, "maximum": self.most })
    }
}

impl Numbers {
    /// The value of the field; absent and null are `None`.
    ///
    /// # Errors
    /// A value out of the range.
    pub fn read(&self, given: Option<&Number>) -> Result<Option<f32>, ApiError> {
        given.map(|given| self.check(self.name, given)).transpose()
    }

    /// As [`Numbers::read`], of a value that stands at `param`.
    ///
    /// # Errors
    /// As [`Numbers::read`].
    pub fn check(&self, param: &str, given: &Number) -> Result<f32, ApiError> {
        let least = f64::from(self.least);
        given
            .as_f64()
            .filter(|value| (least..=f64::from(self.most)).contains(value))
            .filter(|value| !self.above || *value > least)
            // A value so small that it would be 0 in the engine's precision is the least above 0 there.
            .map(|value| (value as f32).max(self.lowest()))
            .ok_or_else(|| {
                let Self { least, most, .. } = self;
                let from = if self.above { "above" } else { "from" };
                let to = if self.above { "and at most" } else { "to" };
                let message = format!(
                    "`{param}` is {given}, and must be a number {from} {least} {to} {most}"
                );
                ApiError::invalid(param, message)
            })
    }

    /// The least value that is taken.
    fn lowest(&self) -> f32 {
        if self.above {
            self.least.next_up()
        } else {
            self.least
        }
    }

    /// The JSON schema of the field.
    pub fn schema(&self) -> Value {
        let least = if self.above {
            "exclusiveMinimum"
        } else {
            "minimum"
        };
        json!({ "type": "number", least: self.least, "maximum": self.most })
    }
}

/// The integer that a JSON number is.
fn integer(given: &Number) -> Option<i64> {
    // 2^63: every float below it that has no fraction is an i64.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    given.as_i64().or_else(|| {
        let value = given.as_f64()?;
        (value.fract() == 0.0 && (-BEYOND..BEYOND).contains(&value)).then_some(value as i64)
    })
}
