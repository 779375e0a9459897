//! How the next token is drawn, as asked for by a request.

/// The hottest temperature accepted. Beyond it the distribution is flat to the last bit anyway.
const HOTTEST: f32 = 100.0;

/// Sampling settings. The default is greedy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the largest logit, whatever the rest says.
    pub temperature: f32,
    /// Keeps the most likely tokens whose probabilities add up to this; 1 keeps all.
    pub top_p: f32,
    /// Keeps so many of the most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Makes the draw repeatable; without one, a random one is taken.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
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
}

impl Sampling {
    /// Refuses values out of range, and those that are no number.
    ///
    /// # Errors
    /// The first value that is out of range.
    pub fn validate(&self) -> Result<(), SamplingError> {
        if !(0.0..=HOTTEST).contains(&self.temperature) {
            return Err(SamplingError::Temperature {
                value: self.temperature,
            });
        }
        // The next number above 0 is the least probability mass that can be asked for.
        if !(f32::from_bits(1)..=1.0).contains(&self.top_p) {
            return Err(SamplingError::TopP { value: self.top_p });
        }
        Ok(())
    }

    /// Whether the largest logit is taken and nothing is drawn.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }
}
