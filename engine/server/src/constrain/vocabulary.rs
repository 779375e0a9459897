//! A model's tokens as llguidance reads them.

use std::sync::Arc;

use kakeya_model::tokenizer::{TokenKind, Tokenizer};
use llguidance::toktrie::{INVALID_TOKEN, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

/// A text as answers have them: where it becomes tokens and comes back, forced text can be cut into tokens as well.
const SAMPLE: &str = "{\"name\": \"look\", \"n\": [1, -2.5e3, true]}";

/// The tokens, and how text becomes tokens.
pub struct Vocabulary {
    trie: TokTrie,
    tokenizer: Arc<Tokenizer>,
    canonical: bool,
}

impl Vocabulary {
    /// The tokens of `tokenizer`.
    ///
    /// # Panics
    /// When a token is longer than any known: more than a thousand bytes.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        let ids = 0..tokenizer.vocab_size() as u32;
        let words: Vec<Vec<u8>> = ids.map(|token| word(&tokenizer, token)).collect();
        let ends: Vec<TokenId> = tokenizer.end_of_generation().collect();
        let info = TokRxInfo::new(words.len() as u32, INVALID_TOKEN);
        let mut trie = TokTrie::from(&info, &words);
        if !ends.is_empty() {
            trie = trie.with_eos_tokens(&ends);
        }
        let mut vocabulary = Self {
            trie,
            tokenizer,
            canonical: false,
        };
        vocabulary.canonical = vocabulary.encoded(SAMPLE).is_some();
        vocabulary
    }

    /// A stretch of text in the model's own tokens, if they stand for just that text.
    fn encoded(&self, text: &str) -> Option<Vec<TokenId>> {
        let tokens = self.tokenizer.encode(text, false).ok()?;
        let mut bytes = Vec::with_capacity(text.len());
        for token in &tokens {
            bytes.extend_from_slice(self.trie.token(*token));
        }
        (bytes == text.as_bytes()).then_some(tokens)
    }
}

/// The bytes of a token: those of a control token begin with one that no text has, and those of a token that nothing
/// was trained for are none.
fn word(tokenizer: &Tokenizer, token: u32) -> Vec<u8> {
    match tokenizer.token_kind(token) {
        Some(TokenKind::Control | TokenKind::Unknown) => {
            let text = tokenizer.token_text(token).unwrap_or_default();
            [&[TokTrie::SPECIAL_TOKEN_MARKER][..], text.as_bytes()].concat()
        }
        Some(TokenKind::Unused) | None => Vec::new(),
        Some(TokenKind::Normal | TokenKind::UserDefined | TokenKind::Byte) => {
            tokenizer.token_bytes(token)
        }
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            self.encoded(text)
                .unwrap_or_else(|| self.trie.greedy_tokenize(text.as_bytes()))
        })
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.canonical
    }
}
