//! The step loop allocates nothing.
//!
//! Memory that is asked for while tokens stream is time that a stream waits, and over a session of days it is
//! where a process grows. So everything is sized when the engine starts or a request is taken in. Here the
//! allocator counts, while real sessions stream beside each other and a long prompt is read.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use kakeya_core::pipeline::Consumer;
use kakeya_core::{
    CacheConfig, EngineError, EngineHandle, GenerateEvent, GenerateParams, Sampling, SessionId,
    Window,
};
use kakeya_gates::{Workspace, default_model, load_model};
use kakeya_model::catalogue::TerminalProgress;
use kakeya_runtime::{EngineConfig, StepLoop};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

type Events = Consumer<GenerateEvent, EngineError>;

/// Tokens of each stream before the count begins, and while it runs. The ring of 64 positions turns over in both.
const WARM: usize = 80;
const COUNTED: usize = 120;

#[test]
fn the_step_loop_allocates_nothing() -> Result<(), Box<dyn Error>> {
    let workspace = Workspace::find(&std::env::current_dir()?)?;
    let model = Arc::new(load_model(&default_model(
        &workspace,
        &mut TerminalProgress::stderr(),
    )?)?);
    let config = EngineConfig {
        cache: CacheConfig {
            sink: 4,
            window: Window::Sliding(64),
            ..CacheConfig::default()
        },
        capacity: 4,
        ..EngineConfig::default()
    };
    let _profiler = dhat::Profiler::builder().testing().build();
    let (engine, thread) = StepLoop::spawn(model, config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;

    let seeded = Sampling {
        temperature: 0.8,
        top_p: 0.9,
        top_k: 40,
        min_p: 0.01,
        presence_penalty: 0.5,
        frequency_penalty: 0.1,
        repetition_penalty: 1.1,
        seed: Some(7),
    };
    let mut streams = Vec::new();
    for sampling in [Sampling::default(), Sampling::default(), seeded] {
        let (_, events) = runtime.block_on(stream(&engine, sampling))?;
        streams.push(events);
    }
    read(&mut streams, WARM)?;
    let beside_each_other = counted(&mut streams)?;

    let reader = runtime.block_on(engine.create_session(String::new(), Vec::new()))?;
    let prompt: Vec<u32> = (0..20_000).map(|index| index % 1000).collect();
    let other = engine.clone();
    let append = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        Ok::<_, std::io::Error>(runtime.block_on(other.append(reader, prompt)))
    });
    read(&mut streams, WARM)?;
    let beside_a_prompt = counted(&mut streams)?;
    let still_reading = !append.is_finished();

    drop(streams);
    runtime.block_on(engine.shutdown(Duration::ZERO))?;
    thread.join();
    drop(append.join());
    assert_eq!(
        beside_each_other, 0,
        "blocks allocated while three streams ran"
    );
    assert!(
        still_reading,
        "the prompt was read before the count was over"
    );
    assert_eq!(
        beside_a_prompt, 0,
        "blocks allocated while a prompt was read beside them"
    );
    Ok(())
}

async fn stream(
    engine: &EngineHandle,
    sampling: Sampling,
) -> Result<(SessionId, Events), EngineError> {
    let id = engine.create_session(String::new(), Vec::new()).await?;
    engine.append(id.clone(), (0..40).collect()).await?;
    let params = GenerateParams::new(10_000, sampling);
    let events = engine.generate(id.clone(), params).await?;
    Ok((id, events))
}

/// Blocks that the process allocates while every stream moves on.
fn counted(streams: &mut [Events]) -> Result<u64, Box<dyn Error>> {
    let before = dhat::HeapStats::get().total_blocks;
    read(streams, COUNTED)?;
    Ok(dhat::HeapStats::get().total_blocks - before)
}

fn read(streams: &mut [Events], tokens: usize) -> Result<(), Box<dyn Error>> {
    for _ in 0..tokens {
        for events in streams.iter_mut() {
            events.blocking_next().ok_or("the stream ended")??;
        }
    }
    Ok(())
}
