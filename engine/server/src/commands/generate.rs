//! `kakeya generate`: one prompt, continued once.
//!
//! It runs the same engine as the server, so the same seed gives the same tokens here and over the wire.

use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use kakeya_core::{EngineHandle, GenerateDone, GenerateEvent, GenerateParams};
use kakeya_model::tokenizer::{StreamDecoder, Tokenizer};
use kakeya_runtime::EngineConfig;
use kakeya_server::http::responses::sessions::stop_reason;
use serde::Serialize;

use super::options::EngineArgs;
use super::proposer::ProposerArgs;
use super::sampling::SamplingArgs;
use super::signals::StopSignals;
use super::token_file::token_id;
use super::{Failure, Outcome, engine, model, output};

/// Flags of `kakeya generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    prompt: PromptArgs,
    /// The most tokens to generate
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_tokens: u32,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    proposer: ProposerArgs,
    /// How the continuation is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct PromptArgs {
    /// The prompt as text; the text of a control token, such as <|im_start|>, stands for that token
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// The prompt as token ids
    #[arg(long, value_name = "ID,ID,..", value_delimiter = ',', value_parser = token_id)]
    token_ids: Option<Vec<u32>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text as it comes
    Text,
    /// Token ids as they come, separated by commas
    Ids,
    /// One JSON object at the end
    Json,
}

/// Runs `kakeya generate`.
pub fn run(args: GenerateArgs) -> Outcome {
    let options = args.engine.validate()?;
    let params = GenerateParams::new(args.max_tokens, args.sampling.sampling());
    params.validate().map_err(Failure::usage)?;

    let (model, tokenizer) = model::load_with_tokenizer(&options)?;
    let prompt = args.prompt.ids(&tokenizer)?;
    let end_tokens = tokenizer.end_of_generation().collect();
    let config = EngineConfig {
        capacity: 1,
        active: 1,
        drafts: args.proposer.drafts(),
        ..engine::config(&options)
    };
    let proposing = args.proposer.load(&options, &model, Some(&tokenizer))?;
    let (engine, step_loop) = engine::start_with(model, config, &proposing)?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let request = Request {
        prompt,
        end_tokens,
        params,
    };
    let printer = Printer::new(args.format, tokenizer, request.prompt.len());
    let generated = runtime.block_on(generate(engine, request, printer));
    step_loop.join();
    Ok(generated?)
}

impl PromptArgs {
    fn ids(self, tokenizer: &Tokenizer) -> Result<Vec<u32>, Failure> {
        let ids = match (self.prompt, self.token_ids) {
            (Some(text), _) => tokenizer.encode_prompt(&text, true)?,
            (None, ids) => ids.unwrap_or_default(),
        };
        if ids.is_empty() {
            return Err(Failure::usage(
                "the prompt has no tokens: there must be something to continue",
            ));
        }
        Ok(ids)
    }
}

struct Request {
    prompt: Vec<u32>,
    end_tokens: Vec<u32>,
    params: GenerateParams,
}

async fn generate(
    engine: EngineHandle,
    request: Request,
    mut printer: Printer,
) -> anyhow::Result<()> {
    let mut signals = StopSignals::listen()?;
    let session = engine
        .create_session("kakeya generate".to_owned(), request.end_tokens)
        .await?;
    let asked = Instant::now();
    tokio::select! {
        appended = engine.append(session.clone(), request.prompt) => appended.map(drop)?,
        signal = signals.next() => bail!("{signal} before the prompt was read"),
    }
    printer.prefill = asked.elapsed();
    let mut events = engine.generate(session, request.params).await?;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = signals.next() => {
                events.cancel();
                continue;
            }
        };
        match event
            .context("the generation ended without saying how")?
            .map_err(|error| anyhow!("{error}"))?
        {
            GenerateEvent::Truncated { dropped } => printer.truncated(dropped),
            GenerateEvent::Token(token) => printer.token(token.id)?,
            GenerateEvent::Done(done) => return printer.done(done),
        }
    }
}

/// Prints events in the format asked for.
struct Printer {
    format: Format,
    tokenizer: Tokenizer,
    decoder: StreamDecoder,
    prompt_tokens: usize,
    prefill: Duration,
    dropped: u64,
    tokens: Vec<u32>,
    /// What `--format json` prints at the end.
    text: String,
}

/// What `--format json` prints.
#[derive(Debug, Serialize)]
struct Report {
    prompt_tokens: usize,
    /// Tokens of the prompt that the cache no longer held when generation began.
    dropped_tokens: u64,
    token_ids: Vec<u32>,
    text: String,
    stop_reason: &'static str,
    /// Reading the prompt.
    prefill_seconds: f64,
    /// Generating.
    decode_seconds: f64,
}

impl Printer {
    fn new(format: Format, tokenizer: Tokenizer, prompt_tokens: usize) -> Self {
        Self {
            format,
            tokenizer,
            // The text goes on where the prompt ends.
            decoder: StreamDecoder::continuing(true),
            prompt_tokens,
            prefill: Duration::ZERO,
            dropped: 0,
            tokens: Vec::new(),
            text: String::new(),
        }
    }

    fn truncated(&mut self, dropped: u64) {
        self.dropped = dropped;
        if self.format != Format::Json {
            eprintln!(
                "note: {dropped} tokens of the prompt have left the cache, which keeps --sink and --window"
            );
        }
    }

    fn token(&mut self, token: u32) -> anyhow::Result<()> {
        match self.format {
            Format::Text => output::print(&self.decoder.push(&self.tokenizer, token)?)?,
            Format::Ids if self.tokens.is_empty() => output::print(&token.to_string())?,
            Format::Ids => output::print(&format!(",{token}"))?,
            Format::Json => self.text += &self.decoder.push(&self.tokenizer, token)?,
        }
        self.tokens.push(token);
        Ok(())
    }

    fn done(self, done: GenerateDone) -> anyhow::Result<()> {
        let printed: io::Result<()> = match self.format {
            Format::Text => output::print(&format!("{}\n", self.decoder.finish())),
            Format::Ids => output::print("\n"),
            Format::Json => output::print_json(&Report {
                prompt_tokens: self.prompt_tokens,
                dropped_tokens: self.dropped,
                text: self.text + &self.decoder.finish(),
                token_ids: self.tokens,
                stop_reason: stop_reason(done.reason),
                prefill_seconds: self.prefill.as_secs_f64(),
                decode_seconds: done.total.as_secs_f64(),
            }),
        };
        Ok(printed?)
    }
}
