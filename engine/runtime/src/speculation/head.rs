//! A trained head that guesses from the model's own states: see [`kakeya_model::head`].

use std::sync::{Arc, Mutex, PoisonError};

use kakeya_model::head::{DraftHead, HeadRunner};
use kakeya_model::{ComputeOptions, Model, ModelError};

use super::proposer::{Proposal, Proposer, ProposerError, Proposers};

/// Proposers that share a head.
pub struct HeadProposers {
    head: Arc<DraftHead>,
    model: Arc<Model>,
    /// Sessions guess one after the other: each has all threads.
    runner: Mutex<HeadRunner>,
}

impl HeadProposers {
    /// Proposers for sessions of `model`, which `head` was made for, on threads of their own.
    ///
    /// # Errors
    /// When the threads cannot be had.
    pub fn new(
        head: Arc<DraftHead>,
        model: Arc<Model>,
        options: ComputeOptions,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            head,
            model,
            runner: Mutex::new(HeadRunner::new(options)?),
        })
    }
}

impl Proposers for HeadProposers {
    fn name(&self) -> &'static str {
        "head"
    }

    fn wants_states(&self) -> bool {
        true
    }

    fn start(self: Arc<Self>) -> Result<Box<dyn Proposer>, ProposerError> {
        Ok(Box::new(Guesser {
            of: self,
            last: None,
            state: Vec::new(),
        }))
    }
}

/// The head in one session.
struct Guesser {
    of: Arc<HeadProposers>,
    last: Option<u32>,
    /// The model's state after the token before the last; empty where it is not known.
    state: Vec<f32>,
}

impl Proposer for Guesser {
    fn extend(&mut self, tokens: &[u32], state: Option<&[f32]>) {
        self.last = tokens.last().copied().or(self.last);
        self.state.clear();
        self.state.extend_from_slice(state.unwrap_or_default());
    }

    fn propose(&mut self, most: usize) -> Result<Proposal, ProposerError> {
        let Some(last) = self.last.filter(|_| !self.state.is_empty()) else {
            return Ok(Proposal::default());
        };
        let HeadProposers {
            head,
            model,
            runner,
        } = &*self.of;
        let mut runner = runner.lock().unwrap_or_else(PoisonError::into_inner);
        runner.begin(head, &self.state);
        let mut tokens = Vec::with_capacity(most);
        for _ in 0..most {
            let token = tokens.last().copied().unwrap_or(last);
            tokens.push(runner.step(head, model, token));
        }
        Ok(Proposal { tokens, kind: 0 })
    }
}
