//! One turn of the loop: what every session at work does in one forward pass.
//!
//! Each generation emits a token and puts it in the pass. Appends share what rows are left for prompts, in the
//! order they came: few while others decode, so that a long prompt does not hold up their streams.

use std::collections::HashMap;
use std::time::Instant;

use kakeya_core::{EngineError, SessionId};

use super::jobs::{Jobs, Line};
use super::work::{Asked, End, Work};
use crate::engine::{Engine, internal};
use crate::generate::{Emitted, GenerationCoordinator, Step};

/// Whether a turn found anything to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Worked,
    Nothing,
}

/// The lists of a turn, kept from one to the next.
#[derive(Default)]
pub(super) struct Lists {
    /// The sessions of the pass, and their rows: those of generations first.
    members: Vec<(SessionId, usize)>,
    ended: Vec<(SessionId, End)>,
}

impl Jobs {
    /// One pass for all that can go on.
    pub(super) fn turn(&mut self, engine: &mut Engine) -> Turn {
        self.begin_prompts(engine, Instant::now());
        let begun = Instant::now();
        let mut lists = std::mem::take(&mut self.lists);
        self.pass.clear();
        self.emit(engine, &mut lists);
        let decoding = lists.members.len();
        let slice = self.pacing.slice(decoding);
        let prompts = self.join_appends(engine, slice, &mut lists);
        if !self.pass.is_empty() {
            engine
                .metrics()
                .batch_rows
                .observe((decoding + prompts) as f64);
            engine.run(&mut self.pass, begun);
            self.advance(engine, &mut lists);
            self.pacing.ran(decoding, prompts, begun.elapsed());
        }
        let turn = if self.pass.is_empty() && lists.ended.is_empty() {
            Turn::Nothing
        } else {
            Turn::Worked
        };
        lists.members.clear();
        self.copied.clear();
        for (id, end) in lists.ended.drain(..) {
            self.end_or_go_on(engine, &id, begun, end);
        }
        self.lists = lists;
        turn
    }

    /// Lets every generation emit its token and join the pass.
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
                Ok(Emitted::Token(token)) => {
                    self.pass.push(id, &[token], true);
                    lists.members.push((id.clone(), 1));
                }
                Ok(Emitted::Finished(reason)) => {
                    lists.ended.push((id.clone(), End::Generated(reason)));
                }
                Ok(Emitted::Blocked | Emitted::Notice) => {}
                Err(error) => lists.ended.push((id.clone(), End::Failed(error))),
            }
        }
    }

    /// Shares `slice` rows among the appends. Returns the rows they took.
    fn join_appends(&mut self, engine: &Engine, slice: usize, lists: &mut Lists) -> usize {
        let mut appends = 0;
        for id in &self.at_work {
            if let Some(work @ Work::Append { .. }) = first_of(&mut self.lines, id) {
                appends += usize::from(!work.waits_for_its_beginning());
            }
        }
        let mut left = slice;
        for id in &self.at_work {
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
                let rows = append.join(&mut self.pass, share);
                lists.members.push((id.clone(), rows));
                left -= rows;
            }
        }
        slice - left
    }

    /// Takes note of the pass that has run.
    fn advance(&mut self, engine: &mut Engine, lists: &mut Lists) {
        for (index, (id, rows)) in lists.members.iter().enumerate() {
            let Some(work) = first_of(&mut self.lines, id) else {
                continue;
            };
            let end = match self.pass.outcome(index) {
                Ok(()) => advance(engine, id, work, *rows),
                Err(error) => Some(End::Failed(error)),
            };
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
        } => match advance_generation(engine, id, generation, asked) {
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

/// Takes note of a token. A prompt that the next one would begin to overwrite is kept for others first.
fn advance_generation(
    engine: &mut Engine,
    id: &SessionId,
    generation: &GenerationCoordinator,
    asked: &Asked,
) -> Result<Step, EngineError> {
    let step = generation.advance(engine)?;
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
