//! Holding a generation to a form: which tokens may come next.
//!
//! What the form is, and how it is kept to, is not known here. The wire layer hands a [`Constraint`] over with the
//! parameters, the step loop asks it before each draw, and nothing but what it allows is drawn.

use std::fmt;
use std::sync::Arc;

/// Bits of a word of a [`TokenSet`].
const WORD: usize = u32::BITS as usize;

/// A set of token ids below a vocabulary's size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSet {
    /// Token `32 i + j` is in the set where bit `j` of word `i` is 1. Bits beyond the vocabulary are 0.
    words: Vec<u32>,
    vocabulary: usize,
}

impl TokenSet {
    /// The empty set of tokens below `vocabulary`.
    #[must_use]
    pub fn new(vocabulary: usize) -> Self {
        Self {
            words: vec![0; vocabulary.div_ceil(WORD)],
            vocabulary,
        }
    }

    /// Makes it the set of the tokens whose bits are set in `words`: token `32 i + j` is bit `j` of word `i`. Missing
    /// words are 0, and ids that the vocabulary does not have are left out.
    pub fn copy_from_words(&mut self, words: &[u32]) {
        let taken = words.len().min(self.words.len());
        self.words[..taken].copy_from_slice(&words[..taken]);
        self.words[taken..].fill(0);
        let beyond = self.vocabulary % WORD;
        if let Some(last) = self.words.last_mut().filter(|_| beyond != 0) {
            *last &= (1 << beyond) - 1;
        }
    }

    /// Whether no token is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Whether a token is in it.
    #[must_use]
    pub fn contains(&self, token: u32) -> bool {
        let token = token as usize;
        let word = self.words.get(token / WORD);
        word.is_some_and(|word| word >> (token % WORD) & 1 == 1)
    }

    /// The tokens in it, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some((index * WORD) as u32 + bit)
            })
        })
    }
}

/// How far a text is, as its form goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// More may come, or must.
    Open,
    /// It is complete, and nothing may follow.
    Complete,
}

/// Why a constraint cannot go on. It is the end of the generation: nothing is ever drawn without it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer cannot be held to its form any further: {detail}")]
pub struct ConstraintError {
    /// What went wrong.
    pub detail: String,
}

/// The form of one generation, and how far its text is.
///
/// What it allows must depend on nothing but the form and the tokens that it was told of (INV-3).
pub trait TokenConstraint: Send + fmt::Debug {
    /// Sets `allowed` to the tokens that may come next. Where the text may end, its end tokens are among them.
    ///
    /// # Errors
    /// [`ConstraintError`].
    fn allow(&mut self, allowed: &mut TokenSet) -> Result<(), ConstraintError>;

    /// Takes note of the token that comes next, one of those that were allowed.
    ///
    /// # Errors
    /// [`ConstraintError`].
    fn note(&mut self, token: u32) -> Result<Form, ConstraintError>;
}

/// A form that any number of generations can be held to.
pub trait TokenGrammar: Send + Sync + fmt::Debug {
    /// The state before the first token. Generations share none of it.
    fn begin(&self) -> Box<dyn TokenConstraint>;
}

/// A form as a generation's parameters carry it. It equals its clones.
#[derive(Clone, Debug)]
pub struct Constraint(Arc<dyn TokenGrammar>);

impl Constraint {
    /// The form of a grammar.
    pub fn new(grammar: impl TokenGrammar + 'static) -> Self {
        Self(Arc::new(grammar))
    }

    /// The state before the first token.
    #[must_use]
    pub fn begin(&self) -> Box<dyn TokenConstraint> {
        self.0.begin()
    }
}

impl PartialEq for Constraint {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
