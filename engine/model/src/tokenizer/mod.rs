//! Text to token ids and back, by the vocabulary and merges that the model file itself carries.
//!
//! Three steps: the text is cut at special tokens, the plain stretches are cut into words by the file's
//! `pre` rule, and each word is spelled in bytes and merged pair by pair. The same file gives the same ids
//! in llama.cpp: `gates/goldens` holds the proof. Nothing is normalised and nothing is lost, so decoding
//! what was encoded gives the text back; a byte that the vocabulary cannot spell is an error, where
//! llama.cpp would drop it.

mod alphabet;
mod error;
mod gguf;
mod of_source;
mod parts;
mod pre;
mod special;
mod stream;

use std::collections::BTreeSet;
use std::fmt;

use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Vocab};

use alphabet::ALPHABET;
use pre::{PreTokenization, WordCutter};
use special::{Fragment, SpecialTokens};

pub use error::TokenizerError;
pub use parts::{TokenKind, TokenizerParts};
pub use stream::StreamDecoder;

/// Control tokens by which models of the known families end what they say. A GGUF file names only one
/// of them as its end of sequence, while a chat model may end with another.
const END_TEXTS: [&str; 8] = [
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<end_of_turn>",
    "</s>",
];

/// A byte-level byte-pair tokenizer.
pub struct Tokenizer {
    tokens: Vec<String>,
    kinds: Vec<TokenKind>,
    special: SpecialTokens,
    words: WordCutter,
    bpe: BPE,
    /// Whether the vocabulary can spell each byte.
    spelled: [bool; 256],
    bos: Option<u32>,
    eos: Option<u32>,
    adds_bos: bool,
    ends: BTreeSet<u32>,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Tokenizer")
            .field("tokens", &self.tokens.len())
            .field("bos", &self.bos)
            .field("eos", &self.eos)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Builds a tokenizer from its description.
    ///
    /// # Errors
    /// Whatever is unknown or inconsistent in the description, naming its key.
    pub fn from_parts(parts: TokenizerParts) -> Result<Self, TokenizerError> {
        let kinds = parts.check()?;
        let rule = PreTokenization::named(&parts.pre)?;
        let adds_bos = parts.add_bos_token.unwrap_or(rule.adds_bos);
        if adds_bos && parts.bos_token_id.is_none() {
            return Err(TokenizerError::MissingBos);
        }

        let numbered = || (0_u32..).zip(&parts.tokens);
        let special = SpecialTokens::new(numbered().zip(&kinds).filter_map(
            |((id, text), kind)| match kind {
                TokenKind::Control | TokenKind::Unknown => Some((id, text.as_str(), false)),
                TokenKind::UserDefined => Some((id, text.as_str(), true)),
                TokenKind::Normal | TokenKind::Unused | TokenKind::Byte => None,
            },
        ));
        let named_ends = [parts.eos_token_id, parts.eot_token_id, parts.eom_token_id];
        let ends = numbered()
            .zip(&kinds)
            .filter(|((_, text), kind)| kind.is_special() && END_TEXTS.contains(&text.as_str()))
            .map(|((id, _), _)| id)
            .chain(named_ends.into_iter().flatten())
            .collect();

        let vocabulary: Vocab = numbered().map(|(id, text)| (text.clone(), id)).collect();
        let mut spelled = [false; 256];
        for byte in 0..=255_u8 {
            let spelling = ALPHABET.character(byte).to_string();
            spelled[usize::from(byte)] = vocabulary.contains_key(&spelling);
        }
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

        Ok(Self {
            kinds,
            special,
            words: rule.build()?,
            bpe,
            spelled,
            bos: parts.bos_token_id,
            eos: parts.eos_token_id,
            adds_bos,
            ends,
            tokens: parts.tokens,
        })
    }

    /// Encodes `text` and nothing but the text: no token is put before or after it.
    ///
    /// With `parse_special`, the text of a control token (`<|im_end|>`) becomes that token; without, it is
    /// encoded like any other text, as befits text that came from outside.
    ///
    /// # Errors
    /// [`TokenizerError::UnrepresentableByte`] where the vocabulary cannot spell the text.
    pub fn encode(&self, text: &str, parse_special: bool) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 1);
        for fragment in self.special.partition(text, parse_special) {
            match fragment {
                Fragment::Special(id) => ids.push(id),
                Fragment::Text(range) => {
                    self.encode_plain(&text[range.clone()], range.start, &mut ids)?
                }
            }
        }
        Ok(ids)
    }

    /// Encodes the start of a sequence: like [`Tokenizer::encode`], with the beginning-of-sequence token
    /// first where the file asks for one.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_prompt(
        &self,
        text: &str,
        parse_special: bool,
    ) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = self.encode(text, parse_special)?;
        if let Some(bos) = self.bos.filter(|_| self.adds_bos) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    fn encode_plain(
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

    /// Decodes tokens to the bytes they stand for. With `skip_special`, control tokens leave nothing.
    ///
    /// # Errors
    /// [`TokenizerError::OutsideVocabulary`] for an id that is not a token.
    pub fn decode_bytes(
        &self,
        tokens: &[u32],
        skip_special: bool,
    ) -> Result<Vec<u8>, TokenizerError> {
        let mut bytes = Vec::with_capacity(tokens.len() * 4);
        for (index, &token) in tokens.iter().enumerate() {
            self.push_bytes(index, token, skip_special, &mut bytes)?;
        }
        Ok(bytes)
    }

    /// Decodes tokens to text, with U+FFFD for what is not valid UTF-8 (a character cut in half, say).
    ///
    /// # Errors
    /// As [`Tokenizer::decode_bytes`].
    pub fn decode(&self, tokens: &[u32], skip_special: bool) -> Result<String, TokenizerError> {
        let bytes = self.decode_bytes(tokens, skip_special)?;
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// Appends one token's bytes. `index` is its place in the sequence, for the error alone.
    fn push_bytes(
        &self,
        index: usize,
        token: u32,
        skip_special: bool,
        bytes: &mut Vec<u8>,
    ) -> Result<(), TokenizerError> {
        let (Some(text), Some(kind)) = (self.token_text(token), self.token_kind(token)) else {
            let vocabulary = self.tokens.len();
            return Err(TokenizerError::OutsideVocabulary {
                index,
                token,
                vocabulary,
            });
        };
        match kind {
            // The check of the parts has seen to it that a normal token is spelled in the alphabet.
            TokenKind::Normal => bytes.extend(
                text.chars()
                    .filter_map(|character| ALPHABET.byte(character)),
            ),
            kind if skip_special && kind.is_special() => {}
            _ => bytes.extend_from_slice(text.as_bytes()),
        }
        Ok(())
    }

    /// How many tokens there are; ids run from 0 to one less.
    pub fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    /// A token's text as the file has it: normal tokens in the byte-level alphabet.
    pub fn token_text(&self, token: u32) -> Option<&str> {
        self.tokens.get(token as usize).map(String::as_str)
    }

    /// What a token is for.
    pub fn token_kind(&self, token: u32) -> Option<TokenKind> {
        self.kinds.get(token as usize).copied()
    }

    /// The token that the file names as the beginning of a sequence.
    pub fn bos_token_id(&self) -> Option<u32> {
        self.bos
    }

    /// The token that the file names as the end of a sequence.
    pub fn eos_token_id(&self) -> Option<u32> {
        self.eos
    }

    /// Whether a sequence should begin with the beginning-of-sequence token.
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// The tokens after which the model has nothing more to say, in ascending order: those the file names,
    /// and the control tokens by which its family ends a text or a turn.
    pub fn end_of_generation(&self) -> impl Iterator<Item = u32> {
        self.ends.iter().copied()
    }

    /// Whether generation ends after this token.
    pub fn is_end_of_generation(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }
}
