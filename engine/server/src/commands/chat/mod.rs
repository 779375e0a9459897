//! `kakeya chat`: a conversation in a terminal, with an engine of its own in this process.

mod conversations;
mod input;
mod line;
mod turns;

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, anyhow};
use clap::Args;
use kakeya_core::{
    EngineHandle, GenerateDone, GenerateEvent, GenerateParams, InvalidArgument, StopReason,
};
use kakeya_model::tokenizer::{StreamDecoder, Tokenizer};
use kakeya_runtime::{EngineConfig, SnapshotCodec};

use super::model::Servable;
use super::options::{EngineArgs, positive};
use super::output::{bytes, print};
use super::sampling::SamplingArgs;
use super::signals::StopSignals;
use super::{Failure, Outcome, engine, model};
use conversations::Conversations;
use input::{Input, Read};
use line::{Asked, COMMANDS, wrapped};
pub use turns::Turns;

/// Flags of `kakeya chat`.
#[derive(Debug, Args)]
pub struct ChatArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// What the model is told before anything else
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// The most tokens of one reply
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_tokens: u32,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Conversations that there can be at once, with those of /fork and /load
    #[arg(long, value_name = "N", default_value = "4", value_parser = positive)]
    conversations: NonZeroUsize,
}

/// Runs `kakeya chat`.
pub fn run(args: ChatArgs) -> Outcome {
    let options = args.engine.validate()?;
    let params = GenerateParams::new(args.max_tokens, args.sampling.sampling());
    params.validate().map_err(Failure::usage)?;

    let Servable {
        model,
        sha256,
        tokenizer,
    } = model::load_to_serve(&options, true)?;
    let tokenizer = tokenizer.context("the model has no tokenizer")?;
    let turns = Turns::of(&tokenizer, args.system)?;
    let capacity = args.conversations.get();
    let config = EngineConfig {
        capacity,
        // A conversation is a person's, who may go away for a day.
        idle_ttl: std::time::Duration::from_secs(365 * 24 * 3600),
        ..engine::config(&options)
    };
    let quantized = options.load.quantize.map(|to| to.to_string());
    let codec = SnapshotCodec::new(
        model.clone(),
        &config,
        sha256,
        quantized.unwrap_or_default(),
    )?;
    let name = model::name(&options, &model);
    let (engine, step_loop) = engine::start(model, config)?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let chat = async {
        let ends = tokenizer.end_of_generation().collect();
        let conversations = Conversations::begin(engine.clone(), codec, ends, capacity).await?;
        Ok::<_, anyhow::Error>(Chat {
            engine,
            tokenizer,
            turns,
            params,
            conversations,
            signals: StopSignals::listen()?,
            columns: 80,
        })
    };
    let mut chat = runtime.block_on(chat)?;
    let input = Input::open()?;
    let ended = runtime.block_on(chat.run(input, &name));
    drop(chat);
    // A reader of standard input may never come back.
    runtime.shutdown_background();
    step_loop.join();
    Ok(ended?)
}

/// The chat.
struct Chat {
    engine: EngineHandle,
    tokenizer: Tokenizer,
    turns: Turns,
    params: GenerateParams,
    conversations: Conversations,
    signals: StopSignals,
    columns: usize,
}

impl Chat {
    async fn run(&mut self, mut input: Input, name: &str) -> anyhow::Result<()> {
        self.columns = input.columns();
        if input.is_terminal() {
            self.note(&format!(
                "{name} is ready. Type a message and press Enter; /help lists commands, Ctrl-C stops a reply, Ctrl-D leaves."
            ));
        }
        loop {
            let read;
            (input, read) = match self.read(input).await? {
                Some(read) => read,
                None => return Ok(()),
            };
            self.columns = input.columns();
            match read {
                Read::End => return Ok(()),
                Read::Interrupted => self.note("Ctrl-D or /quit leaves."),
                Read::NotUtf8 => self.note(
                    "That line is not UTF-8, and was left out: set the terminal, or what writes this, to UTF-8.",
                ),
                Read::Line(line) => match line::read(&line) {
                    Asked::Quit => return Ok(()),
                    asked => {
                        if let Err(error) = self.answer(asked).await {
                            if super::output::is_broken_pipe(&error) {
                                return Err(error);
                            }
                            self.note(&format!("error: {}", super::describe(&error)));
                        }
                    }
                },
            }
        }
    }

    /// The next line, read on a thread of its own; nothing when a signal says that it is over.
    async fn read(&mut self, mut input: Input) -> anyhow::Result<Option<(Input, Read)>> {
        let terminal = input.is_terminal();
        let reading = tokio::task::spawn_blocking(move || {
            let read = input.read("> ");
            read.map(|read| (input, read))
        });
        tokio::pin!(reading);
        loop {
            tokio::select! {
                read = &mut reading => return Ok(Some(read??)),
                // A terminal that edits a line tells Ctrl-C as a key; what comes as a signal is from elsewhere.
                signal = self.signals.next() => if !terminal || signal == "SIGTERM" {
                    return Ok(None);
                },
            }
        }
    }

    async fn answer(&mut self, asked: Asked<'_>) -> anyhow::Result<()> {
        match asked {
            Asked::Nothing | Asked::Quit => {}
            Asked::Say(text) => self.say(text).await?,
            Asked::Reset => {
                self.conversations.reset().await?;
                self.note("A new conversation.");
            }
            Asked::Fork => {
                self.conversations.fork().await?;
                let (current, _) = self.conversations.place();
                self.note(&format!(
                    "Conversation {current}, a copy of the one before."
                ));
            }
            Asked::Switch(number) => {
                self.conversations.switch(number)?;
                self.note(&format!("Conversation {number}."));
            }
            Asked::Save(file) => {
                let size = self.conversations.save(Path::new(file)).await?;
                self.note(&format!(
                    "Saved to {file}, {}. It has all that was said, in plain token ids.",
                    bytes(size as u64)
                ));
            }
            Asked::Load(file) => {
                let length = self.conversations.load(Path::new(file)).await?;
                let (current, _) = self.conversations.place();
                self.note(&format!(
                    "Conversation {current}, with {length} tokens from {file}."
                ));
            }
            Asked::Info => self.info().await?,
            Asked::Help => {
                for (command, what) in COMMANDS {
                    self.note(&format!("{command}: {what}"));
                }
            }
            Asked::Wrong(said) => self.note(&said),
        }
        Ok(())
    }

    async fn info(&self) -> anyhow::Result<()> {
        let info = self.conversations.info().await?;
        let (current, count) = self.conversations.place();
        self.note(&format!("conversation: {current} of {count}"));
        self.note(&format!("tokens: {}", info.history_length));
        self.note(&format!("KV cache: {}", bytes(info.kv_live_bytes)));
        let gone = info.history_length - info.cached_length;
        self.note(&match gone {
            0 => "the model sees all of it".to_owned(),
            _ => format!("{gone} tokens have left the window, and the model does not see them"),
        });
        Ok(())
    }

    /// Says something, and prints what the model answers. Ctrl-C ends the reply, and no more.
    async fn say(&mut self, text: &str) -> anyhow::Result<()> {
        let tokens = match self.conversations.last() {
            None => self.turns.first(&self.tokenizer, text)?,
            last => self.turns.next(&self.tokenizer, text, last)?,
        };
        let session = self.conversations.session();
        let last = tokens.last().copied().context("the turn has no tokens")?;
        let appended = self.engine.append(session.clone(), tokens);
        appended.await.map_err(|error| self.explained(error))?;
        self.conversations.set_last(last);
        let mut events = self.engine.generate(session, self.params.clone()).await?;
        let mut decoder = StreamDecoder::new(true);
        let start = Instant::now();
        let done = loop {
            let event = tokio::select! {
                event = events.next() => event,
                _ = self.signals.next() => {
                    events.cancel();
                    continue;
                }
            };
            match event
                .context("the reply ended without saying how")?
                .map_err(|error| anyhow!("{error}"))?
            {
                GenerateEvent::Truncated { .. } => {}
                GenerateEvent::Token(token) => {
                    self.conversations.set_last(token.id);
                    print(&decoder.push(&self.tokenizer, token.id)?)?;
                }
                GenerateEvent::Done(done) => break done,
            }
        };
        print(&format!("{}\n", decoder.finish()))?;
        tracing::debug!(elapsed = ?start.elapsed(), tokens = done.generated, "replied");
        self.ended(&done);
        Ok(())
    }

    fn ended(&self, done: &GenerateDone) {
        match done.reason {
            StopReason::Eos | StopReason::StopSequence | StopReason::Complete => {}
            StopReason::MaxTokens => self.note(&format!(
                "(stopped after --max-tokens {}; say \"go on\" for more)",
                done.generated
            )),
            StopReason::Cancelled => self.note("(stopped)"),
            StopReason::Truncated => {
                self.note("(the model's context is used up: /reset begins anew)");
            }
        }
    }

    /// An error of an append, with what to do where a person can do something.
    fn explained(&self, error: kakeya_core::EngineError) -> anyhow::Error {
        let too_long = matches!(
            error,
            kakeya_core::EngineError::InvalidArgument(InvalidArgument::ContextExceeded { .. })
        );
        let advice = if too_long {
            ": say less, /reset, or leave out `--window full`"
        } else {
            ""
        };
        anyhow!("{error}{advice}")
    }

    /// Says something about the chat, beside standard output, in lines that fit.
    fn note(&self, text: &str) {
        eprintln!("{}", wrapped(text, self.columns));
    }
}
