//! SentencePiece vocabularies with scores, as GGUF files of the `llama` family carry them.
//!
//! There are no words and no merge rules: blanks become U+2581, and in the whole stretch of text the two
//! neighbours whose joint token has the highest score are merged, again and again. What has no token at the
//! end is spelled in bytes, one `<0xNN>` token each. (Kudo and Richardson 2018; the same ids as llama.cpp.)
//!
//! A literal U+2581 in a text cannot be told from a blank afterwards: that is so in the vocabulary itself,
//! and in every program that reads it.

use std::collections::HashMap;

use super::merge::{Piece, merge};
use super::{TokenKind, TokenizerError, TokenizerParts};

/// The character that stands for a blank inside a token.
pub(super) const BLANK: char = '\u{2581}';

/// The tokens that text can be made of.
#[derive(Debug)]
pub(super) struct SentencePiece {
    pieces: HashMap<Box<str>, Piece>,
    /// Bytes of the longest piece: no longer text needs to be looked up.
    longest: usize,
    bytes: [Option<u32>; 256],
    /// Whether a blank is put before text at the start and after a special token.
    pub(super) adds_space_prefix: bool,
}

impl SentencePiece {
    /// Builds the encoder from parts that have been checked.
    pub(super) fn new(parts: &TokenizerParts, kinds: &[TokenKind]) -> Self {
        let ranks = ranks(&parts.scores);
        let mut pieces = HashMap::with_capacity(parts.tokens.len());
        let mut longest = 0;
        let mut bytes = [None; 256];
        for (id, ((text, kind), rank)) in (0_u32..).zip(parts.tokens.iter().zip(kinds).zip(ranks)) {
            match kind {
                TokenKind::Byte => {
                    if let Some(byte) = byte_of(text) {
                        bytes[usize::from(byte)] = Some(id);
                    }
                }
                // Marks are found before merging or not at all: text that merely reads like one stays text.
                TokenKind::Control | TokenKind::Unknown => {}
                TokenKind::Normal | TokenKind::UserDefined | TokenKind::Unused => {
                    longest = longest.max(text.len());
                    pieces.insert(text.as_str().into(), Piece { id, rank });
                }
            }
        }
        Self {
            pieces,
            longest,
            bytes,
            adds_space_prefix: parts.add_space_prefix.unwrap_or(true),
        }
    }

    /// Appends the ids of text without special tokens. `start` is where it stands in the whole text, for the
    /// error alone; `after_special` says that nothing or a special token stands before it.
    pub(super) fn encode(
        &self,
        text: &str,
        start: usize,
        after_special: bool,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let mut escaped = String::with_capacity(text.len() + text.len() / 2 + BLANK.len_utf8());
        if self.adds_space_prefix && after_special {
            escaped.push(BLANK);
        }
        let prefix = escaped.len();
        escaped.extend(text.chars().map(escape));
        for range in merge(&escaped, |text| self.piece(text)) {
            let symbol = &escaped[range.clone()];
            if let Some(piece) = self.piece(symbol) {
                ids.push(piece.id);
                continue;
            }
            for (within, byte) in symbol.bytes().enumerate() {
                let id = self.bytes[usize::from(byte)].ok_or_else(|| {
                    TokenizerError::UnrepresentableByte {
                        byte,
                        offset: start
                            + unescaped(text, range.start.saturating_sub(prefix))
                            + within,
                    }
                })?;
                ids.push(id);
            }
        }
        Ok(())
    }

    fn piece(&self, text: &str) -> Option<Piece> {
        if text.len() > self.longest {
            return None;
        }
        self.pieces.get(text).copied()
    }
}

fn escape(character: char) -> char {
    if character == ' ' { BLANK } else { character }
}

/// Where the character that stands at `offset` of the escaped text stands in the text itself.
fn unescaped(text: &str, offset: usize) -> usize {
    let mut seen = 0;
    text.char_indices()
        .find(|&(_, character)| {
            let here = seen;
            seen += escape(character).len_utf8();
            here >= offset
        })
        .map_or(0, |(at, _)| at)
}

/// The scores as whole numbers in the same order, equal where the scores are.
fn ranks(scores: &[f32]) -> Vec<u32> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&left, &right| scores[left].total_cmp(&scores[right]));
    let mut ranks = vec![0; scores.len()];
    let mut rank = 0;
    for pair in order.windows(2) {
        // As numbers, so that the two zeros are one score.
        rank += u32::from(scores[pair[0]] != scores[pair[1]]);
        ranks[pair[1]] = rank;
    }
    ranks
}

/// The byte that a text of the form `<0xNN>` stands for.
pub(super) fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let plain = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    plain.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::{byte_of, ranks, unescaped};

    #[test]
    fn a_byte_is_two_hexadecimal_digits_in_brackets() {
        assert_eq!(byte_of("<0x0A>"), Some(10));
        assert_eq!(byte_of("<0xff>"), Some(255));
        for text in [
            "<0xA>", "<0x+A>", "<0x00A>", "0x0A", "<0x0A", "<0xGG>", "a", "",
        ] {
            assert_eq!(byte_of(text), None, "{text:?}");
        }
    }

    #[test]
    fn ranks_order_as_scores_do_and_tie_where_they_do() {
        assert_eq!(
            ranks(&[-1.0, 3.5, -1.0, 0.0, -0.0, -1e9]),
            [1, 3, 1, 2, 2, 0]
        );
        assert!(ranks(&[]).is_empty());
    }

    #[test]
    fn offsets_of_the_escaped_text_lead_back_to_the_text() {
        let text = "a b\u{e9} c";
        let places: Vec<usize> = [0, 1, 4, 5, 7, 10].map(|at| unescaped(text, at)).into();
        assert_eq!(places, [0, 1, 2, 3, 5, 6]);
    }
}
