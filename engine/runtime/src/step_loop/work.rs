//! What a session is asked to do.

use std::time::Instant;

use kakeya_core::{EngineError, GenerateParams, Reply, SessionId, SessionImage, StopReason};
use tokio::sync::oneshot;

use super::answer;
use super::prompts::Start;
use crate::append::AppendCoordinator;
use crate::engine::{Ending, Engine, internal};
use crate::generate::{Events, GenerationCoordinator};

/// A request to one session.
pub(super) enum Work {
    Append {
        /// Taken when the append begins.
        tokens: Vec<u32>,
        begun: Option<AppendCoordinator>,
        after: After,
    },
    Generate {
        asked: Asked,
        begun: Option<Box<GenerationCoordinator>>,
        blocked: bool,
    },
    /// Takes no pass, and so no slot: it is done as soon as it is its turn.
    Copy(Copying),
}

/// The most tokens of a history that are told at once: passes wait while they are copied.
const HISTORY_PIECE: usize = 1 << 17;

/// A copy of a session that was asked for.
pub(super) enum Copying {
    Fork {
        count: u32,
        reply: Reply<Vec<SessionId>>,
    },
    Export {
        reply: Reply<Box<SessionImage>>,
    },
    History {
        from: u64,
        reply: Reply<Vec<u32>>,
    },
}

/// What an append leads to.
#[expect(
    clippy::large_enum_variant,
    reason = "the enum around it is as large either way"
)]
pub(super) enum After {
    Answer(Reply<u64>),
    /// A generation in the same slot, after which the session ends.
    Generate(Asked),
}

/// A generation that was asked for.
pub(super) struct Asked {
    pub(super) params: GenerateParams,
    pub(super) events: Events,
    /// Until it is taken in.
    pub(super) reply: Option<Reply<()>>,
    pub(super) at: Instant,
    /// If the session was made for this, and ends with it.
    pub(super) single: Option<Single>,
}

/// What a generation has that brings its own prompt.
pub(super) struct Single {
    pub(super) start: Start,
    /// Where it goes how many tokens of the prompt were cached.
    pub(super) cached: Option<oneshot::Sender<u64>>,
    /// Tokens of the prompt, and those of the history with which it is in the slab for the last time, once it is read.
    pub(super) prompt: Option<(usize, u64)>,
}

impl Single {
    /// `shares` says whether its session may begin with what others have left.
    pub(super) fn new(cached: oneshot::Sender<u64>, shares: bool) -> Self {
        Self {
            start: if shares { Start::Open } else { Start::Begun },
            cached: Some(cached),
            prompt: None,
        }
    }
}

/// How a request that was at work ended.
pub(super) enum End {
    /// The history length after it.
    Appended(u64),
    Generated(StopReason),
    /// Nobody waits for it any more.
    GivenUp,
    Failed(EngineError),
}

impl Work {
    pub(super) fn append(tokens: Vec<u32>, reply: Reply<u64>) -> Self {
        Self::Append {
            tokens,
            begun: None,
            after: After::Answer(reply),
        }
    }

    pub(super) fn generate(asked: Asked) -> Self {
        Self::Generate {
            asked,
            begun: None,
            blocked: false,
        }
    }

    /// A prompt and what follows it.
    pub(super) fn complete(tokens: Vec<u32>, asked: Asked) -> Self {
        Self::Append {
            tokens,
            begun: None,
            after: After::Generate(asked),
        }
    }

    /// Checks the request against its session, once.
    pub(super) fn begin(
        &mut self,
        engine: &mut Engine,
        id: &SessionId,
        now: Instant,
    ) -> Result<(), EngineError> {
        match self {
            Self::Append {
                tokens,
                begun,
                after,
            } if begun.is_none() => {
                if let After::Generate(asked) = after {
                    let vocabulary = engine.model().config().vocabulary as u32;
                    asked.params.validate_tokens(vocabulary)?;
                }
                *begun = Some(AppendCoordinator::begin(
                    engine,
                    id,
                    std::mem::take(tokens),
                    now,
                )?);
            }
            Self::Generate { asked, begun, .. } if begun.is_none() => {
                *begun = Some(asked.begin(engine, id)?);
                if let Some(single) = asked.single.as_mut().filter(|_| engine.shares(id)) {
                    let prompt = engine.length(id);
                    single.prompt = Some((prompt, engine.layout().reach(prompt as u64)));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The generation that this is, or leads to.
    fn asked(&self) -> Option<&Asked> {
        match self {
            Self::Generate { asked, .. }
            | Self::Append {
                after: After::Generate(asked),
                ..
            } => Some(asked),
            Self::Append { .. } | Self::Copy(_) => None,
        }
    }

    /// Tells whoever asks for a generation that it is taken in.
    pub(super) fn taken_in(&mut self) {
        if let Self::Generate { asked, .. }
        | Self::Append {
            after: After::Generate(asked),
            ..
        } = self
            && let Some(reply) = asked.reply.take()
        {
            answer(reply, Ok(()));
        }
    }

    /// The generation that an append leads to, and `true`; anything else comes back as it is.
    pub(super) fn next(self) -> (Self, bool) {
        match self {
            Self::Append {
                after: After::Generate(asked),
                ..
            } => (Self::generate(asked), true),
            other => (other, false),
        }
    }

    /// Tokens that it holds until they are in the cache.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Append { tokens, begun, .. } => {
                tokens.len() + begun.as_ref().map_or(0, AppendCoordinator::left)
            }
            Self::Generate { .. } | Self::Copy(_) => 0,
        }
    }

    /// Whether the session ends with this.
    pub(super) fn ends_session(&self) -> bool {
        self.asked().is_some_and(|asked| asked.single.is_some())
    }

    /// What the prompt of a single generation waits for; `None` where there is none to be read.
    pub(super) fn start(&self) -> Option<&Start> {
        match self {
            Self::Append {
                begun: Some(_),
                after: After::Generate(asked),
                ..
            } => asked.single.as_ref().map(|single| &single.start),
            _ => None,
        }
    }

    pub(super) fn waits_for_its_beginning(&self) -> bool {
        self.start().is_some_and(|start| *start != Start::Begun)
    }

    /// The prompt of a single generation that is to be read; empty where there is none.
    pub(super) fn prompt(&self) -> &[u32] {
        match self {
            Self::Append {
                begun: Some(append),
                after: After::Generate(_),
                ..
            } => append.tokens(),
            _ => &[],
        }
    }

    /// Says what the prompt waits for, or that its first `reused` tokens are in the session's cache.
    pub(super) fn set_start(&mut self, start: Start, reused: usize) {
        if let Self::Append {
            begun: Some(append),
            after: After::Generate(asked),
            ..
        } = self
            && let Some(single) = &mut asked.single
        {
            append.skip(reused);
            if start == Start::Begun
                && let Some(cached) = single.cached.take()
            {
                let _ = cached.send(reused as u64);
            }
            single.start = start;
        }
    }

    /// Tells the client how it ended.
    pub(super) fn end(self, end: End) {
        match (self, end) {
            (
                Self::Append {
                    after: After::Answer(reply),
                    ..
                },
                End::Appended(length),
            ) => answer(reply, Ok(length)),
            (
                Self::Generate {
                    begun: Some(begun),
                    asked,
                    ..
                },
                End::Generated(reason),
            ) => asked.events.finish_with(begun.done(reason)),
            (_, End::GivenUp) => {}
            (work, End::Failed(error)) => work.fail(error),
            (work, End::Appended(_) | End::Generated(_)) => {
                work.fail(internal("a request ended as another kind would"));
            }
        }
    }

    pub(super) fn fail(self, error: EngineError) {
        match self {
            Self::Append {
                after: After::Answer(reply),
                ..
            } => answer(reply, Err(error)),
            Self::Generate { asked, .. }
            | Self::Append {
                after: After::Generate(asked),
                ..
            } => asked.fail(error),
            Self::Copy(copying) => copying.fail(error),
        }
    }

    /// Ends a request whose session is being closed, or whose loop stops. A generation says so in its stream.
    pub(super) fn cancel(self, error: EngineError) {
        match self {
            Self::Generate {
                begun: Some(begun),
                asked:
                    Asked {
                        events,
                        reply: None,
                        ..
                    },
                ..
            } => {
                events.finish_with(begun.done(StopReason::Cancelled));
            }
            other => other.fail(error),
        }
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.asked()
            .is_some_and(|asked| asked.events.is_cancelled())
    }
}

impl Copying {
    pub(super) fn run(self, engine: &mut Engine, id: &SessionId, now: Instant) {
        match self {
            Self::Export { reply } if reply.is_closed() => {}
            Self::Export { reply } => answer(reply, engine.export(id).map(Box::new)),
            Self::History { reply, .. } if reply.is_closed() => {}
            Self::History { from, reply } => {
                let tokens = engine.history(id).map(|history| {
                    let from = usize::try_from(from).unwrap_or(usize::MAX);
                    let rest = history.get(from..).unwrap_or_default();
                    rest[..rest.len().min(HISTORY_PIECE)].to_vec()
                });
                answer(reply, tokens);
            }
            // Forks whose caller has gone away could never be used or closed.
            Self::Fork { count, reply } => {
                if let Err(Ok(forks)) = reply.send(engine.fork(now, id, count)) {
                    for fork in forks {
                        drop(engine.end(&fork, Ending::Abandoned));
                    }
                }
            }
        }
    }

    fn fail(self, error: EngineError) {
        match self {
            Self::Fork { reply, .. } => answer(reply, Err(error)),
            Self::Export { reply } => answer(reply, Err(error)),
            Self::History { reply, .. } => answer(reply, Err(error)),
        }
    }
}

impl Asked {
    /// Tokens of its prompt, when `length` tokens are the last with which it is in the slab.
    pub(super) fn prompt_at_its_end(&self, length: usize) -> Option<usize> {
        let (prompt, last) = self.single.as_ref()?.prompt?;
        (length as u64 == last).then_some(prompt)
    }

    /// Drafts that can follow a token, the history before which has `length` tokens, with the prompt still in the slab when
    /// it is time to keep it for others.
    pub(super) fn drafts_before_prompt_ends(&self, length: usize) -> usize {
        let prompt = self.single.as_ref().and_then(|single| single.prompt);
        match prompt {
            Some((_, last)) if (length as u64) < last => {
                usize::try_from(last - length as u64 - 1).unwrap_or(usize::MAX)
            }
            _ => usize::MAX,
        }
    }

    fn begin(
        &self,
        engine: &mut Engine,
        id: &SessionId,
    ) -> Result<Box<GenerationCoordinator>, EngineError> {
        GenerationCoordinator::begin(engine, id, self.params.clone(), self.at).map(Box::new)
    }

    fn fail(self, error: EngineError) {
        match self.reply {
            Some(reply) => answer(reply, Err(error)),
            None => self.events.fail(error),
        }
    }
}
