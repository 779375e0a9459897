//! What chats and completions ask for in the same words: how tokens are drawn, where an answer ends, how it is sent.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Number;

use super::json::{Object, TextOr};
use crate::http::error::ApiError;
use crate::http::ranges::{
    FREQUENCY_PENALTY, LOGIT_BIAS, MAX_STOPS, MIN_P, PRESENCE_PENALTY, REPETITION_PENALTY, SEED,
    TEMPERATURE, TOP_K, TOP_P,
};

/// How each token is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingSettings {
    /// Divides the logits; 0 takes the largest.
    pub temperature: f32,
    /// The probability mass that is kept; 1 keeps all.
    pub top_p: f32,
    /// How many of the most likely tokens are kept; 0 keeps all.
    pub top_k: u32,
    /// The least probability that is kept, as a share of the largest; 0 keeps all.
    pub min_p: f32,
    /// Makes the draw repeatable: the bits of the integer that was sent.
    pub seed: Option<u64>,
    /// Taken from the logits of tokens that were generated before.
    pub presence_penalty: f32,
    /// Taken from the logits of tokens for each time they were generated before.
    pub frequency_penalty: f32,
    /// Divides (or multiplies, below 0) the logits of tokens that came before; 1 changes nothing.
    pub repetition_penalty: f32,
    /// Added to the logits of single tokens.
    pub logit_bias: BTreeMap<u32, f32>,
}

impl Default for SamplingSettings {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            seed: None,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            logit_bias: BTreeMap::new(),
        }
    }
}

/// The same as it was sent.
#[derive(Debug, Default)]
pub(super) struct SamplingFields {
    pub temperature: Option<Number>,
    pub top_p: Option<Number>,
    pub top_k: Option<Number>,
    pub min_p: Option<Number>,
    pub seed: Option<Number>,
    pub presence_penalty: Option<Number>,
    pub frequency_penalty: Option<Number>,
    pub repetition_penalty: Option<Number>,
    pub logit_bias: Option<BTreeMap<String, Number>>,
}

/// The sampling fields of a body. (A flattened struct would be read by way of a buffer, which loses the paths of
/// what is wrong in it.)
macro_rules! sampling_fields {
    ($body:expr) => {
        $crate::http::requests::settings::SamplingFields {
            temperature: $body.temperature,
            top_p: $body.top_p,
            top_k: $body.top_k,
            min_p: $body.min_p,
            seed: $body.seed,
            presence_penalty: $body.presence_penalty,
            frequency_penalty: $body.frequency_penalty,
            repetition_penalty: $body.repetition_penalty,
            logit_bias: $body.logit_bias,
        }
    };
}
pub(super) use sampling_fields;

impl SamplingFields {
    pub(super) fn validate(&self) -> Result<SamplingSettings, ApiError> {
        let default = SamplingSettings::default();
        let top_k = TOP_K.read(self.top_k.as_ref())?.unwrap_or(0);
        Ok(SamplingSettings {
            temperature: TEMPERATURE
                .read(self.temperature.as_ref())?
                .unwrap_or(default.temperature),
            top_p: TOP_P.read(self.top_p.as_ref())?.unwrap_or(default.top_p),
            // -1 is another way to say that none is left out.
            top_k: u32::try_from(top_k).unwrap_or(0),
            min_p: MIN_P.read(self.min_p.as_ref())?.unwrap_or(default.min_p),
            seed: SEED.read(self.seed.as_ref())?.map(i64::cast_unsigned),
            presence_penalty: PRESENCE_PENALTY
                .read(self.presence_penalty.as_ref())?
                .unwrap_or(default.presence_penalty),
            frequency_penalty: FREQUENCY_PENALTY
                .read(self.frequency_penalty.as_ref())?
                .unwrap_or(default.frequency_penalty),
            repetition_penalty: REPETITION_PENALTY
                .read(self.repetition_penalty.as_ref())?
                .unwrap_or(default.repetition_penalty),
            logit_bias: self
                .logit_bias
                .as_ref()
                .map(biases)
                .transpose()?
                .unwrap_or_default(),
        })
    }
}

fn biases(given: &BTreeMap<String, Number>) -> Result<BTreeMap<u32, f32>, ApiError> {
    let read = |(key, bias): (&String, &Number)| {
        let token = key
            .parse::<u32>()
            .ok()
            // One spelling for each token, so that none is named twice.
            .filter(|token| token.to_string() == *key)
            .ok_or_else(|| {
                let key: String = key.chars().take(40).collect();
                let message =
                    format!("`logit_bias` has the key `{key}`, and each must be a token id");
                ApiError::invalid(LOGIT_BIAS.name, message)
            })?;
        let bias = LOGIT_BIAS.check(&format!("logit_bias.{token}"), bias)?;
        Ok((token, bias))
    };
    given.iter().map(read).collect()
}

/// Where an answer ends besides: at any of these texts.
pub(super) fn stops(given: Option<TextOr<Vec<String>>>) -> Result<Vec<String>, ApiError> {
    let stops = match given {
        None => Vec::new(),
        Some(TextOr::Text(stop)) => vec![("stop".to_owned(), stop)],
        Some(TextOr::Other(stops)) => {
            let named = |(index, stop)| (format!("stop[{index}]"), stop);
            stops.into_iter().enumerate().map(named).collect()
        }
    };
    if stops.len() > MAX_STOPS {
        let message = format!(
            "`stop` has {} strings, and may have {MAX_STOPS}",
            stops.len()
        );
        return Err(ApiError::invalid("stop", message));
    }
    let filled = |(param, stop): (String, String)| {
        if stop.is_empty() {
            let message = format!("`{param}` is empty, and a stop string has a character or more");
            return Err(ApiError::invalid(param, message));
        }
        Ok(stop)
    };
    stops.into_iter().map(filled).collect()
}

/// What is sent with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct StreamOptionsBody {
    include_usage: Option<bool>,
}

/// How an answer is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// In one piece.
    Whole,
    /// As events.
    Stream {
        /// Whether a last event, before the end, tells the usage.
        include_usage: bool,
    },
}

impl Delivery {
    pub(super) fn read(
        stream: Option<bool>,
        options: Option<Object<StreamOptionsBody>>,
    ) -> Result<Self, ApiError> {
        match (stream.unwrap_or(false), options) {
            (false, None) => Ok(Self::Whole),
            (false, Some(_)) => Err(ApiError::invalid(
                "stream_options",
                "`stream_options` is only allowed with `stream` set",
            )),
            (true, options) => Ok(Self::Stream {
                include_usage: options
                    .and_then(|Object(options)| options.include_usage)
                    .unwrap_or(false),
            }),
        }
    }
}

/// The model that a request names.
pub(super) fn model(given: Option<String>) -> Result<String, ApiError> {
    given.ok_or_else(|| ApiError::missing("model"))
}
