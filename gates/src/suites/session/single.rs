//! Single generations: a prompt and what follows it, in a session of its own that ends with them.

use kakeya_core::{
    AdmissionPolicy, Consumer, EngineError, EngineHandle, GenerateEvent, GenerateParams,
    InvalidArgument, Sampling,
};
use kakeya_runtime::{EngineConfig, StepLoop};

use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{
    PATIENCE, block_on, ensure_refused, finish, greedy, prose, random_ids, seeded, small, solo,
};
use crate::{ensure, ensure_eq};
use kakeya_suite::CaseResult;

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "a_single_generation_says_what_a_session_would",
            says_what_a_session_would,
        ),
        Case::fast(
            "generations_side_by_side_draw_what_each_draws_alone",
            draw_what_each_draws_alone,
        ),
        Case::fast(
            "a_single_generation_leaves_nothing_behind",
            leaves_nothing_behind,
        ),
        Case::fast(
            "a_single_generation_evicts_the_idle_and_is_never_evicted",
            evicts_the_idle,
        ),
        Case::fast(
            "a_single_generation_waits_for_its_turn_and_gives_up",
            waits_for_its_turn,
        ),
        Case::fast(
            "a_single_generation_is_let_finish_when_the_engine_drains",
            is_let_finish,
        ),
    ]
}

/// More tokens than any case lets a generation make.
const WITHOUT_END: u32 = 1_000_000;

pub(super) type Events = Consumer<GenerateEvent, EngineError>;

pub(super) async fn complete(
    engine: &EngineHandle,
    tokens: &[u32],
    params: GenerateParams,
) -> Result<Events, EngineError> {
    let label = "a case".to_owned();
    let taken_in = engine
        .complete(label, Vec::new(), tokens.to_vec(), params, None)
        .await?;
    Ok(taken_in.events)
}

/// Runs a case against a step loop of its own.
pub(super) fn with_loop(
    context: &SuiteContext,
    config: EngineConfig,
    case: impl AsyncFnOnce(&EngineHandle) -> CaseResult,
) -> CaseResult {
    let (engine, thread) = StepLoop::spawn(context.model()?.clone(), config)?;
    block_on(PATIENCE, async {
        case(&engine).await?;
        // A case may have stopped it already.
        drop(engine.shutdown(PATIENCE).await);
        Ok(())
    })?;
    drop(engine);
    thread.join();
    Ok(())
}

/// Waits until no session is left, however long ago its client has gone.
pub(super) async fn ensure_nothing_left(engine: &EngineHandle, after: &str) -> CaseResult {
    loop {
        let stats = engine.stats().await?;
        if (stats.sessions, stats.queued, stats.active) == (0, 0, 0) {
            ensure_eq!(stats.free_slabs, stats.capacity, "free slabs after {after}");
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn says_what_a_session_would(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 60)?;
    let config = small(context);
    let expected = solo(context, &config, &prompt, seeded(24, 5))?;
    with_loop(context, config, async |engine| {
        // Beside others, and with more of them than there are places for prompts at once.
        let mut others = Vec::new();
        for seed in 0..3 {
            others.push(complete(engine, &prompt[..20], seeded(40, seed)).await?);
        }
        let found = finish(complete(engine, &prompt, seeded(24, 5)).await?).await?;
        found.ensure_same_as("a single generation", &expected)?;
        ensure_eq!(found.truncated, expected.truncated, "the dropped count");
        for other in others {
            finish(other).await?;
        }
        ensure_nothing_left(engine, "four generations").await
    })
}

/// Generations of every kind of draw share passes, and one that is stepped by itself draws the same.
fn draw_what_each_draws_alone(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 40)?;
    let hot = seeded(24, 11);
    let of = |sampling: Sampling| GenerateParams {
        sampling,
        ..hot.clone()
    };
    let free = Sampling {
        top_k: 0,
        top_p: 1.0,
        temperature: 1.0,
        ..hot.sampling
    };
    let asked = [
        of(free),
        of(Sampling { top_k: 3, ..free }),
        of(Sampling { top_p: 0.8, ..free }),
        of(Sampling { min_p: 0.1, ..free }),
        of(Sampling {
            temperature: 2.0,
            top_k: 400,
            top_p: 0.999,
            min_p: 1e-4,
            ..free
        }),
        of(Sampling {
            presence_penalty: 1.0,
            ..free
        }),
        greedy(24),
    ];
    let config = EngineConfig {
        capacity: asked.len(),
        active: asked.len(),
        ..small(context)
    };
    with_loop(context, config.clone(), async |engine| {
        let mut side_by_side = Vec::new();
        for params in &asked {
            side_by_side.push(complete(engine, &prompt, params.clone()).await?);
        }
        let mut streams = Vec::new();
        for (events, params) in side_by_side.into_iter().zip(&asked) {
            let found = finish(events).await?;
            let alone = solo(context, &config, &prompt, params.clone())?;
            found.ensure_same_as(&format!("{:?}", params.sampling), &alone)?;
            streams.push(found.tokens);
        }
        let last = &streams[streams.len() - 1];
        ensure!(
            streams[..streams.len() - 1]
                .iter()
                .all(|drawn| drawn != last),
            "a stream that is drawn is the greedy one: {streams:?}"
        );
        Ok(())
    })
}

fn leaves_nothing_behind(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 30)?;
    let long = random_ids(context, 31, 6000)?;
    let vocabulary = context.model()?.config().vocabulary as u32;
    with_loop(context, small(context), async |engine| {
        finish(complete(engine, &prompt, greedy(4)).await?).await?;
        ensure_nothing_left(engine, "a whole generation").await?;

        let mut events = complete(engine, &prompt, seeded(WITHOUT_END, 1)).await?;
        ensure!(events.next().await.is_some(), "the stream ended at once");
        drop(events);
        ensure_nothing_left(engine, "a stream that was dropped").await?;

        drop(complete(engine, &long, greedy(4)).await?);
        ensure_nothing_left(engine, "a prompt that was given up").await?;
        let read = engine.stats().await?.tokens_appended;
        ensure!(
            read < long.len() as u64,
            "{read} tokens were read of a prompt that was given up"
        );

        let mut outside = prompt.clone();
        outside[7] = vocabulary;
        let expected = InvalidArgument::TokenOutOfVocabulary {
            index: 7,
            token: vocabulary,
            vocabulary,
        };
        let refused = complete(engine, &outside, greedy(4)).await.map(drop);
        ensure_refused("a token outside the vocabulary", refused, &expected.into())?;
        ensure_nothing_left(engine, "a prompt that was refused").await?;

        let mut biased = greedy(4);
        biased.logit_bias = vec![(vocabulary, 1.0)];
        let refused = complete(engine, &prompt, biased).await.map(drop);
        ensure!(
            matches!(refused, Err(EngineError::InvalidArgument(_))),
            "a bias outside the vocabulary: {refused:?}"
        );
        ensure_nothing_left(engine, "settings that were refused").await?;

        let refused = complete(engine, &[], greedy(4)).await.map(drop);
        ensure_refused("no prompt", refused, &InvalidArgument::EmptyPrompt.into())?;
        ensure_nothing_left(engine, "no prompt").await
    })
}

fn evicts_the_idle(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 30)?;
    let config = EngineConfig {
        capacity: 1,
        ..small(context)
    };
    with_loop(context, config, async |engine| {
        let idle = engine.create_session(String::new(), Vec::new()).await?;
        let mut events = complete(engine, &prompt, seeded(WITHOUT_END, 2)).await?;
        ensure_eq!(engine.stats().await?.evicted_lru, 1, "sessions evicted");
        let gone = EngineError::NotFound {
            id: idle.to_string(),
        };
        ensure_refused("the evicted session", engine.info(idle).await, &gone)?;
        // From the moment it is taken in, through its prompt and its tokens.
        let full = EngineError::NoSlab { capacity: 1 };
        let create = || engine.create_session(String::new(), Vec::new());
        ensure_refused("a session in its place", create().await, &full)?;
        ensure!(events.next().await.is_some(), "the stream ended at once");
        ensure_refused("a session in its place", create().await, &full)?;
        let another = complete(engine, &prompt, greedy(1)).await.map(drop);
        ensure_refused("another generation in its place", another, &full)?;
        drop(events);
        ensure_nothing_left(engine, "the generation").await?;
        create().await?;
        Ok(())
    })
}

fn waits_for_its_turn(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 30)?;
    let max_wait = std::time::Duration::from_millis(50);
    let config = EngineConfig {
        active: 1,
        admission: AdmissionPolicy::Queue { max_wait, cap: 1 },
        ..small(context)
    };
    with_loop(context, config, async |engine| {
        let mut first = complete(engine, &prompt, seeded(WITHOUT_END, 3)).await?;
        ensure!(first.next().await.is_some(), "the stream ended at once");
        // It was taken in, so what befalls it then is told in its stream.
        let mut second = complete(engine, &prompt, greedy(4)).await?;
        let third = complete(engine, &prompt, greedy(4)).await.map(drop);
        ensure_refused(
            "one more than the queue holds",
            third,
            &EngineError::QueueFull { cap: 1 },
        )?;
        // The first goes on only while it is read.
        let told = loop {
            tokio::select! {
                event = second.next() => break event,
                event = first.next() => ensure!(event.is_some(), "the first stream ended"),
            }
        };
        let told = told.map(|event| event.map_err(EngineError::from));
        ensure_eq!(
            told,
            Some(Err(EngineError::QueueTimeout { max_wait })),
            "what the second is told"
        );
        ensure_eq!(
            engine.stats().await?.sessions,
            1,
            "sessions beside the first"
        );
        drop(first);
        ensure_nothing_left(engine, "the first").await
    })
}

fn is_let_finish(context: &SuiteContext) -> CaseResult {
    let prompt = random_ids(context, 32, 700)?;
    let config = small(context);
    let expected = solo(context, &config, &prompt, seeded(20, 4))?;
    with_loop(context, config, async |engine| {
        let running = complete(engine, &prompt, seeded(20, 4)).await?;
        let stopping = engine.shutdown(PATIENCE);
        let late = async {
            let refused = complete(engine, &prompt, greedy(1)).await.map(drop);
            ensure_refused(
                "a generation while it drains",
                refused,
                &EngineError::Draining,
            )
        };
        let (stopped, late, found) = tokio::join!(stopping, late, finish(running));
        stopped?;
        late?;
        found?.ensure_same_as("a generation under way", &expected)
    })
}
