//! What a token stands for in a text: the byte-level alphabet or SentencePiece's blanks, undone one token
//! at a time, so that a stream and a whole text come out the same.

use super::TokenKind;
use super::alphabet::ALPHABET;
use super::sentence_piece::{BLANK, byte_of};

/// How a vocabulary writes text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Every byte is a character of the alphabet.
    ByteLevel,
    /// A blank is U+2581 and a byte token is `<0xNN>`.
    Blanks {
        /// Where encoding put a blank of its own that decoding takes away again.
        prefix: SpacePrefix,
        /// Whether user-defined tokens write blanks so, too.
        user_defined: bool,
    },
}

/// Where a text gets a blank that nobody wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpacePrefix {
    /// Nowhere.
    Never,
    /// At the beginning of the whole text.
    AtStart,
    /// There and after every special token.
    AfterSpecial,
}

/// Where in a sequence of tokens decoding has come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct DecodePosition {
    /// Tokens before this one.
    pub(super) index: usize,
    /// Whether the next token may begin with the blank that encoding put there.
    begins: bool,
}

impl DecodePosition {
    /// At the beginning of a text.
    pub(super) const START: Self = Self {
        index: 0,
        begins: true,
    };

    /// In the middle of a text whose tokens before are not known any more.
    pub(super) const MIDDLE: Self = Self {
        index: 0,
        begins: false,
    };
}

impl Spelling {
    /// Whether a byte-level text is in the alphabet throughout.
    pub(super) fn spells(self, text: &str) -> bool {
        let strange = |character| ALPHABET.byte(character).is_none();
        self != Self::ByteLevel || !text.chars().any(strange)
    }

    /// Appends the bytes of one token and moves on. With `skip_special`, a mark leaves nothing.
    pub(super) fn push(
        self,
        text: &str,
        kind: TokenKind,
        skip_special: bool,
        position: &mut DecodePosition,
        bytes: &mut Vec<u8>,
    ) {
        let prefix = match self {
            Self::ByteLevel => SpacePrefix::Never,
            Self::Blanks { prefix, .. } => prefix,
        };
        let begins = position.begins && prefix != SpacePrefix::Never;
        let cut_out = kind.is_special() || kind == TokenKind::UserDefined;
        position.index += 1;
        position.begins = cut_out && (prefix == SpacePrefix::AfterSpecial || begins);
        match (self, kind) {
            (_, kind) if kind.is_special() => {
                if !skip_special {
                    bytes.extend_from_slice(text.as_bytes());
                }
            }
            // The check of the parts has seen to it that a normal token is spelled in the alphabet.
            (Self::ByteLevel, TokenKind::Normal) => bytes.extend(
                text.chars()
                    .filter_map(|character| ALPHABET.byte(character)),
            ),
            (Self::Blanks { .. }, TokenKind::Byte) => bytes.extend(byte_of(text)),
            (Self::Blanks { .. }, TokenKind::Normal | TokenKind::Unused) => {
                push_blanks(
                    text.strip_prefix(BLANK).filter(|_| begins).unwrap_or(text),
                    bytes,
                );
            }
            (
                Self::Blanks {
                    user_defined: true, ..
                },
                TokenKind::UserDefined,
            ) => push_blanks(text, bytes),
            _ => bytes.extend_from_slice(text.as_bytes()),
        }
    }
}

fn push_blanks(text: &str, bytes: &mut Vec<u8>) {
    let mut stretches = text.split(BLANK);
    bytes.extend_from_slice(stretches.next().unwrap_or_default().as_bytes());
    for stretch in stretches {
        bytes.push(b' ');
        bytes.extend_from_slice(stretch.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::{DecodePosition, SpacePrefix, Spelling, TokenKind};

    fn decoded(spelling: Spelling, start: DecodePosition, skip_special: bool) -> String {
        let mut position = start;
        let mut bytes = Vec::new();
        for (text, kind) in [
            ("<s>", TokenKind::Control),
            ("\u{2581}a\u{2581}", TokenKind::Normal),
            ("\u{2581}b", TokenKind::Normal),
            ("\u{2581}\u{2581}", TokenKind::UserDefined),
            ("<0xC3>", TokenKind::Byte),
            ("<0xA9>", TokenKind::Byte),
            ("</s>", TokenKind::Control),
            ("\u{2581}c", TokenKind::Unused),
        ] {
            spelling.push(text, kind, skip_special, &mut position, &mut bytes);
        }
        assert_eq!(position.index, 8);
        String::from_utf8(bytes).expect("the bytes make characters")
    }

    fn blanks(prefix: SpacePrefix, user_defined: bool) -> Spelling {
        Spelling::Blanks {
            prefix,
            user_defined,
        }
    }

    #[test]
    fn the_blank_that_encoding_added_is_taken_away_where_it_was_added() {
        let start = DecodePosition::START;
        let never = blanks(SpacePrefix::Never, true);
        assert_eq!(decoded(never, start, false), "<s> a  b  \u{e9}</s> c");
        let at_start = blanks(SpacePrefix::AtStart, true);
        assert_eq!(decoded(at_start, start, false), "<s>a  b  \u{e9}</s> c");
        let after_special = blanks(SpacePrefix::AfterSpecial, true);
        assert_eq!(decoded(after_special, start, false), "<s>a  b  \u{e9}</s>c");
        assert_eq!(decoded(after_special, start, true), "a  b  \u{e9}c");
    }

    #[test]
    fn text_that_goes_on_keeps_its_first_blank() {
        let mut position = DecodePosition::MIDDLE;
        let mut bytes = Vec::new();
        let spelling = blanks(SpacePrefix::AfterSpecial, false);
        spelling.push(
            "\u{2581}a",
            TokenKind::Normal,
            true,
            &mut position,
            &mut bytes,
        );
        assert_eq!(bytes, b" a");
    }

    #[test]
    fn user_defined_tokens_are_written_as_the_vocabulary_has_it() {
        let raw = blanks(SpacePrefix::Never, false);
        assert_eq!(
            decoded(raw, DecodePosition::START, true),
            " a  b\u{2581}\u{2581}\u{e9} c"
        );
    }
}
