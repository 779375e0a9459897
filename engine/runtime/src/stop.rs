//! Stop sequences: whether the tokens that a generation has emitted end with one.

use std::collections::VecDeque;

/// The stop sequences of one generation, and the tokens that the longest of them could still end with.
///
/// The tail is compared with every sequence at each token. With at most 16 sequences of 64 tokens that is nothing
/// beside a forward pass, and unlike an automaton it has no state to fall back from when sequences overlap.
#[derive(Clone, Debug)]
pub(crate) struct StopMatcher {
    sequences: Vec<Vec<u32>>,
    longest: usize,
    tail: VecDeque<u32>,
}

impl StopMatcher {
    /// A matcher for validated sequences, none of which is empty. With none it never matches.
    pub(crate) fn new(sequences: Vec<Vec<u32>>) -> Self {
        let longest = sequences.iter().map(Vec::len).max().unwrap_or(0);
        Self {
            sequences,
            longest,
            tail: VecDeque::with_capacity(longest),
        }
    }

    /// Takes note of an emitted token. Whether it completes a sequence.
    pub(crate) fn completes(&mut self, token: u32) -> bool {
        if self.longest == 0 {
            return false;
        }
        if self.tail.len() == self.longest {
            self.tail.pop_front();
        }
        self.tail.push_back(token);
        self.sequences.iter().any(|sequence| {
            sequence.len() <= self.tail.len()
                && self
                    .tail
                    .iter()
                    .rev()
                    .zip(sequence.iter().rev())
                    .all(|(a, b)| a == b)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: u32 = 7;
    const B: u32 = 8;
    const C: u32 = 9;

    /// The index of the first token of `emitted` that completes one of `sequences`.
    fn first(sequences: &[&[u32]], emitted: &[u32]) -> Option<usize> {
        let sequences = sequences.iter().map(|sequence| sequence.to_vec());
        let mut matcher = StopMatcher::new(sequences.collect());
        emitted.iter().position(|token| matcher.completes(*token))
    }

    #[test]
    fn no_sequences_never_match() {
        assert_eq!(first(&[], &[A, B, C]), None);
    }

    #[test]
    fn a_sequence_matches_at_its_last_token_and_only_in_order() {
        assert_eq!(first(&[&[B]], &[A, B, C]), Some(1));
        assert_eq!(first(&[&[A, B, C]], &[A, B, C]), Some(2));
        assert_eq!(first(&[&[B, A]], &[A, B, B, C]), None);
        assert_eq!(first(&[&[A, C]], &[A, B, C]), None);
    }

    #[test]
    fn a_sequence_needs_all_of_its_tokens_to_be_emitted() {
        assert_eq!(first(&[&[A, B, C]], &[B, C]), None);
        assert_eq!(first(&[&[A, A]], &[A]), None);
        assert_eq!(first(&[&[A, A]], &[A, A]), Some(1));
    }

    #[test]
    fn a_sequence_that_overlaps_itself_is_found() {
        assert_eq!(first(&[&[A, A, B]], &[A, A, A, B]), Some(3));
        assert_eq!(
            first(&[&[A, B, A, C]], &[A, B, A, B, A, C]),
            Some(5),
            "the second `a b` begins the match"
        );
        assert_eq!(first(&[&[A, B, A, A]], &[A, B, A, B, A, A]), Some(5));
    }

    #[test]
    fn the_earliest_completion_wins_whatever_the_order_of_the_sequences() {
        let (long, short): (&[u32], &[u32]) = (&[A, B, C], &[B]);
        for sequences in [[long, short], [short, long]] {
            assert_eq!(first(&sequences, &[A, B, C]), Some(1));
        }
        // One inside the other, and one that the failure of another uncovers.
        assert_eq!(first(&[&[A, B, B, C], &[B, B]], &[A, B, B, C]), Some(2));
        assert_eq!(first(&[&[A, A, A, C], &[A, B]], &[A, A, A, B]), Some(3));
    }

    #[test]
    fn every_match_agrees_with_a_search_over_all_that_was_emitted() {
        // All texts of eight tokens over two ids, against sequences of up to four of them.
        let sequences: [&[u32]; 4] = [&[1, 0, 1, 1], &[0, 0, 0], &[1, 1, 0, 1], &[0, 1, 0, 0]];
        for text in 0..1u32 << 8 {
            let emitted: Vec<u32> = (0..8).map(|bit| text >> bit & 1).collect();
            let expected = (0..8).find(|at| {
                sequences
                    .iter()
                    .any(|sequence| emitted[..=*at].ends_with(sequence))
            });
            assert_eq!(first(&sequences, &emitted), expected, "{emitted:?}");
        }
    }
}
