//! The bodies of the routes under /v1/sessions.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Number;

use super::completions::token_ids;
use super::settings::{SamplingSettings, sampling_fields};
use crate::http::error::{ApiError, shorten};
use crate::http::ranges::{MAX_LABEL, MAX_TOKENS};

/// How much of a value that is wrong is repeated, in characters.
const QUOTED: usize = 40;

/// The body of POST /v1/sessions as it was sent. Fields that are not here are not looked at.
#[derive(Debug, Clone, Deserialize)]
pub struct NewSessionBody {
    label: Option<String>,
    eos_token_ids: Option<Vec<Number>>,
}

/// What the body asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    /// The client's own name for it, which may be empty.
    pub label: String,
    /// The tokens that end what it says; none are the model's own.
    pub eos: Option<Vec<u32>>,
}

impl NewSessionBody {
    /// What the body asks for.
    ///
    /// # Errors
    /// A label that is too long, or a list with what is no token id.
    pub fn validate(self) -> Result<NewSession, ApiError> {
        let label = self.label.unwrap_or_default();
        let length = label.chars().count();
        if length > MAX_LABEL {
            let message = format!("`label` has {length} characters, and may have {MAX_LABEL}");
            return Err(ApiError::invalid("label", message));
        }
        let eos = self.eos_token_ids;
        let eos = eos.map(|given| token_ids("eos_token_ids", &given));
        Ok(NewSession {
            label,
            eos: eos.transpose()?,
        })
    }
}

/// The body of POST /v1/sessions/{id}/tokens as it was sent. Fields that are not here are not looked at.
#[derive(Debug, Clone, Deserialize)]
pub struct AppendBody {
    tokens: Option<Vec<Number>>,
}

impl AppendBody {
    /// The tokens to append; none only tell that the session is in use.
    ///
    /// # Errors
    /// No list of tokens, or one with what is no token id.
    pub fn validate(self) -> Result<Vec<u32>, ApiError> {
        let tokens = self.tokens.ok_or_else(|| ApiError::missing("tokens"))?;
        token_ids("tokens", &tokens)
    }
}

/// The query of GET /v1/sessions/{id}/tokens. Parameters that are not here are not looked at.
#[derive(Debug)]
pub struct HistoryQuery;

impl HistoryQuery {
    /// The position of the first token that is asked for; by default the first of all.
    ///
    /// # Errors
    /// A `from` that is no position.
    pub fn read(query: Option<&str>) -> Result<u64, ApiError> {
        let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        let mut from = 0;
        for (_, value) in pairs.filter(|(name, _)| name == "from") {
            from = value.parse().map_err(|_| {
                let found = shorten(&value, QUOTED);
                let message = format!(
                    "`from` is `{found}`, and must be a position, from 0 to {}",
                    u64::MAX
                );
                ApiError::invalid("from", message)
            })?;
        }
        Ok(from)
    }
}

/// The body of POST /v1/sessions/{id}/generate as it was sent. Fields that are not here are not looked at.
#[derive(Debug, Clone, Deserialize)]
pub struct ContinueBody {
    max_tokens: Option<Number>,
    temperature: Option<Number>,
    top_p: Option<Number>,
    top_k: Option<Number>,
    min_p: Option<Number>,
    seed: Option<Number>,
    presence_penalty: Option<Number>,
    frequency_penalty: Option<Number>,
    repetition_penalty: Option<Number>,
    logit_bias: Option<BTreeMap<String, Number>>,
}

/// What the body asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Continue {
    /// The most tokens to generate.
    pub max_tokens: u32,
    /// How each is drawn.
    pub sampling: SamplingSettings,
}

impl ContinueBody {
    /// What the body asks for.
    ///
    /// # Errors
    /// A field that is missing or out of its range.
    pub fn validate(self) -> Result<Continue, ApiError> {
        let most = MAX_TOKENS.read(self.max_tokens.as_ref())?;
        let most = most.ok_or_else(|| ApiError::missing(MAX_TOKENS.name))?;
        Ok(Continue {
            max_tokens: most as u32,
            sampling: sampling_fields!(self).validate()?,
        })
    }
}
