//! Prompts that begin with what another request has left.
//!
//! A session that is made for one request shares: it may begin with keys and values that were computed for others, and
//! leaves its own to them. What it begins with is copied into its slab, so it has nothing in common with anybody from
//! then on. Sessions that were not asked to share never come here.
//!
//! The copies are exact because the bits of a position depend on the tokens up to it alone (INV-3). They may be cut at
//! any length of which everything is there: while the ring has not turned over any, and after that the last 256 or so.
//! The last token of a prompt is always computed: its logits are where the answer begins.

use std::sync::Arc;
use std::time::Instant;

use kakeya_core::prefix::shared;
use kakeya_core::{EngineError, PackedKv, PrefixMatch, PrefixOwner, PrefixStats, SessionId};
use kakeya_model::KvLayout;

use crate::copies::copy;
use crate::engine::{Engine, SessionState, internal};

/// Tokens that are worth an entry, or a wait: computing so many takes longer than copying a whole slab.
pub(crate) const LEAST_GAIN: usize = 32;

/// What is cached for some tokens.
#[derive(Debug)]
pub(crate) struct KeptPrefix {
    kv: PackedKv,
    /// The tokens.
    length: u64,
    /// The position that the slab it is from was written up to.
    written: u64,
}

impl KeptPrefix {
    /// Whether a session can begin with the first `length` of its tokens.
    fn serves(&self, layout: &KvLayout, length: usize) -> bool {
        self.written <= layout.reach(length as u64)
    }
}

/// How a session shares.
#[derive(Clone, Debug)]
pub(crate) struct Sharing {
    owner: Option<PrefixOwner>,
    /// Tokens that it began with.
    reused: usize,
}

impl Engine {
    /// Lets a new session share with those of the same owner, unless there is no prefix cache.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn share(&mut self, id: &SessionId, owner: Option<PrefixOwner>) -> Result<(), EngineError> {
        let sharing = Sharing { owner, reused: 0 };
        let shares = self.prefixes.limit() > 0;
        self.state_mut(id)?.sharing = shares.then_some(sharing);
        Ok(())
    }

    /// Tokens of a session's history; 0 when there is none.
    pub(crate) fn length(&self, id: &SessionId) -> usize {
        self.history(id).map_or(0, <[u32]>::len)
    }

    /// Whether a session shares.
    pub(crate) fn shares(&self, id: &SessionId) -> bool {
        self.state(id).is_ok_and(|state| state.sharing.is_some())
    }

    /// Whether two sessions share with each other.
    pub(crate) fn share_with_each_other(&self, one: &SessionId, other: &SessionId) -> bool {
        let owner = |id| Some(&self.state(id).ok()?.sharing.as_ref()?.owner);
        let (one, other) = (owner(one), owner(other));
        one.is_some() && one == other
    }

    /// Tokens of `prompt` that a session could begin with from the cache.
    pub(crate) fn cached_prefix(&self, id: &SessionId, prompt: &[u32]) -> usize {
        let sharing = self.state(id).ok().and_then(|state| state.sharing.as_ref());
        let found = sharing.and_then(|sharing| self.longest(sharing, but_the_last(prompt)));
        found.map_or(0, |found| found.shared)
    }

    /// Tokens of `prompt` that a session could begin with from what `source` has in its slab now.
    pub(crate) fn live_prefix(&self, source: &SessionId, prompt: &[u32]) -> usize {
        let (Ok(history), Ok(state)) = (self.history(source), self.state(source)) else {
            return 0;
        };
        let shared = shared(history, but_the_last(prompt));
        if state.verifier.still_holds(shared as u64) {
            shared
        } else {
            0
        }
    }

    /// Bytes that are copied for a session to begin with so many tokens.
    pub(crate) fn prefix_bytes(&self, length: usize) -> u64 {
        let written = ranges(self.layout(), length as u64).map(|range| range.len());
        PackedKv::bytes_of(self.config().kv, written.sum())
    }

    /// Lets an empty session that shares begin with as much of `prompt` as is cached, all but its last token at most.
    /// Returns how many tokens that is; they are then its history.
    ///
    /// # Errors
    /// [`EngineError::NotFound`]; [`EngineError::Invariant`], of which nothing is known.
    pub fn begin_with_cached(
        &mut self,
        id: &SessionId,
        prompt: &[u32],
        now: Instant,
    ) -> Result<usize, EngineError> {
        let layout = Arc::clone(self.shared_layout());
        let mut state = self.take_empty(id)?;
        let found = state
            .sharing
            .as_ref()
            .and_then(|sharing| self.longest(sharing, but_the_last(prompt)));
        let shared = found.as_ref().map_or(0, |found| found.shared);
        if let Some(found) = &found {
            let (kept, length) = (found.kept, shared as u64);
            let packed = ranges(&layout, kept.length);
            let both = packed.zip(ranges(&layout, length));
            let fill = |slab: &mut _| kept.kv.unpack(slab, both);
            state.verifier.begin_with(length, kept.written, fill);
            self.prefixes.touch(found);
        }
        self.begun_with(id, state, &prompt[..shared], now)
    }

    /// Lets an empty session that shares begin with the first `length` tokens of `prompt`, which are those of `source`
    /// as well, from the slab of `source`. Returns how many tokens it has begun with: `length`, or none where they are
    /// not there.
    ///
    /// # Errors
    /// As [`Engine::begin_with_cached`].
    pub fn begin_with_that_of(
        &mut self,
        id: &SessionId,
        source: &SessionId,
        prompt: &[u32],
        now: Instant,
    ) -> Result<usize, EngineError> {
        let length = match self.share_with_each_other(id, source) {
            true => self.live_prefix(source, prompt),
            false => 0,
        };
        let mut state = self.take_empty(id)?;
        if let Some(from) = self.state(source).ok().filter(|_| length > 0) {
            let length = length as u64;
            let (from, written) = (from.verifier.storage(), from.verifier.written());
            let fill = |slab: &mut _| copy(self, slab, from, length);
            state.verifier.begin_with(length, written, fill);
        }
        self.begun_with(id, state, &prompt[..length], now)
    }

    /// Keeps the first `length` tokens of a session that shares for others, if they are worth it and there is room.
    /// Returns the bytes that were copied.
    pub fn keep_prefix(&mut self, id: &SessionId, length: usize) -> u64 {
        let Some((sharing, tokens, written)) = self.worth_keeping(id, length) else {
            return 0;
        };
        let bytes = self.prefix_bytes(length) + 4 * length as u64;
        if bytes > self.prefixes.limit() {
            return 0;
        }
        let layout = Arc::clone(self.shared_layout());
        let owner = sharing.owner;
        // What the new one serves as well needs no entry beside it.
        let covered = |_: &KeptPrefix, length: usize| written <= layout.reach(length as u64);
        self.prefixes
            .remove_beginnings(owner.as_ref(), &tokens, covered);
        // Before the copy, so that there is never more than may be.
        self.prefixes.make_room(bytes);
        let length = length as u64;
        if self.lost().is_some() {
            return 0;
        }
        let storage = self.state(id).map(|state| state.verifier.storage());
        let ranges = ranges(&layout, length);
        let Some(kv) = storage.ok().and_then(|from| PackedKv::pack(from, ranges)) else {
            tracing::warn!(bytes, "the system has no memory for a cached prefix");
            return 0;
        };
        let kept = KeptPrefix {
            kv,
            length,
            written,
        };
        self.prefixes.insert(owner, tokens, bytes, kept);
        bytes
    }

    /// How a session shares, its first `length` tokens, and how far its slab is written; if there is something in them
    /// that is not cached yet.
    fn worth_keeping(&self, id: &SessionId, length: usize) -> Option<(Sharing, Box<[u32]>, u64)> {
        let (history, state) = (self.history(id).ok()?, self.state(id).ok()?);
        let (sharing, verifier) = (state.sharing.as_ref()?, &state.verifier);
        if length < LEAST_GAIN || !verifier.still_holds(length as u64) {
            return None;
        }
        let tokens = &history[..length];
        if let Some(found) = self.longest(sharing, tokens)
            && found.shared + LEAST_GAIN > length
        {
            self.prefixes.touch(&found);
            return None;
        }
        Some((sharing.clone(), tokens.into(), verifier.written()))
    }

    /// Drops every cached prefix, and keeps none from now on.
    pub fn close_prefixes(&mut self) {
        self.prefixes.close();
    }

    /// Drops what a session whose cache is not what was recorded has begun with, and what it has left.
    pub(crate) fn distrust_prefixes(&mut self, id: &SessionId) {
        let (Ok(history), Ok(state)) = (self.history(id), self.state(id)) else {
            return;
        };
        let Some(Sharing { owner, reused }) = state.sharing.clone() else {
            return;
        };
        let history = history.to_vec();
        let owner = owner.as_ref();
        self.prefixes
            .remove_beginnings(owner, &history, |_, _| true);
        self.prefixes.remove(owner, &history);
        if reused > 0 {
            self.prefixes.remove_all_from(owner, &history[..reused]);
        }
    }

    pub(crate) fn prefix_stats(&self) -> PrefixStats {
        PrefixStats {
            entries: self.prefixes.len() as u64,
            bytes: self.prefixes.bytes(),
            evicted: self.prefixes.evicted(),
            ..self.counts.prefix
        }
    }

    fn longest(&self, sharing: &Sharing, prompt: &[u32]) -> Option<PrefixMatch<'_, KeptPrefix>> {
        let serves = |kept: &KeptPrefix, shared| kept.serves(self.layout(), shared);
        self.prefixes
            .longest(sharing.owner.as_ref(), prompt, serves)
    }

    fn take_empty(&mut self, id: &SessionId) -> Result<Box<SessionState>, EngineError> {
        match self.history(id)? {
            [] => self.take_state(id),
            history => Err(internal(format!(
                "a session of {} tokens would begin anew",
                history.len()
            ))),
        }
    }

    fn begun_with(
        &mut self,
        id: &SessionId,
        mut state: Box<SessionState>,
        tokens: &[u32],
        now: Instant,
    ) -> Result<usize, EngineError> {
        let counts = &mut self.counts.prefix;
        if let Some(sharing) = &mut state.sharing {
            sharing.reused = tokens.len();
            counts.hits += u64::from(!tokens.is_empty());
            counts.misses += u64::from(tokens.is_empty());
            counts.tokens_reused += tokens.len() as u64;
        }
        self.put_back(id, state, tokens, now)?;
        Ok(tokens.len())
    }
}

fn but_the_last(prompt: &[u32]) -> &[u32] {
    &prompt[..prompt.len().saturating_sub(1)]
}

/// Where `committed` tokens have left keys and values in a slab.
fn ranges(
    layout: &KvLayout,
    committed: u64,
) -> impl Iterator<Item = std::ops::Range<usize>> + Clone {
    let layers = layout.layers().iter();
    layers.flat_map(move |layer| layer.written(committed))
}
