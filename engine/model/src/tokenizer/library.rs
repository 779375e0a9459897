//! Tokenizers that a `tokenizer.json` describes, run by the library that defines the format.
//!
//! Its added tokens, normalizer and model are used as they are. Only the cutting into words is our own where
//! the pattern allows it: the library's engine for look-ahead gives up on a long run of blanks, and then
//! leaves the rest of the text uncut without a word.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokenizers::{
    AddedVocabulary, Model, ModelWrapper, NormalizerWrapper, OffsetReferential, OffsetType,
    PreTokenizer, PreTokenizerWrapper,
};

use super::TokenizerError;
use super::byte_level::ByteLevel;

/// The parts of the library that make ids of a text.
#[derive(Debug)]
pub(super) struct Library {
    /// Finds every added token.
    added: AddedVocabulary,
    /// Finds only those that are text, not marks.
    added_text: AddedVocabulary,
    normalizer: Option<NormalizerWrapper>,
    words: Words,
}

/// What happens between two added tokens.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a model has one")]
pub(super) enum Words {
    /// Words found by an automaton, in bytes.
    ByteLevel(ByteLevel),
    /// What the library does.
    Library {
        /// Cuts text into words, if anything does.
        pre_tokenizer: Option<PreTokenizerWrapper>,
        /// Makes ids of words.
        model: Box<ModelWrapper>,
    },
}

impl Library {
    pub(super) fn new(
        added: AddedVocabulary,
        normalizer: Option<NormalizerWrapper>,
        words: Words,
    ) -> Self {
        let mut added_text = added.clone();
        added_text.set_encode_special_tokens(true);
        Self {
            added,
            added_text,
            normalizer,
            words,
        }
    }

    /// Appends the ids of a text. Marks count only with `parse_special`.
    pub(super) fn encode(
        &self,
        text: &str,
        parse_special: bool,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let added = if parse_special {
            &self.added
        } else {
            &self.added_text
        };
        let pieces = guarded(|| {
            let mut pieces = added.extract_and_normalize(self.normalizer.as_ref(), text);
            if let Words::Library {
                pre_tokenizer,
                model,
            } = &self.words
            {
                if let Some(pre_tokenizer) = pre_tokenizer {
                    pre_tokenizer.pre_tokenize(&mut pieces)?;
                }
                pieces.tokenize(|piece| model.tokenize(piece.get()))?;
            }
            Ok(pieces)
        })?;
        for (piece, offsets, tokens) in
            pieces.get_splits(OffsetReferential::Original, OffsetType::Byte)
        {
            match (tokens, &self.words) {
                (Some(tokens), _) => ids.extend(tokens.iter().map(|token| token.id)),
                (None, Words::ByteLevel(words)) => words.encode(piece, offsets.0, ids)?,
                (None, Words::Library { .. }) => {}
            }
        }
        Ok(())
    }
}

/// Runs the library, whose panics end here: it does not check all of a description when it reads it, and panics where
/// a part turns out to contradict itself.
pub(super) fn guarded<T>(run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, TokenizerError> {
    // What it may leave half done is its cache of words, which it passes over when a lock is poisoned.
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err("a part of the description contradicts itself".into()))
        .map_err(TokenizerError::Library)
}
