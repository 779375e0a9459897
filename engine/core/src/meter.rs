//! What one tenant uses: generations under way, and tokens by the minute.
//!
//! A token bucket that may go into debt. What a prompt takes is known before it runs, and must be there; what an answer
//! takes is known only once it is there, so its tokens are taken as they come, and the next request waits until the
//! debt is paid. (A cell-rate limiter, such as the crate `governor`, has to be asked for a token before it is made.)

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::events::GenerateEvent;
use crate::pipeline::Tap;

const MINUTE: Duration = Duration::from_secs(60);

/// What one tenant uses.
#[derive(Debug, Default)]
pub struct Meter {
    streams: AtomicU32,
    bucket: Mutex<Option<Bucket>>,
}

/// Tokens that may still be used, as they were at a time. It holds at most what a minute brings.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    level: f64,
    at: Instant,
}

impl Bucket {
    /// As it is `now`, when `limit` tokens come in a minute.
    fn filled(self, limit: u32, now: Instant) -> Self {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        let limit = f64::from(limit);
        Self {
            level: (self.level + since / MINUTE.as_secs_f64() * limit).min(limit),
            at: self.at.max(now),
        }
    }
}

/// Tokens taken for a request that may yet be refused. A caller that goes away has not been refused: its tokens stay
/// taken, because its work may be done all the same.
#[derive(Debug)]
#[must_use = "a request that is refused gets its tokens back"]
pub struct Charge(Option<(Arc<Meter>, usize)>);

impl Charge {
    /// Of nothing.
    pub const fn none() -> Self {
        Self(None)
    }

    /// Gives the tokens back if the request was refused.
    pub fn settle<T, E>(self, outcome: &Result<T, E>) {
        if let (Some((meter, tokens)), Err(_)) = (self.0, outcome) {
            meter.take(-(tokens as f64));
        }
    }
}

/// A generation that is counted. Dropping it ends that.
#[derive(Debug)]
pub struct StreamPermit(Arc<Meter>);

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Counts the tokens of a generation as they are made.
impl Tap<GenerateEvent> for StreamPermit {
    fn sent(&self, event: &GenerateEvent) {
        if matches!(event, GenerateEvent::Token(_)) {
            self.0.take(1.0);
        }
    }
}

impl Meter {
    /// Generations under way.
    #[must_use]
    pub fn streams(&self) -> u32 {
        self.streams.load(Ordering::Acquire)
    }

    /// Takes `tokens`, if they are there: `limit` come in a minute. A request of none waits for the end of a debt as
    /// well. What is refused is told when it will be there.
    pub(crate) fn charge(
        meter: &Arc<Self>,
        tokens: usize,
        limit: u32,
        now: Instant,
    ) -> Result<Charge, Duration> {
        let mut bucket = meter.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let full = Bucket {
            level: f64::from(limit),
            at: now,
        };
        let filled = bucket.unwrap_or(full).filled(limit, now);
        let wanted = tokens as f64;
        let missing = wanted.max(1.0) - filled.level;
        let taken = if missing > 0.0 { 0.0 } else { wanted };
        *bucket = Some(Bucket {
            level: filled.level - taken,
            ..filled
        });
        if missing > 0.0 {
            let wait = missing / f64::from(limit.max(1)) * MINUTE.as_secs_f64();
            return Err(Duration::from_secs_f64(wait));
        }
        Ok(Charge(Some((Arc::clone(meter), tokens))))
    }

    /// Counts one more generation, unless `limit` are under way.
    pub(crate) fn stream(meter: &Arc<Self>, limit: u32) -> Option<StreamPermit> {
        let begin = |streams: u32| (streams < limit).then(|| streams + 1);
        meter
            .streams
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, begin)
            .ok()?;
        Some(StreamPermit(Arc::clone(meter)))
    }

    /// Takes tokens that are made already, into debt if need be. Before the first charge nobody counts.
    fn take(&self, tokens: f64) {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = bucket.as_mut() {
            bucket.level -= tokens;
        }
    }
}
