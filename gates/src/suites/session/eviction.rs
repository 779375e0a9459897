//! Idle TTL and eviction, with the clock passed in.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use kakeya_core::{EngineError, SessionId};
use kakeya_runtime::{AppendCoordinator, Engine, EngineConfig, GenerationCoordinator};

use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{
    engine_with, ensure_ended, ensure_holds, ensure_refused, generate, greedy, open, open_with,
    prose, random_ids, small, snapshot,
};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "ids_are_fresh_and_of_the_shape_clients_know",
            ids_are_fresh_and_of_the_shape_clients_know,
        ),
        Case::fast(
            "a_session_ends_when_idle_for_the_ttl_and_not_before",
            a_session_ends_when_idle_for_the_ttl_and_not_before,
        ),
        Case::fast(
            "appends_and_generations_refresh_the_idle_clock_and_info_does_not",
            appends_and_generations_refresh_the_idle_clock_and_info_does_not,
        ),
        Case::fast("a_busy_session_never_expires", a_busy_session_never_expires),
        Case::fast(
            "a_new_session_takes_the_place_of_the_longest_idle",
            a_new_session_takes_the_place_of_the_longest_idle,
        ),
        Case::fast(
            "a_busy_session_is_never_evicted",
            a_busy_session_is_never_evicted,
        ),
        Case::fast(
            "with_every_session_busy_there_is_no_slab_and_nobody_ends",
            with_every_session_busy_there_is_no_slab_and_nobody_ends,
        ),
        Case::fast(
            "expired_sessions_make_room_before_anyone_is_evicted",
            expired_sessions_make_room_before_anyone_is_evicted,
        ),
        Case::fast(
            "an_ended_id_stays_ended_when_its_slab_is_used_again",
            an_ended_id_stays_ended_when_its_slab_is_used_again,
        ),
    ]
}

const TTL: Duration = Duration::from_secs(100);
const SECOND: Duration = Duration::from_secs(1);
const CAPACITY: usize = 3;

/// Three places, and a TTL that no case waits for: the time is what the case says it is.
fn short_lived(context: &SuiteContext) -> Result<Engine, CaseFailure> {
    engine_with(
        context,
        EngineConfig {
            capacity: CAPACITY,
            idle_ttl: TTL,
            ..small(context)
        },
    )
}

fn open_at(engine: &mut Engine, now: Instant) -> Result<SessionId, EngineError> {
    engine.create_session(now, String::new(), Vec::new())
}

/// Runs a whole append at the time `now`.
fn append_at(
    engine: &mut Engine,
    id: &SessionId,
    tokens: &[u32],
    now: Instant,
) -> Result<(), EngineError> {
    let mut append = AppendCoordinator::begin(engine, id, tokens.to_vec(), now)?;
    while !append.is_done() {
        append.step(engine, usize::MAX, now)?;
    }
    Ok(())
}

fn ids_are_fresh_and_of_the_shape_clients_know(context: &SuiteContext) -> CaseResult {
    let mut engine = short_lived(context)?;
    let mut seen = HashSet::new();
    for _ in 0..50 {
        let id = open(&mut engine)?;
        let text = id.to_string();
        let hex = text.strip_prefix("sess-").unwrap_or_default();
        ensure!(
            hex.len() == 32 && hex.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')),
            "`{text}` is not `sess-` and 32 lowercase hexadecimal digits"
        );
        ensure_eq!(text.parse::<SessionId>()?, id, "the id read back");
        ensure!(seen.insert(text.clone()), "`{text}` was given twice");
    }
    Ok(())
}

fn a_session_ends_when_idle_for_the_ttl_and_not_before(context: &SuiteContext) -> CaseResult {
    let mut engine = short_lived(context)?;
    let start = Instant::now();
    let first = open_at(&mut engine, start)?;
    let second = open_at(&mut engine, start + SECOND)?;
    append_at(&mut engine, &first, &prose(context, 20)?, start)?;
    engine.expire(start + TTL - Duration::from_nanos(1));
    ensure_eq!(engine.stats().sessions, 2, "sessions just before the TTL");
    let info = engine.info(&first, start + TTL - SECOND)?;
    ensure_eq!(info.idle, TTL - SECOND, "the idle time");
    engine.expire(start + TTL);
    ensure_ended(&mut engine, &first)?;
    let stats = engine.stats();
    ensure_eq!(
        (
            stats.sessions,
            stats.free_slabs,
            stats.evicted_ttl,
            stats.evicted_lru
        ),
        (1, CAPACITY as u64 - 1, 1, 0),
        "sessions, free slabs and ends at the TTL"
    );
    engine.expire(start + TTL + SECOND);
    ensure_ended(&mut engine, &second)?;
    ensure_eq!(
        (engine.stats().evicted_ttl, engine.free_slabs()),
        (2, CAPACITY),
        "ends and free slabs a second later"
    );
    Ok(())
}

fn appends_and_generations_refresh_the_idle_clock_and_info_does_not(
    context: &SuiteContext,
) -> CaseResult {
    let mut engine = short_lived(context)?;
    let start = Instant::now();
    let later = start + TTL - SECOND;
    let used = [
        open_at(&mut engine, start)?,
        open_at(&mut engine, start)?,
        open_at(&mut engine, start)?,
    ];
    let [appended, generated, empty] = &used;
    append_at(&mut engine, generated, &prose(context, 10)?, start)?;
    for id in &used {
        engine.info(id, later)?;
        ensure_eq!(engine.info(id, later)?.idle, TTL - SECOND, "after info");
    }
    append_at(&mut engine, appended, &prose(context, 5)?, later)?;
    append_at(&mut engine, empty, &[], later)?;
    let (events, _consumer) = kakeya_core::pipeline::bounded(4);
    let mut generation = GenerationCoordinator::begin(&mut engine, generated, greedy(2), start)?;
    generation.step(&mut engine, &events, later)?;
    for (id, what) in used.iter().zip(["an append", "a token", "an empty append"]) {
        ensure_eq!(
            engine.info(id, later)?.idle,
            Duration::ZERO,
            "the idle time after {what}"
        );
    }
    engine.expire(start + TTL);
    ensure_eq!(engine.stats().sessions, 3, "sessions that were refreshed");
    // The clock of a session does not go back with a caller's.
    engine.touch(appended, start)?;
    ensure_eq!(
        engine.info(appended, later)?.idle,
        Duration::ZERO,
        "the idle time after a touch from the past"
    );
    engine.expire(later + TTL);
    ensure_eq!(
        (engine.stats().sessions, engine.stats().evicted_ttl),
        (0, 3),
        "sessions and ends once all were idle"
    );
    Ok(())
}

fn a_busy_session_never_expires(context: &SuiteContext) -> CaseResult {
    let mut engine = short_lived(context)?;
    let start = Instant::now();
    let tokens = prose(context, 20)?;
    let (busy, idle) = (open_at(&mut engine, start)?, open_at(&mut engine, start)?);
    append_at(&mut engine, &busy, &tokens, start)?;
    engine.set_busy(&busy, true)?;
    engine.expire(start + TTL * 10);
    ensure_ended(&mut engine, &idle)?;
    ensure_holds(context, &engine, &busy, &tokens)?;
    engine.set_busy(&busy, false)?;
    engine.expire(start + TTL * 10);
    ensure_ended(&mut engine, &busy)
}

fn a_new_session_takes_the_place_of_the_longest_idle(context: &SuiteContext) -> CaseResult {
    let mut engine = short_lived(context)?;
    let start = Instant::now();
    let at = |second: u32| start + SECOND * second;
    let tokens = random_ids(context, 70, 20)?;
    let a = open_at(&mut engine, at(0))?;
    let b = open_at(&mut engine, at(1))?;
    let c = open_at(&mut engine, at(2))?;
    append_at(&mut engine, &a, &tokens, at(3))?;
    append_at(&mut engine, &b, &tokens, at(4))?;
    // Opened last, but used first: c goes.
    let d = open_at(&mut engine, at(5))?;
    ensure_ended(&mut engine, &c)?;
    append_at(&mut engine, &a, &[], at(6))?;
    let e = open_at(&mut engine, at(7))?;
    ensure_ended(&mut engine, &b)?;
    let f = open_at(&mut engine, at(8))?;
    ensure_ended(&mut engine, &d)?;
    ensure_holds(context, &engine, &a, &tokens)?;
    ensure_holds(context, &engine, &e, &[])?;
    ensure_holds(context, &engine, &f, &[])?;
    let stats = engine.stats();
    ensure_eq!(
        (
            stats.sessions,
            stats.free_slabs,
            stats.evicted_lru,
            stats.evicted_ttl
        ),
        (CAPACITY as u64, 0, 3, 0),
        "sessions, free slabs and ends"
    );
    Ok(())
}

fn a_busy_session_is_never_evicted(context: &SuiteContext) -> CaseResult {
    let mut engine = short_lived(context)?;
    let start = Instant::now();
    let busy = open_at(&mut engine, start)?;
    let idle = open_at(&mut engine, start + SECOND)?;
    let other = open_at(&mut engine, start + SECOND * 2)?;
    engine.set_busy(&busy, true)?;
    let new = open_at(&mut engine, start + SECOND * 3)?;
    ensure_ended(&mut engine, &idle)?;
    for id in [&busy, &other, &new] {
        ensure_holds(context, &engine, id, &[])?;
    }
    Ok(())
}

fn with_every_session_busy_there_is_no_slab_and_nobody_ends(context: &SuiteContext) -> CaseResult {
    let mut engine = short_lived(context)?;
    let start = Instant::now();
    let mut held = Vec::new();
    for seed in 0..CAPACITY {
        let tokens = random_ids(context, 80 + seed as u64, 10)?;
        let id = open_at(&mut engine, start)?;
        append_at(&mut engine, &id, &tokens, start)?;
        engine.set_busy(&id, true)?;
        held.push((id, tokens));
    }
    for later in [Duration::ZERO, TTL * 10] {
        let created = open_at(&mut engine, start + later);
        let expected = EngineError::NoSlab { capacity: CAPACITY };
        ensure_refused("one session more", created, &expected)?;
    }
    for (id, tokens) in &held {
        ensure_holds(context, &engine, id, tokens)?;
    }
    ensure_eq!(
        (engine.stats().evicted_lru, engine.stats().evicted_ttl),
        (0, 0),
        "ends while all were busy"
    );
    engine.set_busy(&held[1].0, false)?;
    open_at(&mut engine, start)?;
    ensure_ended(&mut engine, &held[1].0)
}

fn expired_sessions_make_room_before_anyone_is_evicted(context: &SuiteContext) -> CaseResult {
    let mut engine = short_lived(context)?;
    let start = Instant::now();
    let old = open_at(&mut engine, start)?;
    let young = [
        open_at(&mut engine, start + SECOND)?,
        open_at(&mut engine, start + SECOND)?,
    ];
    let new = open_at(&mut engine, start + TTL)?;
    ensure_ended(&mut engine, &old)?;
    for id in young.iter().chain([&new]) {
        ensure_holds(context, &engine, id, &[])?;
    }
    ensure_eq!(
        (engine.stats().evicted_ttl, engine.stats().evicted_lru),
        (1, 0),
        "the one end, by TTL"
    );
    Ok(())
}

fn an_ended_id_stays_ended_when_its_slab_is_used_again(context: &SuiteContext) -> CaseResult {
    let config = EngineConfig {
        capacity: 1,
        ..small(context)
    };
    let mut engine = engine_with(context, config)?;
    let tokens = prose(context, 50)?;
    let mut ended = Vec::new();
    for _ in 0..3 {
        let id = open_with(&mut engine, &tokens)?;
        generate(&mut engine, &id, greedy(3))?;
        let before = snapshot(&engine, &id)?;
        for old in &ended {
            ensure_ended(&mut engine, old)?;
        }
        ensure_eq!(
            snapshot(&engine, &id)?,
            before,
            "the session that has the slab now"
        );
        engine.close_session(&id)?;
        ended.push(id);
    }
    Ok(())
}
