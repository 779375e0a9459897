//! Sessions share weights, threads and scratch memory, and nothing that shows.

use std::time::Instant;

use kakeya_runtime::{AppendCoordinator, EngineConfig};

use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{
    SMALL_LIMIT, engine, engine_with, ensure_holds, generate, open, open_with, prose, random_ids,
    seeded, small, snapshot,
};
use crate::{ensure, ensure_eq};
use kakeya_suite::CaseResult;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "two_sessions_do_not_touch_each_other",
            two_sessions_do_not_touch_each_other,
        ),
        Case::fast(
            "a_session_in_a_used_slab_is_as_in_a_fresh_one",
            a_session_in_a_used_slab_is_as_in_a_fresh_one,
        ),
        Case::fast(
            "the_end_of_one_session_leaves_the_others",
            the_end_of_one_session_leaves_the_others,
        ),
    ]
}

fn two_sessions_do_not_touch_each_other(context: &SuiteContext) -> CaseResult {
    let mut engine = engine(context)?;
    let left = prose(context, 90)?;
    let right = random_ids(context, 30, 90)?;
    let (a, b) = (open(&mut engine)?, open(&mut engine)?);
    ensure!(a != b, "two sessions have the id {a}");
    let now = Instant::now();
    let mut first = AppendCoordinator::begin(&mut engine, &a, left.clone(), now)?;
    let mut second = AppendCoordinator::begin(&mut engine, &b, right.clone(), now)?;
    while !(first.is_done() && second.is_done()) {
        // Steps of different sizes, so that the two are never at the same place.
        let before = snapshot(&engine, &b)?;
        first.step(&mut engine, 11, now)?;
        ensure_eq!(snapshot(&engine, &b)?, before, "b, while a is appended to");
        let before = snapshot(&engine, &a)?;
        second.step(&mut engine, 17, now)?;
        ensure_eq!(snapshot(&engine, &a)?, before, "a, while b is appended to");
    }
    ensure_holds(context, &engine, &a, &left)?;
    ensure_holds(context, &engine, &b, &right)
}

fn a_session_in_a_used_slab_is_as_in_a_fresh_one(context: &SuiteContext) -> CaseResult {
    let config = EngineConfig {
        capacity: 1,
        ..small(context)
    };
    let mut engine = engine_with(context, config)?;
    let used = open_with(&mut engine, &random_ids(context, 31, 400)?)?;
    engine.close_session(&used)?;
    for length in [1, 5, SMALL_LIMIT, SMALL_LIMIT + 25] {
        let tokens = prose(context, length)?;
        let id = open_with(&mut engine, &tokens)?;
        ensure_holds(context, &engine, &id, &tokens)?;
        engine.close_session(&id)?;
    }
    Ok(())
}

fn the_end_of_one_session_leaves_the_others(context: &SuiteContext) -> CaseResult {
    let mut engine = engine(context)?;
    let tokens = prose(context, 60)?;
    let stays = open_with(&mut engine, &tokens)?;
    let before = snapshot(&engine, &stays)?;
    for seed in 0..3 {
        let goes = open_with(&mut engine, &random_ids(context, 40 + seed, 50)?)?;
        generate(&mut engine, &goes, seeded(5, seed))?;
        ensure_eq!(engine.close_session(&goes)?, 55, "the final history length");
        ensure_eq!(snapshot(&engine, &stays)?, before, "the session that stays");
    }
    let more = generate(&mut engine, &stays, seeded(5, 7))?;
    let all = [tokens, more.tokens].concat();
    ensure_holds(context, &engine, &stays, &all)
}
