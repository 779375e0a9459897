//! A compiled grammar as the engine knows it.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use kakeya_core::{ConstraintError, Form, TokenConstraint, TokenGrammar, TokenSet};
use llguidance::Matcher;

use crate::http::error::shorten;

/// How much of llguidance's account is told, in characters.
const TOLD: usize = 300;

/// A grammar before the first token of a text.
pub struct Grammar(Mutex<Matcher>);

impl Grammar {
    pub(super) fn new(matcher: Matcher) -> Self {
        Self(Mutex::new(matcher))
    }
}

impl fmt::Debug for Grammar {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Grammar").finish_non_exhaustive()
    }
}

impl TokenGrammar for Grammar {
    fn begin(&self) -> Box<dyn TokenConstraint> {
        let matcher = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // With a lexer of its own: what it may still cost must not depend on who else uses it.
        Box::new(Text(matcher.deep_clone()))
    }
}

/// A text that is being written.
struct Text(Matcher);

impl fmt::Debug for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Text").finish_non_exhaustive()
    }
}

impl TokenConstraint for Text {
    fn allow(&mut self, allowed: &mut TokenSet) -> Result<(), ConstraintError> {
        let mask = self.0.compute_mask().map_err(|error| failed(&error))?;
        allowed.copy_from_words(mask.as_slice());
        Ok(())
    }

    fn note(&mut self, token: u32) -> Result<Form, ConstraintError> {
        self.0
            .consume_token(token)
            .map_err(|error| failed(&error))?;
        Ok(match self.0.is_stopped() {
            true => Form::Complete,
            false => Form::Open,
        })
    }
}

fn failed(error: &impl fmt::Display) -> ConstraintError {
    ConstraintError {
        detail: account(error),
    }
}

/// The first line of what llguidance says, and the cause that stands below a pattern. What else comes after it is its own
/// state.
pub(super) fn account(error: &impl fmt::Display) -> String {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim);
    let first = lines.next().unwrap_or_default();
    let told = match lines.find_map(|line| line.strip_prefix("error: ")) {
        Some(cause) => format!("{first} {cause}"),
        None => first.to_owned(),
    };
    shorten(&told, TOLD).into_owned()
}
