//! The door between the wire and the step loop.
//!
//! The wire layer holds an [`EngineHandle`]; the step loop owns the other end and everything behind it. What
//! can be refused without a session is refused here, before a command is sent.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::error::{EngineError, InvalidArgument};
use crate::events::GenerateEvent;
use crate::params::GenerateParams;
use crate::pipeline::{self, Consumer, Producer};
use crate::session::SessionId;
use crate::snapshot::SessionImage;

/// Events of one generation that may wait for a slow client before its session pauses.
pub const EVENTS_IN_FLIGHT: usize = 64;

/// What is known of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionInfo {
    /// Tokens of the history.
    pub history_length: u64,
    /// Tokens of them in the cache.
    pub cached_length: u64,
    /// Bytes of keys and values in use.
    pub kv_live_bytes: u64,
    /// INV-1 violations since the engine started, over all sessions.
    pub inv1_violations: u64,
    /// INV-2 violations since the engine started, over all sessions.
    pub inv2_violations: u64,
    /// Time since the session was last used.
    pub idle: Duration,
}

/// One session of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSummary {
    /// The session.
    pub id: SessionId,
    /// The client's own label.
    pub label: String,
    /// Whether work is under way or waits.
    pub busy: bool,
    /// As [`EngineHandle::info`] tells it.
    pub info: SessionInfo,
}

/// Counts of the engine as a whole: the first five as they are now, the rest since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineStats {
    /// Live sessions.
    pub sessions: u64,
    /// Sessions that can live at once.
    pub capacity: u64,
    /// Slabs not held by a session.
    pub free_slabs: u64,
    /// Generations that wait for a slot.
    pub queued: u64,
    /// Generations that hold a slot.
    pub active: u64,
    /// INV-1 violations.
    pub inv1_violations: u64,
    /// INV-2 violations.
    pub inv2_violations: u64,
    /// Sessions evicted for being idle too long.
    pub evicted_ttl: u64,
    /// Sessions evicted to make room.
    pub evicted_lru: u64,
    /// Forward passes of the model.
    pub forward_passes: u64,
    /// Tokens appended by clients.
    pub tokens_appended: u64,
    /// Tokens generated.
    pub tokens_generated: u64,
    /// Generations that ended because they could not be held to their form.
    pub constraint_failures: u64,
}

/// Where the answer to a command goes.
pub type Reply<T> = oneshot::Sender<Result<T, EngineError>>;

/// What the step loop can be asked.
#[derive(Debug)]
pub enum Command {
    /// Open a session.
    CreateSession {
        /// The client's label, for logs.
        label: String,
        /// Tokens after which its generations stop.
        eos: Vec<u32>,
        /// The id.
        reply: Reply<SessionId>,
    },
    /// Append tokens to a session. It runs to the end even if nobody waits for the answer any more.
    Append {
        /// The session.
        id: SessionId,
        /// The tokens; none only refreshes the idle clock.
        tokens: Vec<u32>,
        /// The history length after it.
        reply: Reply<u64>,
    },
    /// Generate. On a busy session it waits its turn.
    Generate {
        /// The session.
        id: SessionId,
        /// What to do.
        params: GenerateParams,
        /// Where the events go.
        events: Producer<GenerateEvent, EngineError>,
        /// Whether it was taken in.
        reply: Reply<()>,
    },
    /// Generate once after a prompt, in a session of its own that ends with it.
    Complete {
        /// The client's label, for logs.
        label: String,
        /// Tokens after which the generation stops.
        eos: Vec<u32>,
        /// The prompt.
        tokens: Vec<u32>,
        /// What to do after it.
        params: GenerateParams,
        /// Where the events go.
        events: Producer<GenerateEvent, EngineError>,
        /// Whether it was taken in.
        reply: Reply<()>,
    },
    /// Close a session, and cancel what it is doing.
    Close {
        /// The session.
        id: SessionId,
        /// The history length at the end.
        reply: Reply<u64>,
    },
    /// Tell of a session.
    Info {
        /// The session.
        id: SessionId,
        /// What is known.
        reply: Reply<SessionInfo>,
    },
    /// Tell of every session.
    List {
        /// What is known of each, in the order of their ids.
        reply: Reply<Vec<SessionSummary>>,
    },
    /// Make sessions that go on from where one is. On a busy session it waits its turn.
    Fork {
        /// The session.
        id: SessionId,
        /// How many; all are made, or none.
        count: u32,
        /// Their ids.
        reply: Reply<Vec<SessionId>>,
    },
    /// Copy a session's whole state. On a busy session it waits its turn.
    Export {
        /// The session.
        id: SessionId,
        /// The copy.
        reply: Reply<Box<SessionImage>>,
    },
    /// Open a session with a state that another had.
    Import {
        /// The state, laid out for this engine.
        image: Box<SessionImage>,
        /// The id.
        reply: Reply<SessionId>,
    },
    /// Tell of the engine.
    Stats {
        /// The counts.
        reply: Reply<EngineStats>,
    },
    /// Take no new work, let running work end within `grace`, then stop.
    Shutdown {
        /// The longest time to let work run on.
        grace: Duration,
        /// Sent when the work is over.
        reply: Reply<()>,
    },
}

/// The wire's end of the door. Clones share one step loop.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    commands: mpsc::Sender<Command>,
}

impl EngineHandle {
    /// A handle and the receiver the step loop reads. At most `capacity` commands wait; callers beyond that
    /// wait to send. With no room no command could ever pass, so 0 is taken as 1.
    pub fn channel(capacity: usize) -> (Self, mpsc::Receiver<Command>) {
        let (commands, received) = mpsc::channel(capacity.max(1));
        (Self { commands }, received)
    }

    /// Opens a session.
    ///
    /// # Errors
    /// [`EngineError::NoSlab`], [`EngineError::Draining`], [`EngineError::Stopped`].
    pub async fn create_session(
        &self,
        label: String,
        eos: Vec<u32>,
    ) -> Result<SessionId, EngineError> {
        self.ask(|reply| Command::CreateSession { label, eos, reply })
            .await
    }

    /// Appends tokens, all or none, and answers the history length after it.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], [`EngineError::InvalidArgument`], [`EngineError::Invariant`],
    /// [`EngineError::Draining`], [`EngineError::Stopped`].
    pub async fn append(&self, id: SessionId, tokens: Vec<u32>) -> Result<u64, EngineError> {
        self.ask(|reply| Command::Append { id, tokens, reply })
            .await
    }

    /// Starts a generation. Dropping what it returns, or this future, cancels it.
    ///
    /// # Errors
    /// [`EngineError::InvalidArgument`] (the parameters, before any session is looked for),
    /// [`EngineError::NotFound`], [`EngineError::QueueFull`], [`EngineError::QueueTimeout`],
    /// [`EngineError::Draining`], [`EngineError::Stopped`].
    pub async fn generate(
        &self,
        id: SessionId,
        params: GenerateParams,
    ) -> Result<Consumer<GenerateEvent, EngineError>, EngineError> {
        params.validate()?;
        let (events, consumer) = pipeline::bounded(EVENTS_IN_FLIGHT);
        self.ask(|reply| Command::Generate {
            id,
            params,
            events,
            reply,
        })
        .await?;
        Ok(consumer)
    }

    /// Generates once after `tokens`, in a session of its own, which ends with the generation however that ends.
    /// Until then nothing can evict it. Dropping what is returned, or this future, cancels it.
    ///
    /// # Errors
    /// [`EngineError::InvalidArgument`] (the parameters, an empty prompt, a token outside the vocabulary, a prompt
    /// beyond the model's context), [`EngineError::NoSlab`], [`EngineError::QueueFull`], [`EngineError::Draining`],
    /// [`EngineError::Stopped`].
    pub async fn complete(
        &self,
        label: String,
        eos: Vec<u32>,
        tokens: Vec<u32>,
        params: GenerateParams,
    ) -> Result<Consumer<GenerateEvent, EngineError>, EngineError> {
        params.validate()?;
        if tokens.is_empty() {
            return Err(InvalidArgument::EmptyPrompt.into());
        }
        let (events, consumer) = pipeline::bounded(EVENTS_IN_FLIGHT);
        self.ask(|reply| Command::Complete {
            label,
            eos,
            tokens,
            params,
            events,
            reply,
        })
        .await?;
        Ok(consumer)
    }

    /// Closes a session and answers its final history length.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], [`EngineError::Stopped`].
    pub async fn close(&self, id: SessionId) -> Result<u64, EngineError> {
        self.ask(|reply| Command::Close { id, reply }).await
    }

    /// What is known of a session.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], [`EngineError::Stopped`].
    pub async fn info(&self, id: SessionId) -> Result<SessionInfo, EngineError> {
        self.ask(|reply| Command::Info { id, reply }).await
    }

    /// What is known of every session, in the order of their ids.
    ///
    /// # Errors
    /// [`EngineError::Stopped`].
    pub async fn list(&self) -> Result<Vec<SessionSummary>, EngineError> {
        self.ask(|reply| Command::List { reply }).await
    }

    /// Makes `count` sessions, 1 or more, that go on from where a session is: with its history, its cache, its label and
    /// its end tokens. All are made, or none. What they generate is what the session itself would.
    ///
    /// # Errors
    /// [`EngineError::InvalidArgument`] (no count), [`EngineError::NotFound`], [`EngineError::NoSlab`] when idle sessions
    /// cannot make room for all, [`EngineError::Draining`], [`EngineError::Stopped`].
    pub async fn fork(&self, id: SessionId, count: u32) -> Result<Vec<SessionId>, EngineError> {
        if count == 0 {
            return Err(InvalidArgument::ZeroForks.into());
        }
        self.ask(|reply| Command::Fork { id, count, reply }).await
    }

    /// Copies a session's whole state as it is between two of the things it does.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], [`EngineError::Stopped`]; [`EngineError::Internal`] when there is no memory for it.
    pub async fn export(&self, id: SessionId) -> Result<Box<SessionImage>, EngineError> {
        self.ask(|reply| Command::Export { id, reply }).await
    }

    /// Opens a session with a state that another had, and answers its id.
    ///
    /// # Errors
    /// As [`EngineHandle::create_session`].
    pub async fn import(&self, image: Box<SessionImage>) -> Result<SessionId, EngineError> {
        self.ask(|reply| Command::Import { image, reply }).await
    }

    /// Counts of the engine.
    ///
    /// # Errors
    /// [`EngineError::Stopped`].
    pub async fn stats(&self) -> Result<EngineStats, EngineError> {
        self.ask(|reply| Command::Stats { reply }).await
    }

    /// Stops the engine, and answers when its work is over.
    ///
    /// # Errors
    /// [`EngineError::Stopped`] when it had stopped before.
    pub async fn shutdown(&self, grace: Duration) -> Result<(), EngineError> {
        self.ask(|reply| Command::Shutdown { grace, reply }).await
    }

    // A command that cannot be sent and a reply that is dropped both mean that the step loop is gone.
    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(command(reply))
            .await
            .map_err(|_| EngineError::Stopped)?;
        answer.await.map_err(|_| EngineError::Stopped)?
    }
}
