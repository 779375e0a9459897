//! One turn of the loop: what every session at work does in one forward pass.
//!
//! Each generation emits a token and puts it in the pass. Appends share what rows are left for prompts, in the
//! order they came: few while others decode, so that a long prompt does not hold up their streams. Where there are no
//! prompts to be read, tokens that may come next are verified in the same pass.

use std::collections::HashMap;
use std::time::Instant;

use kakeya_core::{EngineError, SessionId};

use super::jobs::{Jobs, Line};
use super::work::{Asked, End, Work};
use crate::engine::{Engine, internal};
use crate::generate::{Accepted, Emitted, GenerationCoordinator, Step};
use crate::speculation::{Load, MAX_DRAFTED_ROWS};
use crate::verifier::longest_append;

/// Whether a turn found anything to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Worked,
    Nothing,
}

/// The lists of a turn, kept from one to the next.
#[derive(Default)]
pub(super) struct Lists {
    /// The sessions whose generations have emitted a token, and that token.
    emitted: Vec<(SessionId, u32)>,
    /// The sessions of the pass: those of generations first.
    members: Vec<Member>,
    ended: Vec<(SessionId, End)>,
    drafts: Vec<u32>,
}

/// A session in a pass.
struct Member {
    id: SessionId,
    /// Its rows, those of its drafts included.
    rows: usize,
    /// Drafts among them.
    drafts: usize,
    /// Whether its proposer is at work beside the pass.
    proposer_works: bool,
}

impl Jobs {
    /// One pass for all that can go on.
    pub(super) fn turn(&mut self, engine: &mut Engine) -> Turn {
        self.begin_prompts(engine, Instant::now());
        let begun = Instant::now();
        let mut lists = std::mem::take(&mut self.lists);
        self.pass.clear();
        self.emit(engine, &mut lists);
        let decoding = lists.emitted.len();
        let prompts = self.prompts();
        let load = self.costs.load(decoding).filter(|_| prompts == 0);
        self.join_generations(engine, load, prompts == 0, &mut lists);
        let drafted = lists.members.iter().map(|member| member.drafts).sum();
        let longest = longest_append(engine.config().isa);
        let slice = self.pacing.slice(decoding, longest);
        let read = self.join_appends(engine, slice, prompts, &mut lists);
        if !self.pass.is_empty() {
            let metrics = engine.metrics();
            metrics
                .batch_rows
                .observe((decoding + drafted + read) as f64);
            let started = Instant::now();
            engine.begin(&mut self.pass);
            self.keep(engine, begun, load, &mut lists);
            if drafted == 0 {
                self.pacing.ran(decoding, read, begun.elapsed());
            }
            if read == 0 {
                let seconds = started.elapsed().as_secs_f64();
                self.take_note(engine, load, decoding, drafted, seconds, &lists.members);
            }
        }
        let turn = if self.pass.is_empty() && lists.ended.is_empty() {
            Turn::Nothing
        } else {
            Turn::Worked
        };
        lists.members.clear();
        lists.emitted.clear();
        self.copied.clear();
        for (id, end) in lists.ended.drain(..) {
            self.end_or_go_on(engine, &id, begun, end);
        }
        self.lists = lists;
        turn
    }

    /// Takes note of how long a pass took that read no prompts. One beside which proposers were at work tells what they cost,
    /// and not what a pass takes.
    fn take_note(
        &mut self,
        engine: &mut Engine,
        load: Option<Load>,
        decoding: usize,
        drafted: usize,
        seconds: f64,
        members: &[Member],
    ) {
        let working = || members.iter().filter(|member| member.proposer_works);
        match load.and_then(|load| load.pass(drafted)) {
            Some(expected) if working().next().is_some() => {
                // Chance makes it less as often as more.
                let lost = (seconds - expected) / working().count() as f64;
                for member in working() {
                    engine.slowed(&member.id, lost);
                }
            }
            _ => self.costs.ran(decoding, drafted, seconds),
        }
    }

    /// Lets every generation emit its token.
    fn emit(&mut self, engine: &Engine, lists: &mut Lists) {
        for id in &self.at_work {
            let Some(Work::Generate {
                begun: Some(generation),
                asked: Asked { events, .. },
                blocked,
            }) = first_of(&mut self.lines, id)
            else {
                continue;
            };
            // The notice is not a token: what comes after it can go in the same pass.
            let emitted = match generation.emit(engine, events) {
                Ok(Emitted::Notice) => generation.emit(engine, events),
                other => other,
            };
            *blocked = matches!(emitted, Ok(Emitted::Blocked | Emitted::Notice));
            match emitted {
                Ok(Emitted::Token(token)) => lists.emitted.push((id.clone(), token)),
                Ok(Emitted::Finished(reason)) => {
                    lists.ended.push((id.clone(), End::Generated(reason)));
                }
                Ok(Emitted::Blocked | Emitted::Notice) => {}
                Err(error) => lists.ended.push((id.clone(), End::Failed(error))),
            }
        }
    }

    /// Puts the emitted tokens in the pass, and behind them, if they `may_draft`, what may come next.
    fn join_generations(
        &mut self,
        engine: &mut Engine,
        load: Option<Load>,
        may_draft: bool,
        lists: &mut Lists,
    ) {
        let mut left = if may_draft { MAX_DRAFTED_ROWS } else { 0 };
        for (id, token) in &lists.emitted {
            let length = engine.length(id);
            let (mut limit, mut draw, mut ahead) = (0, None, None);
            if let Some(Work::Generate {
                begun: Some(generation),
                asked,
                ..
            }) = first_of(&mut self.lines, id)
            {
                let room = generation.room_for_drafts(engine, length);
                let room = room.min(asked.drafts_before_prompt_ends(length));
                limit = left.min(room);
                draw = generation.draw_ahead(length as u64 + 1);
                // Like a draft, it writes the place behind the token.
                if may_draft && room > 0 {
                    ahead = generation.ahead(length as u64 + 2);
                }
            }
            let proposer_works =
                engine.draft(id, *token, limit, load, &mut self.costs, &mut lists.drafts);
            self.pass
                .push_drafted(id, *token, &lists.drafts, draw, ahead);
            lists.members.push(Member {
                id: id.clone(),
                rows: 1 + lists.drafts.len(),
                drafts: lists.drafts.len(),
                proposer_works,
            });
            left -= lists.drafts.len();
        }
    }

    /// Appends that have something to be read, or to be done with.
    fn prompts(&mut self) -> usize {
        let mut appends = 0;
        for id in &self.at_work {
            if let Some(work @ Work::Append { .. }) = first_of(&mut self.lines, id) {
                appends += usize::from(!work.waits_for_its_beginning());
            }
        }
        appends
    }

    /// Shares `slice` rows among the appends, of which there are so many. Returns the rows they took.
    fn join_appends(
        &mut self,
        engine: &Engine,
        slice: usize,
        mut appends: usize,
        lists: &mut Lists,
    ) -> usize {
        let mut left = slice;
        for id in &self.at_work {
            // Beyond where another waits for it, it would begin to overwrite what that one waits for.
            let before = self.rows_before_another_begins(engine, id);
            let Some(work) = first_of(&mut self.lines, id) else {
                continue;
            };
            let given_up = work.is_given_up();
            if work.waits_for_its_beginning() {
                if given_up {
                    lists.ended.push((id.clone(), End::GivenUp));
                }
                continue;
            }
            let Work::Append {
                begun: Some(append),
                ..
            } = work
            else {
                continue;
            };
            // What a short append leaves over goes to those after it.
            let share = left.div_ceil(appends);
            appends -= 1;
            if given_up {
                lists.ended.push((id.clone(), End::GivenUp));
            } else if append.is_done() {
                lists.ended.push((id.clone(), appended(engine, id)));
            } else if share > 0 {
                let rows = append.join(&mut self.pass, share.min(before));
                lists.members.push(Member {
                    id: id.clone(),
                    rows,
                    drafts: 0,
                    proposer_works: false,
                });
                left -= rows;
            }
        }
        slice - left
    }

    /// Puts what the pass was about in the caches and histories, the drafts as far as they are accepted, and takes note.
    fn keep(&mut self, engine: &mut Engine, now: Instant, load: Option<Load>, lists: &mut Lists) {
        for (index, member) in lists.members.iter().enumerate() {
            let Member {
                id, rows, drafts, ..
            } = member;
            let Some(work) = first_of(&mut self.lines, id) else {
                engine.keep(&mut self.pass, index, rows - drafts, now);
                continue;
            };
            let mut accepted = Accepted {
                count: 0,
                then: Ok(()),
            };
            if let Work::Generate {
                begun: Some(generation),
                asked,
                ..
            } = &mut *work
                && *drafts > 0
                && engine.fault().is_none()
            {
                accepted = generation.accept(
                    engine,
                    &asked.events,
                    engine.length(id),
                    &self.pass.tokens(index)[1..],
                    engine.logits(&self.pass, index),
                );
            }
            let kept = rows - drafts + accepted.count;
            engine.keep(&mut self.pass, index, kept, now);
            let end = match self.pass.outcome(index).and(accepted.then) {
                Ok(()) => advance(engine, id, work, kept),
                Err(error) => Some(End::Failed(error)),
            };
            if matches!(work, Work::Generate { .. }) {
                engine.verified(id, accepted.count, load);
            }
            if let Some(end) = end {
                lists.ended.push((id.clone(), end));
            }
        }
    }
}

/// Takes note of the pass that has run, for one of its members.
fn advance(engine: &mut Engine, id: &SessionId, work: &mut Work, rows: usize) -> Option<End> {
    match work {
        Work::Append {
            begun: Some(append),
            ..
        } => {
            append.advance(engine, rows);
            append.is_done().then(|| appended(engine, id))
        }
        Work::Generate {
            begun: Some(generation),
            asked,
            ..
        } => match advance_generation(engine, id, generation, asked, rows) {
            Ok(Step::Finished(reason)) => Some(End::Generated(reason)),
            Ok(Step::Progress | Step::Blocked) => None,
            Err(error) => Some(End::Failed(error)),
        },
        Work::Append { begun: None, .. } | Work::Generate { begun: None, .. } | Work::Copy(_) => {
            Some(End::Failed(internal(
                "a request that was not begun is in a pass",
            )))
        }
    }
}

/// Takes note of `count` tokens. A prompt that the next one would begin to overwrite is kept for others first.
fn advance_generation(
    engine: &mut Engine,
    id: &SessionId,
    generation: &GenerationCoordinator,
    asked: &Asked,
    count: usize,
) -> Result<Step, EngineError> {
    let step = generation.advance_by(engine, count)?;
    if let Some(prompt) = asked.prompt_at_its_end(engine.length(id)) {
        engine.keep_prefix(id, prompt);
    }
    Ok(step)
}

fn appended(engine: &Engine, id: &SessionId) -> End {
    match engine.history(id) {
        Ok(history) => End::Appended(history.len() as u64),
        Err(error) => End::Failed(error),
    }
}

/// The request that a session is at work on.
fn first_of<'a>(lines: &'a mut HashMap<SessionId, Line>, id: &SessionId) -> Option<&'a mut Work> {
    lines.get_mut(id)?.waiting.front_mut()
}
