//! How likely tokens were, in the two forms that OpenAI has.

use super::answer::ScoredToken;
use super::served::ServedModel;
use crate::http::error::{ApiError, ErrorKind};
use crate::http::responses::{ChatLogprobs, CompletionLogprobs, TokenLogprob};

/// The bytes of a token, with the text of a control token.
fn bytes(model: &ServedModel, token: u32) -> Result<Vec<u8>, ApiError> {
    let bytes = model.tokenizer.decode_bytes(&[token], false);
    bytes.map_err(|error| ApiError::new(ErrorKind::Server, error.to_string()))
}

/// A token as it is told, and those that were likeliest in its place.
fn told(
    model: &ServedModel,
    scored: &ScoredToken,
) -> Result<(TokenLogprob, Vec<TokenLogprob>), ApiError> {
    let of = |token, logprob: f64| Ok(TokenLogprob::new(bytes(model, token)?, logprob as f32));
    let top = scored.logprobs.top.iter();
    Ok((
        of(scored.id, scored.logprobs.logprob)?,
        top.map(|other| of(other.token, other.logprob))
            .collect::<Result<_, ApiError>>()?,
    ))
}

/// Tokens of a chat.
///
/// # Errors
/// None that tokens of this model could have.
pub fn of_chat(model: &ServedModel, tokens: &[ScoredToken]) -> Result<ChatLogprobs, ApiError> {
    let mut list = ChatLogprobs::default();
    for scored in tokens {
        let (token, top) = told(model, scored)?;
        list.push(token, top);
    }
    Ok(list)
}

/// Tokens of a completion, the first of which begins at character `offset`; it is moved on behind the last.
///
/// # Errors
/// None that tokens of this model could have.
pub fn of_completion(
    model: &ServedModel,
    tokens: &[ScoredToken],
    offset: &mut usize,
) -> Result<CompletionLogprobs, ApiError> {
    let mut list = CompletionLogprobs::default();
    for scored in tokens {
        let (token, top) = told(model, scored)?;
        list.push(token, top, *offset);
        // A character is counted where it begins: the bytes that continue one have these two bits.
        let begins = |byte: &&u8| **byte & 0b1100_0000 != 0b1000_0000;
        *offset += bytes(model, scored.id)?.iter().filter(begins).count();
    }
    Ok(list)
}
