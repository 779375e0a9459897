//! How many rows of prompts a pass may take beside the rows that decode.
//!
//! A stream should hardly notice that somebody else's prompt is being read. So the time of passes without
//! prompts is measured, and prompts get what keeps a pass within [`STRETCH`] times that. Where a prompt is cut
//! changes no bits, so a clock may decide it.

use std::time::Duration;

use crate::verifier::MAX_CHUNK;

/// What a pass may take, in times of one that only decodes. The promise to streams is 3; the rest is for what
/// the estimates miss.
const STRETCH: f64 = 2.1;
/// Times of quiet passes that are remembered; the least of them counts, because whatever disturbs a pass makes it
/// longer.
const REMEMBERED: usize = 8;
/// Passes after which the time of a quiet one is measured anew, as streams get longer.
const STALE: u32 = 64;
/// The weight of the newest pass in the cost of a row.
const NEWEST: f64 = 0.3;

/// Passes with one number of decoding rows and no prompts.
#[derive(Clone, Copy, Debug)]
struct Quiet {
    seconds: [f64; REMEMBERED],
    next: usize,
    /// Passes with prompts since.
    age: u32,
}

/// What has been measured.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    /// By the number of decoding rows, less 1.
    quiet: Vec<Option<Quiet>>,
    /// Seconds that a row of a prompt adds to a pass.
    row: Option<f64>,
    /// The rows of the last pass that had any.
    last: usize,
}

impl Pacing {
    /// The rows of prompts that the next pass may have beside `decoding` rows: at most `longest` where nobody decodes. 0 asks for a pass without, to see
    /// how long it takes.
    pub(super) fn slice(&self, decoding: usize, longest: usize) -> usize {
        if decoding == 0 {
            return longest;
        }
        let quiet = match self.quiet.get(decoding - 1) {
            Some(Some(quiet)) if quiet.age < STALE => quiet.least(),
            _ => return 0,
        };
        let Some(row) = self.row else {
            return 1;
        };
        // A row's cost is known for about as many rows as there were; more are tried step by step.
        let rows = (STRETCH - 1.0) * quiet / row;
        (rows as usize).clamp(1, (2 * self.last).clamp(1, MAX_CHUNK))
    }

    /// Takes note of a pass that took `took`.
    pub(super) fn ran(&mut self, decoding: usize, prompts: usize, took: Duration) {
        if decoding == 0 {
            return;
        }
        if self.quiet.len() < decoding {
            self.quiet.resize(decoding, None);
        }
        let seconds = took.as_secs_f64();
        let known = &mut self.quiet[decoding - 1];
        match (prompts, known) {
            (0, None) => self.quiet[decoding - 1] = Some(Quiet::first(seconds)),
            (0, Some(quiet)) => quiet.ran(seconds),
            (_, None) => {}
            (_, Some(quiet)) => {
                quiet.age += 1;
                let row = ((seconds - quiet.least()) / prompts as f64).max(1e-9);
                let before = self.row.unwrap_or(row);
                self.row = Some(before + NEWEST * (row - before));
                self.last = prompts;
            }
        }
    }
}

impl Quiet {
    fn first(seconds: f64) -> Self {
        Self {
            seconds: [seconds; REMEMBERED],
            next: 0,
            age: 0,
        }
    }

    fn ran(&mut self, seconds: f64) {
        // After a long time with prompts, what was measured before is of no use.
        if self.age >= STALE {
            *self = Self::first(seconds);
        }
        self.seconds[self.next] = seconds;
        self.next = (self.next + 1) % REMEMBERED;
        self.age = 0;
    }

    fn least(&self) -> f64 {
        self.seconds.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine on which a pass takes `fixed` ms, and `row` ms more for each row of a prompt.
    struct Machine {
        fixed: f64,
        row: f64,
    }

    impl Machine {
        fn run(&self, pacing: &mut Pacing, decoding: usize) -> (usize, f64) {
            let slice = pacing.slice(decoding, MAX_CHUNK);
            let millis = self.fixed + self.row * slice as f64;
            pacing.ran(decoding, slice, Duration::from_secs_f64(millis / 1e3));
            (slice, millis)
        }
    }

    #[test]
    fn alone_a_prompt_gets_whole_chunks() {
        assert_eq!(Pacing::default().slice(0, 2 * MAX_CHUNK), 2 * MAX_CHUNK);
    }

    #[test]
    fn the_first_pass_beside_a_stream_is_quiet() {
        let mut pacing = Pacing::default();
        assert_eq!(pacing.slice(3, MAX_CHUNK), 0);
        pacing.ran(3, 0, Duration::from_millis(4));
        assert_eq!(pacing.slice(3, MAX_CHUNK), 1);
        assert_eq!(
            pacing.slice(2, MAX_CHUNK),
            0,
            "another number of streams is not known"
        );
    }

    #[test]
    fn passes_keep_within_the_stretch_and_use_it() {
        let machine = Machine {
            fixed: 10.0,
            row: 0.5,
        };
        let mut pacing = Pacing::default();
        let passes: Vec<_> = (0..40).map(|_| machine.run(&mut pacing, 1)).collect();
        let longest = passes.iter().map(|pass| pass.1).fold(0.0, f64::max);
        assert!(longest <= STRETCH * 10.0 + 0.01, "{longest} ms");
        let most = passes[20..].iter().map(|pass| pass.0).max();
        assert!(matches!(most, Some(21 | 22)), "{most:?} rows");
    }

    #[test]
    fn a_prompt_moves_on_however_costly_its_rows() {
        let machine = Machine {
            fixed: 1.0,
            row: 500.0,
        };
        let mut pacing = Pacing::default();
        let rows: usize = (0..10).map(|_| machine.run(&mut pacing, 1).0).sum();
        assert_eq!(rows, 9);
    }

    #[test]
    fn a_stream_that_has_become_slower_is_measured_again() {
        let mut pacing = Pacing::default();
        let mut machine = Machine {
            fixed: 10.0,
            row: 1.0,
        };
        for _ in 0..20 {
            machine.run(&mut pacing, 1);
        }
        machine.fixed = 30.0;
        let most = (0..3 * STALE).map(|_| machine.run(&mut pacing, 1).0).max();
        assert!(matches!(most, Some(32 | 33)), "{most:?} rows");
    }

    #[test]
    fn one_disturbed_pass_does_not_widen_the_next() {
        let mut pacing = Pacing::default();
        for _ in 0..4 {
            pacing.ran(1, 0, Duration::from_millis(10));
        }
        pacing.ran(1, 0, Duration::from_millis(500));
        pacing.ran(1, 1, Duration::from_millis(11));
        pacing.ran(1, 14, Duration::from_millis(24));
        assert!(matches!(pacing.slice(1, MAX_CHUNK), 10 | 11));
    }
}
