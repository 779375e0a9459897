//! Speculation: tokens that are guessed, and verified in the pass in which the token before them is decoded.
//!
//! A pass with a token and its drafts makes the logits after each of them, bit for bit those of plain decoding
//! (INV-3). From these the session draws its next token as it always does; a draft that is that token has saved a
//! pass, and the first that is not ends the block. So what is generated, its logits and its cache are those of plain
//! decoding, whatever a proposer says. A proposer can only be right, wrong, slow or broken, and costs time at worst.

mod companion;
mod costs;
pub mod diffusion;
pub mod draft;
mod guard;
pub mod head;
pub mod ngram;
mod policy;
pub mod proposer;
mod speculator;

use std::sync::Arc;
use std::time::Duration;

use kakeya_core::SessionId;

use crate::engine::Engine;
pub(crate) use costs::{Costs, Load};
pub use diffusion::{DiffusionError, DiffusionModel, fill_in};
pub use draft::{DraftError, DraftModel};
pub use head::HeadProposers;
pub use ngram::PromptLookup;
pub use proposer::{KINDS, Proposal, Proposer, ProposerError, Proposers};
pub(crate) use speculator::{Asking, Notes, Speculator};

/// The most tokens that a block can have beside the one that is decoded.
pub const MAX_DRAFTS: usize = 16;

/// The most drafted tokens of all sessions in a pass: each takes memory for its logits.
pub(crate) const MAX_DRAFTED_ROWS: usize = 64;

/// Who guesses for an engine's sessions, and how far.
#[derive(Clone)]
pub struct Speculation {
    /// Where a session's proposer comes from.
    pub proposers: Arc<dyn Proposers>,
    /// How long a block is.
    pub blocks: Blocks,
    /// A proposer that leaves a request unanswered for so long is taken to hang, and the session goes on without it.
    pub stall: Duration,
}

impl Speculation {
    /// As much as pays. A proposer that does not answer for a minute is taken to hang: a draft model that reads a long
    /// history takes its time, and the session does not wait for it.
    #[must_use]
    pub fn new(proposers: Arc<dyn Proposers>) -> Self {
        Self {
            proposers,
            blocks: Blocks::Adaptive,
            stall: Duration::from_secs(60),
        }
    }
}

/// How many drafted tokens are verified at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    /// As many as pay, by what was measured: none where nothing is accepted.
    Adaptive,
    /// As many as are proposed, up to so many, pay or not. For the gates.
    Fixed(usize),
}

impl std::fmt::Debug for Speculation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({:?})", self.proposers.name(), self.blocks)
    }
}

impl Engine {
    /// What may come after `next`, which a session has just emitted, into `drafts`: at most `limit` tokens. Whether its
    /// proposer is at work beside the pass that comes.
    pub(crate) fn draft(
        &mut self,
        id: &SessionId,
        next: u32,
        limit: usize,
        load: Option<Load>,
        costs: &mut Costs,
        drafts: &mut Vec<u32>,
    ) -> bool {
        drafts.clear();
        let limit = limit.min(self.config().drafts);
        let Some(speculation) = self.speculation().filter(|_| limit > 0).cloned() else {
            return false;
        };
        // A session that has ended meanwhile has its say in the pass.
        let Ok(state) = self.state_mut(id) else {
            return false;
        };
        let speculator = state.speculator.take();
        let mut counts = self.counts.speculation;
        let mut speculator =
            speculator.unwrap_or_else(|| Box::new(Speculator::start(&speculation, &mut counts)));
        if let (Ok(history), Ok(state)) = (self.history(id), self.state(id)) {
            let asking = Asking {
                history,
                next,
                state: Some(&state.last_state[..]).filter(|state| !state.is_empty()),
                limit,
                vocabulary: self.model().config().vocabulary as u32,
                load,
            };
            let mut notes = Notes {
                counts: &mut counts,
                costs,
            };
            speculator.draft(&asking, drafts, &mut notes);
        }
        self.counts.speculation = counts;
        let waited_for = speculator.is_waited_for();
        if let Ok(state) = self.state_mut(id) {
            state.speculator = Some(speculator);
        }
        waited_for
    }

    /// Takes note that a pass took so many `seconds` longer because a session's proposer was at work beside it.
    pub(crate) fn slowed(&mut self, id: &SessionId, seconds: f64) {
        if let Ok(state) = self.state_mut(id)
            && let Some(speculator) = &mut state.speculator
        {
            speculator.slowed(seconds);
        }
    }

    /// Takes note of a session's step, and of how many of its drafts were accepted.
    pub(crate) fn verified(&mut self, id: &SessionId, accepted: usize, load: Option<Load>) {
        let mut counts = self.counts.speculation;
        if let Ok(state) = self.state_mut(id)
            && let Some(speculator) = &mut state.speculator
        {
            speculator.verified(accepted, load, &mut counts);
        }
        self.counts.speculation = counts;
    }
}
