//! A second model beside the one that is served: what draft and diffusion models have in common. Each session that it
//! proposes for has a cache with it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use kakeya_core::{CacheConfig, KvElement, SlabPool};
use kakeya_model::{Compute, ComputeOptions, KvLayout, Model, PassSize};

use super::MAX_DRAFTS;
use super::proposer::ProposerError;
use crate::config::EngineStartError;
use crate::verifier::{MAX_CHUNK, SinkWindowVerifier};

/// The model, its threads, and a slab for each session of the engine.
pub(super) struct Companion {
    model: Arc<Model>,
    cache: CacheConfig,
    layout: Arc<KvLayout>,
    /// Sessions propose one after the other: each has all threads.
    compute: Mutex<Compute>,
    slabs: Mutex<SlabPool>,
    /// A slab was given back.
    freed: Condvar,
}

/// One session's cache with the model. Dropping it gives its slab back.
pub(super) struct CompanionSession {
    of: Arc<Companion>,
    /// There until it is dropped.
    verifier: Option<SinkWindowVerifier>,
}

impl Companion {
    /// A model for `capacity` sessions under the policy `cache`, on threads of its own.
    ///
    /// # Errors
    /// When its slabs or threads cannot be had.
    pub(super) fn new(
        model: Arc<Model>,
        cache: CacheConfig,
        kv: KvElement,
        capacity: usize,
        options: ComputeOptions,
    ) -> Result<Arc<Self>, EngineStartError> {
        cache.validate()?;
        let layout = SinkWindowVerifier::layout_for(&model, &cache);
        let mut compute = Compute::new(options)?;
        let shape = layout.slab_shape(kv);
        let size = PassSize {
            sequences: 1,
            rows: MAX_CHUNK,
            logits: MAX_DRAFTS,
        };
        compute.check_room(&model, shape, capacity, size)?;
        let slabs = SlabPool::of(shape, capacity, || compute.storage(shape))?;
        compute.reserve(&model, &layout, size)?;
        Ok(Arc::new(Self {
            model,
            cache,
            layout,
            compute: Mutex::new(compute),
            slabs: Mutex::new(slabs),
            freed: Condvar::new(),
        }))
    }

    /// An empty cache. Where every slab is in use it waits: there are as many as sessions, and one that has just ended gives
    /// its slab back when its proposer has done what it was at. Nobody waits for the thread that this is called on.
    ///
    /// # Errors
    /// When the slab does not fit, of which nothing is known.
    pub(super) fn session(self: &Arc<Self>) -> Result<CompanionSession, ProposerError> {
        let mut slabs = self.lock_slabs();
        let slab = loop {
            match slabs.acquire() {
                Ok(slab) => break slab,
                Err(_) => {
                    let waited = self.freed.wait(slabs);
                    slabs = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        drop(slabs);
        let (model, layout) = (Arc::clone(&self.model), Arc::clone(&self.layout));
        let verifier = SinkWindowVerifier::new(model, self.cache, layout, slab);
        Ok(CompanionSession {
            of: Arc::clone(self),
            verifier: Some(verifier.map_err(ProposerError::new)?),
        })
    }

    // One that panicked has left nothing that another reads: slabs are whole, and a pass begins anew.
    fn lock_slabs(&self) -> MutexGuard<'_, SlabPool> {
        self.slabs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CompanionSession {
    /// The cache, and the threads for as long as they are held.
    pub(super) fn run(&mut self) -> (&mut SinkWindowVerifier, MutexGuard<'_, Compute>) {
        let compute = self.of.compute.lock();
        let verifier = self.verifier.as_mut().expect("it is not dropped");
        (verifier, compute.unwrap_or_else(PoisonError::into_inner))
    }

    /// The cache.
    pub(super) fn verifier(&mut self) -> &mut SinkWindowVerifier {
        self.verifier.as_mut().expect("it is not dropped")
    }

    /// Of `most` tokens, as many as there is room for behind what is cached and `unread` tokens more.
    pub(super) fn room(&mut self, unread: usize, most: usize) -> usize {
        if self.of.cache.cached_limit().is_some() {
            return most;
        }
        let context = self.of.model.config().context as u64;
        let left = context.saturating_sub(self.verifier().position() + unread as u64);
        usize::try_from(left).map_or(most, |left| most.min(left))
    }
}

impl Drop for CompanionSession {
    fn drop(&mut self) {
        if let Some(verifier) = self.verifier.take() {
            if let Err(rejected) = self.of.lock_slabs().release(verifier.into_slab()) {
                tracing::error!(reason = %rejected, "a proposer's slab was not taken back");
            }
            self.of.freed.notify_one();
        }
    }
}
