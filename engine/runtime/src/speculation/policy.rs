//! How many proposed tokens are worth verifying.
//!
//! A drafted token that is accepted saves its session a pass; each one that is verified makes the pass longer, and asking
//! for it takes time as well. Both are measured, and as many are verified as promise the most tokens a second. What a
//! proposer is worth shows only by trying it, so there is an account: trying may lose no more than [`SHARE`] of the
//! time, and [`CREDIT`] at the start. None of this changes a token, so a clock may decide it.

use std::ops::Range;

use super::MAX_DRAFTS;
use super::costs::{Costs, Load};
use super::proposer::KINDS;

/// The part of the time of plain steps that trying may lose.
const SHARE: f64 = 0.01;
/// What trying may lose before anything was saved, in plain steps.
const CREDIT: f64 = 1.0;
/// What costs less than this to ask for, in plain steps, is as good as free.
const FREE: f64 = 0.01;
/// What has to be on the account for what does not promise anything, in times of what it costs.
const RESERVE: f64 = 2.0;
/// What can be saved up, in plain steps, by what does not save for anything.
const MOST_CREDIT: f64 = 8.0;
/// The part of the account that may go into reading.
const FOR_READING: f64 = 0.5;
/// The part of what other sessions have saved that one may have to read with.
const OF_FUND: f64 = 0.5;
/// What is saved for reading all of a history that gets longer meanwhile, in times of what it takes.
const AHEAD: f64 = 1.25;
/// What a proposer that reads slowly is given to read before it is known what that costs.
const READ_FIRST: usize = 2;
/// What remains of the older tokens' weight with each one that is verified: some twenty of them count.
const MEMORY: f64 = 0.95;

/// How often what is proposed is accepted: tokens that were, of tokens that could have been, the newest counting most.
#[derive(Clone, Copy, Debug)]
struct Acceptance {
    accepted: f64,
    rejected: f64,
}

impl Acceptance {
    /// Nothing is known: as likely as not.
    const UNKNOWN: Self = Self {
        accepted: 1.0,
        rejected: 1.0,
    };

    /// A block's tokens up to the first that was rejected; those after it tell nothing.
    fn note(&mut self, accepted: usize, drafted: usize) {
        for index in 0..drafted.min(accepted + 1) {
            self.accepted *= MEMORY;
            self.rejected *= MEMORY;
            *if index < accepted {
                &mut self.accepted
            } else {
                &mut self.rejected
            } += 1.0;
        }
    }

    fn rate(self) -> f64 {
        self.accepted / (self.accepted + self.rejected)
    }
}

/// What one session has learnt of its proposer.
#[derive(Debug)]
pub(crate) struct Policy {
    /// `None` for a kind of which nothing was verified.
    kinds: [Option<Acceptance>; KINDS],
    /// Seconds that trying may still lose; `None` before the first step.
    account: Option<f64>,
    /// Seconds that are saved up to read more.
    goal: f64,
    /// Seconds that were saved beyond what the account holds.
    surplus: f64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            kinds: [None; KINDS],
            account: None,
            goal: 0.0,
            surplus: 0.0,
        }
    }
}

impl Policy {
    /// The tokens to ask for, up to `limit`: as many as would be verified if they turn out to be of the best kind.
    pub(crate) fn worth_asking(&mut self, limit: usize, load: Load) -> usize {
        // One, to see what it costs.
        let limit = if load.asking.is_some() {
            limit
        } else {
            limit.min(1)
        };
        let asking = load.asking.unwrap_or(0.0);
        // Of kinds that were never seen it looks for none, unless looking is as good as free: there may be no such kind.
        let seen = self.kinds.map(|kind| kind.is_some());
        let looks = asking < FREE * load.step || seen == [false; KINDS];
        (0..KINDS)
            .filter(|kind| looks || seen[*kind])
            .map(|kind| self.worth(kind, limit, load, asking))
            .max()
            .unwrap_or(0)
    }

    /// The tokens to verify of `limit` that were proposed. They have been asked for already, which costs no more.
    pub(crate) fn worth_verifying(&mut self, kind: usize, limit: usize, load: Load) -> usize {
        self.worth(kind, limit, load, 0.0)
    }

    fn worth(&mut self, kind: usize, limit: usize, load: Load, asking: f64) -> usize {
        let account = *self.account.get_or_insert(CREDIT * load.step);
        let price = |count: usize| load.extra[count] + asking * count as f64;
        let limit = (1..=limit.min(MAX_DRAFTS)).take_while(|count| price(*count) <= account);
        let limit = limit.last().unwrap_or(0);
        let best = best_length(
            self.kinds[kind].unwrap_or(Acceptance::UNKNOWN).rate(),
            limit,
            load,
            price,
        );
        // What does not promise anything is tried, one token at a time, when it cannot hurt: but for who has hardly read
        // anything, reading comes first.
        if best == 0 && limit > 0 && self.goal == 0.0 && account >= RESERVE * price(1) {
            return 1;
        }
        best
    }

    /// The longest that an answer is worth waiting for, in seconds.
    pub(crate) fn patience(&self) -> f64 {
        self.account.unwrap_or(0.0).max(0.0)
    }

    /// Takes note of `seconds` that a proposer has cost: the session has waited for it, or was slower while it worked.
    pub(crate) fn paid(&mut self, seconds: f64) {
        if let Some(account) = &mut self.account {
            *account -= seconds;
        }
    }

    /// Where a proposer that reads slowly, and has read the tokens from `read.start` to `read.end` of `total`, begins to
    /// read anew; `None` where it goes on. It reads no more than there is time for on the account: a few of the latest
    /// tokens at first, and more of them as its guesses earn it, or as time goes by.
    pub(crate) fn reads_from(
        &self,
        read: &Range<usize>,
        total: usize,
        load: Load,
    ) -> Option<usize> {
        let affordable = self.affordable(load);
        let anew = read.is_empty()
            || total - read.end > affordable
            || self.may_read_more(read, total, load);
        anew.then(|| total.saturating_sub(affordable))
    }

    /// Whether there is time to read twice as much as was read, or all, where that is not all.
    pub(crate) fn may_read_more(&self, read: &Range<usize>, total: usize, load: Load) -> bool {
        read.start > 0 && self.affordable(load) >= (2 * read.len()).min(total)
    }

    /// The tokens that there is time to read.
    fn affordable(&self, load: Load) -> usize {
        let tokens = load.reading.map_or(0.0, |each| {
            (FOR_READING * self.patience() + OF_FUND * load.fund) / each
        });
        (tokens as usize).max(READ_FIRST)
    }

    /// Puts into the fund of all sessions what was saved and is not needed, and takes from it what a proposer that reads
    /// slowly has used of it.
    pub(crate) fn settle(&mut self, reads_slowly: bool, costs: &mut Costs) {
        costs.give(std::mem::take(&mut self.surplus));
        if let Some(account) = self.account.as_mut().filter(|_| reads_slowly) {
            *account += costs.take((-*account).max(0.0));
        }
    }

    /// Takes note that a proposer that reads slowly has yet to read all of `total` tokens, or has, with 0.
    pub(crate) fn saves_for(&mut self, total: usize, load: Load) {
        self.goal = AHEAD * total as f64 * load.reading.unwrap_or(0.0) / FOR_READING;
    }

    /// Takes note of a block: of `drafted` tokens so many were accepted.
    pub(crate) fn verified(&mut self, kind: usize, drafted: usize, accepted: usize, load: Load) {
        let kind = self.kinds[kind].get_or_insert(Acceptance::UNKNOWN);
        kind.note(accepted, drafted);
        self.earn(
            accepted as f64 * load.step - load.extra[drafted.min(MAX_DRAFTS)],
            load,
        );
    }

    /// Takes note of a step without drafts.
    pub(crate) fn stepped(&mut self, load: Load) {
        self.earn(SHARE * load.step, load);
    }

    fn earn(&mut self, seconds: f64, load: Load) {
        let account = self.account.get_or_insert(CREDIT * load.step);
        let most = self.goal.max(MOST_CREDIT * load.step);
        self.surplus += (*account + seconds - most).max(0.0);
        *account = (*account + seconds).min(most);
    }
}

/// The length that promises the most tokens a second when each token is accepted at `rate` if those before it are, and so
/// many cost `price` seconds (Leviathan, Kalman and Matias 2023, section 3.5, with the costs as measured).
fn best_length(rate: f64, limit: usize, load: Load, price: impl Fn(usize) -> f64) -> usize {
    let Load { step, sessions, .. } = load;
    let (mut best, mut most) = (0, 1.0 / step);
    let (mut likely, mut expected) = (1.0, 0.0);
    for length in 1..=limit {
        likely *= rate;
        expected += likely;
        let speed = (sessions + expected) / (sessions * step + price(length));
        if speed > most {
            (best, most) = (length, speed);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine on which a plain pass takes 10 ms, a drafted row `row` ms, and asking `ask` ms a token.
    struct Machine {
        row: f64,
        ask: f64,
        /// What reading a token takes, for a proposer that reads slowly, and what it has read.
        read: Option<f64>,
        told: Range<usize>,
        costs: Costs,
        policy: Policy,
        clock: f64,
        tokens: usize,
    }

    const PLAIN: f64 = 10e-3;
    const MOST: usize = 16;

    impl Machine {
        fn new(row: f64, ask: f64) -> Self {
            Self {
                row: row * 1e-3,
                ask: ask * 1e-3,
                read: None,
                told: 0..0,
                costs: Costs::default(),
                policy: Policy::default(),
                clock: 0.0,
                tokens: 0,
            }
        }

        /// With a proposer that takes `read` ms for each token that it reads, of a history of `total`.
        fn reading(row: f64, ask: f64, read: f64, total: usize) -> Self {
            Self {
                read: Some(read * 1e-3),
                tokens: total,
                ..Self::new(row, ask)
            }
        }

        /// What the proposer is given to read, and how long that takes it.
        fn reads(&mut self, load: Load) -> (usize, f64) {
            let Some(read) = self.read else {
                return (1, 0.0);
            };
            if let Some(from) = self.policy.reads_from(&self.told, self.tokens, load) {
                self.told = from..from;
            }
            let rest = if self.told.start > 0 { self.tokens } else { 0 };
            self.policy.saves_for(rest, load);
            let new = self.tokens - self.told.end;
            self.told.end = self.tokens;
            (new, read * new as f64)
        }

        /// One step, in which `proposed` tokens are offered and the first `right` of them are right. How many were
        /// verified.
        fn step(&mut self, kind: usize, proposed: usize, right: usize) -> usize {
            let load = self.costs.load(1);
            let mut drafts = 0;
            if let Some(load) = load {
                let asked = self.policy.worth_asking(MOST, load);
                let more =
                    self.read.is_some() && self.policy.may_read_more(&self.told, self.tokens, load);
                let asked = asked.max(usize::from(more));
                if asked > 0 {
                    let (read, reading) = self.reads(load);
                    let seconds = self.ask * asked as f64 + reading;
                    let patience = self.policy.patience();
                    self.clock += seconds.min(patience);
                    self.policy.paid(seconds);
                    // What comes too late makes the passes beside it slower by as much.
                    self.clock += (seconds - patience).max(0.0);
                    self.costs.answered(asked, read, seconds);
                    self.policy.settle(self.read.is_some(), &mut self.costs);
                    // What comes too late is of no use here.
                    if seconds <= patience {
                        drafts = self.policy.worth_verifying(kind, proposed.min(asked), load);
                    }
                }
            }
            let seconds = PLAIN + self.row * drafts as f64;
            self.clock += seconds;
            self.costs.ran(1, drafts, seconds);
            let accepted = drafts.min(right);
            self.tokens += 1 + accepted;
            match load {
                Some(load) if drafts > 0 => self.policy.verified(kind, drafts, accepted, load),
                Some(load) => self.policy.stepped(load),
                None => {}
            }
            drafts
        }

        /// Times as fast as plain decoding.
        fn speed(&self) -> f64 {
            self.tokens as f64 * PLAIN / self.clock
        }
    }

    #[test]
    fn the_first_step_is_plain_and_the_second_tries() {
        let mut machine = Machine::new(1.0, 0.0);
        assert_eq!(machine.step(0, MOST, MOST), 0);
        assert!(machine.step(0, MOST, MOST) > 0);
    }

    #[test]
    fn what_is_always_right_is_verified_as_far_as_it_goes() {
        let mut machine = Machine::new(1.0, 0.0);
        let last = (0..40).map(|_| machine.step(3, MOST, MOST)).last();
        assert_eq!(last, Some(MOST));
        assert!(machine.speed() > 4.0, "{}", machine.speed());
    }

    #[test]
    fn what_is_never_right_costs_less_than_three_per_cent() {
        for (row, ask) in [
            (0.5, 0.0),
            (1.0, 0.05),
            (3.0, 0.0),
            (9.0, 0.3),
            (1.0, 8.0),
            (0.0, 40.0),
        ] {
            for steps in [160, 1000, 10_000] {
                let mut machine = Machine::new(row, ask);
                for step in 0..steps {
                    machine.step(step % KINDS, MOST, 0);
                }
                let speed = machine.speed();
                assert!(
                    speed > 0.97,
                    "{row} ms a row, {ask} to ask, {steps} steps: {speed}"
                );
            }
        }
    }

    #[test]
    fn a_proposer_that_finds_nothing_costs_less_than_three_per_cent() {
        let mut machine = Machine::new(1.0, 2.0);
        for _ in 0..1000 {
            machine.step(0, 0, 0);
        }
        assert!(machine.speed() > 0.97, "{}", machine.speed());
    }

    #[test]
    fn one_kind_does_not_suffer_for_another() {
        let mut machine = Machine::new(1.0, 0.0);
        let mut last = [0; 2];
        for step in 0..200 {
            let good = step % 2;
            last[good] = machine.step(good, MOST, good * MOST);
        }
        assert_eq!(last[1], MOST);
        assert!(last[0] <= 1, "{last:?}");
    }

    #[test]
    fn what_is_not_free_is_not_asked_in_the_hope_of_another_kind() {
        let asked = |ask: f64| {
            let mut machine = Machine::new(2.0, ask);
            for _ in 0..3 {
                machine.step(0, MOST, 0);
            }
            machine.policy.account = Some(RESERVE * (2e-3 + ask * 1e-3) - 1e-9);
            let load = machine.costs.load(1).expect("measured");
            machine.policy.worth_asking(MOST, load)
        };
        assert_eq!(asked(1.0), 0);
        assert!(asked(0.05) > 0);
    }

    #[test]
    fn a_proposer_that_becomes_right_is_found_out() {
        let mut machine = Machine::new(1.0, 0.0);
        for _ in 0..500 {
            machine.step(0, MOST, 0);
        }
        let found = (0..400).position(|_| machine.step(0, MOST, MOST) == MOST);
        assert!(found.is_some());
    }

    #[test]
    fn a_costly_proposer_is_asked_for_few_tokens_or_none() {
        // As a draft model as large as the verifier: however right, it saves nothing, and is tried now and then.
        let mut machine = Machine::new(1.0, 9.5);
        let drafted: usize = (0..1000).map(|_| machine.step(0, MOST, MOST)).sum();
        assert!(drafted < 250, "{drafted}");
        assert!(machine.speed() > 0.97, "{}", machine.speed());
    }

    #[test]
    fn a_slow_reader_that_is_never_right_costs_less_than_three_per_cent() {
        // Of them one that is as slow as the model.
        for (ask, read) in [(0.5, 0.1), (3.0, 0.6), (10.0, 2.0), (10.0, 10.0)] {
            for (total, steps) in [(3, 160), (200, 160), (4000, 160), (4000, 10_000)] {
                let mut machine = Machine::reading(1.0, ask, read, total);
                for _ in 0..steps {
                    machine.step(0, MOST, 0);
                }
                let speed = steps as f64 * PLAIN / machine.clock;
                assert!(
                    speed > 0.97,
                    "{ask} ms to ask, {read} to read each of {total}, {steps} steps: {speed}"
                );
            }
        }
    }

    #[test]
    fn a_slow_reader_reads_the_latest_tokens_first_and_all_when_it_has_earned_it() {
        let mut machine = Machine::reading(0.5, 1.0, 0.2, 4000);
        let mut depths = Vec::new();
        for _ in 0..600 {
            machine.step(0, MOST, 3);
            if depths.last() != Some(&machine.told.start) {
                depths.push(machine.told.start);
            }
        }
        let first = depths.iter().find(|start| **start > 0).copied();
        assert!(
            first.is_some_and(|start| start >= 4000 - 2 * READ_FIRST),
            "{depths:?}"
        );
        assert_eq!(depths.last(), Some(&0), "{depths:?}");
        // It has read little of it more than once.
        assert!(depths.len() < 16, "{depths:?}");
        assert_eq!(machine.policy.goal, 0.0, "nothing is left to save for");
    }

    #[test]
    fn what_one_session_has_saved_lets_the_next_read_all_at_once() {
        let mut first = Machine::reading(0.5, 1.0, 0.2, 100);
        for _ in 0..200 {
            first.step(0, MOST, 6);
        }
        let mut second = Machine::reading(0.5, 1.0, 0.2, 100);
        second.costs = first.costs;
        second.step(0, MOST, 0);
        assert_eq!(second.told.start, 0);
        // What it loses is what was saved.
        let saved = second.costs.load(1).expect("measured").fund;
        for _ in 0..1000 {
            second.step(0, MOST, 0);
        }
        let lost = second.clock - 1001.0 * PLAIN;
        let own = 1001.0 * PLAIN * (SHARE + 0.001) + CREDIT * PLAIN;
        assert!(lost <= own + saved, "{lost} s of {own} and {saved}");
    }

    #[test]
    fn what_a_proposer_cannot_afford_to_catch_up_with_it_does_not_read() {
        let policy = Policy {
            account: Some(10e-3),
            ..Policy::default()
        };
        let mut costs = Costs::default();
        costs.ran(1, 0, PLAIN);
        costs.answered(1, 100, 0.1);
        let load = costs.load(1).expect("measured");
        let from = |read: Range<usize>, total| policy.reads_from(&read, total, load);
        // Five tokens are half of the account.
        assert_eq!(from(0..100, 105), None);
        assert_eq!(from(0..100, 106), Some(101));
        assert_eq!(from(0..0, 3), Some(0));
        // What has been read of the end is enough until there is time for twice as much.
        assert_eq!(from(97..100, 101), None);
        assert_eq!(from(98..100, 101), Some(96));
        // Or for all.
        assert_eq!(from(1..4, 5), Some(0));
    }

    #[test]
    fn beside_many_sessions_a_row_has_to_be_worth_more() {
        let load = |sessions: f64| Load {
            step: PLAIN / sessions,
            extra: std::array::from_fn(|count| 1e-3 * count as f64),
            sessions,
            asking: None,
            reading: None,
            fund: 0.0,
        };
        let lengths: Vec<usize> = [1.0, 2.0, 4.0, 8.0, 16.0]
            .into_iter()
            .map(|sessions| best_length(0.7, MOST, load(sessions), |count| 1e-3 * count as f64))
            .collect();
        assert!(
            lengths.is_sorted_by(|one, other| one >= other),
            "{lengths:?}"
        );
        assert!(lengths[0] >= 3 && lengths[4] == 0, "{lengths:?}");
    }

    #[test]
    fn where_the_second_row_is_cheap_one_draft_is_verified_that_is_seldom_right() {
        let mut extra = [30e-3; MAX_DRAFTS + 1];
        (extra[0], extra[1]) = (0.0, 0.5e-3);
        let load = Load {
            step: PLAIN,
            extra,
            sessions: 1.0,
            asking: None,
            reading: None,
            fund: 0.0,
        };
        assert_eq!(best_length(0.2, MOST, load, |count| extra[count]), 1);
        assert_eq!(best_length(0.02, MOST, load, |count| extra[count]), 0);
    }
}
