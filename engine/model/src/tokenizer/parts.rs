//! What a model file says about its tokenizer, before anything is built from it.

use std::collections::HashSet;

use super::alphabet::ALPHABET;
use super::{TokenizerError, sentence_piece};

/// The metadata key of the tokenizer's family.
pub(super) const MODEL_KEY: &str = "tokenizer.ggml.model";

/// The families that GGUF files name and this build reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// Byte-level byte-pair encoding, with merges.
    ByteLevel,
    /// SentencePiece, with scores.
    SentencePiece,
}

impl Family {
    /// Finds the family that a file calls `name`.
    pub(super) fn named(name: &str) -> Result<Self, TokenizerError> {
        match name {
            "gpt2" => Ok(Self::ByteLevel),
            "llama" => Ok(Self::SentencePiece),
            _ => Err(TokenizerError::Unsupported {
                key: MODEL_KEY,
                found: name.to_owned(),
                supported: "gpt2, llama".to_owned(),
            }),
        }
    }
}

/// A vocabulary and its rules as plain data, each field named after its GGUF key.
#[derive(Clone, Debug, Default)]
pub struct TokenizerParts {
    /// `tokenizer.ggml.model`: the family; `gpt2` is byte-level byte-pair encoding, `llama` is SentencePiece.
    pub model: String,
    /// `tokenizer.ggml.pre`: how text is cut into words. SentencePiece has none.
    pub pre: String,
    /// `tokenizer.ggml.tokens`: the text of each token. A normal one is in the byte-level alphabet, or has
    /// U+2581 for each blank, as the family has it.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.scores`: one number for each token, the greater the sooner merged. SentencePiece only.
    pub scores: Vec<f32>,
    /// `tokenizer.ggml.token_type`: one number for each token; empty means that all are normal.
    pub token_types: Vec<u64>,
    /// `tokenizer.ggml.merges`: two parts and a space, most important first. Byte-level only.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.bos_token_id`.
    pub bos_token_id: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`.
    pub eos_token_id: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`: the end of a turn.
    pub eot_token_id: Option<u32>,
    /// `tokenizer.ggml.eom_token_id`: the end of a message.
    pub eom_token_id: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`.
    pub add_bos_token: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`: whether text begins with a blank of its own. SentencePiece only,
    /// which takes a missing one for true.
    pub add_space_prefix: Option<bool>,
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Text, spelled as the vocabulary's family has it.
    Normal,
    /// The token for what cannot be encoded.
    Unknown,
    /// A mark that steers the model and is no text.
    Control,
    /// Text given a token of its own, found before anything else.
    UserDefined,
    /// A place kept free in the vocabulary.
    Unused,
    /// A byte written out as `<0xNN>`.
    Byte,
}

impl TokenKind {
    /// Whether the token is a mark rather than text: nothing is printed for it unless asked for.
    pub fn is_special(self) -> bool {
        matches!(self, Self::Control | Self::Unknown)
    }

    fn from_gguf(index: usize, found: u64) -> Result<Self, TokenizerError> {
        Ok(match found {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return Err(TokenizerError::TokenType { index, found }),
        })
    }
}

impl TokenizerParts {
    /// Checks everything that does not need the library, and says what each token is for.
    pub(super) fn check(&self) -> Result<(Family, Vec<TokenKind>), TokenizerError> {
        let family = Family::named(&self.model)?;
        let vocabulary = self.tokens.len();
        if vocabulary == 0 || u32::try_from(vocabulary).is_err() {
            return Err(TokenizerError::VocabularySize { found: vocabulary });
        }
        let kinds = self.kinds()?;
        let texts = self.check_texts()?;
        match family {
            Family::ByteLevel => {
                self.check_spelling(&kinds)?;
                self.check_merges(&texts)?;
            }
            Family::SentencePiece => {
                self.check_scores()?;
                self.check_bytes(&kinds)?;
            }
        }
        self.check_ids()?;
        Ok((family, kinds))
    }

    fn kinds(&self) -> Result<Vec<TokenKind>, TokenizerError> {
        if self.token_types.is_empty() {
            return Ok(vec![TokenKind::Normal; self.tokens.len()]);
        }
        if self.token_types.len() != self.tokens.len() {
            return Err(TokenizerError::LengthMismatch {
                key: "tokenizer.ggml.token_type",
                found: self.token_types.len(),
                expected: self.tokens.len(),
            });
        }
        self.token_types
            .iter()
            .enumerate()
            .map(|(index, &found)| TokenKind::from_gguf(index, found))
            .collect()
    }

    fn check_texts(&self) -> Result<HashSet<&str>, TokenizerError> {
        let mut texts = HashSet::with_capacity(self.tokens.len());
        for (index, text) in self.tokens.iter().enumerate() {
            if text.is_empty() {
                return Err(TokenizerError::EmptyToken { index });
            }
            if !texts.insert(text.as_str()) {
                return Err(TokenizerError::DuplicateToken {
                    index,
                    text: text.clone(),
                });
            }
        }
        Ok(texts)
    }

    fn check_spelling(&self, kinds: &[TokenKind]) -> Result<(), TokenizerError> {
        for (index, (text, kind)) in self.tokens.iter().zip(kinds).enumerate() {
            let stray = text
                .chars()
                .find(|&character| ALPHABET.byte(character).is_none());
            if let (TokenKind::Normal, Some(character)) = (kind, stray) {
                return Err(TokenizerError::NotByteLevel {
                    index,
                    text: text.clone(),
                    character,
                });
            }
        }
        Ok(())
    }

    fn check_scores(&self) -> Result<(), TokenizerError> {
        if self.scores.len() != self.tokens.len() {
            return Err(TokenizerError::LengthMismatch {
                key: "tokenizer.ggml.scores",
                found: self.scores.len(),
                expected: self.tokens.len(),
            });
        }
        match self.scores.iter().position(|score| !score.is_finite()) {
            Some(index) => Err(TokenizerError::Score {
                index,
                found: self.scores[index],
            }),
            None => Ok(()),
        }
    }

    fn check_bytes(&self, kinds: &[TokenKind]) -> Result<(), TokenizerError> {
        for (index, (text, kind)) in self.tokens.iter().zip(kinds).enumerate() {
            if *kind == TokenKind::Byte && sentence_piece::byte_of(text).is_none() {
                return Err(TokenizerError::NotAByte {
                    index,
                    text: text.clone(),
                });
            }
        }
        Ok(())
    }

    fn check_merges(&self, texts: &HashSet<&str>) -> Result<(), TokenizerError> {
        for (index, merge) in self.merges.iter().enumerate() {
            let (left, right) =
                split_merge(merge).ok_or_else(|| TokenizerError::MalformedMerge {
                    index,
                    merge: merge.clone(),
                })?;
            let joined = [left, right].concat();
            for part in [left, right, &joined] {
                if !texts.contains(part) {
                    return Err(TokenizerError::MergeOutsideVocabulary {
                        index,
                        merge: merge.clone(),
                        part: part.to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    fn check_ids(&self) -> Result<(), TokenizerError> {
        let ids = [
            ("tokenizer.ggml.bos_token_id", self.bos_token_id),
            ("tokenizer.ggml.eos_token_id", self.eos_token_id),
            ("tokenizer.ggml.eot_token_id", self.eot_token_id),
            ("tokenizer.ggml.eom_token_id", self.eom_token_id),
        ];
        for (key, id) in ids {
            if let Some(found) = id.filter(|&id| id as usize >= self.tokens.len()) {
                let vocabulary = self.tokens.len();
                return Err(TokenizerError::SpecialOutsideVocabulary {
                    key,
                    found,
                    vocabulary,
                });
            }
        }
        Ok(())
    }
}

/// The two parts of a merge rule. Neither is empty, and the alphabet has no blank, so one space parts them.
pub(super) fn split_merge(merge: &str) -> Option<(&str, &str)> {
    merge
        .split_once(' ')
        .filter(|(left, right)| !left.is_empty() && !right.is_empty() && !right.contains(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Descriptions that must be refused; none of them ever becomes a tokenizer.
    fn refused(change: impl FnOnce(&mut TokenizerParts)) -> String {
        let mut parts = TokenizerParts {
            model: "gpt2".into(),
            pre: "smollm".into(),
            tokens: vec!["a".into(), "b".into(), "ab".into(), "<end>".into()],
            token_types: vec![1, 1, 1, 3],
            merges: vec!["a b".into()],
            eos_token_id: Some(3),
            ..TokenizerParts::default()
        };
        change(&mut parts);
        parts
            .check()
            .expect_err("the description is wrong")
            .to_string()
    }

    #[test]
    fn the_family_is_named_with_what_is_supported() {
        let message = refused(|parts| parts.model = "bert".into());
        assert_eq!(
            message,
            "tokenizer.ggml.model is \"bert\", which is not supported; supported: gpt2, llama"
        );
    }

    #[test]
    fn an_empty_vocabulary_is_refused() {
        let message = refused(|parts| parts.tokens.clear());
        assert!(
            message.starts_with("tokenizer.ggml.tokens has 0 entries"),
            "{message}"
        );
    }

    #[test]
    fn token_types_are_counted_and_known() {
        let message = refused(|parts| parts.token_types.truncate(3));
        assert_eq!(
            message,
            "tokenizer.ggml.token_type has 3 entries, expected 4, one for each token"
        );
        let message = refused(|parts| parts.token_types[2] = 9);
        assert_eq!(
            message,
            "tokenizer.ggml.token_type is 9 at index 2, expected 1 to 6"
        );
    }

    #[test]
    fn token_texts_are_distinct_not_empty_and_in_the_alphabet() {
        assert!(refused(|parts| parts.tokens[1] = "a".into()).contains("repeats \"a\" at index 1"));
        assert!(refused(|parts| parts.tokens[1].clear()).contains("empty text at index 1"));
        assert!(
            refused(|parts| parts.tokens[1] = "漢".into())
                .contains("not a character of the byte-level")
        );
    }

    #[test]
    fn merges_have_two_parts_and_make_a_token() {
        for merge in ["ab", " ab", "a ", "a b c", "a  b"] {
            let message = refused(|parts| parts.merges[0] = merge.into());
            assert!(
                message.contains("expected two parts and a space"),
                "{merge:?}: {message}"
            );
        }
        let message = refused(|parts| parts.merges.push("b a".into()));
        assert!(
            message.contains("at index 1, but \"ba\" is not in"),
            "{message}"
        );
        assert!(refused(|parts| parts.merges[0] = "x b".into()).contains("but \"x\" is not in"));
    }

    #[test]
    fn special_ids_lie_in_the_vocabulary() {
        let message = refused(|parts| parts.eos_token_id = Some(4));
        assert_eq!(
            message,
            "tokenizer.ggml.eos_token_id is 4, but the vocabulary has 4 tokens"
        );
    }

    /// As [`refused`], from a description of the other family.
    fn refused_sentence_piece(change: impl FnOnce(&mut TokenizerParts)) -> String {
        refused(|parts| {
            *parts = TokenizerParts {
                model: "llama".into(),
                tokens: vec![
                    "\u{2581}".into(),
                    "b".into(),
                    "<0x0A>".into(),
                    "</s>".into(),
                ],
                token_types: vec![1, 1, 6, 3],
                scores: vec![-1.0, -2.0, 0.0, 0.0],
                ..TokenizerParts::default()
            };
            change(parts);
        })
    }

    #[test]
    fn scores_are_counted_and_finite() {
        let message = refused_sentence_piece(|parts| parts.scores.truncate(1));
        assert_eq!(
            message,
            "tokenizer.ggml.scores has 1 entries, expected 4, one for each token"
        );
        for score in [f32::NAN, f32::INFINITY] {
            let message = refused_sentence_piece(|parts| parts.scores[1] = score);
            assert!(
                message.ends_with("at index 1, expected a finite number"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_byte_token_says_which_byte() {
        let message = refused_sentence_piece(|parts| parts.tokens[2] = "<0xNN>".into());
        assert_eq!(
            message,
            "tokenizer.ggml.tokens holds the byte token \"<0xNN>\" at index 2, expected two hexadecimal \
             digits as in <0x0A>"
        );
    }
}
