//! Finding the vocabulary's special tokens in a text.
//!
//! Byte-pair encoding never sees a special token: the text is cut at every occurrence first. Longer
//! tokens go first and each takes all its occurrences from left to right, so that `<|im_start|>` is never
//! read as a shorter token with something left over.

use std::ops::Range;

use memchr::memmem::Finder;

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
#[derive(Debug, Default)]
pub(super) struct SpecialTokens {
    tokens: Vec<SpecialToken>,
}

impl SpecialTokens {
    /// Collects `(id, text, always)`. Texts are not empty: the vocabulary's check has seen to that.
    pub(super) fn new<'a>(tokens: impl IntoIterator<Item = (u32, &'a str, bool)>) -> Self {
        let mut tokens: Vec<SpecialToken> = tokens
            .into_iter()
            .map(|(id, text, always)| SpecialToken {
                id,
                finder: Finder::new(text).into_owned(),
                always,
            })
            .collect();
        tokens.sort_by_key(|token| std::cmp::Reverse(token.finder.needle().len()));
        Self { tokens }
    }

    /// Cuts `text` at its special tokens. Control tokens count only with `parse_special`.
    ///
    /// The fragments cover the text in order; no plain fragment is empty.
    pub(super) fn partition(&self, text: &str, parse_special: bool) -> Vec<Fragment> {
        let mut fragments = Vec::new();
        if !text.is_empty() {
            fragments.push(Fragment::Text(0..text.len()));
        }
        for token in self
            .tokens
            .iter()
            .filter(|token| parse_special || token.always)
        {
            if token.finder.find(text.as_bytes()).is_none() {
                continue;
            }
            fragments = fragments
                .into_iter()
                .flat_map(|fragment| match fragment {
                    Fragment::Text(range) => token.cut(text, range),
                    special => vec![special],
                })
                .collect();
        }
        fragments
    }
}

impl SpecialToken {
    /// Cuts one plain stretch at every occurrence of this token.
    fn cut(&self, text: &str, range: Range<usize>) -> Vec<Fragment> {
        let mut fragments = Vec::new();
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
        fragments
    }
}

#[cfg(test)]
mod tests {
    use super::{Fragment, SpecialTokens};
    use Fragment::{Special, Text};

    fn specials() -> SpecialTokens {
        SpecialTokens::new([(1, "<a>", false), (2, "<a><b>", false), (3, "[u]", true)])
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
