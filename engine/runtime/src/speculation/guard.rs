//! A proposer on a thread of its own, where it can be late, hang or panic without holding up a session.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::proposer::{Proposal, Proposer, ProposerError, Proposers};

/// What a proposer is told and asked.
struct Ask {
    /// Whether a new proposer takes the place of the one that is there.
    anew: bool,
    /// What the history has gained since the last time.
    tokens: Vec<u32>,
    state: Option<Vec<f32>>,
    most: usize,
}

/// Why a proposer is not asked any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It said so itself.
    Failed(ProposerError),
    /// Its code panicked.
    Panicked,
    /// It has not answered for too long.
    Stalled,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "it failed: {error}"),
            Self::Panicked => f.write_str("it panicked"),
            Self::Stalled => f.write_str("it hangs"),
        }
    }
}

/// What came of waiting for an answer.
pub(crate) enum Waited {
    /// An answer to a request for `asked` tokens.
    Answered { proposal: Proposal, asked: usize },
    /// None yet.
    Late,
    /// There will be none.
    Lost(Fault),
}

/// A proposer and its thread, which ends when this is dropped and the proposer has nothing more to do.
pub(crate) struct Guard {
    asks: Sender<Ask>,
    answers: Receiver<Result<Proposal, Fault>>,
    /// The request that has no answer yet: how many tokens were asked for, and when.
    open: Option<(usize, Instant)>,
    stall: Duration,
}

impl Guard {
    /// Starts a proposer. One that leaves a request unanswered for `stall` is taken to hang.
    pub(crate) fn start(proposers: &Arc<dyn Proposers>, stall: Duration) -> std::io::Result<Self> {
        let (asks, requests) = channel::<Ask>();
        let (told, answers) = channel();
        let proposers = Arc::clone(proposers);
        std::thread::Builder::new()
            .name(format!("kakeya-{}", proposers.name()))
            .spawn(move || {
                let mut proposer = None;
                for ask in requests {
                    let answer =
                        catch_unwind(AssertUnwindSafe(|| answer(&proposers, &mut proposer, ask)));
                    let proposal = match answer {
                        Ok(proposal) => proposal.map_err(Fault::Failed),
                        Err(_) => Err(Fault::Panicked),
                    };
                    let over = proposal.is_err();
                    if told.send(proposal).is_err() || over {
                        break;
                    }
                }
                // One that panics as it goes has nothing left to spoil.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(proposer)));
            })?;
        Ok(Self {
            asks,
            answers,
            open: None,
            stall,
        })
    }

    /// Whether a request has no answer yet.
    pub(crate) fn is_asked(&self) -> bool {
        self.open.is_some()
    }

    /// Tells what the history has gained, and asks for up to `most` tokens; with `anew`, a new proposer. The request before
    /// has its answer.
    pub(crate) fn ask(
        &mut self,
        anew: bool,
        tokens: Vec<u32>,
        state: Option<Vec<f32>>,
        most: usize,
    ) {
        self.open = Some((most, Instant::now()));
        // The thread is there for as long as no fault has been told.
        let _ = self.asks.send(Ask {
            anew,
            tokens,
            state,
            most,
        });
    }

    /// Waits for the answer, for `patience` at most.
    pub(crate) fn wait(&mut self, patience: Duration) -> Waited {
        let Some((asked, since)) = self.open else {
            return Waited::Late;
        };
        match self.answers.recv_timeout(patience) {
            Ok(said) => {
                self.open = None;
                match said {
                    Ok(proposal) => Waited::Answered { proposal, asked },
                    Err(fault) => Waited::Lost(fault),
                }
            }
            Err(RecvTimeoutError::Timeout) if since.elapsed() < self.stall => Waited::Late,
            Err(RecvTimeoutError::Timeout) => Waited::Lost(Fault::Stalled),
            Err(RecvTimeoutError::Disconnected) => Waited::Lost(Fault::Panicked),
        }
    }
}

/// Starts the proposer with its first request: all that can go wrong goes wrong on this thread.
fn answer(
    proposers: &Arc<dyn Proposers>,
    proposer: &mut Option<Box<dyn Proposer>>,
    ask: Ask,
) -> Result<Proposal, ProposerError> {
    if ask.anew {
        // What it holds is free before the next one takes the same.
        *proposer = None;
    }
    let proposer = match proposer {
        Some(proposer) => proposer,
        None => proposer.insert(Arc::clone(proposers).start()?),
    };
    proposer.extend(&ask.tokens, ask.state.as_deref());
    proposer.propose(ask.most)
}
