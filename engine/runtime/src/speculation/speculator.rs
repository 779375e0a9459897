//! One session's proposer, what was learnt of it, and what it has been told.

use std::ops::Range;
use std::time::{Duration, Instant};

use kakeya_core::SpeculationStats;

use super::costs::{Costs, Load};
use super::guard::{Fault, Guard, Waited};
use super::policy::Policy;
use super::proposer::Proposal;
use super::{Blocks, KINDS, MAX_DRAFTS, Speculation};

/// A step never waits longer than this for a proposer.
const PATIENCE: Duration = Duration::from_millis(100);
/// New tokens that a proposer is waited for to read. With more of them it reads beside the session's own steps.
const READ_AT_ONCE: usize = 64;
/// Proposers that may hang at once, each with a thread that cannot be ended; after that no new one starts.
const MOST_STALLED: u64 = 8;

/// What a session asks its proposer.
pub(crate) struct Asking<'a> {
    /// Its history, without the token that is being decoded.
    pub(crate) history: &'a [u32],
    /// That token.
    pub(crate) next: u32,
    /// The model's state after the history, where the proposer asks for it and it is known.
    pub(crate) state: Option<&'a [f32]>,
    /// Drafts that the session has room for.
    pub(crate) limit: usize,
    /// Tokens that the model has.
    pub(crate) vocabulary: u32,
    /// What a step costs; `None` where it has to be measured first.
    pub(crate) load: Option<Load>,
}

/// Where what is seen of proposers is noted.
pub(crate) struct Notes<'a> {
    pub(crate) counts: &'a mut SpeculationStats,
    pub(crate) costs: &'a mut Costs,
}

/// The block that is being verified.
#[derive(Clone, Copy, Debug)]
struct Block {
    kind: usize,
    drafted: usize,
    load: Option<Load>,
}

/// The proposer of one session, for as long as the session lives.
pub(crate) struct Speculator {
    blocks: Blocks,
    stall: Duration,
    /// `None` once it has failed.
    guard: Option<Guard>,
    policy: Policy,
    /// Whether it is told no more of the history than there is time for.
    reads_slowly: bool,
    /// The tokens of the history that the proposer has been told, by their positions.
    told: Range<usize>,
    /// How many of them it was told with the last request.
    reading: usize,
    /// Seconds that the last request has cost the session until now.
    cost: f64,
    /// An answer that came too late for the step that it was asked for.
    late: Option<Proposal>,
    block: Option<Block>,
}

impl std::fmt::Debug for Speculator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Speculator")
            .field("told", &self.told)
            .finish_non_exhaustive()
    }
}

impl Speculator {
    /// Starts a session's proposer. One that cannot start is counted, and the session goes on without.
    pub(crate) fn start(speculation: &Speculation, counts: &mut SpeculationStats) -> Self {
        let guard = if counts.stalled < MOST_STALLED {
            match Guard::start(&speculation.proposers, speculation.stall) {
                Ok(guard) => Some(guard),
                Err(error) => {
                    tracing::warn!(%error, "a proposer's thread cannot start");
                    counts.failed += 1;
                    None
                }
            }
        } else {
            None
        };
        Self {
            blocks: speculation.blocks,
            stall: speculation.stall,
            guard,
            policy: Policy::default(),
            reads_slowly: speculation.proposers.reads_slowly(),
            told: 0..0,
            reading: 0,
            cost: 0.0,
            late: None,
            block: None,
        }
    }

    /// The drafts to verify behind the token that is being decoded, into `drafts`.
    pub(crate) fn draft(
        &mut self,
        asking: &Asking<'_>,
        drafts: &mut Vec<u32>,
        notes: &mut Notes<'_>,
    ) {
        drafts.clear();
        self.block = None;
        self.policy.settle(self.reads_slowly, notes.costs);
        if let Some(guard) = self.guard.as_mut().filter(|guard| guard.is_asked()) {
            let late = guard.wait(Duration::ZERO);
            self.late = self.answer(late, asking, notes);
        }
        let limit = match self.blocks {
            Blocks::Adaptive => asking.limit.min(MAX_DRAFTS),
            Blocks::Fixed(most) => asking.limit.min(most).min(MAX_DRAFTS),
        };
        let wanted = match (self.blocks, asking.load) {
            (Blocks::Fixed(_), _) => limit,
            (Blocks::Adaptive, Some(load)) => self.worth_asking(asking.total(), limit, load),
            (Blocks::Adaptive, None) => 0,
        };
        if wanted == 0 {
            return;
        }
        let Some(proposal) = self.proposal(asking, wanted, notes) else {
            return;
        };
        let kind = proposal.kind.min(KINDS - 1);
        let proposed = proposal.tokens.len().min(limit);
        let worth = match (self.blocks, asking.load) {
            (Blocks::Adaptive, Some(load)) => self.policy.worth_verifying(kind, proposed, load),
            _ => proposed,
        };
        if worth == 0 {
            return;
        }
        drafts.extend_from_slice(&proposal.tokens[..worth]);
        self.block = Some(Block {
            kind,
            drafted: worth,
            load: asking.load,
        });
    }

    /// The tokens to ask for: one at least when the time has come to read more, which comes with asking.
    fn worth_asking(&mut self, total: usize, limit: usize, load: Load) -> usize {
        let worth = self.policy.worth_asking(limit, load);
        let more = self.reads_slowly && self.policy.may_read_more(&self.told, total, load);
        worth.max(usize::from(more).min(limit))
    }

    /// Whether the proposer is still at work on an answer.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::is_asked)
    }

    /// Takes note that a pass took so many `seconds` longer because it was.
    pub(crate) fn slowed(&mut self, seconds: f64) {
        self.cost += seconds;
        self.policy.paid(seconds);
    }

    /// Takes note of a step, with how many of its drafts were accepted.
    pub(crate) fn verified(
        &mut self,
        accepted: usize,
        load: Option<Load>,
        counts: &mut SpeculationStats,
    ) {
        match self.block.take() {
            Some(Block {
                kind,
                drafted,
                load,
            }) => {
                counts.verifications += 1;
                counts.drafted += drafted as u64;
                counts.accepted += accepted as u64;
                if let Some(load) = load {
                    self.policy.verified(kind, drafted, accepted, load);
                }
            }
            None => {
                if let Some(load) = load {
                    self.policy.stepped(load);
                }
            }
        }
    }

    /// What is proposed to come after the token that is being decoded.
    fn proposal(
        &mut self,
        asking: &Asking<'_>,
        wanted: usize,
        notes: &mut Notes<'_>,
    ) -> Option<Proposal> {
        if let Some(mut late) = self.late.take() {
            // It still holds as far as the session has gone the way that it says.
            let gone = asking.since(self.told.end);
            if late.tokens.len() > gone.len() && late.tokens.starts_with(&gone) {
                late.tokens.drain(..gone.len());
                return Some(late);
            }
        }
        if self.guard.as_ref()?.is_asked() {
            return None;
        }
        let begun = Instant::now();
        let anew = asking
            .load
            .is_some_and(|load| self.begins_anew(asking.total(), load));
        let new = asking.since(self.told.end);
        self.told.end += new.len();
        self.reading = new.len();
        let patience = match self.blocks {
            Blocks::Fixed(_) => self.stall,
            Blocks::Adaptive if new.len() > READ_AT_ONCE => Duration::ZERO,
            Blocks::Adaptive => PATIENCE.min(Duration::from_secs_f64(self.policy.patience())),
        };
        let state = asking.state.map(<[f32]>::to_vec);
        let guard = self.guard.as_mut()?;
        guard.ask(anew, new, state, wanted);
        let waited = guard.wait(patience);
        self.cost = begun.elapsed().as_secs_f64();
        self.policy.paid(self.cost);
        self.answer(waited, asking, notes)
    }

    /// Whether the proposer starts again, with more of the history or with less, before it is told what is new.
    fn begins_anew(&mut self, total: usize, load: Load) -> bool {
        if !self.reads_slowly || self.blocks != Blocks::Adaptive {
            return false;
        }
        let from = self.policy.reads_from(&self.told, total, load);
        let anew = from.is_some() && !self.told.is_empty();
        if let Some(from) = from {
            tracing::debug!(from, total, anew, "a proposer begins to read");
            self.told = from..from;
        }
        let rest = if self.told.start > 0 { total } else { 0 };
        self.policy.saves_for(rest, load);
        anew
    }

    /// What came of waiting for an answer, without what no proposer may say; `None` where there is none in time.
    fn answer(
        &mut self,
        waited: Waited,
        asking: &Asking<'_>,
        notes: &mut Notes<'_>,
    ) -> Option<Proposal> {
        match waited {
            Waited::Answered {
                mut proposal,
                asked,
            } => {
                // Not how long it took: one that computes elsewhere costs what it is waited for.
                let cost = self.cost.max(0.0);
                notes.costs.answered(asked, self.reading, cost);
                if proposal.tokens.len() > asked {
                    notes.counts.too_many += 1;
                    proposal.tokens.truncate(asked);
                }
                let outside = |token: &u32| *token >= asking.vocabulary;
                if let Some(first) = proposal.tokens.iter().position(outside) {
                    notes.counts.out_of_vocabulary += 1;
                    proposal.tokens.truncate(first);
                }
                Some(proposal)
            }
            Waited::Late => None,
            Waited::Lost(fault) => {
                self.guard = None;
                tracing::warn!(reason = %fault, "a session goes on without its proposer");
                *match fault {
                    Fault::Failed(_) => &mut notes.counts.failed,
                    Fault::Panicked => &mut notes.counts.panicked,
                    Fault::Stalled => &mut notes.counts.stalled,
                } += 1;
                None
            }
        }
    }
}

impl Asking<'_> {
    /// Tokens of the history with the one that is being decoded.
    fn total(&self) -> usize {
        self.history.len() + 1
    }

    /// The tokens from position `told` on, the one that is being decoded last.
    fn since(&self, told: usize) -> Vec<u32> {
        let history = self.history.get(told..).unwrap_or_default();
        [history, &[self.next]].concat()
    }
}
