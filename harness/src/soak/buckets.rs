//! Turns by the time they ended in, in equal parts of the whole.

use hdrhistogram::Histogram;
use jiff::{SignedDuration, Timestamp};
use kakeya_evidence::{Bucket, Violations};
use kakeya_gates::long_session::Turn;

/// Parts that the time is cut into.
const COUNT: u32 = 6;
/// Microseconds of an hour. A turn that took longer counts as so long: no call waits for half of it.
const LONGEST_TURN: u64 = 3_600_000_000;

/// The buckets of a session that goes on.
#[derive(Debug)]
pub struct Buckets {
    start: Timestamp,
    length: SignedDuration,
    done: Vec<Bucket>,
    open: Open,
}

/// What is known of the bucket that time stands in.
#[derive(Debug)]
struct Open {
    turns: u64,
    tokens: u64,
    /// Microseconds of its turns, to three digits.
    durations: Histogram<u64>,
    kv_bytes_peak: u64,
    resident_bytes_peak: u64,
    violations: Violations,
}

impl Open {
    fn after(violations: Violations) -> Self {
        Self {
            turns: 0,
            tokens: 0,
            durations: Histogram::new_with_max(LONGEST_TURN, 3)
                .expect("three digits are among those it can keep"),
            kv_bytes_peak: 0,
            resident_bytes_peak: 0,
            violations,
        }
    }

    fn bucket(&self, from: Timestamp, to: Timestamp) -> Bucket {
        let seconds = |quantile| self.durations.value_at_quantile(quantile) as f64 / 1e6;
        Bucket {
            from,
            to,
            turns: self.turns,
            tokens: self.tokens,
            turn_p50_seconds: seconds(0.5),
            turn_p95_seconds: seconds(0.95),
            kv_bytes_peak: self.kv_bytes_peak,
            resident_bytes_peak: self.resident_bytes_peak,
            violations: self.violations,
        }
    }
}

impl Buckets {
    /// Buckets of a session that is to last so long from `start` on.
    pub fn new(start: Timestamp, whole: SignedDuration) -> Self {
        Self {
            start,
            length: whole / COUNT.cast_signed(),
            done: Vec::new(),
            open: Open::after(Violations::default()),
        }
    }

    /// Adds a turn that ended at `now`, when the server held so much memory. Says whether a bucket was closed.
    pub fn add(&mut self, turn: &Turn, resident_bytes: u64, now: Timestamp) -> bool {
        let closed = self.close_until(now);
        let open = &mut self.open;
        open.turns += 1;
        open.tokens += turn.tokens;
        open.durations
            .saturating_record(turn.duration.as_micros().try_into().unwrap_or(u64::MAX));
        open.kv_bytes_peak = open.kv_bytes_peak.max(turn.kv_bytes);
        open.resident_bytes_peak = open.resident_bytes_peak.max(resident_bytes);
        open.violations = Violations {
            inv1: turn.inv1,
            inv2: turn.inv2,
        };
        closed
    }

    /// Closes the buckets whose time is over. What comes after the last one's time belongs to it.
    fn close_until(&mut self, now: Timestamp) -> bool {
        let before = self.done.len();
        while self.done.len() + 1 < COUNT as usize && now >= self.end_of_open() {
            let bucket = self.open.bucket(self.start_of_open(), self.end_of_open());
            self.open = Open::after(bucket.violations);
            self.done.push(bucket);
        }
        self.done.len() > before
    }

    fn start_of_open(&self) -> Timestamp {
        self.done.last().map_or(self.start, |bucket| bucket.to)
    }

    fn end_of_open(&self) -> Timestamp {
        self.start + self.length * (self.done.len() as i32 + 1)
    }

    /// All buckets, the open one as it is `now`.
    pub fn at(&self, now: Timestamp) -> Vec<Bucket> {
        let mut all = self.done.clone();
        if now > self.start_of_open() {
            all.push(self.open.bucket(self.start_of_open(), now));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn turn(milliseconds: u64) -> Turn {
        Turn {
            duration: Duration::from_millis(milliseconds),
            tokens: 16,
            history_length: 32,
            kv_bytes: milliseconds * 1000,
            inv1: 0,
            inv2: 0,
        }
    }

    #[test]
    fn buckets_follow_each_other_and_hold_every_turn() {
        let mut buckets = Buckets::new(at(0), SignedDuration::from_secs(60));
        let mut closed = 0;
        for second in 1..=60 {
            closed += usize::from(buckets.add(&turn(100), 7, at(second)));
        }
        let all = buckets.at(at(61));
        assert_eq!((all.len(), closed), (6, 5));
        assert_eq!(all.iter().map(|bucket| bucket.turns).sum::<u64>(), 60);
        assert!(all.windows(2).all(|pair| pair[0].to == pair[1].from));
        assert_eq!((all[0].from, all[0].to, all[5].to), (at(0), at(10), at(61)));
        assert_eq!(all[0].resident_bytes_peak, 7);
    }

    #[test]
    fn percentiles_and_peaks_are_of_the_buckets_own_turns() {
        let mut buckets = Buckets::new(at(0), SignedDuration::from_secs(60));
        for milliseconds in 1..=100 {
            buckets.add(&turn(milliseconds), milliseconds, at(5));
        }
        buckets.add(&turn(7), 1, at(15));
        let all = buckets.at(at(20));
        assert_eq!(all.len(), 2);
        assert!((all[0].turn_p50_seconds - 0.050).abs() < 1e-4);
        assert!((all[0].turn_p95_seconds - 0.095).abs() < 1e-4);
        assert_eq!(
            (all[0].kv_bytes_peak, all[1].kv_bytes_peak),
            (100_000, 7_000)
        );
        assert_eq!(
            (all[0].resident_bytes_peak, all[1].resident_bytes_peak),
            (100, 1)
        );
    }

    #[test]
    fn a_turn_longer_than_buckets_leaves_empty_ones() {
        let mut buckets = Buckets::new(at(0), SignedDuration::from_secs(60));
        buckets.add(&turn(1), 1, at(35));
        let turns: Vec<_> = buckets
            .at(at(36))
            .iter()
            .map(|bucket| bucket.turns)
            .collect();
        assert_eq!(turns, [0, 0, 0, 1]);
        assert_eq!(buckets.at(at(36))[0].turn_p50_seconds, 0.0);
    }
}
