//! What prompts of single generations begin with: a cached prefix, or what another such prompt has read so far.
//!
//! That is found out when a prompt has its slot, not when it comes: what is cached by then counts. A prompt whose
//! beginning another one is about to read waits for it, so of several answers to one prompt the first reads it.

use std::collections::HashMap;
use std::time::Instant;

use kakeya_core::prefix::shared;
use kakeya_core::{EngineError, SessionId};

use super::jobs::{Jobs, Line};
use super::work::{End, Work};
use crate::engine::Engine;
use crate::prefix::LEAST_GAIN;

/// Bytes that are copied between two passes while streams wait for their tokens; the copy that passes it is the last.
/// A core copies some 5 to 10 GB in a second.
const MOST_COPIED: u64 = 32 << 20;

/// What a prompt waits for before it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Its turn to find out what it can begin with.
    Open,
    /// Another that reads the same tokens, up to so many.
    Behind(SessionId, usize),
    /// Nothing.
    Begun,
}

/// Bytes that were copied since the last pass.
#[derive(Debug, Default)]
pub(super) struct Copied(u64);

impl Copied {
    pub(super) fn is_enough(&self) -> bool {
        self.0 >= MOST_COPIED
    }

    pub(super) fn add(&mut self, bytes: u64) {
        self.0 += bytes;
    }

    pub(super) fn clear(&mut self) {
        self.0 = 0;
    }
}

impl Jobs {
    /// Lets prompts that have a slot begin: all, or where others decode one at least.
    pub(super) fn begin_prompts(&mut self, engine: &mut Engine, now: Instant) {
        let streams = self.at_work.iter().any(|id| {
            let first = first_of(&self.lines, id);
            matches!(first, Some(Work::Generate { .. }))
        });
        let (mut index, mut begun) = (0, 0);
        while let Some(id) = self.at_work.get(index).cloned() {
            if streams && begun > 0 && self.copied.is_enough() {
                return;
            }
            if self.waits(engine, &id) {
                index += 1;
                continue;
            }
            match self.begin_prompt(engine, &id, now) {
                Ok(start) => {
                    begun += usize::from(start == Start::Begun);
                    index += 1;
                }
                Err(error) => {
                    self.end_first(engine, &id, now, |work| work.end(End::Failed(error)));
                }
            }
        }
    }

    /// Whether there is nothing to begin, or it must wait for another that has not come so far.
    fn waits(&self, engine: &Engine, id: &SessionId) -> bool {
        match first_of(&self.lines, id).and_then(Work::start) {
            None | Some(Start::Begun) => true,
            Some(Start::Open) => false,
            Some(Start::Behind(leader, length)) => {
                self.being_read(leader).is_some() && engine.length(leader) < *length
            }
        }
    }

    /// The tokens that a session reads until the first of those that wait for it can begin; as many as it likes, where none does.
    pub(super) fn rows_before_another_begins(&self, engine: &Engine, id: &SessionId) -> usize {
        let read = engine.length(id);
        let works = self.at_work.iter();
        let awaited = works.filter_map(|other| match first_of(&self.lines, other)?.start()? {
            Start::Behind(leader, length) if leader == id && *length > read => Some(length - read),
            _ => None,
        });
        awaited.min().unwrap_or(usize::MAX)
    }

    fn begin_prompt(
        &mut self,
        engine: &mut Engine,
        id: &SessionId,
        now: Instant,
    ) -> Result<Start, EngineError> {
        let Some(work) = first_of(&self.lines, id) else {
            return Ok(Start::Begun);
        };
        let prompt = work.prompt();
        let (mut source, mut most) = (None, engine.cached_prefix(id, prompt));
        let (mut leader, mut coming) = (None, 0);
        for other in self.at_work.iter().filter(|other| *other != id) {
            if !engine.share_with_each_other(id, other) {
                continue;
            }
            let live = engine.live_prefix(other, prompt);
            if live > most {
                (source, most) = (Some(other), live);
            }
            let ahead = self.being_read(other).map_or(0, |its| shared(its, prompt));
            if ahead > coming && ahead > engine.length(other) {
                (leader, coming) = (Some(other), ahead);
            }
        }
        let mut reused = 0;
        let start = match leader {
            Some(leader) if coming >= most + LEAST_GAIN => Start::Behind(leader.clone(), coming),
            _ => {
                if most > 0 {
                    self.copied.add(engine.prefix_bytes(most));
                }
                reused = match source {
                    None => engine.begin_with_cached(id, prompt, now)?,
                    Some(source) => engine.begin_with_that_of(id, source, prompt, now)?,
                };
                Start::Begun
            }
        };
        if let Some(work) = self.lines.get_mut(id).and_then(Line::first_mut) {
            work.set_start(start.clone(), reused);
        }
        Ok(start)
    }

    /// The prompt that a session reads now, all of it.
    fn being_read(&self, id: &SessionId) -> Option<&[u32]> {
        let work = first_of(&self.lines, id)?;
        (work.start() == Some(&Start::Begun)).then(|| work.prompt())
    }
}

fn first_of<'a>(lines: &'a HashMap<SessionId, Line>, id: &SessionId) -> Option<&'a Work> {
    lines.get(id)?.waiting.front()
}
