//! The door between the wire and the step loop.
//!
//! The wire layer holds an [`EngineHandle`]; the step loop owns the other end and everything behind it. What
//! can be refused without a session is refused here, before a command is sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::error::{EngineError, InvalidArgument};
use crate::events::GenerateEvent;
use crate::metrics::EngineMetrics;
use crate::params::GenerateParams;
use crate::pipeline::{self, Consumer, Producer};
use crate::prefix::PrefixOwner;
use crate::request::Request;
use crate::session::SessionId;
use crate::snapshot::SessionImage;
use crate::tenant::{LimitError, Limits, Tenant};

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

/// Counts of the engine as a whole: the first seven as they are now, the rest since it started.
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
    /// Bytes of keys and values in use, of all sessions.
    pub kv_live_bytes: u64,
    /// Tokens of the histories of all sessions.
    pub history_tokens: u64,
    /// Sessions that their clients closed.
    pub closed: u64,
    /// Sessions that were made for one answer, and ended with it.
    pub completed: u64,
    /// Sessions that were closed because nobody had waited for their ids.
    pub abandoned: u64,
    /// Sessions that broke an invariant.
    pub violated: u64,
    /// Sessions that could not be opened, for want of a slab.
    pub refused: u64,
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
    /// Tokens appended by clients, as far as they were computed.
    pub tokens_appended: u64,
    /// Tokens generated.
    pub tokens_generated: u64,
    /// Generations that ended because they could not be held to their form.
    pub constraint_failures: u64,
    /// What the prefix cache has done and holds.
    pub prefix: PrefixStats,
}

/// Counts of the prefix cache: the first two as they are now, the rest since the engine started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PrefixStats {
    /// Cached token sequences.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Prompts that began with a cached prefix.
    pub hits: u64,
    /// Prompts that were read from their first token, while the cache was on.
    pub misses: u64,
    /// Tokens of prompts that were not computed anew.
    pub tokens_reused: u64,
    /// Entries that went to make room for others.
    pub evicted: u64,
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
        /// Whose cached prefixes the prompt may begin with; those of `None` are for all who have none.
        owner: Option<PrefixOwner>,
        /// Where the events go.
        events: Producer<GenerateEvent, EngineError>,
        /// Where it goes, once it is known, how many tokens of the prompt were cached.
        cached: oneshot::Sender<u64>,
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
    /// Tell of every session of who asks.
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

/// Both ends of a generation's events.
type Pipe = (
    Producer<GenerateEvent, EngineError>,
    Consumer<GenerateEvent, EngineError>,
);

/// A single generation that was taken in.
#[derive(Debug)]
pub struct Completion {
    /// What it says. Dropping it cancels the generation.
    pub events: Consumer<GenerateEvent, EngineError>,
    /// Tokens of the prompt that were cached, and not computed anew. It is told before the first event, or never if the
    /// generation ends before its prompt is read.
    pub cached: oneshot::Receiver<u64>,
}

/// The wire's end of the door. Clones share one step loop, and ask as the same tenant.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    commands: mpsc::Sender<Request>,
    tenant: Arc<Tenant>,
    metrics: EngineMetrics,
}

impl EngineHandle {
    /// A handle and the receiver the step loop reads. At most `capacity` commands wait; callers beyond that
    /// wait to send. With no room no command could ever pass, so 0 is taken as 1. It asks as everybody, who may have
    /// what the engine has: a door that knows its clients asks [for one](EngineHandle::on_behalf_of) of them.
    pub fn channel(capacity: usize) -> (Self, mpsc::Receiver<Request>) {
        let (commands, received) = mpsc::channel(capacity.max(1));
        let tenant = Arc::new(Tenant::everybody(Limits::default()));
        let metrics = EngineMetrics::default();
        let handle = Self {
            commands,
            tenant,
            metrics,
        };
        (handle, received)
    }

    /// A handle to the same engine that asks as `tenant`.
    #[must_use]
    pub fn on_behalf_of(&self, tenant: Arc<Tenant>) -> Self {
        Self {
            tenant,
            ..self.clone()
        }
    }

    /// Who it asks as.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// What the engine behind it observes.
    pub fn metrics(&self) -> &EngineMetrics {
        &self.metrics
    }

    /// Opens a session.
    ///
    /// # Errors
    /// [`EngineError::NoSlab`], [`EngineError::Limit`], [`EngineError::Draining`], [`EngineError::Stopped`].
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
    /// [`EngineError::NotFound`], [`EngineError::InvalidArgument`], [`EngineError::Limit`],
    /// [`EngineError::Invariant`], [`EngineError::Draining`], [`EngineError::Stopped`].
    pub async fn append(&self, id: SessionId, tokens: Vec<u32>) -> Result<u64, EngineError> {
        let charge = self.tenant.charge(tokens.len(), Instant::now())?;
        let appended = self.ask(|reply| Command::Append { id, tokens, reply });
        let appended = appended.await;
        charge.settle(&appended);
        appended
    }

    /// Starts a generation. Dropping what it returns, or this future, cancels it.
    ///
    /// # Errors
    /// [`EngineError::InvalidArgument`] (the parameters, before any session is looked for),
    /// [`EngineError::NotFound`], [`EngineError::Limit`], [`EngineError::QueueFull`], [`EngineError::QueueTimeout`],
    /// [`EngineError::Draining`], [`EngineError::Stopped`].
    pub async fn generate(
        &self,
        id: SessionId,
        params: GenerateParams,
    ) -> Result<Consumer<GenerateEvent, EngineError>, EngineError> {
        params.validate()?;
        let (events, consumer) = self.stream(&params)?;
        // Its tokens are charged as they come; what a debt forbids is to begin.
        self.tenant.charge(0, Instant::now()).map(drop)?;
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
    /// Until then nothing can evict it. Dropping the events that are returned, or this future, cancels it.
    ///
    /// The first tokens of the prompt are not computed anew where another such generation of the same `owner` has left
    /// them in the prefix cache. What is generated is the same to the last bit.
    ///
    /// # Errors
    /// [`EngineError::InvalidArgument`] (the parameters, an empty prompt, a token outside the vocabulary, a prompt
    /// beyond the model's context), [`EngineError::Limit`], [`EngineError::NoSlab`], [`EngineError::QueueFull`],
    /// [`EngineError::Draining`],
    /// [`EngineError::Stopped`].
    pub async fn complete(
        &self,
        label: String,
        eos: Vec<u32>,
        tokens: Vec<u32>,
        params: GenerateParams,
        owner: Option<PrefixOwner>,
    ) -> Result<Completion, EngineError> {
        params.validate()?;
        if tokens.is_empty() {
            return Err(InvalidArgument::EmptyPrompt.into());
        }
        let more = tokens.len() as u64 + u64::from(params.max_tokens);
        self.tenant.check_history(0, more)?;
        let (events, consumer) = self.stream(&params)?;
        let charge = self.tenant.charge(tokens.len(), Instant::now())?;
        let (cached, count) = oneshot::channel();
        let taken = self.ask(|reply| Command::Complete {
            label,
            eos,
            tokens,
            params,
            owner,
            events,
            cached,
            reply,
        });
        let taken = taken.await;
        charge.settle(&taken);
        taken.map(|()| Completion {
            events: consumer,
            cached: count,
        })
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

    /// What is known of every session of this tenant, in the order of their ids.
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

    /// The way of a generation's events, which counts it and them.
    fn stream(&self, params: &GenerateParams) -> Result<Pipe, LimitError> {
        self.tenant.check_new_tokens(params.max_tokens)?;
        let permit = self.tenant.stream()?;
        Ok(pipeline::tapped(EVENTS_IN_FLIGHT, Some(Box::new(permit))))
    }

    // A command that cannot be sent and a reply that is dropped both mean that the step loop is gone.
    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        let (by, command) = (Arc::clone(&self.tenant), command(reply));
        self.commands
            .send(Request { by, command })
            .await
            .map_err(|_| EngineError::Stopped)?;
        answer.await.map_err(|_| EngineError::Stopped)?
    }
}
