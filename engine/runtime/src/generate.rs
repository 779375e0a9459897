//! Generating tokens: one step, one token.
//!
//! A token is emitted first and put in the cache second, within the same step. So a stream that is dropped
//! leaves the session with exactly the tokens that were emitted.

use std::time::{Duration, Instant};

use kakeya_core::{
    EngineError, EngineMetrics, Form, GenerateDone, GenerateEvent, GenerateParams, GeneratedToken,
    InvalidArgument, Producer, SessionId, StopReason, TrySend,
};

use kakeya_model::{Ahead, Draw};

use crate::constrained::Constrained;
use crate::engine::Engine;
use crate::logprobs::token_logprobs;
use crate::sampler::Sampler;
use crate::stop::StopMatcher;

/// Tokens that a generation makes room for in its session's history when it begins. One that goes beyond lets
/// the history grow as it comes to it.
pub const HISTORY_AHEAD: usize = 1 << 16;

/// Where a generation's events go.
pub type Events = Producer<GenerateEvent, EngineError>;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A token, or the truncation notice, was emitted.
    Progress,
    /// The client has not read its events: there is no room for another.
    Blocked,
    /// The generation is over for this reason, and the session holds every token that was emitted.
    Finished(StopReason),
}

/// What a generation has just emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emitted {
    /// A token, which is not in the cache yet.
    Token(u32),
    /// The truncation notice.
    Notice,
    /// Nothing: there is no room for another event.
    Blocked,
    /// Nothing: the generation is over for this reason.
    Finished(StopReason),
}

impl Emitted {
    fn refused(refused: &TrySend<GenerateEvent>) -> Self {
        match refused {
            TrySend::Full(_) => Self::Blocked,
            TrySend::Cancelled(_) => Self::Finished(StopReason::Cancelled),
        }
    }
}

/// One generation of one session.
#[derive(Debug)]
pub struct GenerationCoordinator {
    id: SessionId,
    max_tokens: u32,
    sampler: Sampler,
    constrained: Option<Constrained>,
    stop: StopMatcher,
    top_logprobs: Option<u32>,
    emitted: u32,
    /// Why the last emitted token is the last: an end of sequence, a stop sequence, or the end of its form.
    ended: Option<StopReason>,
    /// A truncation notice that is still to be sent.
    dropped: Option<u64>,
    asked: Instant,
    first_token: Option<Duration>,
    /// When the last token was emitted, unless the client has had to be waited for since.
    last_token: Option<Instant>,
    /// A token that was drawn, for that position, and not emitted yet.
    drawn: Option<(u64, u32)>,
}

/// The logits that a token is drawn from. Those of a GPU are fetched when somebody looks at them all.
#[derive(Clone, Copy)]
struct Logits<'a> {
    all: &'a dyn Fn() -> &'a [f32],
    /// The token with the greatest, where it is known.
    greatest: Option<u32>,
    /// One that was drawn from them already, and how.
    drawn: Option<(Draw, u32)>,
}

/// What became of the drafts behind an emitted token.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// How many of them were emitted: they are tokens of the session.
    pub(crate) count: usize,
    /// Whether it can go on after them.
    pub(crate) then: Result<(), EngineError>,
}

impl GenerationCoordinator {
    /// Checks a generation that was asked for at `asked`. It goes on from the history as it is now: what it counts
    /// for the repetition penalty is counted here, and after this only for the tokens that it emits itself.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], [`EngineError::InvalidArgument`] (also for an empty session) and
    /// [`EngineError::Limit`] and [`EngineError::Constraint`]; the session is as it was.
    pub fn begin(
        engine: &mut Engine,
        id: &SessionId,
        params: GenerateParams,
        asked: Instant,
    ) -> Result<Self, EngineError> {
        params.validate()?;
        let vocabulary = engine.model().config().vocabulary;
        params.validate_tokens(vocabulary as u32)?;
        let history = engine.history(id)?.len() as u64;
        if history == 0 {
            return Err(InvalidArgument::EmptySession { id: id.clone() }.into());
        }
        engine
            .tenant(id)?
            .check_history(history, params.max_tokens.into())?;
        engine.touch(id, asked)?;
        engine.reserve(id, (params.max_tokens as usize).min(HISTORY_AHEAD))?;
        let constrained = params
            .constraint
            .as_ref()
            .map(|constraint| Constrained::begin(constraint, vocabulary))
            .transpose()?;
        let dropped = history - engine.config().cache.cached_length(history);
        Ok(Self {
            id: id.clone(),
            max_tokens: params.max_tokens,
            sampler: Sampler::new(&params, vocabulary, engine.history(id)?),
            constrained,
            stop: StopMatcher::new(params.stop),
            top_logprobs: params.top_logprobs,
            emitted: 0,
            ended: None,
            dropped: (dropped > 0).then_some(dropped),
            asked,
            first_token: None,
            last_token: None,
            drawn: None,
        })
    }

    /// The session.
    #[must_use]
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Emits the next event and, when it is a token, puts it in the cache in a pass of its own.
    ///
    /// # Errors
    /// As [`GenerationCoordinator::emit`]; [`EngineError::Invariant`].
    pub fn step(
        &mut self,
        engine: &mut Engine,
        events: &Events,
        now: Instant,
    ) -> Result<Step, EngineError> {
        match self.emit(engine, events)? {
            Emitted::Token(token) => {
                engine.run_alone(&self.id, &[token], true, now)?;
                self.advance(engine)
            }
            Emitted::Notice => Ok(Step::Progress),
            Emitted::Blocked => Ok(Step::Blocked),
            Emitted::Finished(reason) => Ok(Step::Finished(reason)),
        }
    }

    /// Emits the next event. A token must then go in the cache, in a pass of the caller's, before anything
    /// else happens to the session; [`GenerationCoordinator::advance`] takes note of it.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] when the session has ended meanwhile, and [`EngineError::Constraint`]; nothing was
    /// emitted.
    pub fn emit(&mut self, engine: &Engine, events: &Events) -> Result<Emitted, EngineError> {
        if events.is_cancelled() {
            return Ok(Emitted::Finished(StopReason::Cancelled));
        }
        if let Some(dropped) = self.dropped {
            return Ok(
                match events.try_send(GenerateEvent::Truncated { dropped }) {
                    Ok(()) => {
                        self.dropped = None;
                        Emitted::Notice
                    }
                    Err(refused) => Emitted::refused(&refused),
                },
            );
        }
        let length = engine.history(&self.id)?.len();
        if let Some(reason) = self.stop_reason(engine, length) {
            return Ok(Emitted::Finished(reason));
        }
        let kept = &engine.state(&self.id)?.next_logits;
        let logits = Logits {
            all: &|| kept,
            greatest: kept.greatest(),
            drawn: kept.drawn(),
        };
        let drawn = self.draw(engine, events, logits, length as u64, None)?;
        // Whatever is drawn is the next token, where nothing in particular is hoped for.
        Ok(drawn.unwrap_or(Emitted::Blocked))
    }

    /// Drafts that could be emitted behind a token, at most, when `length` tokens are in the history before it.
    pub(crate) fn room_for_drafts(&self, engine: &Engine, length: usize) -> usize {
        if self.stop_reason(engine, length + 1).is_some() {
            return 0;
        }
        let left = (self.max_tokens - self.emitted) as usize;
        match engine.config().cache.cached_limit() {
            Some(_) => left,
            None => left.min(engine.model().config().context - length - 1),
        }
    }

    /// Emits the drafts behind the token that was emitted last, as long as they are what would be drawn: `rows` has the
    /// logits after that token, which stands at position `position`, and after each of them. The caller keeps them, in
    /// the pass that has made the logits.
    pub(crate) fn accept(
        &mut self,
        engine: &Engine,
        events: &Events,
        position: usize,
        drafts: &[u32],
        rows: &[f32],
    ) -> Accepted {
        let vocabulary = engine.model().config().vocabulary;
        let mut count = 0;
        let rows = rows.chunks_exact(vocabulary);
        for ((draft, logits), at) in drafts.iter().zip(rows).zip(position + 1..) {
            if events.is_cancelled() || self.stop_reason(engine, at).is_some() {
                break;
            }
            let logits = Logits {
                all: &|| logits,
                greatest: None,
                drawn: None,
            };
            match self.draw(engine, events, logits, at as u64, Some(*draft)) {
                Ok(Some(Emitted::Token(_))) => count += 1,
                Ok(_) => break,
                Err(error) => {
                    let then = Err(error);
                    return Accepted { count, then };
                }
            }
        }
        Accepted {
            count,
            then: Ok(()),
        }
    }

    /// Draws the token for `position` and emits it. Where it was hoped to be another, it is kept for when its turn
    /// comes, and `None` is the answer.
    fn draw(
        &mut self,
        engine: &Engine,
        events: &Events,
        logits: Logits<'_>,
        position: u64,
        hoped: Option<u32>,
    ) -> Result<Option<Emitted>, EngineError> {
        if !events.has_room() {
            self.last_token = None;
            return Ok(Some(Emitted::Blocked));
        }
        let token = match (self.drawn.take(), &mut self.constrained) {
            (Some((at, token)), _) if at == position => token,
            (_, None) => match self.known(logits, position) {
                Some(token) => token,
                None => self.sampler.next((logits.all)(), position),
            },
            (_, Some(constrained)) => {
                let allowed = constrained.allowed()?;
                self.sampler.next_allowed((logits.all)(), position, allowed)
            }
        };
        if hoped.is_some_and(|hoped| hoped != token) {
            self.drawn = Some((position, token));
            return Ok(None);
        }
        let form = match &mut self.constrained {
            None => Form::Open,
            // Before it is emitted: a session's history has no token that an error came after.
            Some(constrained) => constrained.note(token)?,
        };
        let logprobs = self
            .top_logprobs
            .map(|top| Box::new(token_logprobs((logits.all)(), token, top as usize)));
        let event = GenerateEvent::Token(GeneratedToken {
            id: token,
            logprobs,
        });
        if let Err(refused) = events.try_send(event) {
            return Ok(Some(Emitted::refused(&refused)));
        }
        self.observe(engine.metrics());
        self.emitted += 1;
        self.sampler.note(token);
        let completed = self.stop.completes(token);
        self.ended = if engine.eos_token_ids(&self.id)?.contains(&token) {
            Some(StopReason::Eos)
        } else if completed {
            Some(StopReason::StopSequence)
        } else {
            (form == Form::Complete).then_some(StopReason::Complete)
        };
        Ok(Some(Emitted::Token(token)))
    }

    /// How the token for `position` is drawn, where a GPU may do so beside the pass that makes its logits.
    pub(crate) fn draw_ahead(&self, position: u64) -> Option<Draw> {
        let is_free = self.constrained.is_none();
        is_free.then(|| self.sampler.draw_ahead(position)).flatten()
    }

    /// How a GPU may go on before the host has seen the token that it finds, where the one after that is for `position`; `None`
    /// where somebody looks at all logits of a token, or they are changed before it is taken.
    pub(crate) fn ahead(&self, position: u64) -> Option<Ahead> {
        let draw = self.draw_ahead(position);
        let is_found = self.constrained.is_none() && self.sampler.takes_greatest();
        let is_left_alone = self.top_logprobs.is_none();
        ((draw.is_some() || is_found) && is_left_alone).then_some(Ahead { draw })
    }

    /// The token for `position`, where it was found beside the pass.
    fn known(&self, logits: Logits<'_>, position: u64) -> Option<u32> {
        if self.sampler.takes_greatest() {
            return logits.greatest;
        }
        let asked = self.sampler.draw_ahead(position)?;
        let (draw, token) = logits.drawn?;
        (draw == asked).then_some(token)
    }

    /// Takes note that the emitted token is in the cache.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] when the session has ended meanwhile.
    pub fn advance(&self, engine: &mut Engine) -> Result<Step, EngineError> {
        self.advance_by(engine, 1)
    }

    /// Takes note that the emitted token is in the cache, and with it those drafts that were emitted: `count` tokens.
    pub(crate) fn advance_by(
        &self,
        engine: &mut Engine,
        count: usize,
    ) -> Result<Step, EngineError> {
        engine.counts.tokens_generated += count as u64;
        let length = engine.history(&self.id)?.len();
        Ok(match self.stop_reason(engine, length) {
            Some(reason) => Step::Finished(reason),
            None => Step::Progress,
        })
    }

    /// Takes the times of the token that was just emitted.
    fn observe(&mut self, metrics: &EngineMetrics) {
        let now = Instant::now();
        if self.first_token.is_none() {
            let waited = now.saturating_duration_since(self.asked);
            metrics.first_token_seconds.observe(waited.as_secs_f64());
            self.first_token = Some(waited);
        }
        if let Some(last) = self.last_token.replace(now) {
            let apart = now.saturating_duration_since(last);
            metrics.inter_token_seconds.observe(apart.as_secs_f64());
        }
    }

    /// The last event.
    #[must_use]
    pub fn done(&self, reason: StopReason) -> GenerateEvent {
        let total = self.asked.elapsed();
        GenerateEvent::Done(GenerateDone {
            reason,
            generated: self.emitted,
            prefill: self.first_token.unwrap_or(total),
            total,
        })
    }

    /// Why nothing comes after the first `length` tokens of the session.
    fn stop_reason(&self, engine: &Engine, length: usize) -> Option<StopReason> {
        let full = engine.config().cache.cached_limit().is_none();
        let used = length >= engine.model().config().context;
        if self.ended.is_some() {
            self.ended
        } else if self.emitted == self.max_tokens {
            Some(StopReason::MaxTokens)
        } else if full && used {
            Some(StopReason::Truncated)
        } else {
            None
        }
    }
}
