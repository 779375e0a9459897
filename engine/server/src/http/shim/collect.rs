//! Several answers together: each whole, or their parts as they come.

use futures::future::try_join_all;
use futures::stream::{self, Stream, StreamExt};

use super::answer::{Answer, Part, ScoredToken};
use crate::http::error::{ApiError, ErrorKind};
use crate::http::responses::FinishReason;

/// An answer that has ended.
#[derive(Debug)]
pub struct Whole {
    /// All of its text.
    pub text: String,
    /// Its tokens, if they are asked for.
    pub tokens: Vec<ScoredToken>,
    /// Why it ended.
    pub reason: FinishReason,
    /// Tokens that were generated.
    pub generated: u32,
    /// Tokens of its prompt that were cached.
    pub cached: u64,
}

/// Reads all answers to their ends. One that fails ends the others.
///
/// # Errors
/// The first failure.
pub async fn whole(answers: Vec<Answer>) -> Result<Vec<Whole>, ApiError> {
    try_join_all(answers.into_iter().map(read)).await
}

async fn read(mut answer: Answer) -> Result<Whole, ApiError> {
    let (mut text, mut tokens) = (String::new(), Vec::new());
    while let Some(part) = answer.next().await {
        match part? {
            Part::Text {
                text: more,
                tokens: scored,
            } => {
                text += &more;
                tokens.extend(scored);
            }
            Part::End {
                reason,
                generated,
                cached,
            } => {
                return Ok(Whole {
                    text,
                    tokens,
                    reason,
                    generated,
                    cached,
                });
            }
        }
    }
    Err(ApiError::new(ErrorKind::Server, "an answer without an end"))
}

/// The parts of all answers as they come, each with its answer's number.
pub fn parts(
    answers: Vec<Answer>,
) -> impl Stream<Item = Result<(u32, Part), ApiError>> + Send + 'static {
    let numbered = (0..).zip(answers).map(|(index, answer)| {
        let parts = stream::unfold(answer, |mut answer| async {
            Some((answer.next().await?, answer))
        });
        parts
            .map(move |part| part.map(|part| (index, part)))
            .boxed()
    });
    stream::select_all(numbered)
}
