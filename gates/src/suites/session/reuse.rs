//! Single generations that begin with what others have left say what they would say cold, and nobody else feels it.

use std::time::Duration;

use kakeya_core::{
    Completion, EngineError, EngineHandle, GenerateEvent, GenerateParams, KvElement, PrefixOwner,
    PrefixStats,
};
use kakeya_runtime::EngineConfig;

use super::prefix::caching;
use super::single::{ensure_nothing_left, with_loop};
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{PATIENCE, prose, random_ids, seeded, small};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "an_answer_after_a_cached_prefix_is_that_of_a_cold_one",
            is_that_of_a_cold_one,
        ),
        Case::fast("several_answers_read_their_prompt_once", read_once),
        Case::fast(
            "a_prompt_waits_for_another_that_reads_its_beginning_and_no_longer",
            waits_and_no_longer,
        ),
        Case::fast(
            "a_prompt_is_kept_before_a_long_answer_overwrites_it",
            is_kept_before_it_is_lost,
        ),
        Case::fast(
            "a_dropped_request_leaves_what_it_has_read_and_no_session",
            a_dropped_request,
        ),
        Case::fast(
            "sessions_that_last_neither_see_nor_feel_the_prefix_cache",
            others_do_not_feel_it,
        ),
        Case::fast("draining_empties_the_prefix_cache", draining_empties_it),
    ]
}

/// An answer: its tokens, the bits of what was thought of each, and the tokens of its prompt that were cached.
#[derive(Debug, PartialEq)]
struct Answer {
    tokens: Vec<u32>,
    logprobs: Vec<u64>,
    cached: u64,
}

fn scored(tokens: u32, seed: u64) -> GenerateParams {
    GenerateParams {
        top_logprobs: Some(3),
        ..seeded(tokens, seed)
    }
}

async fn ask(
    engine: &EngineHandle,
    prompt: &[u32],
    params: GenerateParams,
    owner: Option<&PrefixOwner>,
) -> Result<Completion, EngineError> {
    let label = "a case".to_owned();
    engine
        .complete(label, Vec::new(), prompt.to_vec(), params, owner.cloned())
        .await
}

async fn read(mut asked: Completion) -> Result<Answer, CaseFailure> {
    let (mut tokens, mut logprobs) = (Vec::new(), Vec::new());
    while let Some(event) = asked.events.next().await {
        if let GenerateEvent::Token(token) = event? {
            tokens.push(token.id);
            let of = token.logprobs.ok_or_else(|| {
                CaseFailure::violated("a token without the log-probabilities that were asked for")
            })?;
            logprobs.push(of.logprob.to_bits());
            for other in of.top {
                logprobs.extend([u64::from(other.token), other.logprob.to_bits()]);
            }
        }
    }
    let cached = asked.cached.try_recv().unwrap_or(0);
    Ok(Answer {
        tokens,
        logprobs,
        cached,
    })
}

async fn answer(
    engine: &EngineHandle,
    prompt: &[u32],
    params: GenerateParams,
) -> Result<Answer, CaseFailure> {
    read(ask(engine, prompt, params, None).await?).await
}

/// What an engine without a cache, and with nothing else to do, answers to each.
fn cold(
    context: &SuiteContext,
    config: &EngineConfig,
    asked: &[(Vec<u32>, GenerateParams)],
) -> Result<Vec<Answer>, CaseFailure> {
    let config = EngineConfig {
        prefix_cache_bytes: 0,
        ..config.clone()
    };
    let mut answers = Vec::new();
    with_loop(context, config, async |engine| {
        for (prompt, params) in asked {
            answers.push(answer(engine, prompt, params.clone()).await?);
        }
        Ok(())
    })?;
    ensure!(
        answers.iter().all(|answer| answer.cached == 0),
        "an engine without a cache has found something in it"
    );
    Ok(answers)
}

fn ensure_same(what: &str, found: &Answer, cold: &Answer) -> CaseResult {
    ensure_eq!(found.tokens, cold.tokens, "the tokens of {what}");
    ensure_eq!(
        found.logprobs,
        cold.logprobs,
        "the bits of the probabilities of {what}"
    );
    Ok(())
}

async fn prefix(engine: &EngineHandle) -> Result<PrefixStats, EngineError> {
    Ok(engine.stats().await?.prefix)
}

fn is_that_of_a_cold_one(context: &SuiteContext) -> CaseResult {
    let text = prose(context, 460)?;
    for (kv, threads) in [
        (KvElement::F16, context.threads()),
        (KvElement::F16, 1),
        (KvElement::F32, 3),
        (KvElement::Int8, context.threads()),
    ] {
        let config = EngineConfig {
            kv,
            threads,
            ..caching(context)
        };
        // A chat: each prompt goes on from the one before it and its answer. Then others that share less.
        let mut asked = vec![(text[..30].to_vec(), scored(12, 1))];
        let first = cold(context, &config, &asked)?.remove(0);
        let chat = |more: usize| [&text[..30], &first.tokens, &text[60..60 + more]].concat();
        asked.push((chat(1), scored(8, 2)));
        asked.push((chat(30), scored(8, 3)));
        asked.push((chat(400), scored(8, 4)));
        asked.push((chat(400), scored(8, 5)));
        asked.push(([&chat(100)[..], &text[..9]].concat(), scored(8, 6)));
        let expected = cold(context, &config, &asked)?;
        // The second adds too little to be kept. The fourth is beyond a turn of the ring, so where the last one leaves it
        // it is lost, but the third is there.
        let cached = [0, 42, 42, 72, 441, 72];
        with_loop(context, config, async |engine| {
            // Beside a session of its own, from before the first to after the last.
            let lasting = engine.create_session(String::new(), Vec::new()).await?;
            engine.append(lasting.clone(), text[..50].to_vec()).await?;
            let mut beside = engine.generate(lasting.clone(), seeded(5000, 8)).await?;
            let table = asked.iter().zip(&expected).zip(cached);
            for (index, (((prompt, params), expected), cached)) in table.enumerate() {
                let what = format!("request {index} with {kv} on {threads} threads");
                let mut found = Box::pin(answer(engine, prompt, params.clone()));
                let found = loop {
                    tokio::select! {
                        found = &mut found => break found?,
                        event = beside.next() => ensure!(event.is_some(), "the other ended"),
                    }
                };
                ensure_same(&what, &found, expected)?;
                ensure_eq!(found.cached, cached, "cached tokens of {what}");
            }
            drop(beside);
            engine.close(lasting).await?;
            ensure_nothing_left(engine, "a chat").await
        })?;
    }
    Ok(())
}

fn read_once(context: &SuiteContext) -> CaseResult {
    let prompt = random_ids(context, 81, 500)?;
    let asked: Vec<_> = (0..4)
        .map(|seed| (prompt.clone(), scored(10, seed)))
        .collect();
    let config = caching(context);
    let expected = cold(context, &config, &asked)?;
    with_loop(context, config, async |engine| {
        let mut taken_in = Vec::new();
        for (prompt, params) in &asked {
            taken_in.push(ask(engine, prompt, params.clone(), None).await?);
        }
        let mut cached = Vec::new();
        for (taken_in, expected) in taken_in.into_iter().zip(&expected) {
            let found = read(taken_in).await?;
            ensure_same("one of several answers", &found, expected)?;
            cached.push(found.cached);
        }
        ensure_eq!(cached, [0, 499, 499, 499], "cached tokens of each");
        let stats = engine.stats().await?;
        ensure_eq!(stats.tokens_appended, 500 + 3, "tokens that were computed");
        ensure_eq!(
            (
                stats.prefix.hits,
                stats.prefix.misses,
                stats.prefix.tokens_reused
            ),
            (3, 1, 3 * 499),
            "hits, misses and tokens reused"
        );
        ensure_nothing_left(engine, "several answers").await
    })
}

fn waits_and_no_longer(context: &SuiteContext) -> CaseResult {
    let text = random_ids(context, 82, 4000)?;
    let branch = [&text[..600], &random_ids(context, 83, 40)?].concat();
    let config = caching(context);
    let asked = [(branch.clone(), scored(6, 1))];
    let expected = cold(context, &config, &asked)?.remove(0);
    with_loop(context, config, async |engine| {
        // The long one is not over when the other, which shares its beginning, has been answered.
        let long = ask(engine, &text, scored(6, 2), None).await?;
        let found = answer(engine, &branch, scored(6, 1)).await?;
        ensure_same("what branches off", &found, &expected)?;
        ensure_eq!(found.cached, 600, "tokens that the other had read");
        let read = engine.stats().await?.tokens_appended;
        ensure!(
            read < 4000,
            "{read} tokens were read before it was answered"
        );
        drop(long);
        ensure_nothing_left(engine, "both").await?;

        // One that waits for what is given up reads by itself. What the other had read is left.
        let owner = PrefixOwner::new("another");
        let long = ask(engine, &text, scored(6, 2), Some(&owner)).await?;
        let waiting = ask(engine, &text[..3000], scored(1, 3), Some(&owner)).await?;
        while engine.stats().await?.prefix.misses < 2 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        drop(long);
        let found = read_all(waiting).await?;
        ensure_eq!(found, 1, "tokens of the one that waited");
        ensure_nothing_left(engine, "the one that waited").await?;

        // And one that is given up while it waits is gone.
        let long = ask(engine, &text[1..], scored(6, 2), None).await?;
        let waiting = ask(engine, &text[1..], scored(6, 2), None).await?;
        drop(waiting);
        while engine.stats().await?.sessions > 1 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        drop(long);
        ensure_nothing_left(engine, "one that was given up").await
    })
}

async fn read_all(asked: Completion) -> Result<usize, CaseFailure> {
    Ok(read(asked).await?.tokens.len())
}

fn is_kept_before_it_is_lost(context: &SuiteContext) -> CaseResult {
    let text = random_ids(context, 84, 300)?;
    let config = caching(context);
    let next = [&text[..100], &text[200..240]].concat();
    let other = [&text[..60], &text[200..240]].concat();
    let asked = [
        (text[..100].to_vec(), scored(400, 1)),
        (next.clone(), scored(6, 2)),
        (other.clone(), scored(6, 3)),
    ];
    let expected = cold(context, &config, &asked)?;
    with_loop(context, config, async |engine| {
        // A model's thinking, say, which is no part of the next prompt.
        let long = answer(engine, &asked[0].0, scored(400, 1)).await?;
        ensure_same("a long answer", &long, &expected[0])?;
        ensure_eq!(prefix(engine).await?.entries, 2, "entries after it");
        // What the answer has overwritten of a shorter beginning is not there.
        let found = answer(engine, &other, scored(6, 3)).await?;
        ensure_same("what shares less", &found, &expected[2])?;
        ensure_eq!(found.cached, 0, "cached tokens of what shares less");
        let found = answer(engine, &next, scored(6, 2)).await?;
        ensure_same("what follows its prompt", &found, &expected[1])?;
        ensure_eq!(found.cached, 100, "cached tokens of what follows");
        let all = [&text[..100], &long.tokens[..], &text[..3]].concat();
        let found = answer(engine, &all, scored(1, 3)).await?;
        ensure_eq!(found.cached, 500, "cached tokens of what goes on");
        ensure_nothing_left(engine, "a long answer").await
    })
}

fn a_dropped_request(context: &SuiteContext) -> CaseResult {
    let text = random_ids(context, 85, 6000)?;
    with_loop(context, caching(context), async |engine| {
        let given_up = ask(engine, &text, scored(4, 1), None).await?;
        while engine.stats().await?.tokens_appended < 300 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        drop(given_up);
        ensure_nothing_left(engine, "a prompt that was given up").await?;
        let read_before = engine.stats().await?.tokens_appended;
        ensure!(read_before < 6000, "all of the prompt was read");
        ensure_eq!(prefix(engine).await?.entries, 1, "what it has left");
        let again = ask(engine, &text, scored(1, 1), None).await?;
        let again = read(again).await?;
        ensure_eq!(again.cached, read_before, "cached tokens of the same again");
        ensure_nothing_left(engine, "the same again").await
    })
}

fn others_do_not_feel_it(context: &SuiteContext) -> CaseResult {
    let text = random_ids(context, 86, 200)?;
    with_loop(context, caching(context), async |engine| {
        let mut lasting = Vec::new();
        for _ in 0..3 {
            let id = engine.create_session(String::new(), Vec::new()).await?;
            engine.append(id.clone(), text.clone()).await?;
            lasting.push(id);
        }
        let stats = engine.stats().await?;
        ensure_eq!(stats.prefix, PrefixStats::default(), "after sessions alone");
        ensure_eq!(stats.tokens_appended, 600, "tokens that were computed");
        for round in 0..3 {
            let found = answer(engine, &text[round..], scored(4, 1)).await?;
            ensure_eq!(found.cached, 0, "tokens found of sessions that last");
        }
        let stats = engine.stats().await?;
        ensure_eq!(stats.prefix.entries, 3, "entries");
        ensure_eq!(
            (stats.sessions, stats.free_slabs, stats.evicted_lru),
            (3, 1, 0),
            "sessions, free slabs and evictions beside them"
        );
        for id in lasting {
            engine.append(id.clone(), text.clone()).await?;
            engine.close(id).await?;
        }
        let appended = engine.stats().await?.tokens_appended;
        ensure_eq!(appended, 600 + 200 + 199 + 198 + 600, "tokens computed");
        Ok(())
    })
}

fn draining_empties_it(context: &SuiteContext) -> CaseResult {
    let text = random_ids(context, 87, 3000)?;
    let config = EngineConfig {
        prefix_cache_bytes: 64 << 20,
        ..small(context)
    };
    with_loop(context, config, async |engine| {
        answer(engine, &text[..40], scored(4, 1)).await?;
        ensure_eq!(prefix(engine).await?.entries, 1, "entries");
        let running = ask(engine, &text, scored(4, 1), None).await?;
        let told = async {
            loop {
                let stats = prefix(engine).await?;
                if (stats.entries, stats.bytes) == (0, 0) {
                    return Ok::<_, CaseFailure>(());
                }
            }
        };
        let (stopped, told, found) = tokio::join!(engine.shutdown(PATIENCE), told, read(running));
        stopped?;
        told?;
        ensure_eq!(found?.tokens.len(), 4, "tokens of the one under way");
        Ok(())
    })
}
