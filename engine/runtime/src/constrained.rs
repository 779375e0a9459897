//! A generation's form, as the step loop sees it: whatever goes wrong in it is the end of that generation alone.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kakeya_core::{Constraint, ConstraintError, Form, TokenConstraint, TokenSet};

/// The form of one generation, and what it allows next.
#[derive(Debug)]
pub(crate) struct Constrained {
    form: Box<dyn TokenConstraint>,
    allowed: TokenSet,
}

impl Constrained {
    /// Before the first token of a text over `vocabulary` tokens.
    pub(crate) fn begin(
        constraint: &Constraint,
        vocabulary: usize,
    ) -> Result<Self, ConstraintError> {
        Ok(Self {
            form: caught(|| Ok(constraint.begin()))?,
            allowed: TokenSet::new(vocabulary),
        })
    }

    /// The tokens that may come next, one or more.
    pub(crate) fn allowed(&mut self) -> Result<&TokenSet, ConstraintError> {
        caught(|| self.form.allow(&mut self.allowed))?;
        if self.allowed.is_empty() {
            return Err(ConstraintError {
                detail: "no token may come next, and nothing says that the text is complete"
                    .to_owned(),
            });
        }
        Ok(&self.allowed)
    }

    /// Takes note of a token that was allowed.
    pub(crate) fn note(&mut self, token: u32) -> Result<Form, ConstraintError> {
        caught(|| self.form.note(token))
    }
}

/// A panic in the form's own code, as an error. What it leaves behind is not used any more: the generation ends.
fn caught<T>(run: impl FnOnce() -> Result<T, ConstraintError>) -> Result<T, ConstraintError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        Err(ConstraintError {
            detail: "it panicked".to_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use kakeya_core::TokenGrammar;

    use super::*;

    /// Allows the tokens of a word at each step, and panics where there are none left.
    #[derive(Debug, Clone)]
    struct Steps(Vec<u32>);

    impl TokenConstraint for Steps {
        fn allow(&mut self, allowed: &mut TokenSet) -> Result<(), ConstraintError> {
            allowed.copy_from_words(&self.0[..1]);
            Ok(())
        }

        fn note(&mut self, _: u32) -> Result<Form, ConstraintError> {
            self.0.remove(0);
            Ok(Form::Open)
        }
    }

    impl TokenGrammar for Steps {
        fn begin(&self) -> Box<dyn TokenConstraint> {
            assert!(self.0.len() < 9, "too long");
            Box::new(self.clone())
        }
    }

    fn begun(steps: &[u32]) -> Constrained {
        Constrained::begin(&Constraint::new(Steps(steps.to_vec())), 8).expect("it begins")
    }

    #[test]
    fn what_is_allowed_is_asked_anew_for_each_token() {
        let mut steps = begun(&[0b1, 0b110]);
        assert!(steps.allowed().expect("a token").iter().eq([0]));
        assert_eq!(steps.note(0), Ok(Form::Open));
        assert!(steps.allowed().expect("two tokens").iter().eq([1, 2]));
    }

    #[test]
    fn nothing_is_drawn_from_an_empty_set() {
        let error = begun(&[0]).allowed().cloned().expect_err("no token");
        assert!(error.detail.contains("no token may come next"), "{error}");
    }

    #[test]
    fn a_panic_is_an_error_at_every_step() {
        let panicked = ConstraintError {
            detail: "it panicked".to_owned(),
        };
        let mut steps = begun(&[1]);
        assert_eq!(steps.note(0), Ok(Form::Open));
        assert_eq!(steps.allowed().cloned(), Err(panicked.clone()));
        assert_eq!(steps.note(0), Err(panicked.clone()));
        let begun = Constrained::begin(&Constraint::new(Steps(vec![1; 9])), 8);
        assert_eq!(begun.map(drop), Err(panicked));
    }
}
