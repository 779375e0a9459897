//! INV-1 and INV-2, with a cache that reports what it is told to.

use std::time::Instant;

use kakeya_core::pipeline::bounded;
use kakeya_core::{CacheInspector, EngineError, InvariantViolation, KvSide, SessionId};
use kakeya_runtime::{AppendCoordinator, Engine, GenerationCoordinator};

use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{
    Snapshot, engine, ensure_ended, ensure_holds, ensure_refused, generate, greedy, not_found,
    open, open_with, prose, random_ids, seeded, snapshot,
};
use crate::{ensure, ensure_eq};
use kakeya_suite::CaseResult;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "a_cache_as_recorded_is_no_violation",
            a_cache_as_recorded_is_no_violation,
        ),
        Case::fast(
            "inv1_keys_of_another_length_in_one_layer_end_the_session",
            inv1_keys_of_another_length_in_one_layer_end_the_session,
        ),
        Case::fast(
            "inv1_values_of_another_length_in_one_layer_end_the_session",
            inv1_values_of_another_length_in_one_layer_end_the_session,
        ),
        Case::fast(
            "inv1_holds_for_an_empty_session_too",
            inv1_holds_for_an_empty_session_too,
        ),
        Case::fast(
            "inv2_a_position_that_goes_back_ends_the_session",
            inv2_a_position_that_goes_back_ends_the_session,
        ),
        Case::fast(
            "inv2_remembers_the_furthest_position_seen",
            inv2_remembers_the_furthest_position_seen,
        ),
        Case::fast(
            "both_violations_at_once_count_each",
            both_violations_at_once_count_each,
        ),
        Case::fast(
            "a_violation_half_way_ends_append_and_generation",
            a_violation_half_way_ends_append_and_generation,
        ),
        Case::fast(
            "long_work_without_a_fault_counts_no_violation",
            long_work_without_a_fault_counts_no_violation,
        ),
    ]
}

/// A cache whose lengths and position are as given, with one layer set apart.
#[derive(Clone, Copy)]
pub(super) struct Reported {
    layers: usize,
    length: u64,
    position: u64,
    odd_layer: usize,
    odd_keys: u64,
    odd_values: u64,
}

impl Reported {
    /// What it reports, but for a key that the last layer lacks.
    pub(super) fn one_key_short(engine: &Engine, id: &SessionId) -> Result<Self, EngineError> {
        let own = Self::of(engine, id)?;
        Ok(Self {
            odd_layer: own.layers - 1,
            odd_keys: own.length - 1,
            ..own
        })
    }

    /// What the session's own cache reports.
    fn of(engine: &Engine, id: &SessionId) -> Result<Self, EngineError> {
        let verifier = &engine.state(id)?.verifier;
        let length = verifier.cached_length();
        Ok(Self {
            layers: verifier.layers(),
            length,
            position: verifier.position(),
            odd_layer: 0,
            odd_keys: length,
            odd_values: length,
        })
    }
}

impl CacheInspector for Reported {
    fn layers(&self) -> usize {
        self.layers
    }
    fn k_length(&self, layer: usize) -> u64 {
        if layer == self.odd_layer {
            self.odd_keys
        } else {
            self.length
        }
    }
    fn v_length(&self, layer: usize) -> u64 {
        if layer == self.odd_layer {
            self.odd_values
        } else {
            self.length
        }
    }
    fn position(&self) -> u64 {
        self.position
    }
}

/// An engine with a bystander, and what the bystander is.
struct Scene {
    engine: Engine,
    bystander: SessionId,
    before: Snapshot,
}

impl Scene {
    fn set(context: &SuiteContext) -> Result<Self, crate::CaseFailure> {
        let mut engine = engine(context)?;
        let bystander = open_with(&mut engine, &prose(context, 45)?)?;
        let before = snapshot(&engine, &bystander)?;
        Ok(Self {
            engine,
            bystander,
            before,
        })
    }

    /// Requires that checking `id` against `reported` ends it with `expected`, frees its slab, moves the
    /// counters by `inv1` and `inv2`, and touches nobody else.
    fn ensure_ends(
        &mut self,
        id: &SessionId,
        reported: &Reported,
        expected: InvariantViolation,
        (inv1, inv2): (u64, u64),
    ) -> CaseResult {
        let engine = &mut self.engine;
        let (stats, free) = (engine.stats(), engine.free_slabs());
        let checked = engine.check_invariants(id, reported);
        ensure_refused("the check", checked, &EngineError::Invariant(expected))?;
        ensure_eq!(engine.free_slabs(), free + 1, "free slabs after {expected}");
        ensure_ended(engine, id)?;
        let after = engine.stats();
        ensure_eq!(
            (
                after.inv1_violations,
                after.inv2_violations,
                after.sessions,
                after.forward_passes
            ),
            (
                stats.inv1_violations + inv1,
                stats.inv2_violations + inv2,
                stats.sessions - 1,
                stats.forward_passes
            ),
            "violations, sessions and passes after {expected}"
        );
        ensure_eq!(
            snapshot(engine, &self.bystander)?,
            self.before,
            "another session after {expected}"
        );
        // Whoever asks about another session is told of the violations since the start.
        let info = engine.info(&self.bystander, Instant::now())?;
        ensure_eq!(
            (info.inv1_violations, info.inv2_violations),
            (after.inv1_violations, after.inv2_violations),
            "violations as info tells them"
        );
        Ok(())
    }
}

fn a_cache_as_recorded_is_no_violation(context: &SuiteContext) -> CaseResult {
    let mut scene = Scene::set(context)?;
    for length in [0, 20, 50] {
        let id = open_with(&mut scene.engine, &random_ids(context, 60, length)?)?;
        let before = snapshot(&scene.engine, &id)?;
        let reported = Reported::of(&scene.engine, &id)?;
        ensure!(reported.layers > 2, "{} layers", reported.layers);
        for _ in 0..3 {
            scene.engine.check_invariants(&id, &reported)?;
        }
        ensure_eq!(
            snapshot(&scene.engine, &id)?,
            before,
            "a session that was checked"
        );
    }
    let stats = scene.engine.stats();
    ensure_eq!(
        (stats.inv1_violations, stats.inv2_violations, stats.sessions),
        (0, 0, 4),
        "violations and sessions"
    );
    Ok(())
}

/// Every kind of fault in the lengths of `side`, in the first, a middle and the last layer, before and after
/// the window is full.
fn ensure_inv1(context: &SuiteContext, side: KvSide) -> CaseResult {
    let mut scene = Scene::set(context)?;
    let last = context.model()?.config().layers - 1;
    for (held, odd_layer) in [(20, 0), (20, last / 2), (50, last), (50, 1)] {
        let tokens = random_ids(context, 61, held)?;
        for shift in [-1, 1] {
            let id = open_with(&mut scene.engine, &tokens)?;
            let mut reported = Reported::of(&scene.engine, &id)?;
            let recorded = reported.length;
            let observed = recorded.saturating_add_signed(shift);
            reported.odd_layer = odd_layer;
            match side {
                KvSide::Keys => reported.odd_keys = observed,
                KvSide::Values => reported.odd_values = observed,
            }
            let expected = InvariantViolation::Inv1 {
                layer: odd_layer,
                which: side,
                recorded,
                observed,
            };
            scene.ensure_ends(&id, &reported, expected, (1, 0))?;
        }
    }
    ensure_eq!(scene.engine.stats().inv1_violations, 8, "INV-1 violations");
    Ok(())
}

fn inv1_keys_of_another_length_in_one_layer_end_the_session(context: &SuiteContext) -> CaseResult {
    ensure_inv1(context, KvSide::Keys)
}

fn inv1_values_of_another_length_in_one_layer_end_the_session(
    context: &SuiteContext,
) -> CaseResult {
    ensure_inv1(context, KvSide::Values)
}

fn inv1_holds_for_an_empty_session_too(context: &SuiteContext) -> CaseResult {
    let mut scene = Scene::set(context)?;
    let id = open(&mut scene.engine)?;
    let mut reported = Reported::of(&scene.engine, &id)?;
    reported.odd_keys = 1;
    let expected = InvariantViolation::Inv1 {
        layer: 0,
        which: KvSide::Keys,
        recorded: 0,
        observed: 1,
    };
    scene.ensure_ends(&id, &reported, expected, (1, 0))
}

fn inv2_a_position_that_goes_back_ends_the_session(context: &SuiteContext) -> CaseResult {
    let mut scene = Scene::set(context)?;
    for (held, observed) in [(20, 19), (20, 0), (50, 49)] {
        let id = open_with(&mut scene.engine, &random_ids(context, 62, held)?)?;
        let reported = Reported {
            position: observed,
            ..Reported::of(&scene.engine, &id)?
        };
        let expected = InvariantViolation::Inv2 {
            last: held as u64,
            observed,
        };
        scene.ensure_ends(&id, &reported, expected, (0, 1))?;
    }
    Ok(())
}

fn inv2_remembers_the_furthest_position_seen(context: &SuiteContext) -> CaseResult {
    let mut scene = Scene::set(context)?;
    let id = open_with(&mut scene.engine, &random_ids(context, 63, 20)?)?;
    let honest = Reported::of(&scene.engine, &id)?;
    let further = Reported {
        position: 25,
        ..honest
    };
    scene.engine.check_invariants(&id, &further)?;
    scene.engine.check_invariants(&id, &further)?;
    let expected = InvariantViolation::Inv2 {
        last: 25,
        observed: 20,
    };
    scene.ensure_ends(&id, &honest, expected, (0, 1))
}

fn both_violations_at_once_count_each(context: &SuiteContext) -> CaseResult {
    let mut scene = Scene::set(context)?;
    let id = open_with(&mut scene.engine, &random_ids(context, 64, 20)?)?;
    let reported = Reported {
        odd_values: 21,
        position: 3,
        ..Reported::of(&scene.engine, &id)?
    };
    let expected = InvariantViolation::Inv1 {
        layer: 0,
        which: KvSide::Values,
        recorded: 20,
        observed: 21,
    };
    scene.ensure_ends(&id, &reported, expected, (1, 1))
}

fn a_violation_half_way_ends_append_and_generation(context: &SuiteContext) -> CaseResult {
    let mut scene = Scene::set(context)?;
    let (tokens, now) = (random_ids(context, 65, 40)?, Instant::now());

    let id = open(&mut scene.engine)?;
    let mut append = AppendCoordinator::begin(&mut scene.engine, &id, tokens.clone(), now)?;
    append.step(&mut scene.engine, 16, now)?;
    let short = Reported {
        odd_keys: 15,
        ..Reported::of(&scene.engine, &id)?
    };
    let expected = InvariantViolation::Inv1 {
        layer: 0,
        which: KvSide::Keys,
        recorded: 16,
        observed: 15,
    };
    scene.ensure_ends(&id, &short, expected, (1, 0))?;
    let step = append.step(&mut scene.engine, 16, now);
    ensure_refused("the next step of the append", step, &not_found(&id))?;

    let id = open_with(&mut scene.engine, &tokens)?;
    let (events, _consumer) = bounded(8);
    let mut generation = GenerationCoordinator::begin(&mut scene.engine, &id, greedy(5), now)?;
    for _ in 0..2 {
        generation.step(&mut scene.engine, &events, now)?;
    }
    let back = Reported {
        position: 40,
        ..Reported::of(&scene.engine, &id)?
    };
    // Of the two steps one sent the truncation notice, so one token was generated.
    let expected = InvariantViolation::Inv2 {
        last: 41,
        observed: 40,
    };
    scene.ensure_ends(&id, &back, expected, (0, 1))?;
    let step = generation.step(&mut scene.engine, &events, now);
    ensure_refused("the next step of the generation", step, &not_found(&id))?;
    ensure_eq!(
        scene.engine.free_slabs(),
        3,
        "free slabs beside the bystander's"
    );
    Ok(())
}

fn long_work_without_a_fault_counts_no_violation(context: &SuiteContext) -> CaseResult {
    let mut engine = engine(context)?;
    let mut histories = [prose(context, 60)?, random_ids(context, 66, 10)?];
    let ids = [
        open_with(&mut engine, &histories[0])?,
        open_with(&mut engine, &histories[1])?,
    ];
    for turn in 0..4 {
        for (id, history) in ids.iter().zip(&mut histories) {
            history.extend(generate(&mut engine, id, seeded(6, turn))?.tokens);
            let said = random_ids(context, 67 + turn, 9)?;
            AppendCoordinator::append(&mut engine, id, &said)?;
            history.extend(said);
        }
    }
    for (id, history) in ids.iter().zip(&histories) {
        ensure_holds(context, &engine, id, history)?;
    }
    let stats = engine.stats();
    ensure_eq!(
        (stats.inv1_violations, stats.inv2_violations),
        (0, 0),
        "violations after {} passes",
        stats.forward_passes
    );
    Ok(())
}
