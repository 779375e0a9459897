//! Single generations that are held to a form. What the form is is not the engine's affair: those here are stubs of the
//! protocol between the two.

use kakeya_core::{
    Constraint, ConstraintError, EngineError, Form, GenerateEvent, GenerateParams, StopReason,
    TokenConstraint, TokenGrammar, TokenSet,
};

use super::single::{complete, ensure_nothing_left, with_loop};
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{ensure_refused, finish, greedy, prose, seeded, small, solo};
use crate::{ensure, ensure_eq};
use kakeya_suite::CaseResult;

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "nothing_but_what_a_form_allows_is_drawn",
            nothing_else_is_drawn,
        ),
        Case::fast(
            "a_form_that_fails_ends_its_generation_and_no_other",
            ends_its_generation,
        ),
    ]
}

/// Allows every seventh token, and does something else at its end.
#[derive(Debug, Clone)]
struct Sevenths {
    left: u32,
    end: End,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Complete,
    Nothing,
    Fails,
    PanicsWhenAsked,
    PanicsWhenTold,
}

impl TokenConstraint for Sevenths {
    fn allow(&mut self, allowed: &mut TokenSet) -> Result<(), ConstraintError> {
        match (self.left, self.end) {
            (0, End::Nothing) => allowed.copy_from_words(&[]),
            (0, End::PanicsWhenAsked) => panic!("asked at its end"),
            _ => {
                let mut words = vec![0_u32; 10_000];
                for token in (3..320_000_usize).step_by(7) {
                    words[token / 32] |= 1 << (token % 32);
                }
                allowed.copy_from_words(&words);
            }
        }
        Ok(())
    }

    fn note(&mut self, token: u32) -> Result<Form, ConstraintError> {
        assert_eq!(token % 7, 3, "a token that was not allowed");
        match (self.left, self.end) {
            (0, End::Fails) => {
                return Err(ConstraintError {
                    detail: "a stub".to_owned(),
                });
            }
            (0, End::PanicsWhenTold) => panic!("told at its end"),
            (1, End::Complete) => return Ok(Form::Complete),
            _ => {}
        }
        self.left = self.left.saturating_sub(1);
        Ok(Form::Open)
    }
}

impl TokenGrammar for Sevenths {
    fn begin(&self) -> Box<dyn TokenConstraint> {
        Box::new(self.clone())
    }
}

fn held(params: GenerateParams, left: u32, end: End) -> GenerateParams {
    GenerateParams {
        constraint: Some(Constraint::new(Sevenths { left, end })),
        ..params
    }
}

fn nothing_else_is_drawn(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 40)?;
    let config = small(context);
    for params in [greedy(20), seeded(20, 3), seeded(20, 4)] {
        let alone = solo(
            context,
            &config,
            &prompt,
            held(params.clone(), 12, End::Complete),
        )?;
        ensure_eq!(alone.tokens.len(), 12, "tokens up to the end of the form");
        ensure_eq!(alone.done.reason, StopReason::Complete, "the stop reason");
        ensure!(
            alone.tokens.iter().all(|token| token % 7 == 3),
            "{:?} has a token that was not allowed",
            alone.tokens
        );
        let shorter = solo(
            context,
            &config,
            &prompt,
            held(params.clone(), 99, End::Complete),
        )?;
        ensure_eq!(
            shorter.done.reason,
            StopReason::MaxTokens,
            "the stop reason"
        );
        ensure_eq!(
            shorter.tokens[..12],
            alone.tokens[..],
            "the tokens that both have"
        );
        with_loop(context, config.clone(), async |engine| {
            let free = complete(engine, &prompt, seeded(30, 8)).await?;
            let found = complete(engine, &prompt, held(params, 12, End::Complete)).await?;
            finish(found)
                .await?
                .ensure_same_as("beside another", &alone)?;
            let expected = solo(context, &config, &prompt, seeded(30, 8))?;
            finish(free)
                .await?
                .ensure_same_as("the one without a form", &expected)?;
            ensure_nothing_left(engine, "two generations").await
        })?;
    }
    Ok(())
}

fn ends_its_generation(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 40)?;
    let config = small(context);
    let expected = solo(context, &config, &prompt, seeded(30, 8))?;
    with_loop(context, config, async |engine| {
        let mut failures = 0;
        for (end, detail) in [
            (
                End::Nothing,
                "no token may come next, and nothing says that the text is complete",
            ),
            (End::Fails, "a stub"),
            (End::PanicsWhenAsked, "it panicked"),
            (End::PanicsWhenTold, "it panicked"),
        ] {
            for left in [0, 5] {
                let free = complete(engine, &prompt, seeded(30, 8)).await?;
                let mut events = complete(engine, &prompt, held(seeded(30, 2), left, end)).await?;
                let mut tokens = 0;
                let ended = loop {
                    match events.next().await {
                        Some(Ok(GenerateEvent::Token(_))) => tokens += 1,
                        Some(Ok(_)) => {}
                        Some(Err(error)) => break Err(EngineError::from(error)),
                        None => break Ok(()),
                    }
                };
                let failed = ConstraintError {
                    detail: detail.to_owned(),
                };
                ensure_refused("a form that fails", ended, &failed.into())?;
                ensure_eq!(tokens, left, "tokens before it");
                failures += 1;
                ensure_eq!(
                    engine.stats().await?.constraint_failures,
                    failures,
                    "the count"
                );
                finish(free)
                    .await?
                    .ensure_same_as("its neighbour", &expected)?;
                ensure_nothing_left(engine, "a form that fails").await?;
            }
        }
        Ok(())
    })
}
