//! Prompt lookup on texts that repeat themselves, beside other sessions and over turns.

use std::sync::Arc;

use kakeya_core::GenerateEvent;
use kakeya_runtime::speculation::PromptLookup;
use kakeya_runtime::{EngineConfig, Speculation};

use super::super::support::{engine_with, generate};
use super::super::support::{ensure_holds, greedy, open_with, prose, seeded, small, solo};
use super::support::{Saying, ensure_no_fault, finish, fixed, session, speculating};
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::{ensure, ensure_eq, ensure_same_tokens};
use kakeya_suite::{CaseFailure, CaseResult};

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "prompt_lookup_is_right_where_a_text_repeats_itself",
            a_text_that_repeats_itself,
        ),
        Case::fast(
            "sessions_that_speculate_side_by_side_say_what_they_would_alone",
            side_by_side,
        ),
        Case::fast("turns_go_on_where_speculation_has_left_them", turns),
        Case::fast(
            "a_prompt_is_kept_for_others_before_drafts_overwrite_it",
            kept_for_others,
        ),
    ]
}

/// A prompt that says the same several times over, and a model that goes on so.
fn repeating(context: &SuiteContext) -> Result<Vec<u32>, CaseFailure> {
    let sentence = prose(context, 24)?;
    Ok([&sentence[..]; 4].concat())
}

fn a_text_that_repeats_itself(context: &SuiteContext) -> CaseResult {
    let config = EngineConfig {
        cache: kakeya_core::CacheConfig::default(),
        ..small(context)
    };
    let prompt = repeating(context)?;
    let plain = solo(context, &config, &prompt, greedy(60))?;
    let speculation = fixed(Arc::new(PromptLookup), 8);
    let mut id = None;
    let (engine, counts) = speculating(context, &config, speculation, async |engine| {
        let session = session(engine, &prompt, &[]).await?;
        let found = finish(engine, &session, greedy(60)).await?;
        id = Some(session);
        found.ensure_same_as("prompt lookup", &plain)
    })?;
    ensure_no_fault(&counts)?;
    ensure!(
        counts.accepted >= 40,
        "{} of 60 tokens of a text that repeats itself were guessed",
        counts.accepted
    );
    match id {
        Some(id) => ensure_holds(
            context,
            &engine,
            &id,
            &[&prompt[..], &plain.tokens].concat(),
        ),
        None => Ok(()),
    }
}

fn side_by_side(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let text = prose(context, 200)?;
    let prompts: Vec<&[u32]> = vec![&text[..20], &text[20..90], &text[90..95], &text[95..200]];
    // Whatever was measured decides how much is verified, and a fixed number of drafts is verified whatever it costs.
    for speculation in [
        Speculation::new(Arc::new(PromptLookup)),
        fixed(Arc::new(PromptLookup), 5),
    ] {
        let mut ids = Vec::new();
        let mut expected = Vec::new();
        for (seed, prompt) in (0..).zip(&prompts) {
            expected.push(solo(context, &config, prompt, seeded(30, seed))?);
        }
        let (engine, _) = speculating(context, &config, speculation, async |engine| {
            let mut streams = Vec::new();
            for (seed, prompt) in (0..).zip(&prompts) {
                let id = session(engine, prompt, &[]).await?;
                streams.push(engine.generate(id.clone(), seeded(30, seed)).await?);
                ids.push(id);
            }
            for (mut events, plain) in streams.into_iter().zip(&expected) {
                let mut tokens = Vec::new();
                while let Some(event) = events.next().await {
                    if let GenerateEvent::Token(token) = event? {
                        tokens.push(token.id);
                    }
                }
                ensure_same_tokens("a session beside others", &tokens, &plain.tokens)?;
            }
            Ok(())
        })?;
        for ((id, prompt), plain) in ids.iter().zip(&prompts).zip(&expected) {
            ensure_holds(context, &engine, id, &[prompt, &plain.tokens[..]].concat())?;
        }
    }
    Ok(())
}

/// Appends and generations by turns, with and without drafts.
fn turns(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let text = prose(context, 120)?;
    let mut plain = engine_with(context, config.clone())?;
    let alone = open_with(&mut plain, &text[..40])?;
    let mut expected = Vec::new();
    for turn in 0..4_u64 {
        expected.push(generate(&mut plain, &alone, seeded(25, turn))?);
        let from = 40 + 20 * turn as usize;
        kakeya_runtime::AppendCoordinator::append(&mut plain, &alone, &text[from..from + 20])?;
    }
    let mut id = None;
    let speculation = fixed(Arc::new(PromptLookup), 6);
    let (engine, _) = speculating(context, &config, speculation, async |engine| {
        let session = session(engine, &text[..40], &[]).await?;
        for (turn, plain) in (0..).zip(&expected) {
            let found = finish(engine, &session, seeded(25, turn)).await?;
            found.ensure_same_as(&format!("turn {turn}"), plain)?;
            let from = 40 + 20 * turn as usize;
            let more = text[from..from + 20].to_vec();
            engine.append(session.clone(), more).await?;
        }
        id = Some(session);
        Ok(())
    })?;
    match id {
        Some(id) => ensure_holds(context, &engine, &id, plain.history(&alone)?),
        None => Ok(()),
    }
}

/// A long answer writes over its prompt, and drafts would do so sooner; the prompt must have been kept by then.
fn kept_for_others(context: &SuiteContext) -> CaseResult {
    let config = EngineConfig {
        prefix_cache_bytes: 64 << 20,
        ..small(context)
    };
    let text = prose(context, 120)?;
    let (prompt, next) = (text[..80].to_vec(), text.clone());
    let plain = solo(context, &config, &prompt, seeded(330, 1))?;
    let after = solo(context, &config, &next, seeded(20, 2))?;
    let vocabulary = context.model()?.config().vocabulary as u32;
    let whole = [&prompt[..], &plain.tokens].concat();
    let proposers = Saying::what_comes(whole, vocabulary, |at| at.is_multiple_of(7));
    speculating(context, &config, fixed(proposers, 11), async |engine| {
        for (prompt, params, expected, kept) in [
            (&prompt, seeded(330, 1), &plain, 0),
            (&next, seeded(20, 2), &after, 80),
        ] {
            let label = "a case".to_owned();
            let mut answer = engine
                .complete(label, Vec::new(), prompt.clone(), params, None)
                .await?;
            let mut tokens = Vec::new();
            while let Some(event) = answer.events.next().await {
                if let GenerateEvent::Token(token) = event? {
                    tokens.push(token.id);
                }
            }
            ensure_same_tokens("an answer", &tokens, &expected.tokens)?;
            let cached = answer.cached.try_recv().unwrap_or(0);
            ensure_eq!(cached, kept, "tokens of the prompt that were cached");
        }
        Ok(())
    })
    .map(drop)
}
