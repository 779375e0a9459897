//! One session's proposer, what was learnt of it, and what it has been told.

use std::time::{Duration, Instant};

use kakeya_core::SpeculationStats;

use super::guard::{Fault, Guard, Waited};
use super::policy::{Load, Policy};
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
    /// Tokens of the history that the proposer has been told.
    told: usize,
    /// Those of them that it was told with the last request.
    reading: usize,
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
            told: 0,
            reading: 0,
            block: None,
        }
    }

    /// The drafts to verify behind the token that is being decoded, into `drafts`.
    pub(crate) fn draft(
        &mut self,
        asking: &Asking<'_>,
        drafts: &mut Vec<u32>,
        counts: &mut SpeculationStats,
    ) {
        drafts.clear();
        self.block = None;
        let limit = match self.blocks {
            Blocks::Adaptive => asking.limit.min(MAX_DRAFTS),
            Blocks::Fixed(most) => asking.limit.min(most).min(MAX_DRAFTS),
        };
        let wanted = match (self.blocks, asking.load) {
            (Blocks::Fixed(_), _) => limit,
            (Blocks::Adaptive, Some(load)) => self.policy.worth_asking(limit, load),
            (Blocks::Adaptive, None) => 0,
        };
        if wanted == 0 {
            return;
        }
        let Some(proposal) = self.proposal(asking, wanted, counts) else {
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
        counts: &mut SpeculationStats,
    ) -> Option<Proposal> {
        if self.guard.as_ref()?.is_asked() {
            // The answer still holds as far as the session has gone the way that it says.
            let mut late = self.wait(Duration::ZERO, asking, counts)?;
            let gone = asking.since(self.told);
            if late.tokens.len() > gone.len() && late.tokens.starts_with(&gone) {
                late.tokens.drain(..gone.len());
                return Some(late);
            }
        }
        let new = asking.since(self.told);
        self.told += new.len();
        self.reading = new.len();
        let patience = match self.blocks {
            Blocks::Fixed(_) => self.stall,
            Blocks::Adaptive if new.len() > READ_AT_ONCE => Duration::ZERO,
            Blocks::Adaptive => PATIENCE.min(Duration::from_secs_f64(self.policy.patience())),
        };
        let state = asking.state.map(<[f32]>::to_vec);
        self.guard.as_mut()?.ask(new, state, wanted);
        self.wait(patience, asking, counts)
    }

    /// The answer to what was asked, without what no proposer may say; `None` where there is none in time.
    fn wait(
        &mut self,
        patience: Duration,
        asking: &Asking<'_>,
        counts: &mut SpeculationStats,
    ) -> Option<Proposal> {
        let begun = Instant::now();
        let waited = self.guard.as_mut()?.wait(patience);
        self.policy.waited(begun.elapsed().as_secs_f64());
        match waited {
            Waited::Answered {
                mut proposal,
                asked,
                took,
            } => {
                // What it read is read once, and no part of what the next guesses cost.
                let guessing = took.mul_f64(asked as f64 / (asked + self.reading).max(1) as f64);
                self.policy.answered(asked, guessing.as_secs_f64());
                if proposal.tokens.len() > asked {
                    counts.too_many += 1;
                    proposal.tokens.truncate(asked);
                }
                let outside = |token: &u32| *token >= asking.vocabulary;
                if let Some(first) = proposal.tokens.iter().position(outside) {
                    counts.out_of_vocabulary += 1;
                    proposal.tokens.truncate(first);
                }
                Some(proposal)
            }
            Waited::Late => None,
            Waited::Lost(fault) => {
                self.guard = None;
                tracing::warn!(reason = %fault, "a session goes on without its proposer");
                *match fault {
                    Fault::Failed(_) => &mut counts.failed,
                    Fault::Panicked => &mut counts.panicked,
                    Fault::Stalled => &mut counts.stalled,
                } += 1;
                None
            }
        }
    }
}

impl Asking<'_> {
    /// The tokens from position `told` on, the one that is being decoded last.
    fn since(&self, told: usize) -> Vec<u32> {
        let history = self.history.get(told..).unwrap_or_default();
        [history, &[self.next]].concat()
    }
}
