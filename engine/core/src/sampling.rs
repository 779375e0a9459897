//! How the next token is drawn, as asked for by a request.

use std::ops::RangeInclusive;

/// The hottest temperature accepted. Beyond it the distribution is flat to the last bit anyway.
const HOTTEST: f32 = 100.0;

/// OpenAI's range of the presence and the frequency penalty.
const PENALTIES: RangeInclusive<f32> = -2.0..=2.0;

/// The strongest repetition penalty accepted. The paper uses 1.2; ten times a logit leaves nothing to draw.
const STRONGEST: f32 = 10.0;

/// Sampling settings. The default is greedy.
///
/// They apply in this order: the repetition penalty, the frequency and the presence penalty, the biases of the
/// generation, then the temperature, `top_k`, `top_p` and `min_p`, and the draw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides the logits, 0 to 100; 0 takes the largest logit once penalties and biases are applied, and nothing is
    /// drawn.
    pub temperature: f32,
    /// Keeps the most likely tokens whose probabilities add up to this, above 0 and at most 1; 1 keeps all.
    pub top_p: f32,
    /// Keeps so many of the most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Keeps the tokens that are at least this times as likely as the likeliest one, 0 to 1; 0 keeps all.
    pub min_p: f32,
    /// Taken off the logit of every token that this generation has emitted, -2 to 2; 0 is off.
    pub presence_penalty: f32,
    /// Taken off a token's logit once for each time that this generation has emitted it, -2 to 2; 0 is off.
    pub frequency_penalty: f32,
    /// For every token of the session's history, which includes what was emitted, once however often it came:
    /// divides its logit where that is positive, and multiplies it where it is not. Above 0, at most 10; 1 is off.
    /// From CTRL (Keskar et al. 2019), section 4.1, with the sign told apart as is usual since.
    pub repetition_penalty: f32,
    /// Makes the draw repeatable; without one, a random one is taken.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            seed: None,
        }
    }
}

/// A sampling value out of its range.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum SamplingError {
    /// Temperature.
    #[error("temperature is {value}, and must be from 0 to {HOTTEST}")]
    Temperature {
        /// The value given.
        value: f32,
    },
    /// Nucleus probability.
    #[error("top_p is {value}, and must be above 0 and at most 1")]
    TopP {
        /// The value given.
        value: f32,
    },
    /// Least probability relative to the likeliest token's.
    #[error("min_p is {value}, and must be from 0 to 1")]
    MinP {
        /// The value given.
        value: f32,
    },
    /// Presence penalty.
    #[error("presence_penalty is {value}, and must be from {} to {}", PENALTIES.start(), PENALTIES.end())]
    PresencePenalty {
        /// The value given.
        value: f32,
    },
    /// Frequency penalty.
    #[error("frequency_penalty is {value}, and must be from {} to {}", PENALTIES.start(), PENALTIES.end())]
    FrequencyPenalty {
        /// The value given.
        value: f32,
    },
    /// Repetition penalty.
    #[error("repetition_penalty is {value}, and must be above 0 and at most {STRONGEST}")]
    RepetitionPenalty {
        /// The value given.
        value: f32,
    },
}

impl Sampling {
    /// Refuses values out of range, and those that are no number.
    ///
    /// # Errors
    /// The first value that is out of range, in the order of [`SamplingError`].
    pub fn validate(&self) -> Result<(), SamplingError> {
        // The next number above 0 is the least that can be asked for where 0 cannot.
        let above_zero = f32::from_bits(1);
        let value = self.temperature;
        within(value, 0.0..=HOTTEST, SamplingError::Temperature { value })?;
        let value = self.top_p;
        within(value, above_zero..=1.0, SamplingError::TopP { value })?;
        let value = self.min_p;
        within(value, 0.0..=1.0, SamplingError::MinP { value })?;
        let value = self.presence_penalty;
        within(value, PENALTIES, SamplingError::PresencePenalty { value })?;
        let value = self.frequency_penalty;
        within(value, PENALTIES, SamplingError::FrequencyPenalty { value })?;
        let value = self.repetition_penalty;
        let range = above_zero..=STRONGEST;
        within(value, range, SamplingError::RepetitionPenalty { value })
    }

    /// Whether the largest logit is taken and nothing is drawn.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }
}

/// What is no number is within no range.
fn within(
    value: f32,
    range: RangeInclusive<f32>,
    error: SamplingError,
) -> Result<(), SamplingError> {
    range.contains(&value).then_some(()).ok_or(error)
}
