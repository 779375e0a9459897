//! Finding the vocabulary's special tokens in a text.
//!
//! Byte-pair encoding never sees a special token: the text is cut at every occurrence first. Longer
//! tokens go first and each takes all its occurrences from left to right, so that `<|im_start|>` is never
//! read as a shorter token with something left over.
//!
//! Some vocabularies have thousands of special tokens and a text has a handful of them: one automaton finds
//! out which in a single pass, and only those are looked for one by one.

use std::ops::Range;

use aho_corasick::AhoCorasick;
use memchr::memmem::Finder;

use super::TokenizerError;

/// One special token as it is looked for.
#[derive(Debug)]
pub(super) struct SpecialToken {
    id: u32,
    finder: Finder<'static>,
    /// Found even when the caller wants control tokens read as plain text.
    always: bool,
}

/// A stretch of the text: plain, or one special token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fragment {
    /// Plain text, as a byte range of the whole.
    Text(Range<usize>),
    /// A special token.
    Special(u32),
}

/// The special tokens of a vocabulary, longest first.
#[derive(Debug)]
pub(super) struct SpecialTokens {
    tokens: Vec<SpecialToken>,
    /// Finds every occurrence of each, overlapping or not; its patterns are numbered as the tokens are.
    occurrences: AhoCorasick,
}

impl SpecialTokens {
    /// Collects `(id, text, always)`. Texts are not empty: the vocabulary's check has seen to that.
    pub(super) fn new<'a>(
        tokens: impl IntoIterator<Item = (u32, &'a str, bool)>,
    ) -> Result<Self, TokenizerError> {
        let mut tokens: Vec<SpecialToken> = tokens
            .into_iter()
            .map(|(id, text, always)| SpecialToken {
                id,
                finder: Finder::new(text).into_owned(),
                always,
            })
            .collect();
        tokens.sort_by_key(|token| std::cmp::Reverse(token.finder.needle().len()));
        let needles = tokens.iter().map(|token| token.finder.needle());
        let occurrences =
            AhoCorasick::new(needles).map_err(|error| TokenizerError::Library(Box::new(error)))?;
        Ok(Self {
            tokens,
            occurrences,
        })
    }

    /// The tokens that occur in the text at all, longest first.
    fn occurring(&self, text: &str) -> impl Iterator<Item = &SpecialToken> {
        let mut occurs = vec![false; self.tokens.len()];
        for found in self.occurrences.find_overlapping_iter(text) {
            occurs[found.pattern().as_usize()] = true;
        }
        self.tokens
            .iter()
            .zip(occurs)
            .filter_map(|(token, occurs)| occurs.then_some(token))
    }

    /// Cuts `text` at its special tokens. Control tokens count only with `parse_special`.
    ///
    /// The fragments cover the text in order; no plain fragment is empty.
    pub(super) fn partition(&self, text: &str, parse_special: bool) -> Vec<Fragment> {
        let mut fragments = Vec::new();
        if !text.is_empty() {
            fragments.push(Fragment::Text(0..text.len()));
        }
        for token in self.occurring(text) {
            if !(parse_special || token.always) {
                continue;
            }
            let mut finer = Vec::with_capacity(fragments.len() + 2);
            for fragment in fragments {
                match fragment {
                    Fragment::Text(range) => token.cut(text, range, &mut finer),
                    special => finer.push(special),
                }
            }
            fragments = finer;
        }
        fragments
    }
}

impl SpecialToken {
    /// Cuts one plain stretch at every occurrence of this token.
    fn cut(&self, text: &str, range: Range<usize>, fragments: &mut Vec<Fragment>) {
        let mut plain = range.start;
        // A token's text is whole characters, so a match begins and ends at character boundaries.
        for found in self.finder.find_iter(&text.as_bytes()[range.clone()]) {
            let start = range.start + found;
            if plain < start {
                fragments.push(Fragment::Text(plain..start));
            }
            fragments.push(Fragment::Special(self.id));
            plain = start + self.finder.needle().len();
        }
        if plain < range.end {
            fragments.push(Fragment::Text(plain..range.end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Fragment, SpecialTokens};
    use Fragment::{Special, Text};

    fn specials() -> SpecialTokens {
        let tokens = [(1, "<a>", false), (2, "<a><b>", false), (3, "[u]", true)];
        SpecialTokens::new(tokens).expect("three short texts make an automaton")
    }

    #[test]
    fn plain_text_is_one_fragment_and_empty_text_is_none() {
        assert_eq!(specials().partition("hello", true), [Text(0..5)]);
        assert_eq!(specials().partition("", true), []);
    }

    #[test]
    fn the_longer_token_wins_and_no_fragment_is_empty() {
        assert_eq!(
            specials().partition("<a><b><a>x", true),
            [Special(2), Special(1), Text(9..10)]
        );
        assert_eq!(
            specials().partition("é<a><a>", true),
            [Text(0..2), Special(1), Special(1)]
        );
    }

    #[test]
    fn control_tokens_are_text_unless_asked_for_but_user_defined_ones_always_count() {
        assert_eq!(
            specials().partition("<a>[u]y", false),
            [Text(0..3), Special(3), Text(6..7)]
        );
    }
}
