//! One forward pass for several sessions: decoding rows and slices of prompts, side by side.
//!
//! Every kernel treats a row alone, so who shares a pass changes no session's bits, and the loop is free to
//! put together whatever is ready.

use std::time::Instant;

use kakeya_core::{EngineError, SessionId};
use kakeya_model::{LogitRows, SequenceInput};

use crate::engine::{Engine, SessionState};

/// What each session of a pass puts in its cache, and how it went. Its lists are kept from one pass to the
/// next, so that a pass allocates nothing once they have grown.
#[derive(Default)]
pub struct Pass {
    tokens: Vec<u32>,
    pieces: Vec<Piece>,
    /// Empty between passes: its allocation is what is kept.
    batch: Vec<SequenceInput<'static>>,
}

struct Piece {
    id: SessionId,
    first: usize,
    count: usize,
    rows: LogitRows,
    /// The session's, while the pass runs.
    state: Option<Box<SessionState>>,
    outcome: Result<(), EngineError>,
}

impl Pass {
    /// Takes everything out.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.pieces.clear();
    }

    /// Adds the next tokens of a session: 1 to [`MAX_CHUNK`](crate::MAX_CHUNK) of them, each in the vocabulary.
    /// A session can be in a pass once. `last_logits` asks for the logits after the last token.
    pub fn push(&mut self, id: &SessionId, tokens: &[u32], last_logits: bool) {
        let first = self.tokens.len();
        self.tokens.extend_from_slice(tokens);
        self.pieces.push(Piece {
            id: id.clone(),
            first,
            count: tokens.len(),
            rows: if last_logits {
                LogitRows::Last
            } else {
                LogitRows::None
            },
            state: None,
            outcome: Ok(()),
        });
    }

    /// Sessions in the pass.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether no session is in the pass.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// How the pass went for the session that was pushed as number `index`.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], or [`EngineError::Invariant`]: the session has then ended.
    pub fn outcome(&self, index: usize) -> Result<(), EngineError> {
        self.pieces[index].outcome.clone()
    }
}

impl Engine {
    /// Runs a pass: every session's tokens go in its cache and its history, and its invariants are checked. What
    /// goes wrong with one session is that session's [`Pass::outcome`], and the others go on.
    pub fn run(&mut self, pass: &mut Pass, now: Instant) {
        for piece in &mut pass.pieces {
            match self.take_state(&piece.id) {
                Ok(state) => piece.state = Some(state),
                Err(error) => piece.outcome = Err(error),
            }
        }
        let mut batch = std::mem::take(&mut pass.batch);
        for piece in &mut pass.pieces {
            if let Some(state) = &mut piece.state {
                let tokens = &pass.tokens[piece.first..][..piece.count];
                batch.push(state.verifier.begin_block(tokens, piece.rows));
            }
        }
        if !batch.is_empty() {
            self.forward(&mut batch);
        }
        pass.batch = recycle(batch);
        let mut index = 0;
        for piece in &mut pass.pieces {
            if let Some(mut state) = piece.state.take() {
                if piece.rows == LogitRows::Last {
                    state.next_logits.clear();
                    state
                        .next_logits
                        .extend_from_slice(self.compute.logits(index));
                }
                index += 1;
                state.verifier.commit_or_truncate(piece.count);
                let tokens = &pass.tokens[piece.first..][..piece.count];
                piece.outcome = self.put_back(&piece.id, state, tokens, now);
            }
        }
    }
}

/// An empty list with the allocation of `batch`: collecting in place keeps it.
fn recycle(mut batch: Vec<SequenceInput<'_>>) -> Vec<SequenceInput<'static>> {
    batch.clear();
    batch.into_iter().map(|_| unreachable!()).collect()
}
