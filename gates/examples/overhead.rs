//! What the doors and the loop add to the passes themselves, side by side on one machine:
//!
//! - the step loop's own part of a step with eight sessions: its time a step, beside that of the same passes with the same
//!   tokens drawn after them, and nothing else around them;
//! - what HTTP adds to gRPC: microseconds a token of one stream, from its first token to its last.
//!
//! Medians over interleaved rounds. Run it on a quiet machine:
//!
//! ```text
//! cargo run -p kakeya-gates --example overhead -- MODEL.gguf [ROUNDS]
//! ```

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kakeya_client::{Client, GenerateOptions};
use kakeya_core::{EngineHandle, GenerateEvent, GenerateParams, Sampling};
use kakeya_model::Model;
use kakeya_model::tokenizer::Tokenizer;
use kakeya_runtime::sampler::greedy;
use kakeya_runtime::{Engine, EngineConfig, Pass, SnapshotCodec, StepLoop};
use kakeya_server::door::Guard;
use kakeya_server::http::shim::{ServedModel, Shim, Slots, serve};
use kakeya_server::metrics::{Build, Metrics};
use kakeya_server::wire::{Drain, bind, serve_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

type Outcome<T> = Result<T, Box<dyn Error>>;

const SESSIONS: usize = 8;
/// Tokens of each stream.
const TOKENS: usize = 96;
const PROMPT: usize = 64;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("which GGUF file?")?;
    let rounds: usize = arguments.next().map_or(Ok(9), |n| n.parse())?;
    let model = Arc::new(Model::load(Path::new(&path))?);
    let config = EngineConfig {
        capacity: SESSIONS,
        ..EngineConfig::default()
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let (handle, step_loop) = StepLoop::spawn(model.clone(), config.clone())?;
    let (mut looped, mut bare, mut drawn) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let begun = prompts(round as u32);
        let (time, streams) = runtime.block_on(in_the_loop(&handle, &begun))?;
        looped.push(time);
        let (passes, draws) = by_themselves(&model, &config, &begun, &streams)?;
        bare.push(passes + draws);
        drawn.push(draws);
    }
    let (looped, bare, drawn) = (median(looped), median(bare), median(drawn));
    println!(
        "a step of {SESSIONS} sessions: {:.3} ms in the loop, {:.3} ms by themselves, {:.3} of them to draw: {:.2} % of the step \
         is the loop's",
        millis(looped),
        millis(bare),
        millis(drawn),
        100.0 * (millis(looped) - millis(bare)) / millis(looped),
    );
    runtime.block_on(doors(&model, &config, handle, rounds))?;
    drop(step_loop);
    Ok(())
}

fn prompts(round: u32) -> Vec<Vec<u32>> {
    let token = |session: u32, at: u32| 100 + (round * 7919 + session * 104_729 + at * 31) % 20_000;
    (0..SESSIONS as u32)
        .map(|session| (0..PROMPT as u32).map(|at| token(session, at)).collect())
        .collect()
}

fn params(max_tokens: usize) -> GenerateParams {
    GenerateParams {
        max_tokens: max_tokens as u32,
        sampling: Sampling::default(),
        logit_bias: Vec::new(),
        stop: Vec::new(),
        top_logprobs: None,
        constraint: None,
    }
}

/// The time of a step while all sessions generate, and what they said.
async fn in_the_loop(
    engine: &EngineHandle,
    prompts: &[Vec<u32>],
) -> Outcome<(Duration, Vec<Vec<u32>>)> {
    let mut sessions = Vec::new();
    for prompt in prompts {
        let id = engine.create_session(String::new(), Vec::new()).await?;
        engine.append(id.clone(), prompt.clone()).await?;
        sessions.push(id);
    }
    let mut streams = Vec::new();
    for id in &sessions {
        streams.push(engine.generate(id.clone(), params(TOKENS)).await?);
    }
    let reading = streams.into_iter().map(|mut events| async move {
        let (mut tokens, mut times) = (Vec::new(), Vec::new());
        while let Some(event) = events.next().await {
            if let Ok(GenerateEvent::Token(token)) = event {
                tokens.push(token.id);
                times.push(Instant::now());
            }
        }
        (tokens, times)
    });
    let read = futures::future::join_all(reading).await;
    for id in sessions {
        engine.close(id).await?;
    }
    // While all of them were in the passes: from the last one's first token to the first one's last.
    let first = read
        .iter()
        .filter_map(|(_, times)| times.first())
        .max()
        .ok_or("no token")?;
    let last = read
        .iter()
        .filter_map(|(_, times)| times.last())
        .min()
        .ok_or("no token")?;
    let (_, times) = &read[0];
    let steps = times
        .iter()
        .filter(|time| *time > first && *time <= last)
        .count();
    let time = last.duration_since(*first) / u32::try_from(steps)?;
    Ok((time, read.into_iter().map(|(tokens, _)| tokens).collect()))
}

/// The time of a pass with the same tokens, and of drawing the next ones after it.
fn by_themselves(
    model: &Arc<Model>,
    config: &EngineConfig,
    prompts: &[Vec<u32>],
    streams: &[Vec<u32>],
) -> Outcome<(Duration, Duration)> {
    let mut engine = Engine::new(model.clone(), config.clone())?;
    let mut pass = Pass::default();
    let mut sessions = Vec::new();
    for prompt in prompts {
        let id = engine.create_session(Instant::now(), String::new(), Vec::new())?;
        pass.clear();
        pass.push(&id, prompt, true);
        engine.run(&mut pass, Instant::now());
        sessions.push(id);
    }
    let (mut passes, mut draws) = (Duration::ZERO, Duration::ZERO);
    for step in 0..TOKENS {
        let begun = Instant::now();
        pass.clear();
        for (id, tokens) in sessions.iter().zip(streams) {
            pass.push(id, &tokens[step..=step], true);
        }
        engine.run(&mut pass, Instant::now());
        let ran = Instant::now();
        for (id, tokens) in sessions.iter().zip(streams) {
            let next = greedy(&engine.state(id)?.next_logits);
            if tokens.get(step + 1).is_some_and(|token| *token != next) {
                return Err("the loop drew another token".into());
            }
        }
        passes += ran - begun;
        draws += ran.elapsed();
    }
    Ok((passes / TOKENS as u32, draws / TOKENS as u32))
}

/// One stream over each door, and the difference a token.
async fn doors(
    model: &Arc<Model>,
    config: &EngineConfig,
    engine: EngineHandle,
    rounds: usize,
) -> Outcome<()> {
    const NAME: &str = "m";
    let codec = SnapshotCodec::new(model.clone(), config, String::new(), String::new())?;
    let tokenizer = Tokenizer::of(model.source())?;
    let served = ServedModel::new(NAME.to_owned(), model, tokenizer, codec.settings());
    let build = Build {
        model: NAME.to_owned(),
        model_sha256: String::new(),
        numerics: codec.settings().numerics,
    };
    let stopping = CancellationToken::new();
    let shim = Arc::new(Shim {
        engine: engine.clone(),
        model: Arc::new(served),
        slots: Slots::new(config.capacity, 1, Duration::from_secs(10)),
        metrics: Arc::new(Metrics::new(engine.clone(), build)),
        stopping: stopping.clone(),
    });
    let http = TcpListener::bind("127.0.0.1:0").await?;
    let at = http.local_addr()?;
    tokio::spawn(serve(
        http,
        shim,
        Guard::default(),
        stopping.clone(),
        Duration::ZERO,
    ));
    let grpc = bind("127.0.0.1:0").await?;
    let client = grpc.local_addr()?.to_string();
    tokio::spawn(serve_with(grpc, engine, stopping.clone(), Drain::default()));
    let client = Client::connect(&client).await?;
    let (mut over_grpc, mut over_http) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let prompt = &prompts(round as u32)[0];
        over_grpc.push(grpc_stream(&client, prompt).await?);
        over_http.push(http_stream(at, NAME, prompt).await?);
    }
    stopping.cancel();
    let (over_grpc, over_http) = (median(over_grpc), median(over_http));
    println!(
        "a token of one stream: {:.3} ms over gRPC, {:.3} ms over HTTP: {:+.1} microseconds",
        millis(over_grpc),
        millis(over_http),
        1000.0 * (millis(over_http) - millis(over_grpc)),
    );
    Ok(())
}

async fn grpc_stream(client: &Client, prompt: &[u32]) -> Outcome<Duration> {
    let session = client.session(&[]).await?;
    session.append(prompt.to_vec()).await?;
    let mut generation = session
        .generate(TOKENS as u32, GenerateOptions::default())
        .await?;
    generation.next().await?.ok_or("no token")?;
    let begun = Instant::now();
    let mut more = 0;
    while generation.next().await?.is_some() {
        more += 1;
    }
    let time = begun.elapsed() / more;
    session.close().await?;
    Ok(time)
}

/// The same tokens: a bias keeps the model from ending its answer, which a session without end tokens does not.
async fn http_stream(at: std::net::SocketAddr, model: &str, prompt: &[u32]) -> Outcome<Duration> {
    let body = serde_json::json!({"model": model, "prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "stream": true,
                                  "logit_bias": {"0": -100, "2": -100}})
    .to_string();
    let mut stream = TcpStream::connect(at).await?;
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let (mut read, mut begun) = (Vec::new(), None);
    let mut buffer = [0; 1 << 14];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            break;
        }
        read.extend_from_slice(&buffer[..count]);
        if begun.is_none() && read.windows(6).any(|window| window == b"data: ") {
            begun = Some(Instant::now());
        }
    }
    let begun = begun.filter(|_| read.ends_with(b"data: [DONE]\n\n\r\n0\r\n\r\n"));
    let begun = begun.ok_or_else(|| String::from_utf8_lossy(&read).into_owned())?;
    Ok(begun.elapsed() / (TOKENS as u32 - 1))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
