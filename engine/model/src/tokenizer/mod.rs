//! Text to token ids and back, by the vocabulary and merges that the model file itself carries.
//!
//! The text is cut at special tokens, and the plain stretches are encoded as the vocabulary's family has it:
//! byte-level byte-pair encoding cuts them into words by the file's `pre` rule, spells each word in bytes and
//! merges pair by pair; SentencePiece merges the whole stretch by scores. The same file gives the same ids in
//! llama.cpp: `gates/goldens` holds the proof. Nothing is normalised and nothing is lost, so decoding what was
//! encoded gives the text back (but for a literal U+2581 under SentencePiece, its own sign for a blank); a byte
//! that the vocabulary cannot spell is an error, where llama.cpp would drop it.

mod alphabet;
mod byte_level;
mod encoder;
mod error;
mod gguf;
mod library;
mod merge;
mod of_source;
mod parts;
mod pre;
mod sentence_piece;
mod snapshot;
mod special;
mod spelling;
mod stream;

use std::collections::BTreeSet;
use std::fmt;

use crate::chat::TemplateText;
use byte_level::ByteLevel;
use encoder::Encoder;
use parts::Family;
use pre::PreTokenization;
use sentence_piece::SentencePiece;
use special::SpecialTokens;
use spelling::{DecodePosition, SpacePrefix, Spelling};

pub use error::TokenizerError;
pub use parts::{TokenKind, TokenizerParts};
pub use stream::StreamDecoder;

/// Control tokens by which models of the known families end what they say. A GGUF file names only one
/// of them as its end of sequence, while a chat model may end with another.
const END_TEXTS: [&str; 9] = [
    "<eos>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<end_of_turn>",
    "</s>",
];

/// A vocabulary and the rules by which text becomes its tokens.
pub struct Tokenizer {
    tokens: Vec<String>,
    kinds: Vec<TokenKind>,
    encoder: Encoder,
    spelling: Spelling,
    bos: Option<u32>,
    eos: Option<u32>,
    adds_bos: bool,
    ends: BTreeSet<u32>,
    chat_templates: Vec<TemplateText>,
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
        let (family, kinds) = parts.check()?;
        let numbered = || (0_u32..).zip(&parts.tokens).zip(&kinds);
        let special = SpecialTokens::new(numbered().filter_map(|((id, text), kind)| match kind {
            TokenKind::Control | TokenKind::Unknown => Some((id, text.as_str(), false)),
            TokenKind::UserDefined => Some((id, text.as_str(), true)),
            TokenKind::Normal | TokenKind::Unused | TokenKind::Byte => None,
        }))?;
        let (encoder, spelling, family_adds_bos) = match family {
            Family::ByteLevel => {
                let rule = PreTokenization::named(&parts.pre)?;
                let words = ByteLevel::new(&parts, rule)?;
                let encoder = Encoder::ByteLevel(special, words);
                (encoder, Spelling::ByteLevel, rule.adds_bos)
            }
            Family::SentencePiece => {
                let pieces = SentencePiece::new(&parts, &kinds);
                let spelling = Spelling::Blanks {
                    prefix: match pieces.adds_space_prefix {
                        true => SpacePrefix::AfterSpecial,
                        false => SpacePrefix::Never,
                    },
                    user_defined: false,
                };
                (Encoder::SentencePiece(special, pieces), spelling, true)
            }
        };
        let adds_bos = parts.add_bos_token.unwrap_or(family_adds_bos);
        if adds_bos && parts.bos_token_id.is_none() {
            return Err(TokenizerError::MissingBos {
                key: "tokenizer.ggml.bos_token_id",
            });
        }
        let named_ends = [parts.eos_token_id, parts.eot_token_id, parts.eom_token_id];
        let ends = ends(&parts.tokens, &kinds)
            .chain(named_ends.into_iter().flatten())
            .collect();
        Ok(Self {
            kinds,
            encoder,
            spelling,
            bos: parts.bos_token_id,
            eos: parts.eos_token_id,
            adds_bos,
            ends,
            tokens: parts.tokens,
            chat_templates: Vec::new(),
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
        self.encoder.encode(text, parse_special)
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
        let mut position = DecodePosition::START;
        for &token in tokens {
            self.push_bytes(token, skip_special, &mut position, &mut bytes)?;
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

    /// Appends one token's bytes and moves on; where the token is not one, nothing happens.
    fn push_bytes(
        &self,
        token: u32,
        skip_special: bool,
        position: &mut DecodePosition,
        bytes: &mut Vec<u8>,
    ) -> Result<(), TokenizerError> {
        let (Some(text), Some(kind)) = (self.token_text(token), self.token_kind(token)) else {
            return Err(TokenizerError::OutsideVocabulary {
                index: position.index,
                token,
                vocabulary: self.tokens.len(),
            });
        };
        self.spelling
            .push(text, kind, skip_special, position, bytes);
        Ok(())
    }

    /// How it makes tokens of text, in words.
    pub fn family(&self) -> &'static str {
        self.encoder.family()
    }

    /// How many tokens there are; ids run from 0 to one less.
    pub fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    /// A token's text as the file has it: normal tokens in the byte-level alphabet, or with U+2581 for blanks.
    pub fn token_text(&self, token: u32) -> Option<&str> {
        self.tokens.get(token as usize).map(String::as_str)
    }

    /// The bytes that a token stands for in the middle of a text: none for a control token, and for one that is not
    /// there.
    pub fn token_bytes(&self, token: u32) -> Vec<u8> {
        let (mut bytes, mut position) = (Vec::new(), DecodePosition::MIDDLE);
        // Outside the vocabulary nothing is appended.
        let _ = self.push_bytes(token, true, &mut position, &mut bytes);
        bytes
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

    /// The template by which messages become a text for this model, where its files have one.
    pub fn chat_template(&self) -> Option<&TemplateText> {
        let default = |template: &&TemplateText| template.name == TemplateText::DEFAULT;
        self.chat_templates.iter().find(default)
    }

    /// Every template that the model's files have, under its name.
    pub fn chat_templates(&self) -> &[TemplateText] {
        &self.chat_templates
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

/// The marks among the tokens by which a known family ends what it says.
fn ends(tokens: &[String], kinds: &[TokenKind]) -> impl Iterator<Item = u32> {
    (0_u32..)
        .zip(tokens.iter().zip(kinds))
        .filter(|(_, (text, kind))| kind.is_special() && END_TEXTS.contains(&text.as_str()))
        .map(|(id, _)| id)
}
