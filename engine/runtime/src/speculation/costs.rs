//! What passes cost and proposers take, as measured over all sessions.

use super::MAX_DRAFTS;

/// The weight of the newest in the times.
const NEWEST: f64 = 0.2;
/// What a row is taken to add to a step before it was measured, in plain steps.
const ROW_AT_FIRST: f64 = 0.15;
/// Passes with drafts after which a plain one is measured anew, as sessions get longer.
const STALE: u32 = 64;
/// What reading a token is taken to cost before it was measured, in times of guessing one: it is read with others.
const READ_AT_FIRST: f64 = 0.25;
/// The most that is kept of what guesses have saved, in seconds.
const MOST_FUND: f64 = 60.0;
/// Tokens from which on what an answer takes is mostly reading.
const MOSTLY_READING: usize = 16;

/// A mean in which the newest counts most.
#[derive(Clone, Copy, Debug, Default)]
struct Mean(Option<f64>);

impl Mean {
    fn add(&mut self, value: f64) {
        let before = self.0.unwrap_or(value);
        self.0 = Some(before + NEWEST * (value - before));
    }
}

/// Seconds that so many drafted rows add to a pass. A second row costs a processor hardly anything, since the weights are
/// read anyway; a tenth one does. So each number of them is measured for itself.
pub(super) type Extra = [f64; MAX_DRAFTS + 1];

/// What passes cost and proposers take, in seconds: measured over all sessions.
#[derive(Debug, Default)]
pub(crate) struct Costs {
    /// Without drafts, by the number of sessions that decode, less 1, and the passes with drafts since.
    plain: Vec<(Mean, u32)>,
    /// What drafted rows add, by how many there are.
    extra: [Mean; MAX_DRAFTS + 1],
    /// What it takes to ask a proposer, for each token that is asked for.
    asking: Mean,
    /// What it takes a proposer to read a token.
    reading: Mean,
    /// What guesses have saved and no session needs for itself.
    fund: f64,
}

/// What the next pass would cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Load {
    /// Seconds of a pass without drafts, for each session that decodes in it.
    pub(crate) step: f64,
    /// Seconds that drafted rows add.
    pub(crate) extra: Extra,
    /// Sessions that decode in it.
    pub(crate) sessions: f64,
    /// Seconds that it takes to ask a proposer, for each token that is asked for; `None` before the first answer.
    pub(crate) asking: Option<f64>,
    /// Seconds that it takes a proposer to read a token, where that is known.
    pub(crate) reading: Option<f64>,
    /// Seconds that the guesses in other sessions have saved.
    pub(crate) fund: f64,
}

impl Load {
    /// Seconds that a pass takes with so many drafted rows, where that is known.
    pub(crate) fn pass(&self, drafts: usize) -> Option<f64> {
        let extra = self.extra.get(drafts)?;
        Some(self.step * self.sessions + extra)
    }
}

impl Costs {
    /// What a pass with so many sessions that decode would cost; `None` asks for one without drafts, to see.
    pub(crate) fn load(&self, sessions: usize) -> Option<Load> {
        let (plain, age) = self.plain.get(sessions.checked_sub(1)?)?;
        let plain = plain.0.filter(|_| *age < STALE)?;
        Some(Load {
            step: plain / sessions as f64,
            extra: self.extra(ROW_AT_FIRST * plain),
            sessions: sessions as f64,
            asking: self.asking.0,
            reading: self
                .reading
                .0
                .or(self.asking.0.map(|asking| READ_AT_FIRST * asking)),
            fund: self.fund,
        })
    }

    /// Takes note that a request for `asked` tokens has cost its session `seconds`, with so many tokens to read before. They are read once, and no part of what the next guesses cost.
    pub(crate) fn answered(&mut self, asked: usize, read: usize, seconds: f64) {
        if read > MOSTLY_READING {
            self.reading.add(seconds / read as f64);
        } else {
            self.asking.add(seconds / asked.max(1) as f64);
        }
    }

    /// Keeps what a session has saved and does not need.
    pub(super) fn give(&mut self, seconds: f64) {
        self.fund = (self.fund + seconds).min(MOST_FUND);
    }

    /// Gives up to so many `seconds` of what sessions have saved.
    pub(super) fn take(&mut self, seconds: f64) -> f64 {
        let taken = seconds.min(self.fund);
        self.fund -= taken;
        taken
    }

    /// What each number of rows adds: what was measured, and between and beyond that in a line.
    fn extra(&self, row_at_first: f64) -> Extra {
        let mut extra = [0.0; MAX_DRAFTS + 1];
        let known = |from: usize| (from..=MAX_DRAFTS).find_map(|at| Some((at, self.extra[at].0?)));
        let mut below = (0, 0.0);
        for (count, value) in extra.iter_mut().enumerate().skip(1) {
            *value = match known(count) {
                Some((at, seconds)) => {
                    let share = (count - below.0) as f64 / (at - below.0) as f64;
                    below.1 + share * (seconds - below.1).max(0.0)
                }
                None => {
                    let slope = if below.0 > 0 {
                        (below.1 / below.0 as f64).max(row_at_first)
                    } else {
                        row_at_first
                    };
                    below.1 + (count - below.0) as f64 * slope
                }
            };
            if let Some(seconds) = self.extra[count].0 {
                // More rows never cost less: what says so was disturbed.
                below = (count, seconds.max(below.1));
                *value = below.1;
            }
        }
        extra
    }

    /// Takes note of a pass that took `seconds`, in which `sessions` decoded, with `drafts` more rows and nothing else.
    pub(crate) fn ran(&mut self, sessions: usize, drafts: usize, seconds: f64) {
        if sessions == 0 {
            return;
        }
        if self.plain.len() < sessions {
            self.plain.resize_with(sessions, Default::default);
        }
        let (plain, age) = &mut self.plain[sessions - 1];
        if drafts == 0 {
            // What is out of date is of no use in a mean.
            if *age >= STALE {
                *plain = Mean::default();
            }
            plain.add(seconds);
            *age = 0;
        } else if let Some(without) = plain.0 {
            *age += 1;
            if let Some(extra) = self.extra.get_mut(drafts) {
                extra.add((seconds - without).max(0.0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: f64 = 10e-3;

    #[test]
    fn rows_cost_what_was_measured_and_between_that_a_line() {
        let mut costs = Costs::default();
        costs.ran(1, 0, 10e-3);
        let extra = |costs: &Costs| {
            costs
                .load(1)
                .expect("measured")
                .extra
                .map(|e| (e * 1e5).round())
        };
        assert_eq!(
            extra(&costs)[..4],
            [0.0, 150.0, 300.0, 450.0],
            "nothing is known"
        );
        costs.ran(1, 1, 10.5e-3);
        assert_eq!(extra(&costs)[..4], [0.0, 50.0, 200.0, 350.0]);
        costs.ran(1, 5, 20.5e-3);
        assert_eq!(
            extra(&costs)[..8],
            [0.0, 50.0, 300.0, 550.0, 800.0, 1050.0, 1260.0, 1470.0]
        );
        // A disturbed pass does not make more rows cheaper than fewer.
        costs.ran(1, 6, 10.0e-3);
        assert_eq!(extra(&costs)[5..8], [1050.0, 1050.0, 1225.0]);
    }

    #[test]
    fn what_a_proposer_takes_is_for_asking_or_for_reading() {
        let mut costs = Costs::default();
        costs.ran(1, 0, PLAIN);
        let load = |costs: &Costs| costs.load(1).expect("measured");
        assert_eq!((load(&costs).asking, load(&costs).reading), (None, None));
        costs.answered(2, 1, 6e-3);
        assert_eq!(
            (load(&costs).asking, load(&costs).reading),
            (Some(3e-3), Some(0.75e-3))
        );
        costs.answered(1, 500, 0.5);
        assert_eq!(
            (load(&costs).asking, load(&costs).reading),
            (Some(3e-3), Some(1e-3))
        );
    }

    #[test]
    fn a_plain_step_is_measured_again_as_sessions_get_longer() {
        let mut costs = Costs::default();
        assert_eq!(costs.load(1), None);
        costs.ran(1, 0, PLAIN);
        assert!(costs.load(1).is_some());
        assert_eq!(
            costs.load(2),
            None,
            "another number of sessions is not known"
        );
        for _ in 0..STALE {
            costs.ran(1, 4, 2.0 * PLAIN);
        }
        assert_eq!(costs.load(1), None);
        costs.ran(1, 0, 3.0 * PLAIN);
        let load = costs.load(1).expect("it was measured");
        assert!((load.step - 3.0 * PLAIN).abs() < 1e-9, "{load:?}");
    }
}
