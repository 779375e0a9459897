//! Places for answers under way: as many as the engine has sessions for, and a bounded queue before them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kakeya_core::EngineError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places for answers under way.
#[derive(Debug, Clone)]
pub struct Slots {
    free: Arc<Semaphore>,
    all: usize,
    waiting: Arc<AtomicUsize>,
    cap: usize,
    max_wait: Duration,
}

/// A place in the queue, which is given back however the wait ends.
struct Waiting<'s>(&'s AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Slots {
    /// `all` places. At most `cap` requests wait for one, each for at most `max_wait`.
    #[must_use]
    pub fn new(all: usize, cap: usize, max_wait: Duration) -> Self {
        Self {
            free: Arc::new(Semaphore::new(all)),
            all,
            waiting: Arc::default(),
            cap,
            max_wait,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn all(&self) -> usize {
        self.all
    }

    /// How many requests wait for one.
    #[must_use]
    pub fn waiting(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.waiting)
    }

    /// Takes `count` places, at most [`Slots::all`], together. They are given back when it is dropped.
    ///
    /// # Errors
    /// [`EngineError::QueueFull`], [`EngineError::QueueTimeout`].
    pub async fn take(&self, count: u32) -> Result<OwnedSemaphorePermit, EngineError> {
        if let Ok(taken) = Arc::clone(&self.free).try_acquire_many_owned(count) {
            return Ok(taken);
        }
        let place = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.cap || self.max_wait.is_zero() {
            return Err(EngineError::QueueFull { cap: self.cap });
        }
        let taken = Arc::clone(&self.free).acquire_many_owned(count);
        let taken = tokio::time::timeout(self.max_wait, taken).await;
        drop(place);
        match taken {
            Ok(Ok(taken)) => Ok(taken),
            // The places are never closed: this is an engine that is gone.
            Ok(Err(_)) => Err(EngineError::Stopped),
            Err(_) => Err(EngineError::QueueTimeout {
                max_wait: self.max_wait,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_come_back_and_the_queue_is_bounded() {
        let slots = Slots::new(2, 1, Duration::from_secs(20));
        let both = slots.take(2).await.expect("two places");
        let queued = tokio::spawn({
            let slots = slots.clone();
            async move { slots.take(1).await.map(drop) }
        });
        while slots.waiting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let refused = slots.take(1).await.map(drop);
        assert_eq!(refused, Err(EngineError::QueueFull { cap: 1 }));
        drop(both);
        assert_eq!(queued.await.expect("no panic"), Ok(()));
        assert_eq!(slots.waiting.load(Ordering::Relaxed), 0);
        assert!(slots.take(2).await.is_ok());
    }

    #[tokio::test]
    async fn a_wait_ends_and_gives_its_place_back() {
        let max_wait = Duration::from_millis(5);
        let slots = Slots::new(1, 1, max_wait);
        let _one = slots.take(1).await.expect("a place");
        for _ in 0..3 {
            let refused = slots.take(1).await.map(drop);
            assert_eq!(refused, Err(EngineError::QueueTimeout { max_wait }));
        }
    }

    #[tokio::test]
    async fn without_a_wait_nobody_queues() {
        let slots = Slots::new(1, 8, Duration::ZERO);
        let _one = slots.take(1).await.expect("a place");
        let refused = slots.take(1).await.map(drop);
        assert_eq!(refused, Err(EngineError::QueueFull { cap: 8 }));
    }
}
