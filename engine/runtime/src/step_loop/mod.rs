//! The thread that owns the engine, and moves every session on.
//!
//! Commands come in over a channel; between any two steps they are looked at. A step is one forward pass, in
//! which every generation moves on by a token and appends by as much as does not hold up the others, and a
//! cancellation is noticed within a step. A generation whose client does not read is passed over until it does.

mod jobs;
mod pacing;
mod prompts;
mod turn;
mod work;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::select_all;
use kakeya_core::{
    Command, EngineError, EngineHandle, EngineStats, PrefixOwner, Reply, Request, SessionId, Tenant,
};
use kakeya_model::Model;
use tokio::sync::mpsc;

use crate::config::{EngineConfig, EngineStartError};
use crate::engine::{Ending, Engine};
use jobs::Jobs;
use turn::Turn;
use work::{Asked, Copying, Single, Work};

/// Commands that may wait for the loop; senders beyond that wait to send.
const COMMANDS_IN_FLIGHT: usize = 256;
/// How often an idle loop looks at the clock: for sessions that have expired and requests that waited too long.
const TICK: Duration = Duration::from_millis(200);

/// The loop: an engine, what it is doing, and whether it is to stop.
pub struct StepLoop {
    engine: Engine,
    jobs: Jobs,
    commands: mpsc::Receiver<Request>,
    drain: Option<Drain>,
    /// Every handle is gone.
    abandoned: bool,
}

/// A shutdown under way.
struct Drain {
    deadline: Instant,
    replies: Vec<Reply<()>>,
}

/// The running thread of a loop.
#[derive(Debug)]
pub struct StepLoopThread(JoinHandle<Engine>);

impl StepLoopThread {
    /// Waits for the loop to end, and hands out its engine, with the sessions that are left. It ends after
    /// [`EngineHandle::shutdown`], or when every handle is gone.
    ///
    /// # Panics
    /// When the loop itself panicked.
    pub fn join(self) -> Engine {
        match self.0.join() {
            Ok(engine) => engine,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl StepLoop {
    /// Starts an engine on a thread of its own.
    ///
    /// # Errors
    /// As [`Engine::new`]; or the thread cannot start.
    pub fn spawn(
        model: Arc<Model>,
        config: EngineConfig,
    ) -> Result<(EngineHandle, StepLoopThread), EngineStartError> {
        Self::start(Engine::new(model, config)?)
    }

    /// Goes on with an engine, on a thread of its own.
    ///
    /// # Errors
    /// When the thread cannot start.
    pub fn start(mut engine: Engine) -> Result<(EngineHandle, StepLoopThread), EngineStartError> {
        let jobs = Jobs::new(engine.config().active, engine.config().admission);
        let (handle, commands) = EngineHandle::channel(COMMANDS_IN_FLIGHT);
        engine.observe_into(handle.metrics().clone());
        let timer = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let step_loop = Self {
            engine,
            jobs,
            commands,
            drain: None,
            abandoned: false,
        };
        let thread = std::thread::Builder::new()
            .name("kakeya-step-loop".to_owned())
            .spawn(move || step_loop.run(&timer))?;
        Ok((handle, StepLoopThread(thread)))
    }

    fn run(mut self, timer: &tokio::runtime::Runtime) -> Engine {
        loop {
            self.take_commands();
            let now = Instant::now();
            self.engine.expire(now);
            self.jobs.admit(&mut self.engine, now);
            if self.is_over(now) {
                break;
            }
            match self.jobs.turn(&mut self.engine) {
                Turn::Worked => {}
                Turn::Nothing => self.wait(timer),
            }
        }
        self.jobs.stop(&mut self.engine);
        for reply in self.drain.into_iter().flat_map(|drain| drain.replies) {
            answer(reply, Ok(()));
        }
        self.engine
    }

    fn take_commands(&mut self) {
        loop {
            match self.commands.try_recv() {
                Ok(request) => self.obey(request),
                Err(mpsc::error::TryRecvError::Empty) => return,
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    self.abandoned = true;
                    return;
                }
            }
        }
    }

    /// Sleeps until a command comes, a blocked generation has room again, or the clock must be looked at.
    fn wait(&mut self, timer: &tokio::runtime::Runtime) {
        let command = timer.block_on(async {
            let room = self
                .jobs
                .blocked()
                .map(|events| events.room().boxed_local());
            let unblocked =
                select_all(room.chain(std::iter::once(futures::future::pending().boxed_local())));
            tokio::select! {
                command = self.commands.recv() => Some(command),
                _ = unblocked => None,
                () = tokio::time::sleep(TICK) => None,
            }
        });
        match command {
            Some(Some(command)) => self.obey(command),
            Some(None) => self.abandoned = true,
            None => {}
        }
    }

    fn obey(&mut self, request: Request) {
        let now = Instant::now();
        let Request { by, command } = request;
        if self.drain.is_some() && command.is_work() {
            return command.refuse(EngineError::Draining);
        }
        if command.sessions_made() > 0 {
            self.engine.expire(now);
            if self.engine.room() == 0 {
                self.jobs.end_given_up(&mut self.engine, now);
            }
        }
        if let Err(error) = self.engine.admit(&by, &command) {
            return command.refuse(error);
        }
        match command {
            Command::CreateSession { label, eos, reply } => {
                self.answer_opened(&by, reply, |engine| engine.create_session(now, label, eos));
            }
            Command::Append { id, tokens, reply } => {
                self.jobs
                    .submit(&mut self.engine, id, Work::append(tokens, reply), now)
            }
            Command::Generate {
                id,
                params,
                events,
                reply,
            } => {
                self.jobs.submit(
                    &mut self.engine,
                    id,
                    Work::generate(Asked {
                        params,
                        events,
                        reply: Some(reply),
                        at: now,
                        single: None,
                    }),
                    now,
                );
            }
            Command::Complete {
                label,
                eos,
                tokens,
                params,
                owner,
                events,
                cached,
                reply,
            } => match self.open_single(&by, now, label, eos, owner) {
                Ok(id) => {
                    let single = Single::new(cached, self.engine.shares(&id));
                    let asked = Asked {
                        params,
                        events,
                        reply: Some(reply),
                        at: now,
                        single: Some(single),
                    };
                    let work = Work::complete(tokens, asked);
                    self.jobs.submit(&mut self.engine, id, work, now);
                }
                Err(error) => answer(reply, Err(error)),
            },
            Command::Fork { id, count, reply } => {
                let work = Work::Copy(Copying::Fork { count, reply });
                self.jobs.submit(&mut self.engine, id, work, now);
            }
            Command::History { id, from, reply } => {
                let work = Work::Copy(Copying::History { from, reply });
                self.jobs.submit(&mut self.engine, id, work, now);
            }
            Command::Export { id, reply } => {
                let work = Work::Copy(Copying::Export { reply });
                self.jobs.submit(&mut self.engine, id, work, now);
            }
            Command::Import { id, image, reply } => {
                self.answer_opened(&by, reply, |engine| {
                    by.check_history(image.history.len() as u64, 0)?;
                    engine.import(now, id, *image)
                });
            }
            Command::List { reply } => answer(reply, self.engine.list(&by, now)),
            Command::Close { id, reply } => answer(reply, self.close(&id)),
            Command::Info { id, reply } => answer(reply, self.engine.info(&id, now)),
            Command::Stats { reply } => answer(reply, Ok(self.stats())),
            Command::Shutdown { grace, reply } => self.start_drain(now + grace, reply),
        }
    }

    /// A session for a single generation.
    fn open_single(
        &mut self,
        by: &Arc<Tenant>,
        now: Instant,
        label: String,
        eos: Vec<u32>,
        owner: Option<PrefixOwner>,
    ) -> Result<SessionId, EngineError> {
        let id = open(&mut self.engine, by, |engine| {
            engine.create_session(now, label, eos)
        })?;
        self.engine.share(&id, owner)?;
        Ok(id)
    }

    /// A session whose caller has gone away could never be used or closed.
    fn answer_opened(
        &mut self,
        by: &Arc<Tenant>,
        reply: Reply<SessionId>,
        how: impl FnOnce(&mut Engine) -> Result<SessionId, EngineError>,
    ) {
        if let Err(Ok(id)) = reply.send(open(&mut self.engine, by, how)) {
            drop(self.engine.end(&id, Ending::Abandoned));
        }
    }

    fn close(&mut self, id: &SessionId) -> Result<u64, EngineError> {
        self.jobs.cancel_session(&mut self.engine, id);
        self.engine.close_session(id)
    }

    fn stats(&self) -> EngineStats {
        EngineStats {
            queued: self.jobs.queued() as u64,
            active: self.jobs.active() as u64,
            ..self.engine.stats()
        }
    }

    /// A second shutdown can only bring the deadline forward.
    fn start_drain(&mut self, deadline: Instant, reply: Reply<()>) {
        let drain = self.drain.get_or_insert_with(|| Drain {
            deadline,
            replies: Vec::new(),
        });
        drain.deadline = drain.deadline.min(deadline);
        self.engine.close_prefixes();
        drain.replies.push(reply);
    }

    fn is_over(&self, now: Instant) -> bool {
        if let Some(fault) = self.engine.lost() {
            tracing::error!(%fault, "the engine stops: what it computes on has failed");
            return true;
        }
        match &self.drain {
            Some(drain) => self.jobs.is_empty() || now >= drain.deadline,
            None => self.abandoned,
        }
    }
}

/// Opens a session that belongs to `by`.
fn open(
    engine: &mut Engine,
    by: &Arc<Tenant>,
    how: impl FnOnce(&mut Engine) -> Result<SessionId, EngineError>,
) -> Result<SessionId, EngineError> {
    let id = how(engine)?;
    engine.give(&id, by)?;
    Ok(id)
}

/// Answers, unless the caller has gone away.
fn answer<T>(reply: Reply<T>, result: Result<T, EngineError>) {
    drop(reply.send(result));
}
