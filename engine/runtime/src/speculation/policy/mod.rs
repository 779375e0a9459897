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
mod tests;
