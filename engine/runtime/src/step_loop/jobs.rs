//! Every session's line of requests, and which of them are at work.
//!
//! A session does one thing at a time; what comes meanwhile waits behind it. The first in each session's
//! line asks the scheduler for a slot, and those that hold slots share the passes (see [`super::turn`]).

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use kakeya_core::{AdmissionPolicy, EngineError, Scheduler, SessionId, Ticket};

use super::pacing::Pacing;
use super::prompts::Copied;
use super::turn::Lists;
use super::work::{End, Work};
use crate::engine::{Ending, Engine};
use crate::generate::Events;
use crate::pass::Pass;
use crate::speculation::Costs;

/// Requests that may wait behind another of the same session. They wait whatever the policy says of those that
/// wait for a slot: a session does one thing at a time.
const LINE_CAP: usize = 64;

/// Tokens that the requests of all sessions together may hold, those at work included: 64 MiB of them. It is several
/// requests of the largest size, and bounds what clients can pile up.
const BACKLOG_TOKENS: usize = 1 << 24;

/// The requests of one session: the first is at work or waits for a slot, the rest wait behind it.
#[derive(Default)]
pub(super) struct Line {
    ticket: Option<Ticket>,
    pub(super) waiting: VecDeque<Work>,
}

impl Line {
    pub(super) fn first_mut(&mut self) -> Option<&mut Work> {
        self.waiting.front_mut()
    }
}

/// Every session's line, and those at work.
pub(super) struct Jobs {
    scheduler: Scheduler,
    pub(super) lines: HashMap<SessionId, Line>,
    tickets: HashMap<Ticket, SessionId>,
    /// The sessions whose first request holds a slot, in the order they got it.
    pub(super) at_work: Vec<SessionId>,
    pub(super) pacing: Pacing,
    pub(super) costs: Costs,
    pub(super) pass: Pass,
    pub(super) lists: Lists,
    pub(super) copied: Copied,
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
            at_work: Vec::new(),
            pacing: Pacing::default(),
            costs: Costs::default(),
            pass: Pass::default(),
            lists: Lists::default(),
            copied: Copied::default(),
            max_wait,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Requests that hold a slot.
    pub(super) fn active(&self) -> usize {
        self.at_work.len()
    }

    /// Requests that wait, for a slot or for their own session.
    pub(super) fn queued(&self) -> usize {
        self.lines
            .values()
            .map(|line| line.waiting.len())
            .sum::<usize>()
            - self.at_work.len()
    }

    /// Takes a request in, or answers why not. What its session can tell at once is told at once.
    pub(super) fn submit(&mut self, engine: &mut Engine, id: SessionId, work: Work, now: Instant) {
        let waiting = self.lines.get(&id).map_or(0, |line| line.waiting.len());
        let mut work = match work {
            Work::Copy(copying) if waiting == 0 => return copying.run(engine, &id, now),
            other => other,
        };
        let checked = if self.held() + work.held() > BACKLOG_TOKENS {
            Err(EngineError::BacklogFull {
                limit: BACKLOG_TOKENS,
            })
        } else if waiting == 0 {
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
            Err(error) => return self.leave_with(engine, &id, work, |work| work.fail(error)),
        };
        work.taken_in();
        let line = self.lines.entry(id.clone()).or_default();
        line.waiting.push_back(work);
        if let Some(ticket) = ticket {
            line.ticket = Some(ticket);
            self.tickets.insert(ticket, id.clone());
            drop(engine.set_busy(&id, true));
        }
    }

    /// Tokens that all requests hold.
    fn held(&self) -> usize {
        let works = self.lines.values().flat_map(|line| &line.waiting);
        works.map(Work::held).sum()
    }

    /// Gives free slots to those who wait, and ends the wait of those who waited too long or gave up.
    pub(super) fn admit(&mut self, engine: &mut Engine, now: Instant) {
        for ticket in self.scheduler.take_expired(now) {
            if let Some(id) = self.tickets.get(&ticket).cloned() {
                let work = self
                    .lines
                    .get_mut(&id)
                    .and_then(|line| line.waiting.pop_front());
                self.next_in_line(engine, &id, now);
                if let Some(work) = work {
                    let max_wait = self.max_wait;
                    self.leave_with(engine, &id, work, |work| {
                        work.fail(EngineError::QueueTimeout { max_wait });
                    });
                }
            }
        }
        for ticket in self.scheduler.admit(now) {
            if let Some(id) = self.tickets.get(&ticket) {
                self.at_work.push(id.clone());
            }
        }
        let given_up: Vec<SessionId> = self
            .lines
            .iter()
            .filter(|(id, line)| {
                line.waiting.front().is_some_and(Work::is_given_up) && !self.at_work.contains(id)
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in given_up {
            self.end_first(engine, &id, now, |work| work.cancel(EngineError::Stopped));
        }
    }

    /// Ends the single generations that nobody waits for any more, at work or not, so that their places are free for whom
    /// their clients' going has let in.
    pub(super) fn end_given_up(&mut self, engine: &mut Engine, now: Instant) {
        let gone = |line: &Line| {
            let first = line.waiting.front();
            first.is_some_and(|work| work.ends_session() && work.is_given_up())
        };
        let given_up: Vec<SessionId> = self
            .lines
            .iter()
            .filter(|(_, line)| gone(line))
            .map(|(id, _)| id.clone())
            .collect();
        for id in given_up {
            self.end_first(engine, &id, now, |work| work.cancel(EngineError::Stopped));
        }
    }

    /// The events of generations that wait for their clients.
    pub(super) fn blocked(&self) -> impl Iterator<Item = &Events> {
        self.at_work
            .iter()
            .filter_map(|id| match self.lines.get(id)?.waiting.front()? {
                Work::Generate {
                    asked,
                    blocked: true,
                    ..
                } => Some(&asked.events),
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

    /// Ends everything, because there is no time left for it.
    pub(super) fn stop(&mut self, engine: &mut Engine) {
        let ids: Vec<SessionId> = self.lines.keys().cloned().collect();
        for id in ids {
            if let Some(line) = self.lines.get_mut(&id) {
                for work in line.waiting.drain(..) {
                    work.fail(EngineError::ShutdownTimeout);
                }
            }
            self.cancel_session(engine, &id);
        }
    }

    pub(super) fn end_first(
        &mut self,
        engine: &mut Engine,
        id: &SessionId,
        now: Instant,
        end: impl FnOnce(Work),
    ) {
        let ended = self
            .lines
            .get_mut(id)
            .and_then(|line| line.waiting.pop_front());
        self.next_in_line(engine, id, now);
        if let Some(work) = ended {
            self.leave_with(engine, id, work, end);
        }
    }

    /// Ends what a session was at work on, or lets it go on in its slot with what it leads to.
    pub(super) fn end_or_go_on(
        &mut self,
        engine: &mut Engine,
        id: &SessionId,
        now: Instant,
        end: End,
    ) {
        let end = match end {
            End::Appended(length) => match self.go_on(engine, id, now) {
                Some(Ok(())) => return,
                Some(Err(error)) => End::Failed(error),
                None => End::Appended(length),
            },
            other => other,
        };
        if let End::Failed(EngineError::Constraint(error)) = &end {
            tracing::warn!(session = %id, %error, "a generation ends");
            engine.counts.constraint_failures += 1;
        }
        self.end_first(engine, id, now, |work| work.end(end));
    }

    /// `None` where the session's first request leads to nothing more.
    fn go_on(
        &mut self,
        engine: &mut Engine,
        id: &SessionId,
        now: Instant,
    ) -> Option<Result<(), EngineError>> {
        let line = self.lines.get_mut(id)?;
        let (mut work, goes_on) = line.waiting.pop_front()?.next();
        let begun = goes_on.then(|| work.begin(engine, id, now));
        line.waiting.push_front(work);
        begun
    }

    /// Frees the slot of a session's first request, and lets the one behind it ask for one.
    fn next_in_line(&mut self, engine: &mut Engine, id: &SessionId, now: Instant) {
        let Some(mut line) = self.lines.remove(id) else {
            return;
        };
        self.leave(&mut line, id);
        while let Some(work) = line.waiting.pop_front() {
            let mut work = match work {
                Work::Copy(copying) => {
                    copying.run(engine, id, now);
                    continue;
                }
                other => other,
            };
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
                Err(error) => self.leave_with(engine, id, work, |work| work.fail(error)),
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
        self.at_work.retain(|other| other != id);
    }

    /// Tells the client how a request ended, and ends the session that was made for it. The session first: a client that
    /// has heard may ask for the next, which may begin with what this one leaves.
    fn leave_with(
        &mut self,
        engine: &mut Engine,
        id: &SessionId,
        work: Work,
        tell: impl FnOnce(Work),
    ) {
        if work.ends_session() {
            if !self.copied.is_enough() {
                self.copied.add(engine.keep_prefix(id, engine.length(id)));
            }
            drop(engine.end(id, Ending::Completed));
        }
        tell(work);
    }
}
