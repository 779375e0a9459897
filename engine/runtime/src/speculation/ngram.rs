//! Prompt lookup: what came after the last few tokens when they came before (Saxena 2023, "Prompt Lookup Decoding").
//!
//! It costs a search through the history, and is right where a text repeats itself: summaries, edits, code.

use std::sync::Arc;

use super::proposer::{Proposal, Proposer, ProposerError, Proposers};

/// Tokens that have to match. One alone says little: it would propose something nearly always, and seldom be right.
const LEAST: usize = 2;
/// Tokens after which a match is as good as any: the search ends with the latest such.
const LONGEST: usize = 16;
/// The latest tokens that are searched: a quarter of a millisecond at most.
const SEARCHED: usize = 1 << 16;

/// Proposers that look for repetitions.
#[derive(Debug, Default)]
pub struct PromptLookup;

impl Proposers for PromptLookup {
    fn name(&self) -> &'static str {
        "ngram"
    }

    fn start(self: Arc<Self>) -> Result<Box<dyn Proposer>, ProposerError> {
        Ok(Box::new(Lookup::default()))
    }
}

/// The latest tokens of one session.
#[derive(Debug, Default)]
struct Lookup {
    tokens: Vec<u32>,
}

impl Proposer for Lookup {
    fn extend(&mut self, tokens: &[u32], _: Option<&[f32]>) {
        self.tokens
            .extend_from_slice(&tokens[tokens.len().saturating_sub(SEARCHED)..]);
        // Half as much again before anything is moved, so that it is seldom.
        if self.tokens.len() > SEARCHED + SEARCHED / 2 {
            self.tokens.drain(..self.tokens.len() - SEARCHED);
        }
    }

    fn propose(&mut self, most: usize) -> Result<Proposal, ProposerError> {
        let Some((end, length)) = longest_match(&self.tokens) else {
            return Ok(Proposal::default());
        };
        // A match near the end goes on with what it has proposed itself: a repetition goes round.
        let mut tokens = Vec::with_capacity(most);
        for at in end..end + most {
            let token = self.tokens.get(at).copied();
            tokens.push(token.unwrap_or_else(|| tokens[at - self.tokens.len()]));
        }
        let kind = match length {
            ..=2 => 0,
            3..=4 => 1,
            5..=8 => 2,
            _ => 3,
        };
        Ok(Proposal { tokens, kind })
    }
}

/// The longest sequence before the end that the last tokens repeat: where it ends, and its length, from [`LEAST`] to
/// [`LONGEST`]. Of several the latest.
fn longest_match(tokens: &[u32]) -> Option<(usize, usize)> {
    let (last, before) = tokens.split_last()?;
    let mut best = None;
    let mut longest = LEAST - 1;
    for (at, token) in before.iter().enumerate().rev() {
        if token != last {
            continue;
        }
        let alike = before[..at]
            .iter()
            .rev()
            .zip(before.iter().rev())
            .take(LONGEST - 1)
            .take_while(|(one, other)| one == other);
        let length = 1 + alike.count();
        if length > longest {
            (best, longest) = (Some((at + 1, length)), length);
            if longest == LONGEST {
                break;
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposed(history: &[u32], most: usize) -> Proposal {
        let mut lookup = Lookup::default();
        lookup.extend(history, None);
        lookup.propose(most).expect("lookups do not fail")
    }

    #[test]
    fn what_followed_the_last_tokens_is_proposed() {
        let proposal = proposed(&[1, 2, 3, 4, 5, 9, 1, 2, 3], 3);
        assert_eq!(proposal.tokens, [4, 5, 9]);
        assert_eq!(proposal.kind, 1);
    }

    #[test]
    fn one_token_alone_is_no_match_and_nothing_is_proposed_of_nothing() {
        assert_eq!(proposed(&[7, 1, 2, 8, 1], 4), Proposal::default());
        assert_eq!(proposed(&[7], 4), Proposal::default());
        assert_eq!(proposed(&[], 4), Proposal::default());
    }

    #[test]
    fn the_longest_match_wins_and_of_equals_the_latest() {
        let longer = [5, 1, 2, 3, 10, 8, 2, 3, 11, 5, 1, 2, 3];
        assert_eq!(proposed(&longer, 1).tokens, [10]);
        let equal = [1, 2, 10, 0, 1, 2, 11, 9, 1, 2];
        assert_eq!(proposed(&equal, 1).tokens, [11]);
    }

    #[test]
    fn a_repetition_goes_round() {
        assert_eq!(
            proposed(&[1, 2, 3, 1, 2, 3, 1, 2], 7).tokens,
            [3, 1, 2, 3, 1, 2, 3]
        );
        assert_eq!(proposed(&[4, 4, 4], 5).tokens, [4; 5]);
    }

    #[test]
    fn a_match_is_as_long_as_it_is_up_to_its_limit() {
        let run: Vec<u32> = (100..130).collect();
        let history: Vec<u32> = [&run[..], &[1], &run[..]].concat();
        let (end, length) = longest_match(&history).expect("a match");
        assert_eq!((end, length), (run.len(), LONGEST));
        assert_eq!(
            longest_match(&[&[1, 2, 3][..], &[0, 1, 2, 3]].concat()),
            Some((3, 3))
        );
    }

    #[test]
    fn the_oldest_tokens_of_a_long_history_are_forgotten() {
        let mut lookup = Lookup::default();
        lookup.extend(&[1, 2, 3], None);
        for start in 0..4 {
            let numbers = start * SEARCHED as u32..(start + 1) * SEARCHED as u32;
            lookup.extend(&numbers.map(|number| number + 10).collect::<Vec<_>>(), None);
            assert!(lookup.tokens.len() <= 2 * SEARCHED);
        }
        lookup.extend(&[1, 2], None);
        assert_eq!(lookup.propose(1).expect("an answer"), Proposal::default());
    }
}
