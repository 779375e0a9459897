//! Merging neighbours, best score first, by a priority queue over a linked list: n log n steps for n
//! characters, however they are arranged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

/// A token that two neighbours can become.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) id: u32,
    /// Its score's place among all scores: of two merges, the one with the greater rank comes first.
    pub(super) rank: u32,
}

/// Beyond either end of the list.
const NONE: usize = usize::MAX;

/// A stretch of the text that is one symbol for now; an empty one has been merged into its neighbour.
struct Symbol {
    start: usize,
    length: usize,
    previous: usize,
    next: usize,
}

/// Merges that may be made, the best one on top: by rank, and of equal ones the one furthest left. `length`
/// is that of both symbols together when it was found, so that a merge they no longer fit can be told.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: Reverse<usize>,
    right: usize,
    length: usize,
}

struct Merging<'t, F> {
    text: &'t str,
    piece: F,
    symbols: Vec<Symbol>,
    candidates: BinaryHeap<Candidate>,
}

/// Starts with every character alone and merges until no two neighbours make a token. Returns what is left
/// as byte ranges that cover the text in order.
pub(super) fn merge(
    text: &str,
    piece: impl Fn(&str) -> Option<Piece>,
) -> impl Iterator<Item = Range<usize>> {
    let mut symbols: Vec<Symbol> = text
        .char_indices()
        .enumerate()
        .map(|(index, (start, character))| Symbol {
            start,
            length: character.len_utf8(),
            previous: index.wrapping_sub(1),
            next: index + 1,
        })
        .collect();
    if let Some(last) = symbols.last_mut() {
        last.next = NONE;
    }
    let mut merging = Merging {
        text,
        piece,
        symbols,
        candidates: BinaryHeap::new(),
    };
    merging.run();
    merging
        .symbols
        .into_iter()
        .filter(|symbol| symbol.length > 0)
        .map(|symbol| symbol.start..symbol.start + symbol.length)
}

impl<F: Fn(&str) -> Option<Piece>> Merging<'_, F> {
    fn run(&mut self) {
        for right in 1..self.symbols.len() {
            self.consider(right - 1, right);
        }
        while let Some(best) = self.candidates.pop() {
            let Reverse(left) = best.left;
            let (a, b) = (&self.symbols[left], &self.symbols[best.right]);
            if a.length == 0 || b.length == 0 || a.length + b.length != best.length {
                continue;
            }
            let (before, after) = (a.previous, b.next);
            self.symbols[left].length = best.length;
            self.symbols[left].next = after;
            self.symbols[best.right].length = 0;
            if after != NONE {
                self.symbols[after].previous = left;
            }
            self.consider(before, left);
            self.consider(left, after);
        }
    }

    /// Notes the merge of two neighbours if it makes a token.
    fn consider(&mut self, left: usize, right: usize) {
        if left == NONE || right == NONE {
            return;
        }
        let start = self.symbols[left].start;
        let length = self.symbols[left].length + self.symbols[right].length;
        if let Some(piece) = (self.piece)(&self.text[start..start + length]) {
            self.candidates.push(Candidate {
                rank: piece.rank,
                left: Reverse(left),
                right,
                length,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Piece, merge};

    fn merged<'t>(text: &'t str, ranked: &[&str]) -> Vec<&'t str> {
        let piece = |text: &str| {
            let place = ranked.iter().position(|&piece| piece == text)?;
            let rank = u32::try_from(ranked.len() - place).ok()?;
            Some(Piece { id: 0, rank })
        };
        merge(text, piece).map(|range| &text[range]).collect()
    }

    #[test]
    fn the_best_score_goes_first_wherever_it_stands() {
        assert_eq!(merged("abcd", &["cd", "bc", "ab"]), ["ab", "cd"]);
        assert_eq!(merged("abcd", &["bc", "cd", "ab"]), ["a", "bc", "d"]);
        assert_eq!(merged("abcd", &["bc", "abcd", "abc", "cd"]), ["abcd"]);
    }

    #[test]
    fn of_equal_scores_the_one_furthest_left_goes_first() {
        assert_eq!(merged("aaaaa", &["aa"]), ["aa", "aa", "a"]);
        assert_eq!(
            merged("\u{e9}\u{e9}\u{e9}", &["\u{e9}\u{e9}"]),
            ["\u{e9}\u{e9}", "\u{e9}"]
        );
    }

    #[test]
    fn a_text_without_merges_stays_in_characters() {
        assert_eq!(merged("a\u{6f22}", &[]), ["a", "\u{6f22}"]);
        assert!(merged("", &["ab"]).is_empty());
    }

    #[test]
    fn a_long_text_without_blanks_is_merged_to_its_longest_pieces() {
        let pieces: Vec<String> = (1..=10).rev().map(|power| "a".repeat(1 << power)).collect();
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let text = "a".repeat(1 << 20);
        assert_eq!(merged(&text, &pieces).len(), 1 << 10);
    }
}
