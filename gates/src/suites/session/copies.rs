//! Sessions made from others: a fork, and a snapshot that goes to another engine, go on with the same bits.

use std::time::Instant;

use kakeya_core::{
    CacheConfig, EngineError, KvElement, KvStorage, SessionId, SnapshotError, StateSettings, Window,
};
use kakeya_runtime::{AppendCoordinator, Engine, EngineConfig, SnapshotCodec};

use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{
    SMALL, SMALL_LIMIT, engine, engine_with, ensure_ended, ensure_holds, ensure_refused, generate,
    not_found, open, open_with, prose, random_ids, seeded, small, snapshot, solo,
};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "forks_hold_the_bits_of_their_session_and_go_their_own_ways",
            forks_go_their_own_ways,
        ),
        Case::fast(
            "a_fork_takes_the_places_of_idle_sessions_all_or_none",
            a_fork_takes_all_or_none,
        ),
        Case::fast(
            "a_snapshot_goes_on_in_another_engine_with_the_same_bits",
            a_snapshot_goes_on_elsewhere,
        ),
        Case::fast(
            "a_snapshot_of_other_settings_is_refused_by_name",
            other_settings_are_refused,
        ),
        Case::fast(
            "a_snapshot_that_is_not_whole_is_refused_wherever_it_breaks",
            not_whole_is_refused,
        ),
        Case::fast(
            "a_forged_snapshot_harms_no_session_but_its_own",
            a_forged_snapshot_harms_no_other,
        ),
    ]
}

/// Lengths before, at and beyond the trim boundary, and beyond a turn of the ring.
const LENGTHS: [usize; 6] = [1, 3, 20, SMALL_LIMIT, SMALL_LIMIT + 9, 400];

fn with_elements(context: &SuiteContext) -> impl Iterator<Item = EngineConfig> {
    let base = small(context);
    [KvElement::F16, KvElement::F32, KvElement::Int8]
        .into_iter()
        .map(move |kv| EngineConfig { kv, ..base.clone() })
}

pub(super) fn codec(
    context: &SuiteContext,
    config: &EngineConfig,
) -> Result<SnapshotCodec, CaseFailure> {
    let weights = context.model_sha256().to_owned();
    Ok(SnapshotCodec::new(
        context.model()?.clone(),
        config,
        weights,
        String::new(),
    )?)
}

fn forks_go_their_own_ways(context: &SuiteContext) -> CaseResult {
    let text = random_ids(context, 41, 400)?;
    for config in with_elements(context) {
        for length in LENGTHS {
            let (before, mut engine) = (&text[..length], engine_with(context, config.clone())?);
            let session = engine.create_session(Instant::now(), "a".to_owned(), vec![7])?;
            AppendCoordinator::append(&mut engine, &session, before)?;
            let original = snapshot(&engine, &session)?;
            let forks = engine.fork(Instant::now(), &session, 2)?;
            ensure_eq!(forks.len(), 2, "forks");
            for fork in &forks {
                ensure!(*fork != session, "a fork has the id of its session");
                ensure_eq!(snapshot(&engine, fork)?, original, "a fork of {length}");
                ensure_eq!(engine.label(fork)?, "a", "the label of a fork");
                ensure_eq!(engine.eos_token_ids(fork)?, [7], "a fork's end tokens");
            }
            // Each goes on with other tokens, in turns.
            let sessions = [&session, &forks[0], &forks[1]];
            for piece in 0..3 {
                for (index, id) in sessions.into_iter().enumerate() {
                    let tokens = &text[31 * (3 * index + piece)..][..17];
                    AppendCoordinator::append(&mut engine, id, tokens)?;
                }
            }
            for (index, id) in sessions.into_iter().enumerate() {
                let mut tokens = before.to_vec();
                for piece in 0..3 {
                    tokens.extend(&text[31 * (3 * index + piece)..][..17]);
                }
                ensure_holds(context, &engine, id, &tokens)?;
            }
        }
    }
    Ok(())
}

fn a_fork_takes_all_or_none(context: &SuiteContext) -> CaseResult {
    let mut engine = engine(context)?;
    let text = random_ids(context, 42, 60)?;
    let session = open_with(&mut engine, &text)?;
    let idle: Vec<SessionId> = (0..3)
        .map(|_| open(&mut engine))
        .collect::<Result<_, _>>()?;
    let now = Instant::now();
    let busy = &idle[1];
    engine.set_busy(busy, true)?;
    let full = EngineError::NoSlab { capacity: 4 };
    ensure_refused("three forks", engine.fork(now, &session, 3), &full)?;
    let huge = engine.fork(now, &session, u32::MAX);
    ensure_refused("too many forks", huge, &full)?;
    for id in &idle {
        engine.info(id, now)?;
    }
    let forks = engine.fork(now, &session, 2)?;
    ensure_ended(&mut engine, &idle[0])?;
    ensure_ended(&mut engine, &idle[2])?;
    engine.info(busy, now)?;
    ensure_eq!(engine.stats().evicted_lru, 2, "evicted sessions");
    for id in [&session, &forks[0], &forks[1]] {
        ensure_holds(context, &engine, id, &text)?;
        engine.close_session(id)?;
    }
    engine.set_busy(busy, false)?;
    engine.close_session(busy)?;
    ensure_eq!(engine.free_slabs(), 4, "free slabs");
    let gone = not_found(&session);
    ensure_refused(
        "a fork of an ended one",
        engine.fork(now, &session, 1),
        &gone,
    )
}

/// The bytes of a session, and the session that they become elsewhere, taken in by pieces of `piece` bytes.
fn moved(
    bytes: &[u8],
    piece: usize,
    codec: &SnapshotCodec,
    engine: &mut Engine,
) -> Result<SessionId, CaseFailure> {
    let image = read(bytes, piece, codec)?;
    Ok(engine.import(Instant::now(), None, image)?)
}

fn read(
    bytes: &[u8],
    piece: usize,
    codec: &SnapshotCodec,
) -> Result<kakeya_core::SessionImage, SnapshotError> {
    let mut reader = codec.reader();
    for part in bytes.chunks(piece) {
        reader.push(part)?;
    }
    codec.read(&reader.finish()?)
}

fn a_snapshot_goes_on_elsewhere(context: &SuiteContext) -> CaseResult {
    let text = random_ids(context, 43, 500)?;
    for config in with_elements(context) {
        let codec = codec(context, &config)?;
        let mut here = engine_with(context, config.clone())?;
        // One thread, and another session in its first slab. Suite `grpc` moves one to plain kernels, which take long.
        let there = EngineConfig {
            threads: 1,
            capacity: 2,
            ..config.clone()
        };
        let mut there = engine_with(context, there)?;
        open_with(&mut there, &text[..50])?;
        for length in LENGTHS.into_iter().chain([0]) {
            let session = open_with(&mut here, &text[..length])?;
            let image = here.export(&session)?;
            let bytes = codec.write(&image);
            ensure_eq!(bytes, codec.write(&image), "the bytes of one image");
            let arrived = moved(&bytes, 1 + length * 7, &codec, &mut there)?;
            ensure_eq!(
                snapshot(&there, &arrived)?,
                snapshot(&here, &session)?,
                "a session of {length} that was moved"
            );
            let again = there.export(&arrived)?;
            ensure_eq!(codec.digest(&again), codec.digest(&image), "its digests");
            ensure_eq!(codec.write(&again), bytes, "its snapshot");
            AppendCoordinator::append(&mut there, &arrived, &text[length..length + 60])?;
            ensure_holds(context, &there, &arrived, &text[..length + 60])?;
            there.close_session(&arrived)?;
            here.close_session(&session)?;
        }
        let prompt = prose(context, 90)?;
        let session = open_with(&mut here, &prompt)?;
        let bytes = codec.write(&here.export(&session)?);
        let arrived = moved(&bytes, 100_000, &codec, &mut there)?;
        let expected = solo(context, &config, &prompt, seeded(12, 3))?;
        let found = generate(&mut there, &arrived, seeded(12, 3))?;
        found.ensure_same_as("the words of a moved session", &expected)?;
    }
    Ok(())
}

fn other_settings_are_refused(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let mut engine = engine(context)?;
    let session = open_with(&mut engine, &random_ids(context, 44, 50)?)?;
    let codec = codec(context, &config)?;
    let bytes = codec.write(&engine.export(&session)?);
    let other = |cache: CacheConfig, kv: KvElement, weights: &str, quantized: &str| {
        let config = EngineConfig {
            cache,
            kv,
            ..config.clone()
        };
        let model = context.model()?.clone();
        let codec = SnapshotCodec::new(model, &config, weights.to_owned(), quantized.to_owned())?;
        Ok::<_, CaseFailure>(read(&bytes, 1000, &codec).map(drop))
    };
    let (weights, f16) = (context.model_sha256(), KvElement::F16);
    ensure_eq!(other(SMALL, f16, weights, "")?, Ok(()), "the same settings");
    let wider = CacheConfig {
        window: Window::Sliding(33),
        ..SMALL
    };
    let full = CacheConfig {
        window: Window::Full,
        ..SMALL
    };
    let fewer = CacheConfig { sink: 3, ..SMALL };
    let global = CacheConfig {
        positions: kakeya_core::PositionPolicy::Global,
        ..SMALL
    };
    let zeros = "0".repeat(64);
    for (setting, refused) in [
        ("window", other(wider, f16, weights, "")?),
        ("window", other(full, f16, weights, "")?),
        ("sink", other(fewer, f16, weights, "")?),
        ("positions", other(global, f16, weights, "")?),
        ("kv", other(SMALL, KvElement::Int8, weights, "")?),
        ("model_sha256", other(SMALL, f16, &zeros, "")?),
        ("quantized", other(SMALL, f16, weights, "q8_0")?),
    ] {
        let named = matches!(&refused, Err(SnapshotError::Setting { setting: found, .. }) if *found == setting);
        ensure!(named, "another {setting}: {refused:?}");
    }
    let newer = StateSettings {
        numerics: codec.settings().numerics + 1,
        ..codec.settings().clone()
    };
    let refused = codec.settings().accept(&newer);
    ensure!(
        matches!(
            &refused,
            Err(SnapshotError::Setting {
                setting: "numerics",
                ..
            })
        ),
        "another numerics version: {refused:?}"
    );
    Ok(())
}

fn not_whole_is_refused(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let codec = codec(context, &config)?;
    let mut engine = engine(context)?;
    let session = open_with(&mut engine, &random_ids(context, 45, 10)?)?;
    let bytes = codec.write(&engine.export(&session)?);
    let (early, step) = (600.min(bytes.len()), bytes.len() / 50);
    let places = (0..early).chain((early..bytes.len()).step_by(step));
    for place in places {
        let cut = read(&bytes[..place], 4096, &codec).map(drop);
        ensure!(
            matches!(cut, Err(SnapshotError::Truncated { found, expected })
                if found == place as u64 && expected > found),
            "a snapshot cut at {place}: {cut:?}"
        );
        let mut bent = bytes.clone();
        bent[place] ^= 0x10;
        let refused = read(&bent, 4096, &codec);
        ensure!(
            refused.is_err(),
            "byte {place} is another, and it was taken"
        );
    }
    let longer = [&bytes[..], &[0]].concat();
    let refused = read(&longer, 4096, &codec).map(drop);
    let expected = bytes.len() as u64;
    ensure_eq!(
        refused,
        Err(SnapshotError::TooLong { expected }),
        "a byte too many"
    );
    ensure_eq!(engine.stats().sessions, 1, "sessions after all that");
    Ok(())
}

/// The digest keeps no one from writing a snapshot of their own, so what is in it must not matter to others.
fn a_forged_snapshot_harms_no_other(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let codec = codec(context, &config)?;
    let mut engine = engine(context)?;
    let text = prose(context, 50)?;
    let session = open_with(&mut engine, &text)?;
    let mut image = engine.export(&session)?;
    let KvStorage::F16(elements) = &mut image.storage else {
        return Err(CaseFailure::violated("the default cache is f16"));
    };
    elements.fill(0x7e00);
    image.next_logits.fill(f32::NAN);
    let forged = moved(&codec.write(&image), 5000, &codec, &mut engine)?;
    for params in [seeded(4, 1), crate::suites::support::greedy(4)] {
        // Whatever it says, or that it refuses: it comes back, and the rest goes on.
        drop(generate(&mut engine, &forged, params));
    }
    let expected = solo(context, &config, &text, seeded(12, 3))?;
    let found = generate(&mut engine, &session, seeded(12, 3))?;
    found.ensure_same_as("a session beside a forged one", &expected)
}
