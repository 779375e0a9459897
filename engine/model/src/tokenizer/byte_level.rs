//! Byte-level byte-pair encoding: text is cut into words by the file's `pre` rule, and each word is spelled
//! in bytes and merged pair by pair.

use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Vocab};

use super::alphabet::ALPHABET;
use super::pre::{PreTokenization, WordCutter};
use super::{TokenizerError, TokenizerParts, parts};

/// The words of a rule and the merges of a vocabulary.
#[derive(Debug)]
pub(super) struct ByteLevel {
    words: WordCutter,
    bpe: BPE,
    /// Whether the vocabulary can spell each byte.
    spelled: [bool; 256],
}

impl ByteLevel {
    /// Builds the encoder from parts that have been checked.
    pub(super) fn new(
        parts: &TokenizerParts,
        rule: &PreTokenization,
    ) -> Result<Self, TokenizerError> {
        let vocabulary: Vocab = (0_u32..)
            .zip(&parts.tokens)
            .map(|(id, text)| (text.clone(), id))
            .collect();
        let merges = parts
            .merges
            .iter()
            .filter_map(|merge| parts::split_merge(merge))
            .map(|(left, right)| (left.to_owned(), right.to_owned()))
            .collect();
        let bpe = BPE::builder()
            .vocab_and_merges(vocabulary, merges)
            .ignore_merges(rule.ignore_merges)
            .build()
            .map_err(TokenizerError::Library)?;
        Ok(Self::of(rule.build()?, bpe))
    }

    /// Puts a cutter and a model together.
    pub(super) fn of(words: WordCutter, bpe: BPE) -> Self {
        let mut spelled = [false; 256];
        for byte in 0..=255_u8 {
            let spelling = ALPHABET.character(byte).to_string();
            spelled[usize::from(byte)] = bpe.token_to_id(&spelling).is_some();
        }
        Self {
            words,
            bpe,
            spelled,
        }
    }

    /// Appends the ids of text without special tokens. `start` is where it stands in the whole text, for the
    /// error alone.
    pub(super) fn encode(
        &self,
        text: &str,
        start: usize,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        if let Some((offset, byte)) = text
            .bytes()
            .enumerate()
            .find(|&(_, byte)| !self.spelled[usize::from(byte)])
        {
            return Err(TokenizerError::UnrepresentableByte {
                byte,
                offset: start + offset,
            });
        }
        let mut spelling = String::new();
        for word in self.words.words(text) {
            spelling.clear();
            spelling.extend(word.bytes().map(|byte| ALPHABET.character(byte)));
            let tokens = self.bpe.tokenize(&spelling);
            let tokens = tokens.map_err(TokenizerError::Library)?;
            ids.extend(tokens.iter().map(|token| token.id));
        }
        Ok(())
    }
}
