//! Proposers that are wrong in every way there is. A session goes on as if it had none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kakeya_core::SpeculationStats;
use kakeya_runtime::Speculation;
use kakeya_runtime::speculation::{Proposal, Proposer, ProposerError, Proposers};

use super::super::support::{ensure_holds, prose, seeded, small, solo};
use super::support::{Saying, finish, fixed, session, speculating};
use crate::context::SuiteContext;
use crate::ensure_eq;
use crate::suite::Case;
use kakeya_suite::CaseResult;

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "proposals_that_no_model_could_take_are_cut_and_counted",
            unusable_proposals,
        ),
        Case::fast(
            "a_session_goes_on_without_a_proposer_that_fails_panics_or_hangs",
            broken_proposers,
        ),
        Case::fast("nobody_waits_for_a_proposer_that_hangs", nobody_waits),
    ]
}

/// Runs a generation with a proposer that has to be of no consequence, and gives what was counted.
fn of_no_consequence(
    context: &SuiteContext,
    what: &str,
    speculation: Speculation,
) -> Result<SpeculationStats, kakeya_suite::CaseFailure> {
    let config = small(context);
    let prompt = prose(context, 30)?;
    let params = seeded(12, 17);
    let plain = solo(context, &config, &prompt, params.clone())?;
    let mut ids = Vec::new();
    let (engine, counts) = speculating(context, &config, speculation, async |engine| {
        let session = session(engine, &prompt, &[]).await?;
        let found = finish(engine, &session, params.clone()).await?;
        found.ensure_same_as(what, &plain)?;
        ids.push(session);
        Ok(())
    })?;
    for id in &ids {
        ensure_holds(context, &engine, id, &[&prompt[..], &plain.tokens].concat())?;
    }
    Ok(counts)
}

fn unusable_proposals(context: &SuiteContext) -> CaseResult {
    let vocabulary = context.model()?.config().vocabulary as u32;
    let endless = Saying::tokens(|_, most| vec![7; 1000 * most]);
    let counts = of_no_consequence(context, "too many", fixed(endless, 4))?;
    ensure_eq!(counts.too_many > 0, true, "too many tokens were noticed");
    ensure_eq!(counts.drafted <= 4 * 12, true, "what was too much was cut");

    let outside = Saying::tokens(move |_, most| vec![vocabulary; most]);
    let counts = of_no_consequence(context, "out of vocabulary", fixed(outside, 4))?;
    ensure_eq!(counts.out_of_vocabulary > 0, true, "ids that there are not");
    ensure_eq!(counts.drafted, 0, "tokens that were verified");

    // What stands before the first of them can be right.
    let later = Saying::tokens(move |_, most| {
        let last = [u32::MAX, vocabulary, 3];
        [&[5][..], &last].concat().into_iter().take(most).collect()
    });
    let counts = of_no_consequence(context, "an id outside in the middle", fixed(later, 4))?;
    ensure_eq!(
        counts.drafted,
        counts.verifications,
        "one token was verified at a time"
    );

    let nothing = Saying::tokens(|_, _| Vec::new());
    let counts = of_no_consequence(context, "nothing", fixed(nothing, 4))?;
    ensure_eq!(counts, SpeculationStats::default(), "what came of nothing");

    let sure = Saying::answer(|_, most| {
        Ok(Proposal {
            tokens: vec![1; most],
            kind: usize::MAX,
        })
    });
    for speculation in [fixed(Arc::clone(&sure) as _, 4), Speculation::new(sure)] {
        of_no_consequence(context, "a kind that there is not", speculation)?;
    }
    Ok(())
}

/// Proposers that cannot even start.
struct NoStart;

impl Proposers for NoStart {
    fn name(&self) -> &'static str {
        "none-to-be-had"
    }

    fn start(self: Arc<Self>) -> Result<Box<dyn Proposer>, ProposerError> {
        Err(ProposerError::new("there is none"))
    }
}

fn broken_proposers(context: &SuiteContext) -> CaseResult {
    let after = |count: usize, then: fn() -> Result<Proposal, ProposerError>| {
        Saying::answer(move |history, most| match history.len() {
            length if length < 30 + count => Ok(Proposal {
                tokens: vec![3; most],
                kind: 0,
            }),
            _ => then(),
        })
    };
    for count in [0, 5] {
        let failing = after(count, || Err(ProposerError::new("no more")));
        let counts = of_no_consequence(context, "failing", fixed(failing, 4))?;
        ensure_eq!((counts.failed, counts.panicked), (1, 0), "failures");

        let panicking = after(count, || panic!("a proposer of a case panics"));
        let counts = of_no_consequence(context, "panicking", fixed(panicking, 4))?;
        ensure_eq!((counts.failed, counts.panicked), (0, 1), "panics");

        let hanging = Speculation {
            stall: Duration::from_millis(300),
            ..fixed(after(count, hang), 4)
        };
        let counts = of_no_consequence(context, "hanging", hanging)?;
        ensure_eq!((counts.stalled, counts.panicked), (1, 0), "hangs");
    }
    let counts = of_no_consequence(context, "not starting", fixed(Arc::new(NoStart), 4))?;
    ensure_eq!(counts.failed, 1, "proposers that did not start");
    Ok(())
}

/// Longer than any case takes, and not for ever: a thread cannot be ended.
fn hang() -> Result<Proposal, ProposerError> {
    std::thread::sleep(Duration::from_secs(20));
    Ok(Proposal::default())
}

/// Tokens after which a proposer that has cost as much as it may has long been asked again.
const LATE: u32 = 600;

/// A proposer that answers only when it is told to: until then its session goes on, and takes the answer when it comes.
fn nobody_waits(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let prompt = prose(context, 30)?;
    let plain = solo(context, &config, &prompt, seeded(LATE, 17))?;
    let free = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&free);
    let vocabulary = context.model()?.config().vocabulary as u32;
    let whole = [&prompt[..], &plain.tokens].concat();
    let right = Saying::what_comes(whole, vocabulary, |_| false);
    let waiting = Saying::answer(move |history, most| {
        while !told.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
        right.say(history, most)
    });
    let (_, counts) = speculating(
        context,
        &config,
        Speculation::new(waiting),
        async |engine| {
            let session = session(engine, &prompt, &[]).await?;
            let mut events = engine.generate(session, seeded(LATE, 17)).await?;
            let mut tokens = Vec::new();
            while let Some(event) = events.next().await {
                if let kakeya_core::GenerateEvent::Token(token) = event? {
                    tokens.push(token.id);
                }
                if tokens.len() == 40 {
                    free.store(true, Ordering::Release);
                }
            }
            crate::ensure_same_tokens("a late proposer", &tokens, &plain.tokens)
        },
    )?;
    ensure_eq!(
        counts.accepted > 0,
        true,
        "answers were of use once they came"
    );
    ensure_eq!(counts.stalled, 0, "proposers that were given up");
    Ok(())
}
