//! Sessions over a restart (`--state-dir`): put away by one engine, and gone on with by the next as if nothing had
//! been.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kakeya_core::{EngineError, KvElement, Limits, Owner, SessionId, Tenant};
use kakeya_runtime::{AppendCoordinator, Engine, EngineConfig, SnapshotCodec, StepLoop};
use kakeya_server::state::{Folder, Restored, Saved, restore, save};

use super::copies::codec;
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{
    PATIENCE, SMALL_LIMIT, block_on, engine_with, ensure_ended, ensure_holds, generate, open_with,
    prose, random_ids, seeded, small, snapshot, solo,
};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "saved_sessions_go_on_under_their_ids_with_the_same_bits",
            saved_sessions_go_on,
        ),
        Case::fast(
            "an_ended_id_stays_ended_over_a_restart",
            ended_ids_stay_ended,
        ),
        Case::fast("idle_time_goes_on_over_a_restart", idle_time_goes_on),
        Case::fast(
            "a_saved_session_that_is_damaged_or_of_another_model_is_set_aside_by_name",
            unusable_files_are_set_aside,
        ),
        Case::fast(
            "a_saved_session_stays_with_its_key_and_with_nobody_else",
            saved_sessions_stay_with_their_keys,
        ),
        Case::fast(
            "places_go_to_the_saved_sessions_that_were_used_last",
            places_go_to_the_last_used,
        ),
        Case::fast(
            "a_step_loop_that_drained_hands_out_its_sessions",
            a_drained_loop_hands_out_its_sessions,
        ),
    ]
}

/// Saves all sessions of `engine`, ends it, and goes on in another with what was saved.
fn restarted(
    context: &SuiteContext,
    folder: &Folder,
    engine: Engine,
    config: EngineConfig,
) -> Result<(Engine, Restored), CaseFailure> {
    let saved = save(folder, &engine, &codec(context, &config)?);
    ensure_eq!(saved.lost, 0, "sessions that could not be saved");
    ensure_eq!(saved.saved, engine.stats().sessions, "sessions saved");
    drop(engine);
    started(context, folder, config)
}

fn started(
    context: &SuiteContext,
    folder: &Folder,
    config: EngineConfig,
) -> Result<(Engine, Restored), CaseFailure> {
    let codec = codec(context, &config)?;
    let mut engine = engine_with(context, config)?;
    let counts = restore(folder, &mut engine, &codec, everybody)?;
    ensure_eq!(folder.sessions()?.len(), 0, "files of sessions that live");
    Ok((engine, counts))
}

/// Where nobody is told apart.
fn everybody(owner: Owner) -> Option<Arc<Tenant>> {
    (owner == Owner::EVERYBODY).then(|| Arc::new(Tenant::everybody(Limits::default())))
}

fn saved_sessions_stay_with_their_keys(context: &SuiteContext) -> CaseResult {
    let home = tempfile::tempdir()?;
    let folder = Folder::open(home.path())?;
    let config = small(context);
    let key = |number: u128| {
        let limits = Limits::default();
        let name = format!("key-{number}");
        Arc::new(Tenant::key(
            Owner::new(number),
            name,
            limits,
            Arc::default(),
        ))
    };
    let text = random_ids(context, 57, 40)?;
    let mut engine = engine_with(context, config.clone())?;
    let mut ids = Vec::new();
    for number in [3, 5] {
        let id = open_with(&mut engine, &text)?;
        engine.give(&id, &key(number))?;
        ids.push(id);
    }
    let nobodys = open_with(&mut engine, &text)?;
    let codec = codec(context, &config)?;
    ensure_eq!(save(&folder, &engine, &codec).saved, 3, "sessions saved");
    drop(engine);
    // One of the keys is gone, and so is everybody.
    let mut engine = engine_with(context, config)?;
    let known = |owner: Owner| (owner == Owner::new(5)).then(|| key(5));
    let counts = restore(&folder, &mut engine, &codec, known)?;
    ensure_eq!(
        (counts.restored, counts.set_aside),
        (1, 2),
        "what was found"
    );
    ensure_ended(&mut engine, &ids[0])?;
    ensure_ended(&mut engine, &nobodys)?;
    let owner = engine.tenant(&ids[1])?.owner();
    ensure_eq!(owner, Owner::new(5), "whose the session is");
    ensure_holds(context, &engine, &ids[1], &text)
}

fn saved_sessions_go_on(context: &SuiteContext) -> CaseResult {
    let text = random_ids(context, 51, 500)?;
    let prompt = prose(context, 90)?;
    for kv in [KvElement::F16, KvElement::F32, KvElement::Int8] {
        let config = EngineConfig {
            kv,
            capacity: 5,
            ..small(context)
        };
        // Other threads: that other instructions make no difference is shown for snapshots.
        let other = EngineConfig {
            threads: 1,
            ..config.clone()
        };
        let home = tempfile::tempdir()?;
        let folder = Folder::open(home.path())?;
        let mut engine = engine_with(context, config.clone())?;
        let mut expected = Vec::new();
        for length in [0, 3, SMALL_LIMIT + 9, 400] {
            let id = engine.create_session(Instant::now(), format!("of {length}"), vec![7])?;
            AppendCoordinator::append(&mut engine, &id, &text[..length])?;
            expected.push((id.clone(), length, snapshot(&engine, &id)?));
        }
        let speaks = open_with(&mut engine, &prompt)?;
        let whole = solo(context, &config, &prompt, seeded(24, 3))?;
        let mut half = solo(context, &config, &prompt, seeded(12, 3))?;
        generate(&mut engine, &speaks, seeded(12, 3))?.ensure_same_as("the first half", &half)?;

        let (mut engine, counts) = restarted(context, &folder, engine, other)?;
        ensure_eq!(
            (counts.restored, counts.set_aside),
            (5, 0),
            "what was found"
        );
        for (id, length, before) in expected {
            ensure_eq!(snapshot(&engine, &id)?, before, "a session of {length}");
            ensure_eq!(engine.label(&id)?, format!("of {length}"), "its label");
            ensure_eq!(engine.eos_token_ids(&id)?, [7], "its end tokens");
            AppendCoordinator::append(&mut engine, &id, &text[length..length + 60])?;
            ensure_holds(context, &engine, &id, &text[..length + 60])?;
        }
        // Draws go by position, so the second half is what it would have been.
        let rest = generate(&mut engine, &speaks, seeded(12, 3))?;
        half.tokens.extend(rest.tokens);
        crate::ensure_same_tokens("both halves", &half.tokens, &whole.tokens)?;
    }
    Ok(())
}

fn ended_ids_stay_ended(context: &SuiteContext) -> CaseResult {
    let home = tempfile::tempdir()?;
    let folder = Folder::open(home.path())?;
    let text = random_ids(context, 52, 30)?;
    let mut engine = engine_with(context, small(context))?;
    let (ended, lives) = (
        open_with(&mut engine, &text)?,
        open_with(&mut engine, &text)?,
    );
    engine.close_session(&ended)?;
    let (mut engine, counts) = restarted(context, &folder, engine, small(context))?;
    ensure_eq!(counts.restored, 1, "sessions restored");
    ensure_ended(&mut engine, &ended)?;
    ensure_holds(context, &engine, &lives, &text)?;
    engine.close_session(&lives)?;
    // As after a kill: nothing is saved, and what was saved before is not there any more.
    drop(engine);
    let (mut engine, counts) = started(context, &folder, small(context))?;
    ensure_eq!(counts, Restored::default(), "what is left");
    ensure_ended(&mut engine, &lives)?;
    ensure_eq!(engine.free_slabs(), 4, "free slabs");
    Ok(())
}

fn idle_time_goes_on(context: &SuiteContext) -> CaseResult {
    const TTL: Duration = Duration::from_secs(1000);
    let config = EngineConfig {
        idle_ttl: TTL,
        ..small(context)
    };
    let home = tempfile::tempdir()?;
    let folder = Folder::open(home.path())?;
    let mut engine = engine_with(context, config.clone())?;
    let before = Duration::from_secs(600);
    let then = Instant::now().checked_sub(before);
    let then = then.ok_or_else(|| CaseFailure::violated("no time before the machine began"))?;
    let id = engine.create_session(then, String::new(), Vec::new())?;
    let (mut engine, _) = restarted(context, &folder, engine, config)?;
    let now = Instant::now();
    let idle = engine.info(&id, now)?.idle;
    ensure!(
        idle >= before && idle < before + PATIENCE,
        "idle for {idle:?} after {before:?}"
    );
    engine.expire(now + (TTL - before - PATIENCE));
    engine.info(&id, now)?;
    engine.expire(now + (TTL - before));
    ensure_ended(&mut engine, &id)
}

/// The file of a session.
fn file_of(home: &Path, id: &SessionId) -> std::path::PathBuf {
    home.join(format!("{id}.session"))
}

fn unusable_files_are_set_aside(context: &SuiteContext) -> CaseResult {
    let home = tempfile::tempdir()?;
    let folder = Folder::open(home.path())?;
    let text = random_ids(context, 53, 50)?;
    let config = small(context);
    let mut engine = engine_with(context, config.clone())?;
    let ids: Vec<_> = (0..3)
        .map(|_| open_with(&mut engine, &text))
        .collect::<Result<_, _>>()?;
    let saved = save(&folder, &engine, &codec(context, &config)?);
    ensure_eq!((saved.saved, saved.lost), (3, 0), "sessions saved");
    drop(engine);

    let (bent, renamed, fine) = (&ids[0], &ids[1], &ids[2]);
    let mut bytes = fs::read(file_of(home.path(), bent))?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file_of(home.path(), bent), &bytes)?;
    let stranger = SessionId::random();
    fs::rename(
        file_of(home.path(), renamed),
        file_of(home.path(), &stranger),
    )?;
    let (mut engine, counts) = started(context, &folder, config.clone())?;
    ensure_eq!(
        (counts.restored, counts.set_aside),
        (1, 2),
        "what was found"
    );
    ensure_holds(context, &engine, fine, &text)?;
    for id in [bent, renamed, &stranger] {
        ensure_ended(&mut engine, id)?;
    }
    let aside = |id: &SessionId| file_of(&home.path().join("aside"), id);
    ensure_eq!(fs::read(aside(bent))?, bytes, "the damaged file, set aside");
    ensure!(aside(&stranger).exists(), "the renamed file is not kept");

    // The one that is left goes to a server of another model, by its digest, and comes back to ours.
    let saved = save(&folder, &engine, &codec(context, &config)?);
    ensure_eq!(
        (saved.saved, saved.lost),
        (1, 0),
        "what is saved of the rest"
    );
    drop(engine);
    let zeros = "0".repeat(64);
    let model = context.model()?.clone();
    let foreign = SnapshotCodec::new(model, &config, zeros, String::new())?;
    let mut engine = engine_with(context, config.clone())?;
    let counts = restore(&folder, &mut engine, &foreign, everybody)?;
    ensure_eq!(
        (counts.restored, counts.set_aside),
        (0, 1),
        "of another model"
    );
    ensure_ended(&mut engine, fine)?;
    fs::rename(aside(fine), file_of(home.path(), fine))?;
    let (engine, counts) = started(context, &folder, config)?;
    ensure_eq!((counts.restored, counts.set_aside), (1, 0), "put back");
    ensure_holds(context, &engine, fine, &text)
}

fn places_go_to_the_last_used(context: &SuiteContext) -> CaseResult {
    let home = tempfile::tempdir()?;
    let folder = Folder::open(home.path())?;
    let mut engine = engine_with(context, small(context))?;
    let begin = Instant::now();
    let mut ids = Vec::new();
    for seconds in [3, 0, 2, 1] {
        let then = begin + Duration::from_millis(20 * seconds);
        ids.push(engine.create_session(then, String::new(), Vec::new())?);
    }
    std::thread::sleep(Duration::from_millis(100));
    let fewer = EngineConfig {
        capacity: 2,
        ..small(context)
    };
    let (mut engine, counts) = restarted(context, &folder, engine, fewer)?;
    ensure_eq!(
        (counts.restored, counts.set_aside),
        (2, 2),
        "what was found"
    );
    for id in [&ids[0], &ids[2]] {
        engine.info(id, Instant::now())?;
    }
    for id in [&ids[1], &ids[3]] {
        ensure_ended(&mut engine, id)?;
        let kept = file_of(&home.path().join("aside"), id);
        ensure!(kept.exists(), "a session without a place is not kept");
    }
    Ok(())
}

fn a_drained_loop_hands_out_its_sessions(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 30)?;
    let (engine, thread) = StepLoop::spawn(context.model()?.clone(), small(context))?;
    let mut ids = Vec::new();
    block_on(PATIENCE, async {
        for _ in 0..2 {
            let id = engine.create_session(String::new(), Vec::new()).await?;
            engine.append(id.clone(), prompt.clone()).await?;
            ids.push(id);
        }
        let mut running = engine
            .generate(ids[0].clone(), seeded(1_000_000, 5))
            .await?;
        for _ in 0..4 {
            running.next().await;
        }
        engine.shutdown(Duration::from_millis(50)).await?;
        let mut last = None;
        while let Some(event) = running.next().await {
            last = Some(event.map_err(EngineError::from));
        }
        let cut = Some(Err(EngineError::ShutdownTimeout));
        ensure_eq!(
            last.map(|event| event.map(drop)),
            cut,
            "how the stream ends"
        );
        Ok(())
    })?;
    let ended = thread.join();
    let length = ended.history(&ids[0])?.len();
    ensure!(length > 34, "{length} tokens in a session that streamed");
    let tokens = ended.history(&ids[0])?.to_vec();
    ensure_holds(context, &ended, &ids[0], &tokens)?;
    ensure_holds(context, &ended, &ids[1], &prompt)?;
    let home = tempfile::tempdir()?;
    let folder = Folder::open(home.path())?;
    let codec = codec(context, &small(context))?;
    let Saved { saved, lost, .. } = save(&folder, &ended, &codec);
    ensure_eq!((saved, lost), (2, 0), "sessions saved");
    Ok(())
}
