//! What can be wrong with a tokenizer's description, or with what it is asked to do.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a tokenizer could not be built, or why it refused a text or a token.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// What one file says about its tokenizer is wrong.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<TokenizerError>,
    },
    /// A metadata value names something this build does not know.
    #[error("{key} is {found:?}, which is not supported; supported: {supported}")]
    Unsupported {
        /// The metadata key.
        key: &'static str,
        /// The value found there.
        found: String,
        /// The accepted values, separated by commas.
        supported: String,
    },
    /// Two arrays that describe the same vocabulary differ in length.
    #[error("{key} has {found} entries, expected {expected}, one for each token")]
    LengthMismatch {
        /// The metadata key of the shorter or longer array.
        key: &'static str,
        /// Its length.
        found: usize,
        /// The number of tokens.
        expected: usize,
    },
    /// The vocabulary holds no token at all, or more than an id can number.
    #[error(
        "tokenizer.ggml.tokens has {found} entries, expected between 1 and {}",
        u32::MAX
    )]
    VocabularySize {
        /// The number of tokens found.
        found: usize,
    },
    /// Two ids share one text, so encoding would be ambiguous.
    #[error("tokenizer.ggml.tokens repeats {text:?} at index {index}")]
    DuplicateToken {
        /// The later of the two ids.
        index: usize,
        /// The text they share.
        text: String,
    },
    /// A token's text is empty.
    #[error("tokenizer.ggml.tokens holds an empty text at index {index}")]
    EmptyToken {
        /// The token's id.
        index: usize,
    },
    /// A token type outside the six that GGUF defines.
    #[error("tokenizer.ggml.token_type is {found} at index {index}, expected 1 to 6")]
    TokenType {
        /// The token's id.
        index: usize,
        /// The type found.
        found: u64,
    },
    /// A normal token whose text is not written in the byte-level alphabet.
    #[error(
        "tokenizer.ggml.tokens holds {text:?} at index {index}, which has {character:?}: \
         not a character of the byte-level alphabet"
    )]
    NotByteLevel {
        /// The token's id.
        index: usize,
        /// The token's text.
        text: String,
        /// The first character outside the alphabet.
        character: char,
    },
    /// A score by which nothing can be ordered.
    #[error("tokenizer.ggml.scores is {found} at index {index}, expected a finite number")]
    Score {
        /// The token's id.
        index: usize,
        /// The score found.
        found: f32,
    },
    /// A byte token whose text does not say which byte.
    #[error(
        "tokenizer.ggml.tokens holds the byte token {text:?} at index {index}, expected two hexadecimal \
         digits as in <0x0A>"
    )]
    NotAByte {
        /// The token's id.
        index: usize,
        /// The token's text.
        text: String,
    },
    /// A merge rule that is not two parts separated by one space.
    #[error(
        "tokenizer.ggml.merges holds {merge:?} at index {index}, expected two parts and a space"
    )]
    MalformedMerge {
        /// The rule's rank.
        index: usize,
        /// The rule as written.
        merge: String,
    },
    /// A merge rule that needs, or makes, a text which is not a token.
    #[error(
        "tokenizer.ggml.merges holds {merge:?} at index {index}, but {part:?} is not in \
         tokenizer.ggml.tokens"
    )]
    MergeOutsideVocabulary {
        /// The rule's rank.
        index: usize,
        /// The rule as written.
        merge: String,
        /// The text without a token.
        part: String,
    },
    /// A special token id that is not in the vocabulary.
    #[error("{key} is {found}, but the vocabulary has {vocabulary} tokens")]
    SpecialOutsideVocabulary {
        /// The metadata key.
        key: &'static str,
        /// The id found.
        found: u32,
        /// The number of tokens.
        vocabulary: usize,
    },
    /// The file asks for a beginning-of-sequence token and does not say which.
    #[error("a beginning-of-sequence token is to be added, but {key} is missing, or not a token")]
    MissingBos {
        /// Where it should be named.
        key: &'static str,
    },
    /// The text holds a byte for which the vocabulary has no token, so that encoding would lose it.
    #[error(
        "the text has byte 0x{byte:02x} at offset {offset}, and this vocabulary has no token for that byte"
    )]
    UnrepresentableByte {
        /// The byte.
        byte: u8,
        /// Where it stands, in bytes from the start of the text.
        offset: usize,
    },
    /// A token id that the vocabulary does not have.
    #[error("token {token} at index {index} is outside the vocabulary of {vocabulary} tokens")]
    OutsideVocabulary {
        /// The place in the sequence.
        index: usize,
        /// The id.
        token: u32,
        /// The number of tokens.
        vocabulary: usize,
    },
    /// A file of a snapshot cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[source] std::io::Error),
    /// A file is larger than any tokenizer.
    #[error("it has more than {limit} bytes, expected a tokenizer's file, which has less")]
    TooLarge {
        /// The most that is read, in bytes.
        limit: u64,
    },
    /// A file is not JSON, breaks off, or is nested too deeply.
    #[error("it {}: {source}", if source.is_eof() { "breaks off" } else { "is not JSON" })]
    Json {
        /// What the reader found, and where.
        source: serde_json::Error,
    },
    /// A field of a JSON file has a value that cannot be used.
    #[error("{key} is {found}, expected {expected}")]
    Field {
        /// The field's name.
        key: &'static str,
        /// What is there, shortened.
        found: String,
        /// What should be there.
        expected: &'static str,
    },
    /// The JSON describes no tokenizer that the library knows.
    #[error("it describes no tokenizer: {0}")]
    Description(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A vocabulary without tokens, or whose ids lie far apart.
    #[error(
        "the vocabulary has {tokens} tokens and ids up to {ids}, expected at least one token and few gaps"
    )]
    SparseVocabulary {
        /// Tokens found.
        tokens: usize,
        /// One more than the largest id.
        ids: usize,
    },
    /// Two texts have one id, so that decoding would be ambiguous.
    #[error("id {id} belongs to {first:?} and to {second:?}, expected an id of its own for each")]
    SharedId {
        /// The id.
        id: u32,
        /// One text.
        first: String,
        /// The other.
        second: String,
    },
    /// The embedding is too small for the tokenizer's text.
    #[error(
        "token {token} is {text:?}, but the embedding has only {rows} rows: the tokenizer is another model's"
    )]
    TokensBeyondRows {
        /// The last token that is text.
        token: usize,
        /// Its text.
        text: String,
        /// Rows of the embedding.
        rows: usize,
    },
    /// The embedding is larger than padding explains.
    #[error(
        "the embedding has {rows} rows and the tokenizer {vocabulary} tokens, expected at most {padding} rows \
         more: the tokenizer is another model's"
    )]
    RowsBeyondTokens {
        /// Tokens of the vocabulary.
        vocabulary: usize,
        /// Rows of the embedding.
        rows: usize,
        /// How many rows may have no token.
        padding: usize,
    },
    /// The tokenizing library refused; the source says why.
    #[error("the tokenizing library failed")]
    Library(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl TokenizerError {
    /// Says which file the fault is in.
    pub(super) fn in_file(path: &Path, source: Self) -> Self {
        Self::InFile {
            path: path.to_owned(),
            source: Box::new(source),
        }
    }
}
