//! What makes tokens of text: one of the families, with the special tokens that are cut out before it.

use super::TokenizerError;
use super::byte_level::ByteLevel;
use super::library::Library;
use super::sentence_piece::SentencePiece;
use super::special::{Fragment, SpecialTokens};

/// A family and its vocabulary.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a model has one")]
pub(super) enum Encoder {
    /// Byte-level byte-pair encoding of a GGUF file.
    ByteLevel(SpecialTokens, ByteLevel),
    /// SentencePiece of a GGUF file.
    SentencePiece(SpecialTokens, SentencePiece),
    /// A `tokenizer.json`.
    Library(Box<Library>),
}

impl Encoder {
    /// What it is called.
    pub(super) fn family(&self) -> &'static str {
        match self {
            Self::ByteLevel(..) => "byte-level byte-pair encoding",
            Self::SentencePiece(..) => "SentencePiece",
            Self::Library(_) => "tokenizer.json",
        }
    }

    /// The ids of a text. Marks count only with `parse_special`.
    pub(super) fn encode(
        &self,
        text: &str,
        parse_special: bool,
    ) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 1);
        match self {
            Self::ByteLevel(special, words) => {
                for fragment in special.partition(text, parse_special) {
                    match fragment {
                        Fragment::Special(id) => ids.push(id),
                        Fragment::Text(range) => {
                            words.encode(&text[range.clone()], range.start, &mut ids)?;
                        }
                    }
                }
            }
            Self::SentencePiece(special, pieces) => {
                let mut after_special = true;
                for fragment in special.partition(text, parse_special) {
                    match fragment {
                        Fragment::Special(id) => {
                            ids.push(id);
                            after_special = true;
                        }
                        Fragment::Text(range) => {
                            let (start, plain) = (range.start, &text[range]);
                            pieces.encode(plain, start, after_special, &mut ids)?;
                            after_special = false;
                        }
                    }
                }
            }
            Self::Library(library) => library.encode(text, parse_special, &mut ids)?,
        }
        Ok(ids)
    }
}
