//! Reading a tokenizer's description from a GGUF file's metadata.

use super::parts::{Family, MODEL_KEY};
use super::pre::PRE_KEY;
use super::{Tokenizer, TokenizerError, TokenizerParts};
use crate::chat::TemplateText;
use crate::error::ModelError;
use crate::source::{GgufFile, SourceError};

impl TokenizerParts {
    /// Reads the fields as the file has them; [`Tokenizer::from_parts`] checks them.
    ///
    /// # Errors
    /// A required field that is missing, or one of the wrong type, named with the file.
    pub fn from_gguf(file: &GgufFile) -> Result<Self, SourceError> {
        let model = file.string(MODEL_KEY)?.to_owned();
        // The ids that SentencePiece itself gives these two, and older files leave out.
        let (mut default_bos, mut default_eos) = (None, None);
        let (pre, merges, scores) = match Family::named(&model) {
            Ok(Family::SentencePiece) => {
                (default_bos, default_eos) = (Some(1), Some(2));
                let scores = file.f32_array("tokenizer.ggml.scores")?;
                (String::new(), Vec::new(), scores)
            }
            Ok(Family::ByteLevel) => {
                let merges = file.string_array("tokenizer.ggml.merges")?;
                (file.string(PRE_KEY)?.to_owned(), merges, Vec::new())
            }
            // The check of the parts says that this build does not know the family.
            Err(_) => (String::new(), Vec::new(), Vec::new()),
        };
        let token_types = "tokenizer.ggml.token_type";
        let add_space_prefix = "tokenizer.ggml.add_space_prefix";
        Ok(Self {
            model,
            pre,
            tokens: file.string_array("tokenizer.ggml.tokens")?,
            scores,
            token_types: optional(file, token_types, GgufFile::u64_array)?.unwrap_or_default(),
            merges,
            bos_token_id: token_id(file, "tokenizer.ggml.bos_token_id")?.or(default_bos),
            eos_token_id: token_id(file, "tokenizer.ggml.eos_token_id")?.or(default_eos),
            eot_token_id: token_id(file, "tokenizer.ggml.eot_token_id")?,
            eom_token_id: token_id(file, "tokenizer.ggml.eom_token_id")?,
            add_bos_token: optional(file, "tokenizer.ggml.add_bos_token", GgufFile::bool)?,
            add_space_prefix: optional(file, add_space_prefix, GgufFile::bool)?,
        })
    }
}

impl Tokenizer {
    /// Builds the tokenizer that the file carries.
    ///
    /// # Errors
    /// What is missing, unknown or inconsistent, naming the file and the field.
    pub fn from_gguf(file: &GgufFile) -> Result<Self, ModelError> {
        let parts = TokenizerParts::from_gguf(file)?;
        let built = Self::from_parts(parts);
        let mut tokenizer = built.map_err(|source| TokenizerError::in_file(file.path(), source))?;
        tokenizer.chat_templates = chat_templates(file)?;
        Ok(tokenizer)
    }
}

/// The templates of the file: a nameless one, and others whose names a field lists.
fn chat_templates(file: &GgufFile) -> Result<Vec<TemplateText>, SourceError> {
    let key = "tokenizer.chat_template";
    let names = optional(file, "tokenizer.chat_templates", GgufFile::string_array)?;
    let named = names.into_iter().flatten().map(|name| {
        let key = format!("{key}.{name}");
        (name, key)
    });
    let nameless = file
        .has(key)
        .then(|| (TemplateText::DEFAULT.to_owned(), key.to_owned()));
    nameless
        .into_iter()
        .chain(named)
        .map(|(name, key)| {
            Ok(TemplateText {
                name,
                text: file.string(&key)?.to_owned(),
                source: format!("{}, {key}", file.path().display()),
            })
        })
        .collect()
}

/// A field that may be absent, but not of the wrong type.
fn optional<T>(
    file: &GgufFile,
    key: &str,
    read: impl Fn(&GgufFile, &str) -> Result<T, SourceError>,
) -> Result<Option<T>, SourceError> {
    file.has(key).then(|| read(file, key)).transpose()
}

fn token_id(file: &GgufFile, key: &str) -> Result<Option<u32>, SourceError> {
    let Some(found) = optional(file, key, GgufFile::u64)? else {
        return Ok(None);
    };
    let id = u32::try_from(found)
        .map_err(|_| file.unusable(key, found.to_string(), "a token id of 32 bits"))?;
    Ok(Some(id))
}
