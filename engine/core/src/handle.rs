//! The door between the wire and the step loop.
//!
//! The wire layer holds an [`EngineHandle`]; the step loop owns the other end and everything behind it. What
//! can be refused without a session is refused here, before a command is sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::engine::{Command, EngineStats, Reply, SessionInfo, SessionSummary};
use crate::error::{EngineError, InvalidArgument};
use crate::events::GenerateEvent;
use crate::metrics::EngineMetrics;
use crate::params::GenerateParams;
use crate::pipeline::{self, Consumer, Producer};
use crate::prefix::PrefixOwner;
use crate::request::Request;
use crate::session::SessionId;
use crate::shared::SharedSessions;
use crate::snapshot::SessionImage;
use crate::tenant::{LimitError, Limits, Tenant};

/// Events of one generation that may wait for a slow client before its session pauses.
pub const EVENTS_IN_FLIGHT: usize = 64;

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
    shared: Option<Arc<dyn SharedSessions>>,
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
            shared: None,
        };
        (handle, received)
    }

    /// A handle to the same engine, whose sessions other servers have in common with it.
    #[must_use]
    pub fn sharing(&self, shared: Arc<dyn SharedSessions>) -> Self {
        Self {
            shared: Some(shared),
            ..self.clone()
        }
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
        let made = self.ask(|reply| Command::CreateSession { label, eos, reply });
        self.made(made.await?).await
    }

    /// Appends tokens, all or none, and answers the history length after it.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], [`EngineError::InvalidArgument`], [`EngineError::Limit`],
    /// [`EngineError::Invariant`], [`EngineError::Draining`], [`EngineError::Stopped`].
    pub async fn append(&self, id: SessionId, tokens: Vec<u32>) -> Result<u64, EngineError> {
        self.fetch(&id).await?;
        let charge = self.tenant.charge(tokens.len(), Instant::now())?;
        let (session, more) = (id.clone(), tokens.len() as u64);
        let appended = self.ask(|reply| Command::Append { id, tokens, reply });
        let appended = appended.await;
        charge.settle(&appended);
        self.changed(&session, more);
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
        self.fetch(&id).await?;
        let (session, more) = (id.clone(), u64::from(params.max_tokens));
        self.ask(|reply| Command::Generate {
            id,
            params,
            events,
            reply,
        })
        .await?;
        self.changed(&session, more);
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
        self.fetch(&id).await?;
        let session = id.clone();
        let closed = self.ask(|reply| Command::Close { id, reply }).await?;
        match &self.shared {
            Some(shared) => shared.closed(&session).await.map(|()| closed),
            None => Ok(closed),
        }
    }

    /// What is known of a session.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], [`EngineError::Stopped`].
    pub async fn info(&self, id: SessionId) -> Result<SessionInfo, EngineError> {
        self.fetch(&id).await?;
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
        self.fetch(&id).await?;
        let forks = self.ask(|reply| Command::Fork { id, count, reply }).await?;
        for (index, fork) in forks.iter().enumerate() {
            if let Err(error) = self.made(fork.clone()).await {
                // All or none.
                for fork in &forks[..index] {
                    drop(self.close(fork.clone()).await);
                }
                for fork in &forks[index + 1..] {
                    drop(self.end(fork.clone()).await);
                }
                return Err(error);
            }
        }
        Ok(forks)
    }

    /// The tokens of a session's history from position `from` on, as it is between two of the things it does: the first
    /// of them, where they are more than the engine copies at once. None are left where none come.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], [`EngineError::Stopped`].
    pub async fn history(&self, id: SessionId, from: u64) -> Result<Vec<u32>, EngineError> {
        self.fetch(&id).await?;
        self.ask(|reply| Command::History { id, from, reply }).await
    }

    /// Copies a session's whole state as it is between two of the things it does.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], [`EngineError::Stopped`]; [`EngineError::Internal`] when there is no memory for it.
    pub async fn export(&self, id: SessionId) -> Result<Box<SessionImage>, EngineError> {
        self.fetch(&id).await?;
        self.ask(|reply| Command::Export { id, reply }).await
    }

    /// Opens a session with a state that another had, and answers its id.
    ///
    /// # Errors
    /// As [`EngineHandle::create_session`].
    pub async fn import(&self, image: Box<SessionImage>) -> Result<SessionId, EngineError> {
        let id = None;
        let opened = self.ask(|reply| Command::Import { id, image, reply });
        self.made(opened.await?).await
    }

    /// Opens a session again that was somewhere else, under the id that it had.
    ///
    /// # Errors
    /// As [`EngineHandle::create_session`]; [`EngineError::Internal`] when there is a session of that id.
    pub async fn adopt(&self, id: SessionId, image: Box<SessionImage>) -> Result<(), EngineError> {
        let id = Some(id);
        let opened = self.ask(|reply| Command::Import { id, image, reply });
        opened.await.map(drop)
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

    /// What is to be done about a session that has just been opened, before its id is told.
    async fn made(&self, id: SessionId) -> Result<SessionId, EngineError> {
        if let Some(shared) = &self.shared
            && let Err(error) = shared.made(&id, &self.tenant).await
        {
            drop(self.end(id).await);
            return Err(error);
        }
        Ok(id)
    }

    /// Ends a session that is nobody else's.
    async fn end(&self, id: SessionId) -> Result<u64, EngineError> {
        self.ask(|reply| Command::Close { id, reply }).await
    }

    async fn fetch(&self, id: &SessionId) -> Result<(), EngineError> {
        match &self.shared {
            Some(shared) => shared.fetch(id, &self.tenant).await,
            None => Ok(()),
        }
    }

    fn changed(&self, id: &SessionId, tokens: u64) {
        if let Some(shared) = &self.shared {
            shared.changed(id, tokens);
        }
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
