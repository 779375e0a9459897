//! Reading a tokenizer from the files of a Hugging Face snapshot: `tokenizer.json`, and beside it, where they
//! are, `tokenizer_config.json`, `generation_config.json` and `chat_template.jinja`.

mod config;
mod files;
mod words;

use std::path::Path;

use serde_json::Value;
use tokenizers::{AddedVocabulary, ModelWrapper};

use super::encoder::Encoder;
use super::library::{Library, Words, guarded};
use super::sentence_piece::byte_of;
use super::spelling::{SpacePrefix, Spelling};
use super::{TokenKind, Tokenizer, TokenizerError, ends};
use config::Configs;

/// Rows that an embedding may have beyond the last token: makers round them up, none known by more.
const MOST_PADDING: usize = 1024;

/// An id beyond this many times the number of tokens is damage, not a gap.
const MOST_SPARSE: usize = 4;

impl Tokenizer {
    /// Builds the tokenizer of a snapshot folder. The ids are the ones that the `tokenizers` library gives
    /// for the same `tokenizer.json`, normalized as that file says: decoding gives the normalized text back.
    ///
    /// # Errors
    /// [`TokenizerError::InFile`], around what is missing, damaged or not supported in that file.
    pub fn from_snapshot(folder: &Path) -> Result<Self, TokenizerError> {
        let path = folder.join("tokenizer.json");
        let library = files::tokenizer(&path)?;
        let configs = Configs::read(folder)?;
        let built = assemble(library, &configs);
        built.map_err(|source| TokenizerError::in_file(&path, source))
    }

    /// Checks the vocabulary against an embedding of `rows` rows, one for each id.
    ///
    /// A few rows without a token are padding. A mark without a row is no fault of the tokenizer: some models
    /// share one vocabulary between sizes and leave out what only the larger ones can read; an engine refuses
    /// its id.
    ///
    /// # Errors
    /// [`TokenizerError::TokensBeyondRows`] or [`TokenizerError::RowsBeyondTokens`]: the tokenizer is another
    /// model's.
    pub fn check_vocabulary(&self, rows: usize) -> Result<(), TokenizerError> {
        let text = |kind: &TokenKind| !kind.is_special() && *kind != TokenKind::UserDefined;
        let last_text = self.kinds.iter().rposition(text);
        if let Some(token) = last_text.filter(|&token| token >= rows) {
            return Err(TokenizerError::TokensBeyondRows {
                token,
                text: self.tokens[token].clone(),
                rows,
            });
        }
        if rows > self.tokens.len().saturating_add(MOST_PADDING) {
            return Err(TokenizerError::RowsBeyondTokens {
                vocabulary: self.tokens.len(),
                rows,
                padding: MOST_PADDING,
            });
        }
        Ok(())
    }
}

fn assemble(
    mut library: tokenizers::Tokenizer,
    configs: &Configs,
) -> Result<Tokenizer, TokenizerError> {
    // Both are for training. No text of ours goes through them, and padding can ask for any memory.
    library.with_padding(None);
    library
        .with_truncation(None)
        .map_err(TokenizerError::Library)?;
    let model = library.get_model();
    let unknown = match model {
        ModelWrapper::BPE(bpe) => bpe.get_unk_token().clone(),
        ModelWrapper::Unigram(_) => None,
        ModelWrapper::WordPiece(_) | ModelWrapper::WordLevel(_) => {
            let found = match model {
                ModelWrapper::WordPiece(_) => "WordPiece",
                _ => "WordLevel",
            };
            return Err(unsupported("model.type", found, "BPE, Unigram"));
        }
    };
    let spelling = spelling(&library)?;
    let added = library.get_added_vocabulary();
    let tokens = texts(&library)?;
    let id_of = |text: &str| added.token_to_id(text, model);
    let kinds = kinds(&tokens, added, unknown.as_deref(), spelling);

    let bos = configs.bos_text.as_deref().and_then(id_of);
    let eos = configs.eos_text.as_deref().and_then(id_of);
    let eos = eos.or_else(|| configs.generation_ends.first().copied());
    if let Some(&found) = configs
        .generation_ends
        .iter()
        .find(|&&id| id as usize >= tokens.len())
    {
        return Err(TokenizerError::SpecialOutsideVocabulary {
            key: "eos_token_id of generation_config.json",
            found,
            vocabulary: tokens.len(),
        });
    }
    let ends = ends(&tokens, &kinds)
        .chain(eos)
        .chain(configs.generation_ends.iter().copied())
        .collect();
    let begins_with_bos = || {
        let empty = guarded(|| library.encode_fast("", true))?;
        Ok(bos.is_some() && empty.get_ids().first().copied() == bos)
    };
    let adds_bos = configs.add_bos_token.map_or_else(begins_with_bos, Ok)?;
    if adds_bos && bos.is_none() {
        return Err(TokenizerError::MissingBos {
            key: "bos_token of tokenizer_config.json",
        });
    }

    let normalizer = library.get_normalizer().cloned();
    let added = added.clone();
    let words = match words::byte_level(&library, spelling)? {
        Some(words) => Words::ByteLevel(words),
        None => Words::Library {
            pre_tokenizer: library.get_pre_tokenizer().cloned(),
            model: Box::new(library.get_model().clone()),
        },
    };
    Ok(Tokenizer {
        tokens,
        kinds,
        encoder: Encoder::Library(Box::new(Library::new(added, normalizer, words))),
        spelling,
        bos,
        eos,
        adds_bos,
        ends,
        chat_templates: configs.chat_templates.clone(),
    })
}

/// The text of every id. Ids may have gaps, whose text is empty.
fn texts(library: &tokenizers::Tokenizer) -> Result<Vec<String>, TokenizerError> {
    let vocabulary = library.get_vocab(true);
    let count = vocabulary.values().max().map_or(0, |&id| id as usize + 1);
    if count == 0 || count > vocabulary.len().saturating_mul(MOST_SPARSE) {
        return Err(TokenizerError::SparseVocabulary {
            tokens: vocabulary.len(),
            ids: count,
        });
    }
    let mut texts = vec![String::new(); count];
    for (text, id) in vocabulary {
        let place = &mut texts[id as usize];
        if !place.is_empty() {
            let (first, second) = (place.clone().min(text.clone()), place.clone().max(text));
            return Err(TokenizerError::SharedId { id, first, second });
        }
        *place = text;
    }
    Ok(texts)
}

fn kinds(
    tokens: &[String],
    added: &AddedVocabulary,
    unknown: Option<&str>,
    spelling: Spelling,
) -> Vec<TokenKind> {
    let marks = added.get_added_tokens_decoder();
    let kind = |id: u32, text: &str| match marks.get(&id) {
        _ if text.is_empty() => TokenKind::Unused,
        _ if Some(text) == unknown => TokenKind::Unknown,
        Some(mark) if mark.special => TokenKind::Control,
        Some(_) => TokenKind::UserDefined,
        None if spelling == Spelling::ByteLevel && !spelling.spells(text) => TokenKind::UserDefined,
        None if spelling != Spelling::ByteLevel && byte_of(text).is_some() => TokenKind::Byte,
        None => TokenKind::Normal,
    };
    (0_u32..)
        .zip(tokens)
        .map(|(id, text)| kind(id, text))
        .collect()
}

/// How the file's decoder turns tokens into text.
fn spelling(library: &tokenizers::Tokenizer) -> Result<Spelling, TokenizerError> {
    let described = |part: Option<Value>| part.unwrap_or_default();
    let decoder = described(json(library.get_decoder())?);
    let steps = words::steps(&decoder, "decoders");
    let named = |name: &str| steps.iter().any(|step| step["type"] == name);
    if named("ByteLevel") {
        return Ok(Spelling::ByteLevel);
    }
    let replaces = steps
        .iter()
        .any(|step| step["type"] == "Replace" && step["pattern"]["String"] == "\u{2581}");
    if !(named("Metaspace") || replaces && named("ByteFallback")) {
        let found = match &decoder {
            Value::Null => "missing".to_owned(),
            decoder => decoder["type"].as_str().unwrap_or("unnamed").to_owned(),
        };
        return Err(unsupported(
            "decoder",
            &found,
            "ByteLevel, Metaspace, a Sequence of Replace U+2581 and ByteFallback",
        ));
    }
    let strips = steps.iter().any(|step| match step["type"].as_str() {
        Some("Strip") => step["content"] == " " && step["start"] != 0,
        Some("Metaspace") => step["prepend_scheme"] != "never",
        _ => false,
    });
    let normalizer = described(json(library.get_normalizer())?);
    let pre_tokenizer = described(json(library.get_pre_tokenizer())?);
    let first = words::steps(&pre_tokenizer, "pretokenizers")
        .iter()
        .any(|step| step["type"] == "Metaspace" && step["prepend_scheme"] == "first");
    let always = words::steps(&pre_tokenizer, "pretokenizers")
        .iter()
        .any(|step| step["type"] == "Metaspace" && step["prepend_scheme"] == "always")
        || words::steps(&normalizer, "normalizers")
            .iter()
            .any(|step| step["type"] == "Prepend");
    let prefix = match (strips, always, first) {
        (true, true, _) => SpacePrefix::AfterSpecial,
        (true, false, true) => SpacePrefix::AtStart,
        _ => SpacePrefix::Never,
    };
    Ok(Spelling::Blanks {
        prefix,
        user_defined: true,
    })
}

/// A part of the tokenizer as its file has it.
fn json(part: Option<&impl serde::Serialize>) -> Result<Option<Value>, TokenizerError> {
    part.map(serde_json::to_value)
        .transpose()
        .map_err(|error| TokenizerError::Library(Box::new(error)))
}

fn unsupported(key: &'static str, found: &str, supported: &str) -> TokenizerError {
    TokenizerError::Unsupported {
        key,
        found: found.to_owned(),
        supported: supported.to_owned(),
    }
}
