//! One forward pass for several sessions: decoding rows and slices of prompts, side by side.
//!
//! Every kernel treats a row alone, so who shares a pass changes no session's bits, and the loop is free to
//! put together whatever is ready.

use std::time::Instant;

use kakeya_core::{EngineError, SessionId};
use kakeya_model::{Ahead, Draw, LogitRows, SequenceInput};

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
    /// How the token after the last is drawn, where that is known and may be done beside the pass.
    draw: Option<Draw>,
    /// How the session most likely goes on after its one token.
    ahead: Option<Ahead>,
    /// The session's, while the pass runs.
    state: Option<Box<SessionState>>,
    /// Which of the sessions that did run this one is.
    ran: usize,
    outcome: Result<(), EngineError>,
}

impl Pass {
    /// Takes everything out.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.pieces.clear();
    }

    /// Adds the next tokens of a session: 1 to [`longest_append`](crate::longest_append) of them, each in the vocabulary.
    /// A session can be in a pass once. `last_logits` asks for the logits after the last token.
    pub fn push(&mut self, id: &SessionId, tokens: &[u32], last_logits: bool) {
        let rows = if last_logits {
            LogitRows::Last
        } else {
            LogitRows::None
        };
        self.add(id, tokens, &[], rows);
    }

    /// Adds the next token of a session, and behind it what may come next. How much of that is kept is said after the
    /// pass, by [`Engine::keep`]. Where nothing comes behind it, the token after it may be drawn beside the pass, and the pass
    /// of that token be begun.
    pub(crate) fn push_drafted(
        &mut self,
        id: &SessionId,
        token: u32,
        drafts: &[u32],
        draw: Option<Draw>,
        ahead: Option<Ahead>,
    ) {
        let rows = if drafts.is_empty() {
            LogitRows::Last
        } else {
            LogitRows::All
        };
        self.add(id, &[token], drafts, rows);
        if let Some(piece) = self.pieces.last_mut() {
            piece.draw = draw.filter(|_| drafts.is_empty());
            piece.ahead = ahead.filter(|_| drafts.is_empty());
        }
    }

    fn add(&mut self, id: &SessionId, tokens: &[u32], drafts: &[u32], rows: LogitRows) {
        let first = self.tokens.len();
        self.tokens.extend_from_slice(tokens);
        self.tokens.extend_from_slice(drafts);
        self.pieces.push(Piece {
            id: id.clone(),
            first,
            count: tokens.len() + drafts.len(),
            rows,
            draw: None,
            ahead: None,
            state: None,
            ran: 0,
            outcome: Ok(()),
        });
    }

    /// Tokens of the session that was pushed as number `index`.
    pub(crate) fn tokens(&self, index: usize) -> &[u32] {
        let piece = &self.pieces[index];
        &self.tokens[piece.first..][..piece.count]
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
        self.begin(pass);
        for index in 0..pass.len() {
            self.keep(pass, index, pass.pieces[index].count, now);
        }
    }

    /// Runs a pass up to its logits. Nothing is in a cache or a history before [`Engine::keep`] was called for every
    /// session.
    pub(crate) fn begin(&mut self, pass: &mut Pass) {
        let mut ran = 0;
        for piece in &mut pass.pieces {
            match self.take_state(&piece.id) {
                Ok(state) => {
                    piece.state = Some(state);
                    piece.ran = ran;
                    ran += 1;
                }
                Err(error) => piece.outcome = Err(error),
            }
        }
        let wants_states = self.wants_states();
        let mut batch = std::mem::take(&mut pass.batch);
        for piece in &mut pass.pieces {
            if let Some(state) = &mut piece.state {
                let SessionState {
                    verifier,
                    next_logits,
                    ..
                } = &mut **state;
                let tokens = &pass.tokens[piece.first..][..piece.count];
                let block = match piece.ahead.filter(|_| !wants_states) {
                    Some(ahead) => verifier.begin_step(tokens, piece.draw, Some(ahead)),
                    None => SequenceInput {
                        draw: piece.draw,
                        ..verifier.begin_block(tokens, piece.rows)
                    },
                };
                batch.push(SequenceInput {
                    kept: (piece.rows == LogitRows::Last).then_some(next_logits),
                    ..block
                });
            }
        }
        if !batch.is_empty() {
            self.forward(&mut batch);
        }
        pass.batch = recycle(batch);
    }

    /// The logits of a session of the pass that has begun, row-major: after each of its tokens where it has drafts, and
    /// else after the last; none where the session is no more.
    pub(crate) fn logits(&self, pass: &Pass, index: usize) -> &[f32] {
        let piece = &pass.pieces[index];
        match piece.state {
            Some(_) => self.compute.logits(piece.ran),
            None => &[],
        }
    }

    /// Keeps the first `count` tokens of a session of the pass that has begun, at least 1, and drops the rest.
    pub(crate) fn keep(&mut self, pass: &mut Pass, index: usize, count: usize, now: Instant) {
        let piece = &mut pass.pieces[index];
        let Some(mut state) = piece.state.take() else {
            return;
        };
        if let Some(fault) = self.fault() {
            let error = EngineError::Internal {
                detail: fault.to_string(),
            };
            piece.outcome = Err(self.failed(&piece.id, state, error));
            return;
        }
        let row = match piece.rows {
            LogitRows::None | LogitRows::Later => None,
            LogitRows::Last => Some(0),
            LogitRows::All => Some(count - 1),
        };
        if let Some(row) = row {
            // Those after the last token are kept by the pass.
            if piece.rows == LogitRows::All {
                self.compute
                    .keep_logits(piece.ran, row, &mut state.next_logits);
            }
            if self.wants_states() {
                let hidden = self.model().config().hidden;
                let states = self.compute.states(piece.ran);
                state.last_state.clear();
                state
                    .last_state
                    .extend_from_slice(&states[row * hidden..][..hidden]);
            }
        }
        state.verifier.commit_or_truncate(count);
        let tokens = &pass.tokens[piece.first..][..count];
        piece.outcome = self.put_back(&piece.id, state, tokens, now);
    }
}

/// An empty list with the allocation of `batch`: collecting in place keeps it.
fn recycle(mut batch: Vec<SequenceInput<'_>>) -> Vec<SequenceInput<'static>> {
    batch.clear();
    batch.into_iter().map(|_| unreachable!()).collect()
}
