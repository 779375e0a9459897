//! What a request has taken, counted while its answers come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::http::responses::Usage;

/// The tokens of a request. Copies count together.
///
/// A prompt counts once, however many answers it has, and so do those of its tokens that were cached: as many as its
/// first answer found. The others begin with what the first has read.
#[derive(Debug, Clone)]
pub struct Spent {
    prompt: u64,
    answers_per_prompt: u32,
    cached: Arc<AtomicU64>,
    generated: Arc<AtomicU64>,
}

impl Spent {
    /// Of a request whose prompts have so many tokens.
    #[must_use]
    pub fn new(prompt: u64, answers_per_prompt: u32) -> Self {
        Self {
            prompt,
            answers_per_prompt: answers_per_prompt.max(1),
            cached: Arc::default(),
            generated: Arc::default(),
        }
    }

    /// Counts an answer that has ended, by its number from 0: those of the first prompt, then those of the next.
    pub fn count(&self, index: u32, generated: u32, cached: u64) {
        self.generated
            .fetch_add(u64::from(generated), Ordering::Relaxed);
        if index.is_multiple_of(self.answers_per_prompt) {
            self.cached.fetch_add(cached, Ordering::Relaxed);
        }
    }

    /// The usage so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let [cached, generated] =
            [&self.cached, &self.generated].map(|count| count.load(Ordering::Relaxed));
        Usage::new(self.prompt, cached, generated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_counts_once_with_what_its_first_answer_found() {
        let spent = Spent::new(30, 2);
        for (index, cached) in [(1, 9), (0, 4), (2, 5), (3, 14)] {
            spent.clone().count(index, 3, cached);
        }
        assert_eq!(spent.usage(), Usage::new(30, 4 + 5, 12));
    }
}
