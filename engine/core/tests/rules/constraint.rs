//! Sets of tokens, and forms as parameters carry them.

use kakeya_core::{
    Constraint, ConstraintError, EngineError, Form, GenerateParams, Sampling, TokenConstraint,
    TokenGrammar, TokenSet,
};

fn set(vocabulary: usize, words: &[u32]) -> TokenSet {
    let mut set = TokenSet::new(vocabulary);
    set.copy_from_words(words);
    set
}

#[test]
fn a_set_holds_the_tokens_whose_bits_are_set() {
    let found = set(70, &[0b1001, 0, 1 << 5]);
    assert_eq!(found.iter().collect::<Vec<_>>(), [0, 3, 69]);
    assert!(found.contains(0) && found.contains(69) && !found.contains(1));
    assert!(!found.contains(70) && !found.contains(u32::MAX));
    assert!(!found.is_empty());
}

#[test]
fn tokens_that_the_vocabulary_does_not_have_are_left_out() {
    let all = set(70, &[u32::MAX; 9]);
    assert_eq!(all.iter().collect::<Vec<_>>(), (0..70).collect::<Vec<_>>());
    let whole_words = set(64, &[u32::MAX; 3]);
    assert_eq!(whole_words.iter().count(), 64);
    assert_eq!(set(0, &[1]).iter().count(), 0);
}

#[test]
fn what_was_in_a_set_before_does_not_stay() {
    let mut found = set(70, &[u32::MAX; 3]);
    found.copy_from_words(&[2]);
    assert_eq!(found.iter().collect::<Vec<_>>(), [1]);
    found.copy_from_words(&[]);
    assert!(found.is_empty());
    assert_eq!(found, TokenSet::new(70));
}

/// A form of one token, the same for ever.
#[derive(Debug, Clone)]
struct Only(u32);

impl TokenConstraint for Only {
    fn allow(&mut self, allowed: &mut TokenSet) -> Result<(), ConstraintError> {
        allowed.copy_from_words(&[1 << self.0]);
        Ok(())
    }

    fn note(&mut self, token: u32) -> Result<Form, ConstraintError> {
        match token {
            token if token == self.0 => Ok(Form::Complete),
            other => Err(ConstraintError {
                detail: format!("token {other}"),
            }),
        }
    }
}

impl TokenGrammar for Only {
    fn begin(&self) -> Box<dyn TokenConstraint> {
        Box::new(self.clone())
    }
}

#[test]
fn a_form_is_begun_anew_for_each_generation_and_equals_its_clones_alone() {
    let form = Constraint::new(Only(3));
    let mut begun = form.begin();
    let mut allowed = TokenSet::new(8);
    assert_eq!(begun.allow(&mut allowed), Ok(()));
    assert_eq!(allowed, set(8, &[1 << 3]));
    assert_eq!(begun.note(3), Ok(Form::Complete));
    let error = begun.note(4).expect_err("another token");
    assert_eq!(
        EngineError::from(error).to_string(),
        "the answer cannot be held to its form any further: token 4"
    );
    let held_to = |constraint: &Constraint| GenerateParams {
        constraint: Some(constraint.clone()),
        ..GenerateParams::new(1, Sampling::default())
    };
    assert_eq!(held_to(&form), held_to(&form));
    assert_ne!(held_to(&form), held_to(&Constraint::new(Only(3))));
    assert_eq!(held_to(&form).validate(), Ok(()));
}
