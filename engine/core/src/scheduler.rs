//! Admission: which requests run, which wait, and which are turned away.
//!
//! A pure state machine. It holds no request and starts no work; it hands out tickets, moves them one way
//! through their states, and is told the time. First come, first served.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

/// What happens to a request that finds every slot taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdmissionPolicy {
    /// It is turned away at once.
    Reject,
    /// It waits its turn.
    Queue {
        /// A request that has waited longer than this fails.
        max_wait: Duration,
        /// The most requests that wait at once; those a free slot is about to take are not counted.
        cap: usize,
    },
}

/// A request's place in the scheduler. Tickets are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Where a request stands. A ticket moves from pending to admitted to one of the last three, or from pending
/// straight to cancelled or failed, and never back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TicketState {
    /// It waits for a slot.
    Pending,
    /// It holds a slot.
    Admitted,
    /// It ended as it should.
    Completed,
    /// Its caller gave it up.
    Cancelled,
    /// It waited too long, or its work failed.
    Failed,
}

impl TicketState {
    /// Whether no transition leads out of this state.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled | Self::Failed)
    }

    const fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Pending, Self::Admitted | Self::Cancelled | Self::Failed) => true,
            (Self::Admitted, next) => next.is_terminal(),
            _ => false,
        }
    }
}

impl fmt::Display for TicketState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Admitted => "admitted",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        })
    }
}

/// What the scheduler refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// Every slot is taken and the policy is to reject.
    #[error("all {slots} slots are busy")]
    Rejected {
        /// Slots of the scheduler.
        slots: usize,
    },
    /// Every slot is taken and so is every place in the queue.
    #[error("all {slots} slots are busy and the queue of {cap} is full")]
    QueueFull {
        /// Slots of the scheduler.
        slots: usize,
        /// Places in the queue.
        cap: usize,
    },
    /// A state does not lead to the one asked for.
    #[error("a request that is {from} cannot become {to}")]
    InvalidTransition {
        /// Where the ticket stands.
        from: TicketState,
        /// Where it was to go.
        to: TicketState,
    },
    /// The ticket was forgotten, or came from another scheduler.
    #[error("no request has this ticket")]
    UnknownTicket,
}

#[derive(Debug)]
struct Entry {
    state: TicketState,
    since: Instant,
}

/// Hands out `slots` slots in the order they were asked for.
#[derive(Debug)]
pub struct Scheduler {
    slots: usize,
    policy: AdmissionPolicy,
    next: u64,
    entries: HashMap<Ticket, Entry>,
    // Exactly the pending tickets, oldest first.
    queue: VecDeque<Ticket>,
    active: usize,
    // Failed by the clock, and not yet reported to the caller.
    expired: Vec<Ticket>,
}

impl Scheduler {
    /// A scheduler with every slot free.
    pub fn new(slots: usize, policy: AdmissionPolicy) -> Self {
        Self {
            slots,
            policy,
            next: 0,
            entries: HashMap::new(),
            queue: VecDeque::new(),
            active: 0,
            expired: Vec::new(),
        }
    }

    /// Takes a request in, as pending. It gets its slot at the next [`Scheduler::admit`] that has one.
    ///
    /// # Errors
    /// [`AdmissionError::Rejected`] or [`AdmissionError::QueueFull`]; nothing is kept of the request.
    pub fn submit(&mut self, now: Instant) -> Result<Ticket, AdmissionError> {
        self.expire(now);
        let slots = self.slots;
        if self.active + self.queue.len() >= slots {
            let waiting = self.active + self.queue.len() - slots;
            match self.policy {
                AdmissionPolicy::Reject => return Err(AdmissionError::Rejected { slots }),
                AdmissionPolicy::Queue { cap, .. } if waiting >= cap => {
                    return Err(AdmissionError::QueueFull { slots, cap });
                }
                AdmissionPolicy::Queue { .. } => {}
            }
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.entries.insert(
            ticket,
            Entry {
                state: TicketState::Pending,
                since: now,
            },
        );
        self.queue.push_back(ticket);
        Ok(ticket)
    }

    /// Gives free slots to the requests that have waited longest, and names them. Requests that have waited
    /// too long fail first.
    pub fn admit(&mut self, now: Instant) -> Vec<Ticket> {
        self.expire(now);
        let free = self.slots.saturating_sub(self.active).min(self.queue.len());
        let admitted: Vec<_> = self.queue.drain(..free).collect();
        for ticket in &admitted {
            self.entries.insert(
                *ticket,
                Entry {
                    state: TicketState::Admitted,
                    since: now,
                },
            );
        }
        self.active += admitted.len();
        admitted
    }

    /// The requests that failed because they waited too long, each reported once, oldest first.
    pub fn take_expired(&mut self, now: Instant) -> Vec<Ticket> {
        self.expire(now);
        std::mem::take(&mut self.expired)
    }

    /// The request ended as it should; its slot is free.
    ///
    /// # Errors
    /// [`AdmissionError::InvalidTransition`] unless it was admitted.
    pub fn complete(&mut self, ticket: Ticket, now: Instant) -> Result<(), AdmissionError> {
        self.end(ticket, TicketState::Completed, now)
    }

    /// The caller gave the request up; its slot or its place in the queue is free.
    ///
    /// # Errors
    /// [`AdmissionError::InvalidTransition`] when it had already ended.
    pub fn cancel(&mut self, ticket: Ticket, now: Instant) -> Result<(), AdmissionError> {
        self.end(ticket, TicketState::Cancelled, now)
    }

    /// The request's work failed; its slot or its place in the queue is free.
    ///
    /// # Errors
    /// [`AdmissionError::InvalidTransition`] when it had already ended.
    pub fn fail(&mut self, ticket: Ticket, now: Instant) -> Result<(), AdmissionError> {
        self.end(ticket, TicketState::Failed, now)
    }

    /// Drops the record of a request that has ended. Whether there was one: a live request is kept.
    pub fn forget(&mut self, ticket: Ticket) -> bool {
        let ended = self.state(ticket).is_some_and(TicketState::is_terminal);
        if ended {
            self.entries.remove(&ticket);
            self.expired.retain(|expired| *expired != ticket);
        }
        ended
    }

    /// Where the request stands; `None` for a forgotten one.
    pub fn state(&self, ticket: Ticket) -> Option<TicketState> {
        self.entries.get(&ticket).map(|entry| entry.state)
    }

    /// How long the request has stood there.
    pub fn time_in_state(&self, ticket: Ticket, now: Instant) -> Option<Duration> {
        self.entries
            .get(&ticket)
            .map(|entry| now.saturating_duration_since(entry.since))
    }

    /// Requests that are pending.
    pub fn pending(&self) -> usize {
        self.queue.len()
    }

    /// Requests that hold a slot.
    pub fn active(&self) -> usize {
        self.active
    }

    fn end(&mut self, ticket: Ticket, to: TicketState, now: Instant) -> Result<(), AdmissionError> {
        let entry = self
            .entries
            .get_mut(&ticket)
            .ok_or(AdmissionError::UnknownTicket)?;
        let from = entry.state;
        if !from.may_become(to) {
            return Err(AdmissionError::InvalidTransition { from, to });
        }
        *entry = Entry {
            state: to,
            since: now,
        };
        match from {
            TicketState::Admitted => self.active -= 1,
            _ => self.queue.retain(|pending| *pending != ticket),
        }
        Ok(())
    }

    fn expire(&mut self, now: Instant) {
        let AdmissionPolicy::Queue { max_wait, .. } = self.policy else {
            return;
        };
        let entries = &self.entries;
        let waited_too_long =
            |ticket: &&Ticket| now.saturating_duration_since(entries[*ticket].since) > max_wait;
        // Oldest first, so the ones that waited too long are all at the front.
        let count = self.queue.iter().take_while(waited_too_long).count();
        for ticket in self.queue.drain(..count) {
            self.entries.insert(
                ticket,
                Entry {
                    state: TicketState::Failed,
                    since: now,
                },
            );
            self.expired.push(ticket);
        }
    }
}
