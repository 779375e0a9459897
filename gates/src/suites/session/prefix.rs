//! Sessions that begin with what others have left in the prefix cache: their bits are those of cold ones.

use std::time::Instant;

use kakeya_core::{CacheConfig, KvElement, PrefixOwner, SessionId, Window};
use kakeya_runtime::{AppendCoordinator, Engine, EngineConfig};

use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{
    SMALL, SMALL_LIMIT, engine_with, ensure_holds, open, open_with, random_ids, small, snapshot,
};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "a_session_that_begins_with_a_cached_prefix_has_the_bits_of_a_cold_one",
            has_the_bits_of_a_cold_one,
        ),
        Case::fast(
            "a_cached_prefix_is_exact_where_layers_have_windows_of_their_own",
            with_windows_of_their_own,
        ),
        Case::fast(
            "a_prefix_is_cut_where_all_of_it_is_there_and_nowhere_else",
            is_cut_where_it_is_there,
        ),
        Case::fast(
            "what_begins_with_a_cut_can_be_cut_no_further_back",
            can_be_cut_no_further_back,
        ),
        Case::fast(
            "what_was_copied_from_is_as_it_was_and_goes_on",
            what_was_copied_from_goes_on,
        ),
        Case::fast(
            "sessions_that_do_not_share_neither_leave_nor_find_a_prefix",
            do_not_share,
        ),
        Case::fast("owners_do_not_see_each_others_prefixes", owners_do_not_see),
        Case::fast("the_prefix_cache_stays_within_its_bytes", within_its_bytes),
        Case::fast(
            "a_violation_takes_the_prefix_with_it_that_a_session_began_with",
            a_violation_takes_the_prefix,
        ),
    ]
}

/// Positions of the ring under [`SMALL`]: the window, and the longest block in flight.
const RING: usize = 32 + 256;

/// As [`small`], with a prefix cache that nothing here fills.
pub(super) fn caching(context: &SuiteContext) -> EngineConfig {
    EngineConfig {
        prefix_cache_bytes: 256 << 20,
        ..small(context)
    }
}

fn sharing(engine: &mut Engine, owner: Option<PrefixOwner>) -> Result<SessionId, CaseFailure> {
    let id = open(engine)?;
    engine.share(&id, owner)?;
    Ok(id)
}

/// Leaves `tokens` in the cache, and no session.
fn leave(engine: &mut Engine, tokens: &[u32]) -> CaseResult {
    let id = sharing(engine, None)?;
    engine.begin_with_cached(&id, tokens, Instant::now())?;
    let begun = engine.history(&id)?.len();
    AppendCoordinator::append(engine, &id, &tokens[begun..])?;
    engine.keep_prefix(&id, tokens.len());
    engine.close_session(&id)?;
    Ok(())
}

/// A session with `prompt`, and the tokens of it that were not computed anew.
fn begin(
    engine: &mut Engine,
    prompt: &[u32],
    owner: Option<PrefixOwner>,
) -> Result<(SessionId, usize), CaseFailure> {
    let id = sharing(engine, owner)?;
    let reused = engine.begin_with_cached(&id, prompt, Instant::now())?;
    ensure_eq!(
        engine.history(&id)?,
        &prompt[..reused],
        "the history at first"
    );
    AppendCoordinator::append(engine, &id, &prompt[reused..])?;
    Ok((id, reused))
}

/// `shared` tokens of `text`, and then `more` others.
fn branch(text: &[u32], shared: usize, more: usize) -> Vec<u32> {
    let mut prompt = text[..shared].to_vec();
    prompt.extend((0..more).map(|index| 1000 + index as u32));
    if let Some(next) = text.get(shared)
        && prompt.get(shared) == Some(next)
    {
        prompt[shared] = 5000;
    }
    prompt
}

fn has_the_bits_of_a_cold_one(context: &SuiteContext) -> CaseResult {
    let text = random_ids(context, 71, 700)?;
    // Tokens that were left, those of them that a prompt shares, and others that it goes on with.
    let table = [
        (40, 0, 20),
        (40, 1, 20),
        (40, SMALL_LIMIT - 1, 9),
        (40, SMALL_LIMIT, 9),
        (60, SMALL_LIMIT + 1, 9),
        (60, 60, 1),
        (60, 60, 90),
        // Beyond a turn of the ring, for the one, the other, and both.
        (RING, 100, 300),
        (RING + 100, RING + 100, 5),
        (RING + 100, RING + 3, 40),
        (700, 600, 20),
    ];
    for (kv, threads, step) in [
        (KvElement::F16, context.threads(), 1),
        (KvElement::F16, 1, 4),
        (KvElement::F32, 3, 3),
        (KvElement::Int8, context.threads(), 3),
    ] {
        let config = EngineConfig {
            kv,
            threads,
            ..caching(context)
        };
        for &(left, shared, more) in table.iter().rev().step_by(step) {
            let what = format!("{shared} of {left} and {more} more, {kv} on {threads} threads");
            let mut engine = engine_with(context, config.clone())?;
            leave(&mut engine, &text[..left])?;
            let bystander = open_with(&mut engine, &text[300..345])?;
            let before = snapshot(&engine, &bystander)?;
            let prompt = branch(&text, shared, more);
            let (id, reused) = begin(&mut engine, &prompt, None)?;
            ensure_eq!(reused, shared, "tokens of {what}");
            ensure_holds(context, &engine, &id, &prompt)?;
            ensure_eq!(snapshot(&engine, &bystander)?, before, "{what}: another");
        }
    }
    Ok(())
}

/// Gemma's layers keep 512 positions of their own in a ring of 768, beside those that keep 36 in one of 288.
fn with_windows_of_their_own(context: &SuiteContext) -> CaseResult {
    let context = &context.with_model("gemma3-270m")?;
    let text = random_ids(context, 78, 900)?;
    for (left, shared, expected) in [(700, 500, 500), (900, 600, 0), (900, 860, 860)] {
        let mut engine = engine_with(context, caching(context))?;
        leave(&mut engine, &text[..left])?;
        let prompt = branch(&text, shared, 12);
        let (id, reused) = begin(&mut engine, &prompt, None)?;
        ensure_eq!(reused, expected, "{shared} of {left}");
        ensure_holds(context, &engine, &id, &prompt)?;
    }
    Ok(())
}

fn is_cut_where_it_is_there(context: &SuiteContext) -> CaseResult {
    let text = random_ids(context, 72, 700)?;
    let full = CacheConfig {
        window: Window::Full,
        ..SMALL
    };
    for (cache, ring) in [(SMALL, Some(RING)), (full, None)] {
        let config = EngineConfig {
            cache,
            capacity: 2,
            ..caching(context)
        };
        for left in [RING - 1, RING, RING + 40, 700] {
            let mut engine = engine_with(context, config.clone())?;
            leave(&mut engine, &text[..left])?;
            for shared in [1_usize, 5, 30, 36, 73, 75, 76, 77, 443, 444, 445, 699] {
                // The first position of the window after so many tokens is not overwritten yet.
                let first = shared.saturating_sub(32).max(4);
                let there = shared <= left && ring.is_none_or(|ring| left <= ring + first);
                // What a longer prompt shares is all that was left.
                let expected = match there {
                    true => shared,
                    false if shared > left => left,
                    false => 0,
                };
                let prompt = branch(&text, shared, 2);
                let id = sharing(&mut engine, None)?;
                let reused = engine.begin_with_cached(&id, &prompt, Instant::now())?;
                ensure_eq!(reused, expected, "{shared} of {left}");
                engine.close_session(&id)?;
            }
            // A prompt that is all there computes its last token, and so has logits.
            let (id, reused) = begin(&mut engine, &text[..left], None)?;
            ensure_eq!(reused, left - 1, "all of {left}");
            ensure_holds(context, &engine, &id, &text[..left])?;
            // There is nothing in it to keep again.
            engine.keep_prefix(&id, left);
            engine.close_session(&id)?;
            let stats = engine.stats().prefix;
            ensure_eq!(stats.entries, 1, "entries after the same tokens again");
        }
    }
    Ok(())
}

/// What a turn of the ring has overwritten is not there in a copy either, however short the copy is.
fn can_be_cut_no_further_back(context: &SuiteContext) -> CaseResult {
    let text = random_ids(context, 79, 500)?;
    let left = RING + 100;
    let longer = branch(&text, RING + 3, 40);
    for from_slab in [false, true] {
        let mut engine = engine_with(context, caching(context))?;
        let source = sharing(&mut engine, None)?;
        AppendCoordinator::append(&mut engine, &source, &text[..left])?;
        let id = if from_slab {
            let id = sharing(&mut engine, None)?;
            let now = Instant::now();
            let reused = engine.begin_with_that_of(&id, &source, &longer, now)?;
            ensure_eq!(reused, RING + 3, "tokens of the source");
            AppendCoordinator::append(&mut engine, &id, &longer[reused..])?;
            id
        } else {
            engine.keep_prefix(&source, left);
            let (id, reused) = begin(&mut engine, &longer, None)?;
            ensure_eq!(reused, RING + 3, "tokens of the source");
            id
        };
        engine.close_session(&source)?;
        engine.keep_prefix(&id, longer.len());
        // A slab that had only been written so far would still have these.
        let prompt = branch(&text, 80, 10);
        let (cut, reused) = begin(&mut engine, &prompt, None)?;
        ensure_holds(context, &engine, &cut, &prompt)?;
        ensure_eq!(reused, 0, "tokens of a copy of what was overwritten");
        let live = sharing(&mut engine, None)?;
        let now = Instant::now();
        let reused = engine.begin_with_that_of(&live, &id, &prompt, now)?;
        ensure_eq!(reused, 0, "tokens of what began with such a copy");
    }
    Ok(())
}

fn what_was_copied_from_goes_on(context: &SuiteContext) -> CaseResult {
    let text = random_ids(context, 73, 600)?;
    let mut engine = engine_with(context, caching(context))?;
    for read in [20, SMALL_LIMIT, 290, 400] {
        let source = sharing(&mut engine, None)?;
        AppendCoordinator::append(&mut engine, &source, &text[..read])?;
        let before = snapshot(&engine, &source)?;
        let same = text[..read + 3].to_vec();
        let shorter = branch(&text, read - 10, 30);
        let mut copies = Vec::new();
        for (prompt, expected) in [(same, read), (shorter, read - 10)] {
            let id = sharing(&mut engine, None)?;
            let now = Instant::now();
            let reused = engine.begin_with_that_of(&id, &source, &prompt, now)?;
            ensure_eq!(reused, expected, "tokens of a session with {read}");
            AppendCoordinator::append(&mut engine, &id, &prompt[reused..])?;
            copies.push((id, prompt));
        }
        ensure_eq!(snapshot(&engine, &source)?, before, "the source of copies");
        AppendCoordinator::append(&mut engine, &source, &text[read..read + 50])?;
        ensure_holds(context, &engine, &source, &text[..read + 50])?;
        for (id, prompt) in copies {
            ensure_holds(context, &engine, &id, &prompt)?;
            engine.close_session(&id)?;
        }
        engine.close_session(&source)?;
    }
    ensure_eq!(engine.free_slabs(), 4, "free slabs");
    Ok(())
}

fn do_not_share(context: &SuiteContext) -> CaseResult {
    let text = random_ids(context, 74, 80)?;
    let mut engine = engine_with(context, caching(context))?;
    let own = open_with(&mut engine, &text)?;
    ensure_eq!(engine.keep_prefix(&own, 80), 0, "bytes kept of a session");
    let (id, reused) = begin(&mut engine, &text, None)?;
    ensure_eq!(reused, 0, "tokens found of a session that does not share");
    let other = sharing(&mut engine, None)?;
    let reused = engine.begin_with_that_of(&other, &own, &text, Instant::now())?;
    ensure_eq!(reused, 0, "tokens of a session that does not share");
    engine.keep_prefix(&id, 80);
    let stats = engine.stats().prefix;
    ensure_eq!((stats.entries, stats.hits), (1, 0), "entries and hits");
    let other = open(&mut engine)?;
    let reused = engine.begin_with_cached(&other, &text, Instant::now())?;
    ensure_eq!(reused, 0, "tokens found by a session that does not share");

    // Without a cache nobody shares.
    let mut engine = engine_with(context, small(context))?;
    leave(&mut engine, &text)?;
    let (_, reused) = begin(&mut engine, &text, None)?;
    ensure_eq!(reused, 0, "tokens found without a cache");
    ensure_eq!(
        engine.stats().prefix,
        kakeya_core::PrefixStats::default(),
        "counts without a cache"
    );
    Ok(())
}

fn owners_do_not_see(context: &SuiteContext) -> CaseResult {
    let text = random_ids(context, 75, 60)?;
    let mut engine = engine_with(context, caching(context))?;
    let owner = |name: &str| Some(PrefixOwner::new(name));
    let (id, _) = begin(&mut engine, &text, owner("one"))?;
    engine.keep_prefix(&id, 60);
    for stranger in [None, owner("other")] {
        let (mine, reused) = begin(&mut engine, &text, stranger.clone())?;
        ensure_eq!(reused, 0, "tokens that {stranger:?} found");
        engine.close_session(&mine)?;
        let mine = sharing(&mut engine, stranger)?;
        let reused = engine.begin_with_that_of(&mine, &id, &text, Instant::now())?;
        ensure_eq!(reused, 0, "tokens that a stranger took");
        engine.close_session(&mine)?;
    }
    let (_, reused) = begin(&mut engine, &text, owner("one"))?;
    ensure_eq!(reused, 59, "tokens that the owner found");
    let stats = engine.stats().prefix;
    ensure_eq!(
        (stats.hits, stats.misses, stats.tokens_reused),
        (1, 5, 59),
        "hits, misses and tokens reused"
    );
    Ok(())
}

fn within_its_bytes(context: &SuiteContext) -> CaseResult {
    let text = random_ids(context, 76, 500)?;
    let mut engine = engine_with(context, caching(context))?;
    leave(&mut engine, &text[..40])?;
    let one = engine.stats().prefix.bytes;
    ensure!(one > 40 * 4, "{one} bytes of an entry");

    // Room for two entries like it and a half: the one of no use for longest goes.
    let config = EngineConfig {
        prefix_cache_bytes: 5 * one / 2,
        ..caching(context)
    };
    let mut engine = engine_with(context, config.clone())?;
    for (begin, entries) in [(0, 1), (40, 2), (0, 2), (80, 2)] {
        leave(&mut engine, &text[begin..begin + 40])?;
        let stats = engine.stats().prefix;
        ensure_eq!(stats.entries, entries, "entries");
        ensure!(stats.bytes <= config.prefix_cache_bytes, "{stats:?}");
    }
    for (at, expected) in [(0, 39), (40, 0), (80, 39)] {
        let (id, reused) = begin(&mut engine, &text[at..at + 40], None)?;
        ensure_eq!(reused, expected, "tokens found of those from {at}");
        engine.close_session(&id)?;
    }
    ensure_eq!(engine.stats().prefix.evicted, 1, "entries that went");

    // What goes on from an entry takes its place; what adds too little is not kept.
    let mut engine = engine_with(context, caching(context))?;
    for (length, entries) in [(31, 0), (32, 1), (60, 1), (63, 1), (64, 1), (200, 1)] {
        leave(&mut engine, &text[..length])?;
        ensure_eq!(engine.stats().prefix.entries, entries, "{length} tokens");
    }
    leave(&mut engine, &branch(&text, 150, 60))?;
    ensure_eq!(engine.stats().prefix.entries, 2, "two that share much");

    // One that cannot be kept in it keeps nothing, and nothing goes for it.
    let tiny = EngineConfig {
        prefix_cache_bytes: one - 1,
        ..caching(context)
    };
    let mut engine = engine_with(context, tiny)?;
    leave(&mut engine, &text[..40])?;
    let (id, reused) = begin(&mut engine, &text[..40], None)?;
    ensure_eq!(reused, 0, "tokens found in a cache that is too small");
    ensure_holds(context, &engine, &id, &text[..40])?;
    ensure_eq!(engine.stats().prefix.bytes, 0, "its bytes");

    engine.close_prefixes();
    leave(&mut engine, &text[..40])?;
    ensure_eq!(
        engine.stats().prefix.entries,
        0,
        "entries once it is closed"
    );
    Ok(())
}

fn a_violation_takes_the_prefix(context: &SuiteContext) -> CaseResult {
    let text = random_ids(context, 77, 200)?;
    let mut engine = engine_with(context, caching(context))?;
    leave(&mut engine, &text[..50])?;
    leave(&mut engine, &text[100..150])?;
    leave(&mut engine, &branch(&text, 50, 40))?;
    ensure_eq!(engine.stats().prefix.entries, 2, "entries");
    let (id, reused) = begin(&mut engine, &text[..90], None)?;
    ensure_eq!(reused, 50, "tokens it began with");
    // It answers for what it was given, and for what it has left since.
    engine.keep_prefix(&id, 90);
    ensure_eq!(engine.stats().prefix.entries, 3, "entries with its own");
    let wrong = super::invariants::Reported::one_key_short(&engine, &id)?;
    let checked = engine.check_invariants(&id, &wrong);
    ensure!(checked.is_err(), "a key short, and all is well");
    ensure_eq!(engine.stats().prefix.entries, 1, "entries after it");
    let (_, reused) = begin(&mut engine, &text[..60], None)?;
    ensure_eq!(reused, 0, "tokens found of what it began with");
    let (_, reused) = begin(&mut engine, &text[100..160], None)?;
    ensure_eq!(reused, 50, "tokens found of another prefix");
    ensure_eq!(engine.stats().inv1_violations, 1, "violations");
    Ok(())
}
