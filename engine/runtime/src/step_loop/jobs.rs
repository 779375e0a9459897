//! The work of the loop: what each session is asked to do, in order, and whose turn it is.
//!
//! A session does one thing at a time; what comes meanwhile waits behind it. The first in each session's
//! line asks the scheduler for a slot, and those that hold slots take turns.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use kakeya_core::{
    AdmissionPolicy, EngineError, GenerateParams, Reply, Scheduler, SessionId, StopReason, Ticket,
};

use super::answer;
use crate::append::AppendCoordinator;
use crate::engine::Engine;
use crate::generate::{Events, GenerationCoordinator, Step};
use crate::verifier::MAX_CHUNK;

/// Rows of an append's turn while others wait for theirs.
const SHARED_SLICE: usize = 64;

/// Requests that may wait behind another of the same session. They wait whatever the policy says of those that
/// wait for a slot: a session does one thing at a time.
const LINE_CAP: usize = 64;

/// Whether a turn found anything to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Worked,
    Nothing,
}

/// A request to one session.
pub(super) enum Work {
    Append {
        /// Taken when the append begins.
        tokens: Vec<u32>,
        begun: Option<AppendCoordinator>,
        reply: Reply<u64>,
    },
    Generate {
        params: GenerateParams,
        begun: Option<Box<GenerationCoordinator>>,
        events: Events,
        /// Until it is taken in.
        reply: Option<Reply<()>>,
        asked: Instant,
        blocked: bool,
    },
}

impl Work {
    pub(super) fn append(tokens: Vec<u32>, reply: Reply<u64>) -> Self {
        Self::Append {
            tokens,
            begun: None,
            reply,
        }
    }

    pub(super) fn generate(
        params: GenerateParams,
        events: Events,
        reply: Reply<()>,
        asked: Instant,
    ) -> Self {
        Self::Generate {
            params,
            begun: None,
            events,
            reply: Some(reply),
            asked,
            blocked: false,
        }
    }

    /// Checks the request against its session, once.
    fn begin(
        &mut self,
        engine: &mut Engine,
        id: &SessionId,
        now: Instant,
    ) -> Result<(), EngineError> {
        match self {
            Self::Append { tokens, begun, .. } if begun.is_none() => {
                *begun = Some(AppendCoordinator::begin(
                    engine,
                    id,
                    std::mem::take(tokens),
                    now,
                )?);
            }
            Self::Generate {
                params,
                begun,
                asked,
                ..
            } if begun.is_none() => {
                *begun = Some(Box::new(GenerationCoordinator::begin(
                    engine, id, *params, *asked,
                )?));
            }
            _ => {}
        }
        Ok(())
    }

    fn fail(self, error: EngineError) {
        match self {
            Self::Append { reply, .. } => answer(reply, Err(error)),
            Self::Generate {
                reply: Some(reply), ..
            } => answer(reply, Err(error)),
            Self::Generate { events, .. } => events.fail(error),
        }
    }

    /// Ends a request whose session is being closed, or whose loop stops. A generation says so in its stream.
    fn cancel(self, error: EngineError) {
        match self {
            Self::Generate {
                begun: Some(begun),
                events,
                reply: None,
                ..
            } => {
                events.finish_with(begun.done(StopReason::Cancelled));
            }
            other => other.fail(error),
        }
    }

    fn is_given_up(&self) -> bool {
        matches!(self, Self::Generate { events, .. } if events.is_cancelled())
    }
}

/// The requests of one session: the first is at work or waits for a slot, the rest wait behind it.
#[derive(Default)]
struct Line {
    ticket: Option<Ticket>,
    waiting: VecDeque<Work>,
}

/// Every session's line, and the rotation of those at work.
pub(super) struct Jobs {
    scheduler: Scheduler,
    lines: HashMap<SessionId, Line>,
    tickets: HashMap<Ticket, SessionId>,
    rotation: VecDeque<SessionId>,
    max_wait: std::time::Duration,
}

impl Jobs {
    pub(super) fn new(slots: usize, policy: AdmissionPolicy) -> Self {
        let max_wait = match policy {
            AdmissionPolicy::Reject => std::time::Duration::ZERO,
            AdmissionPolicy::Queue { max_wait, .. } => max_wait,
        };
        Self {
            scheduler: Scheduler::new(slots, policy),
            lines: HashMap::new(),
            tickets: HashMap::new(),
            rotation: VecDeque::new(),
            max_wait,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Requests that hold a slot.
    pub(super) fn active(&self) -> usize {
        self.rotation.len()
    }

    /// Requests that wait, for a slot or for their own session.
    pub(super) fn queued(&self) -> usize {
        self.lines
            .values()
            .map(|line| line.waiting.len())
            .sum::<usize>()
            - self.rotation.len()
    }

    /// Takes a request in, or answers why not. What its session can tell at once is told at once.
    pub(super) fn submit(
        &mut self,
        engine: &mut Engine,
        id: SessionId,
        mut work: Work,
        now: Instant,
    ) {
        let waiting = self.lines.get(&id).map_or(0, |line| line.waiting.len());
        let checked = if waiting == 0 {
            work.begin(engine, &id, now)
                .and_then(|()| Ok(self.scheduler.submit(now)?))
                .map(Some)
        } else if waiting > LINE_CAP {
            Err(EngineError::QueueFull { cap: LINE_CAP })
        } else {
            Ok(None)
        };
        let ticket = match checked {
            Ok(ticket) => ticket,
            Err(error) => return work.fail(error),
        };
        if let Work::Generate { reply, .. } = &mut work
            && let Some(reply) = reply.take()
        {
            answer(reply, Ok(()));
        }
        let line = self.lines.entry(id.clone()).or_default();
        line.waiting.push_back(work);
        if let Some(ticket) = ticket {
            line.ticket = Some(ticket);
            self.tickets.insert(ticket, id.clone());
            drop(engine.set_busy(&id, true));
        }
    }

    /// Gives free slots to those who wait, and ends the wait of those who waited too long or gave up.
    pub(super) fn admit(&mut self, engine: &mut Engine, now: Instant) {
        for ticket in self.scheduler.take_expired(now) {
            if let Some(id) = self.tickets.get(&ticket).cloned() {
                let work = self
                    .lines
                    .get_mut(&id)
                    .and_then(|line| line.waiting.pop_front());
                if let Some(work) = work {
                    work.fail(EngineError::QueueTimeout {
                        max_wait: self.max_wait,
                    });
                }
                self.next_in_line(engine, &id, now);
            }
        }
        for ticket in self.scheduler.admit(now) {
            if let Some(id) = self.tickets.get(&ticket) {
                self.rotation.push_back(id.clone());
            }
        }
        let given_up: Vec<SessionId> = self
            .lines
            .iter()
            .filter(|(id, line)| {
                line.waiting.front().is_some_and(Work::is_given_up) && !self.rotation.contains(id)
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in given_up {
            self.end_first(engine, &id, now, |work| work.cancel(EngineError::Stopped));
        }
    }

    /// One turn for the next in the rotation that is not blocked.
    pub(super) fn turn(&mut self, engine: &mut Engine) -> Turn {
        for _ in 0..self.rotation.len() {
            let Some(id) = self.rotation.pop_front() else {
                break;
            };
            self.rotation.push_back(id.clone());
            let slice = if self.rotation.len() > 1 {
                SHARED_SLICE
            } else {
                MAX_CHUNK
            };
            let now = Instant::now();
            let Some(work) = self
                .lines
                .get_mut(&id)
                .and_then(|line| line.waiting.front_mut())
            else {
                continue;
            };
            match advance(engine, &id, work, slice, now) {
                Ok(Progress::Blocked) => continue,
                Ok(Progress::Working) => {}
                Ok(Progress::Appended(length)) => self.end_first(engine, &id, now, |work| {
                    if let Work::Append { reply, .. } = work {
                        answer(reply, Ok(length));
                    }
                }),
                Ok(Progress::Generated(reason)) => self.end_first(engine, &id, now, |work| {
                    if let Work::Generate {
                        begun: Some(begun),
                        events,
                        ..
                    } = work
                    {
                        events.finish_with(begun.done(reason));
                    }
                }),
                Err(error) => self.end_first(engine, &id, now, |work| work.fail(error)),
            }
            return Turn::Worked;
        }
        Turn::Nothing
    }

    /// The events of generations that wait for their clients.
    pub(super) fn blocked(&self) -> impl Iterator<Item = &Events> {
        self.rotation
            .iter()
            .filter_map(|id| match self.lines.get(id)?.waiting.front()? {
                Work::Generate {
                    events,
                    blocked: true,
                    ..
                } => Some(events),
                _ => None,
            })
    }

    /// Ends everything a session was asked to do.
    pub(super) fn cancel_session(&mut self, engine: &mut Engine, id: &SessionId) {
        let Some(mut line) = self.lines.remove(id) else {
            return;
        };
        for work in line.waiting.drain(..) {
            work.cancel(EngineError::NotFound { id: id.to_string() });
        }
        self.leave(&mut line, id);
        drop(engine.set_busy(id, false));
    }

    /// Ends everything.
    pub(super) fn stop(&mut self, engine: &mut Engine) {
        let ids: Vec<SessionId> = self.lines.keys().cloned().collect();
        for id in ids {
            if let Some(line) = self.lines.get_mut(&id) {
                for work in line.waiting.drain(..) {
                    work.cancel(EngineError::Draining);
                }
            }
            self.cancel_session(engine, &id);
        }
    }

    fn end_first(
        &mut self,
        engine: &mut Engine,
        id: &SessionId,
        now: Instant,
        end: impl FnOnce(Work),
    ) {
        if let Some(work) = self
            .lines
            .get_mut(id)
            .and_then(|line| line.waiting.pop_front())
        {
            end(work);
        }
        self.next_in_line(engine, id, now);
    }

    /// Frees the slot of a session's first request, and lets the one behind it ask for one.
    fn next_in_line(&mut self, engine: &mut Engine, id: &SessionId, now: Instant) {
        let Some(mut line) = self.lines.remove(id) else {
            return;
        };
        self.leave(&mut line, id);
        while let Some(mut work) = line.waiting.pop_front() {
            let ticket = work
                .begin(engine, id, now)
                .and_then(|()| Ok(self.scheduler.submit(now)?));
            match ticket {
                Ok(ticket) => {
                    line.ticket = Some(ticket);
                    line.waiting.push_front(work);
                    self.tickets.insert(ticket, id.clone());
                    self.lines.insert(id.clone(), line);
                    return;
                }
                Err(error) => work.fail(error),
            }
        }
        drop(engine.set_busy(id, false));
    }

    fn leave(&mut self, line: &mut Line, id: &SessionId) {
        if let Some(ticket) = line.ticket.take() {
            let now = Instant::now();
            if self.scheduler.complete(ticket, now).is_err() {
                // It had no slot yet. Or its wait had run out, and then it has ended by itself.
                let _ = self.scheduler.cancel(ticket, now);
            }
            self.scheduler.forget(ticket);
            self.tickets.remove(&ticket);
        }
        self.rotation.retain(|other| other != id);
    }
}

enum Progress {
    Working,
    Blocked,
    Appended(u64),
    Generated(StopReason),
}

fn advance(
    engine: &mut Engine,
    id: &SessionId,
    work: &mut Work,
    slice: usize,
    now: Instant,
) -> Result<Progress, EngineError> {
    work.begin(engine, id, now)?;
    match work {
        Work::Append {
            begun: Some(append),
            ..
        } => {
            append.step(engine, slice, now)?;
            if append.is_done() {
                Ok(Progress::Appended(engine.history(id)?.len() as u64))
            } else {
                Ok(Progress::Working)
            }
        }
        Work::Generate {
            begun: Some(generation),
            events,
            blocked,
            ..
        } => {
            let step = generation.step(engine, events, now)?;
            *blocked = step == Step::Blocked;
            Ok(match step {
                Step::Progress => Progress::Working,
                Step::Blocked => Progress::Blocked,
                Step::Finished(reason) => Progress::Generated(reason),
            })
        }
        Work::Append { begun: None, .. } | Work::Generate { begun: None, .. } => {
            Err(crate::engine::internal("a request was not begun"))
        }
    }
}
