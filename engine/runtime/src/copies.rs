//! Sessions made from others: forks, and copies that leave the engine and come back.

use std::sync::Arc;
use std::time::Instant;

use kakeya_core::{EngineError, KVSlab, KvStorage, SessionId, SessionImage};
use kakeya_model::KeptLogits;

use crate::engine::{Engine, internal};

impl Engine {
    /// Makes `count` sessions that go on from where `id` is: all, or none. Idle sessions end where their places are
    /// needed, as for any new session.
    ///
    /// # Errors
    /// [`EngineError::NotFound`]; [`EngineError::NoSlab`] when not enough places can be had.
    pub fn fork(
        &mut self,
        now: Instant,
        id: &SessionId,
        count: u32,
    ) -> Result<Vec<SessionId>, EngineError> {
        self.touch(id, now)?;
        let was_busy = self.set_busy(id, true)?;
        let forks = self.fork_busy(now, id, count as usize);
        self.set_busy(id, was_busy)?;
        forks
    }

    fn fork_busy(
        &mut self,
        now: Instant,
        id: &SessionId,
        count: usize,
    ) -> Result<Vec<SessionId>, EngineError> {
        self.expire(now);
        if self.room() < count {
            self.counts.refused += 1;
            let capacity = self.config().capacity;
            return Err(EngineError::NoSlab { capacity });
        }
        // All places first: were they taken one by one, a fork could be evicted for the next.
        let slabs = (0..count)
            .map(|_| self.slab(now))
            .collect::<Result<Vec<_>, _>>()?;
        let mut forks = Vec::with_capacity(count);
        for mut slab in slabs {
            let state = self.state(id)?;
            copy(
                self,
                slab.storage_mut(),
                state.verifier.storage(),
                state.verifier.position(),
            );
            let logits = KeptLogits::from(state.next_logits.to_vec());
            let history = self.history(id)?.to_vec();
            let (label, eos) = (self.label(id)?.to_owned(), self.eos_token_ids(id)?.to_vec());
            let tenant = Arc::clone(self.tenant(id)?);
            let fork = self.open(now, label, eos, history, slab, logits)?;
            self.give(&fork, &tenant)?;
            forks.push(fork);
        }
        self.sound()?;
        Ok(forks)
    }

    /// Copies a session's whole state into memory of its own. The session's idle clock goes on.
    ///
    /// # Errors
    /// [`EngineError::NotFound`]; [`EngineError::Internal`] when the system refuses the memory.
    pub fn export(&self, id: &SessionId) -> Result<SessionImage, EngineError> {
        let state = self.state(id)?;
        let slab = self.layout().slab_shape(self.config().kv);
        let mut storage = KvStorage::new(slab)?;
        copy(
            self,
            &mut storage,
            state.verifier.storage(),
            state.verifier.position(),
        );
        let next_logits = state.next_logits.to_vec();
        self.sound()?;
        Ok(SessionImage {
            label: self.label(id)?.to_owned(),
            eos_token_ids: self.eos_token_ids(id)?.to_vec(),
            history: self.history(id)?.to_vec(),
            storage,
            next_logits,
        })
    }

    /// Opens a session with the state of `image`, as [`Engine::create_session`] opens an empty one: under the id that it
    /// had somewhere else, or a fresh one.
    ///
    /// # Errors
    /// As [`Engine::create_session`]; [`EngineError::Internal`] when there is a session of that id.
    pub fn import(
        &mut self,
        now: Instant,
        id: Option<SessionId>,
        mut image: SessionImage,
    ) -> Result<SessionId, EngineError> {
        self.sound()?;
        self.prepare(&mut image)?;
        let slab = self.slab(now)?;
        if let Some(id) = id {
            self.reopen(id.clone(), now, slab, image)?;
            return Ok(id);
        }
        let slab = self.fill(slab, &image);
        let SessionImage {
            label,
            eos_token_ids,
            history,
            next_logits,
            ..
        } = image;
        self.open(now, label, eos_token_ids, history, slab, next_logits.into())
    }

    /// Checks that what was copied is what there was: nothing is, once a GPU has failed.
    fn sound(&self) -> Result<(), EngineError> {
        match self.lost() {
            None => Ok(()),
            Some(fault) => Err(internal(fault.to_string())),
        }
    }

    /// Checks that an image has the logits of this model, and makes room for those to come.
    pub(crate) fn prepare(&self, image: &mut SessionImage) -> Result<(), EngineError> {
        let vocabulary = self.model().config().vocabulary;
        let found = image.next_logits.len();
        if !image.history.is_empty() && found != vocabulary {
            return Err(internal(format!("an image with {found} logits")));
        }
        image.next_logits.reserve_exact(vocabulary - found);
        Ok(())
    }

    /// Puts the keys and values of an image in a slab.
    pub(crate) fn fill(&self, mut slab: KVSlab, image: &SessionImage) -> KVSlab {
        let committed = image.history.len() as u64;
        copy(self, slab.storage_mut(), &image.storage, committed);
        slab
    }
}

/// Copies what `committed` tokens have left, and no more: a short session is copied in little time.
pub(crate) fn copy(engine: &Engine, to: &mut KvStorage, from: &KvStorage, committed: u64) {
    for layer in engine.layout().layers() {
        to.copy_from(from, layer.written(committed));
    }
}
