//! Passes that a GPU begins before the tokens of the last one are known: they show nowhere but in the counts.

use futures::future::try_join_all;
use kakeya_core::{EngineHandle, GenerateEvent, GenerateParams, Sampling, SessionId};
use kakeya_runtime::{Engine, EngineConfig, StepLoop};

use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{
    Generated, PATIENCE, block_on, engine_with, ensure_holds, finish, greedy, open_with, prose,
    seeded, small, solo,
};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

pub(super) fn cases() -> Vec<Case> {
    vec![Case::fast(
        "a_pass_that_is_begun_ahead_shows_nowhere",
        shows_nowhere,
    )]
}

/// Tokens of each prompt: inside the window, and beyond it.
const PROMPTS: [usize; 4] = [9, 30, 41, 77];

/// What each session is asked for. They end at different times, so passes lose a session again and again; one is looked at
/// token by token, which keeps everything from being begun ahead as long as it lasts.
fn asked() -> [GenerateParams; 4] {
    let narrow = Sampling {
        temperature: 0.8,
        top_k: 40,
        top_p: 0.9,
        seed: Some(5),
        ..Sampling::default()
    };
    let mut looked_at = greedy(11);
    looked_at.top_logprobs = Some(2);
    [
        greedy(70),
        seeded(90, 3),
        GenerateParams::new(50, narrow),
        looked_at,
    ]
}

fn shows_nowhere(context: &SuiteContext) -> CaseResult {
    let config = EngineConfig {
        active: PROMPTS.len() + 2,
        capacity: PROMPTS.len() + 2,
        ..small(context)
    };
    let prompts: Vec<Vec<u32>> = PROMPTS
        .iter()
        .map(|count| prose(context, *count))
        .collect::<Result<_, _>>()?;
    let mut engine = engine_with(context, config.clone())?;
    let ids: Vec<SessionId> = prompts
        .iter()
        .map(|prompt| open_with(&mut engine, prompt))
        .collect::<Result<_, _>>()?;
    let cancelled = open_with(&mut engine, &prompts[1])?;
    let (handle, thread) = StepLoop::start(engine)?;
    let mut found = Vec::new();
    let mut left = Vec::new();
    block_on(PATIENCE, async {
        let streams = ids.iter().zip(asked());
        let streams = streams.map(|(id, params)| stream(&handle, id, params));
        // One goes away in the middle of it, and one comes.
        let (streams, emitted, ()) = tokio::try_join!(
            try_join_all(streams),
            give_up(&handle, &cancelled),
            arrive(&handle, &prompts[2]),
        )?;
        (found, left) = (streams, emitted);
        Ok(())
    })?;
    drop(handle);
    let engine = thread.join();
    let alone = small(context);
    for (((id, prompt), params), found) in ids.iter().zip(&prompts).zip(asked()).zip(&found) {
        let what = format!("{} tokens after {}", params.max_tokens, prompt.len());
        found.ensure_same_as(&what, &solo(context, &alone, prompt, params)?)?;
        let all = [prompt.as_slice(), found.tokens.as_slice()].concat();
        ensure_holds(context, &engine, id, &all)?;
    }
    let all = [prompts[1].as_slice(), left.as_slice()].concat();
    let history = engine.history(&cancelled)?;
    ensure!(
        history.starts_with(&all),
        "the history of the session that was given up lacks tokens that were emitted"
    );
    let history = history.to_vec();
    ensure_holds(context, &engine, &cancelled, &history)?;
    ensure_counts(&engine)
}

async fn stream(
    engine: &EngineHandle,
    id: &SessionId,
    params: GenerateParams,
) -> Result<Generated, CaseFailure> {
    finish(engine.generate(id.clone(), params).await?).await
}

/// Reads some tokens of a stream and drops it. Returns them.
async fn give_up(engine: &EngineHandle, id: &SessionId) -> Result<Vec<u32>, CaseFailure> {
    let mut events = engine.generate(id.clone(), seeded(1000, 8)).await?;
    let mut tokens = Vec::new();
    while tokens.len() < 25 {
        match events.next().await {
            Some(Ok(GenerateEvent::Token(token))) => tokens.push(token.id),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.into()),
            None => return Err(CaseFailure::violated("the stream ended by itself")),
        }
    }
    Ok(tokens)
}

/// Opens sessions, and closes them, while others generate.
async fn arrive(engine: &EngineHandle, prompt: &[u32]) -> CaseResult {
    for count in [prompt.len(), 5] {
        let id = engine.create_session(String::new(), Vec::new()).await?;
        engine.append(id.clone(), prompt[..count].to_vec()).await?;
        engine.close(id).await?;
    }
    Ok(())
}

/// Only a GPU begins anything ahead.
fn ensure_counts(engine: &Engine) -> CaseResult {
    let ahead = engine.stats().ahead;
    if engine.config().isa.is_gpu() {
        ensure!(
            ahead.taken > 20 && ahead.dropped > 0,
            "{ahead:?} with sessions that come and go"
        );
        let passes = engine.stats().forward_passes;
        ensure!(ahead.taken < passes, "{ahead:?} of {passes} passes");
        return Ok(());
    }
    ensure_eq!(ahead.taken + ahead.dropped, 0, "passes begun ahead");
    Ok(())
}
