//! Blocks of every length and fate: accepted, rejected, ended, cancelled.

use std::time::Duration;

use kakeya_core::{GenerateEvent, GenerateParams, KvElement, Sampling, StopReason};
use kakeya_runtime::EngineConfig;
use kakeya_runtime::speculation::MAX_DRAFTS;

use super::super::support::{ensure_holds, greedy, prose, seeded, small, solo};
use super::support::{Saying, ensure_no_fault, finish, fixed, session, speculating};
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::{ensure, ensure_eq, ensure_same_tokens};
use kakeya_suite::CaseResult;

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "acceptance_of_0_50_and_100_per_cent_changes_no_bit",
            forced_acceptance,
        ),
        Case::fast("blocks_of_1_to_16_drafts_change_no_bit", every_length),
        Case::fast(
            "rejection_across_the_trim_boundary_leaves_the_cache_as_if_never_drafted",
            rejection_across_the_boundary,
        ),
        Case::fast("an_end_inside_a_block_is_the_end", an_end_inside_a_block),
        Case::fast("max_tokens_ends_a_block", limits_end_a_block),
        Case::fast(
            "a_stream_cancelled_inside_a_block_leaves_what_it_emitted",
            cancelled_inside_a_block,
        ),
        Case::fast(
            "a_client_that_does_not_read_holds_a_block_up",
            a_slow_client,
        ),
        Case::fast(
            "penalties_biases_and_probabilities_hold_inside_a_block",
            options_inside_a_block,
        ),
    ]
}

fn forced_acceptance(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 30)?;
    let vocabulary = context.model()?.config().vocabulary as u32;
    for (kv, params) in [
        (KvElement::F16, greedy(30)),
        (KvElement::Int8, seeded(30, 4)),
    ] {
        let config = EngineConfig {
            kv,
            ..small(context)
        };
        let plain = solo(context, &config, &prompt, params.clone())?;
        let whole = [&prompt[..], &plain.tokens].concat();
        for (percent, most, wrong) in [(0, 4, Some(0)), (50, 2, Some(1)), (100, 4, None)] {
            let told = whole.clone();
            let proposers = Saying::tokens(move |history, most| {
                let coming = told.get(history.len()..).unwrap_or_default();
                let mut drafts = coming[..most.min(coming.len())].to_vec();
                if let Some(draft) = wrong.and_then(|index: usize| drafts.get_mut(index)) {
                    *draft = (*draft + 1) % vocabulary;
                }
                drafts
            });
            let mut id = None;
            let (engine, counts) =
                speculating(context, &config, fixed(proposers, most), async |engine| {
                    let session = session(engine, &prompt, &[]).await?;
                    let found = finish(engine, &session, params.clone()).await?;
                    id = Some(session);
                    found.ensure_same_as(&format!("acceptance of {percent}%"), &plain)
                })?;
            if let Some(id) = id {
                ensure_holds(context, &engine, &id, &whole)?;
            }
            ensure_no_fault(&counts)?;
            ensure!(
                counts.drafted > 12,
                "{} tokens were drafted",
                counts.drafted
            );
            let found = 100.0 * counts.accepted as f64 / counts.drafted as f64;
            // The last block can be cut by the end.
            ensure!(
                (found - f64::from(percent)).abs() < 5.0,
                "{found}% of the drafts were accepted, and {percent}% were right"
            );
        }
    }
    Ok(())
}

fn every_length(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 33)?;
    let vocabulary = context.model()?.config().vocabulary as u32;
    let config = small(context);
    let params = seeded(24, 11);
    let plain = solo(context, &config, &prompt, params.clone())?;
    let whole = [&prompt[..], &plain.tokens].concat();
    for length in 1..=MAX_DRAFTS {
        // Wrong at every 7th position, so that blocks end anywhere.
        let wrong = move |at: usize| at.is_multiple_of(7);
        let proposers = Saying::what_comes(whole.clone(), vocabulary, wrong);
        let mut id = None;
        let (engine, counts) =
            speculating(context, &config, fixed(proposers, length), async |engine| {
                let session = session(engine, &prompt, &[]).await?;
                let found = finish(engine, &session, params.clone()).await?;
                id = Some(session);
                found.ensure_same_as(&format!("blocks of {length}"), &plain)
            })?;
        if let Some(id) = id {
            ensure_holds(context, &engine, &id, &whole)?;
        }
        let tokens = plain.tokens.len() as u64;
        let steps = tokens - counts.accepted;
        ensure!(
            counts.verifications > 0 && counts.verifications <= steps,
            "{} verifications in {steps} steps",
            counts.verifications
        );
        ensure!(
            counts.drafted <= counts.verifications * length as u64,
            "{} drafts in {} blocks of {length}",
            counts.drafted,
            counts.verifications
        );
        ensure!(
            length > 1 || counts.drafted == counts.verifications,
            "a block of one draft has another number of them"
        );
    }
    Ok(())
}

fn rejection_across_the_boundary(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let vocabulary = context.model()?.config().vocabulary as u32;
    let long = prose(context, 320)?;
    // Around the first eviction (4 + 32), and where the ring of 288 begins again.
    for length in [31, 36, 37, 280, 287, 288] {
        let prompt = &long[..length];
        let params = seeded(14, length as u64);
        let plain = solo(context, &config, prompt, params.clone())?;
        let whole = [prompt, &plain.tokens].concat();
        let proposers = Saying::what_comes(whole.clone(), vocabulary, |_| true);
        let mut id = None;
        let (engine, counts) = speculating(
            context,
            &config,
            fixed(proposers, MAX_DRAFTS),
            async |engine| {
                let session = session(engine, prompt, &[]).await?;
                let found = finish(engine, &session, params.clone()).await?;
                id = Some(session);
                found.ensure_same_as(&format!("rejection after {length} tokens"), &plain)
            },
        )?;
        ensure_eq!(counts.accepted, 0, "wrong drafts that were accepted");
        ensure!(
            counts.drafted > 80,
            "{} tokens were drafted",
            counts.drafted
        );
        if let Some(id) = id {
            ensure_holds(context, &engine, &id, &whole)?;
        }
    }
    Ok(())
}

fn an_end_inside_a_block(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let prompt = prose(context, 40)?;
    let plain = solo(context, &config, &prompt, seeded(24, 8))?;
    let vocabulary = context.model()?.config().vocabulary as u32;
    let whole = [&prompt[..], &plain.tokens].concat();
    for index in [0, 5, 17] {
        let end = plain.tokens[index];
        // Where it comes first.
        let first = plain.tokens.iter().position(|token| *token == end);
        let first = first.unwrap_or(index);
        let pair = [plain.tokens[index], plain.tokens[index + 1]];
        let first_pair = plain.tokens.windows(2).position(|two| two == pair);
        let first_pair = first_pair.unwrap_or(index) + 1;
        let stopping = GenerateParams {
            stop: vec![pair.to_vec()],
            ..seeded(24, 8)
        };
        for (eos, params, last, reason) in [
            (vec![end], seeded(24, 8), first, StopReason::Eos),
            (vec![], stopping, first_pair, StopReason::StopSequence),
        ] {
            let proposers = Saying::what_comes(whole.clone(), vocabulary, |_| false);
            let mut id = None;
            let (engine, _) = speculating(
                context,
                &config,
                fixed(proposers, MAX_DRAFTS),
                async |engine| {
                    let session = session(engine, &prompt, &eos).await?;
                    let found = finish(engine, &session, params).await?;
                    ensure_same_tokens(
                        "a generation with an end in a block",
                        &found.tokens,
                        &plain.tokens[..=last],
                    )?;
                    ensure_eq!(found.done.reason, reason, "why it ended");
                    id = Some(session);
                    Ok(())
                },
            )?;
            if let Some(id) = id {
                ensure_holds(context, &engine, &id, &whole[..prompt.len() + last + 1])?;
            }
        }
    }
    Ok(())
}

fn limits_end_a_block(context: &SuiteContext) -> CaseResult {
    let vocabulary = context.model()?.config().vocabulary as u32;
    let config = small(context);
    let prompt = prose(context, 40)?;
    let plain = solo(context, &config, &prompt, greedy(24))?;
    let whole = [&prompt[..], &plain.tokens].concat();
    for count in [1, 2, 17, 18] {
        let proposers = Saying::what_comes(whole.clone(), vocabulary, |_| false);
        let mut id = None;
        let (engine, _) = speculating(
            context,
            &config,
            fixed(proposers, MAX_DRAFTS),
            async |engine| {
                let session = session(engine, &prompt, &[]).await?;
                let found = finish(engine, &session, greedy(count)).await?;
                let expected = &plain.tokens[..count as usize];
                ensure_same_tokens("max_tokens in a block", &found.tokens, expected)?;
                ensure_eq!(found.done.reason, StopReason::MaxTokens, "why it ended");
                id = Some(session);
                Ok(())
            },
        )?;
        if let Some(id) = id {
            ensure_holds(
                context,
                &engine,
                &id,
                &whole[..prompt.len() + count as usize],
            )?;
        }
    }
    Ok(())
}

fn cancelled_inside_a_block(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let prompt = prose(context, 30)?;
    let plain = solo(context, &config, &prompt, seeded(80, 2))?;
    let vocabulary = context.model()?.config().vocabulary as u32;
    let whole = [&prompt[..], &plain.tokens].concat();
    for read in [1, 16, 23] {
        let proposers = Saying::what_comes(whole.clone(), vocabulary, |_| false);
        let mut id = None;
        let (engine, _) = speculating(context, &config, fixed(proposers, 7), async |engine| {
            let session = session(engine, &prompt, &[]).await?;
            let mut events = engine.generate(session.clone(), seeded(80, 2)).await?;
            for _ in 0..read {
                events.next().await;
            }
            drop(events);
            // Behind the generation, so it is over when this is answered.
            engine.append(session.clone(), Vec::new()).await?;
            id = Some(session);
            Ok(())
        })?;
        let Some(id) = id else { continue };
        let length = engine.history(&id)?.len();
        ensure!(
            length >= prompt.len() + read - 1,
            "{read} events were read, and the session has {length} tokens"
        );
        ensure_holds(context, &engine, &id, &whole[..length])?;
    }
    Ok(())
}

fn a_slow_client(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let prompt = prose(context, 20)?;
    let plain = solo(context, &config, &prompt, seeded(150, 6))?;
    let vocabulary = context.model()?.config().vocabulary as u32;
    let whole = [&prompt[..], &plain.tokens].concat();
    let proposers = Saying::what_comes(whole.clone(), vocabulary, |_| false);
    let mut id = None;
    let (engine, counts) = speculating(context, &config, fixed(proposers, 10), async |engine| {
        let session = session(engine, &prompt, &[]).await?;
        let mut events = engine.generate(session.clone(), seeded(150, 6)).await?;
        let (mut tokens, mut before) = (Vec::new(), 0);
        while let Some(event) = events.next().await {
            if let GenerateEvent::Token(token) = event? {
                tokens.push(token.id);
            }
            // Reads nothing until the stream is full and stands still.
            while tokens.len() == 1 || tokens.len() == 70 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let made = engine.stats().await?.tokens_generated;
                if made == before {
                    break;
                }
                before = made;
            }
        }
        ensure_same_tokens("a stream that was held up", &tokens, &plain.tokens)?;
        id = Some(session);
        Ok(())
    })?;
    ensure_eq!(
        counts.accepted < counts.drafted,
        true,
        "whether a block was held up"
    );
    if let Some(id) = id {
        ensure_holds(context, &engine, &id, &whole)?;
    }
    Ok(())
}

fn options_inside_a_block(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let prompt = prose(context, 50)?;
    let vocabulary = context.model()?.config().vocabulary as u32;
    let params = GenerateParams {
        logit_bias: vec![(prompt[3], 4.0), (prompt[5], -100.0)],
        top_logprobs: Some(2),
        ..GenerateParams::new(
            50,
            Sampling {
                temperature: 0.9,
                top_p: 0.95,
                min_p: 0.01,
                seed: Some(21),
                repetition_penalty: 1.2,
                presence_penalty: 0.5,
                frequency_penalty: 0.3,
                ..Sampling::default()
            },
        )
    };
    let mut streams = Vec::new();
    let mut whole = prompt.clone();
    for drafting in [false, true] {
        let told = whole.clone();
        let wrong = |at: usize| at.is_multiple_of(5);
        let proposers = Saying::what_comes(told, vocabulary, wrong);
        let most = if drafting { 9 } else { 0 };
        let mut found = Vec::new();
        let (_, counts) = speculating(context, &config, fixed(proposers, most), async |engine| {
            let session = session(engine, &prompt, &[]).await?;
            let mut events = engine.generate(session, params.clone()).await?;
            while let Some(event) = events.next().await {
                if let GenerateEvent::Token(token) = event? {
                    let of = token.logprobs.into_iter();
                    let bits = of.flat_map(|of| {
                        let own = of.logprob.to_bits();
                        let top = of.top.into_iter();
                        let top = top.map(|other| u64::from(other.token) ^ other.logprob.to_bits());
                        std::iter::once(own).chain(top).collect::<Vec<_>>()
                    });
                    found.push((token.id, bits.collect::<Vec<_>>()));
                }
            }
            Ok(())
        })?;
        ensure_eq!(
            counts.accepted > 20,
            drafting,
            "whether drafts were accepted"
        );
        whole.extend(found.iter().map(|(token, _)| *token));
        streams.push(found);
    }
    ensure_eq!(streams[0].len(), 50, "tokens");
    ensure_eq!(
        streams[1],
        streams[0],
        "tokens and the bits of what was thought of each"
    );
    Ok(())
}
