//! How many proposed tokens are worth verifying.
//!
//! A drafted token that is accepted saves its session a pass; each one that is verified makes the pass longer, and asking
//! for it takes time as well. Both are measured, and as many are verified as promise the most tokens a second. What a
//! proposer is worth shows only by trying it, so there is an account: trying may lose no more than [`SHARE`] of the
//! time, and [`CREDIT`] at the start. None of this changes a token, so a clock may decide it.

use super::MAX_DRAFTS;
use super::proposer::KINDS;

/// The part of the time of plain steps that trying may lose.
const SHARE: f64 = 0.01;
/// What trying may lose before anything was saved, in plain steps.
const CREDIT: f64 = 1.0;
/// What has to be on the account for what does not promise anything, in times of what it costs.
const RESERVE: f64 = 2.0;
/// What can be saved up, in plain steps.
const MOST_CREDIT: f64 = 8.0;
/// What remains of the older tokens' weight with each one that is verified: some twenty of them count.
const MEMORY: f64 = 0.95;
/// The weight of the newest in the times.
const NEWEST: f64 = 0.2;
/// What a row is taken to add to a step before it was measured, in plain steps.
const ROW_AT_FIRST: f64 = 0.15;
/// Passes with drafts after which a plain one is measured anew, as sessions get longer.
const STALE: u32 = 64;

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
type Extra = [f64; MAX_DRAFTS + 1];

/// What passes cost, in seconds: measured over all sessions.
#[derive(Debug, Default)]
pub(crate) struct Costs {
    /// Without drafts, by the number of sessions that decode, less 1, and the passes with drafts since.
    plain: Vec<(Mean, u32)>,
    /// What drafted rows add, by how many there are.
    extra: [Mean; MAX_DRAFTS + 1],
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
        })
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
    kinds: [Acceptance; KINDS],
    /// Seconds that trying may still lose; `None` before the first step.
    account: Option<f64>,
    /// Seconds that it takes to ask, for each token that is asked for.
    asking: Mean,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            kinds: [Acceptance::UNKNOWN; KINDS],
            account: None,
            asking: Mean::default(),
        }
    }
}

impl Policy {
    /// The tokens to ask for, up to `limit`: as many as would be verified if they turn out to be of the best kind.
    pub(crate) fn worth_asking(&mut self, limit: usize, load: Load) -> usize {
        let asking = self.asking.0.unwrap_or(0.0);
        (0..KINDS)
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
        let best = best_length(self.kinds[kind].rate(), limit, load, price);
        // What does not promise anything is tried, one token at a time, when it cannot hurt.
        if best == 0 && limit > 0 && account >= RESERVE * price(1) {
            return 1;
        }
        best
    }

    /// The longest that an answer is worth waiting for, in seconds.
    pub(crate) fn patience(&self) -> f64 {
        self.account.unwrap_or(0.0).max(0.0)
    }

    /// Takes note of having waited `seconds` for an answer.
    pub(crate) fn waited(&mut self, seconds: f64) {
        if let Some(account) = &mut self.account {
            *account -= seconds;
        }
    }

    /// Takes note that an answer to a request for `asked` tokens took `seconds`, waited for or not.
    pub(crate) fn answered(&mut self, asked: usize, seconds: f64) {
        self.asking.add(seconds / asked.max(1) as f64);
    }

    /// Takes note of a block: of `drafted` tokens so many were accepted.
    pub(crate) fn verified(&mut self, kind: usize, drafted: usize, accepted: usize, load: Load) {
        self.kinds[kind].note(accepted, drafted);
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
        *account = (*account + seconds).min(MOST_CREDIT * load.step);
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
                costs: Costs::default(),
                policy: Policy::default(),
                clock: 0.0,
                tokens: 0,
            }
        }

        /// One step, in which `proposed` tokens are offered and the first `right` of them are right. How many were
        /// verified.
        fn step(&mut self, kind: usize, proposed: usize, right: usize) -> usize {
            let load = self.costs.load(1);
            let mut drafts = 0;
            if let Some(load) = load {
                let asked = self.policy.worth_asking(MOST, load);
                if asked > 0 {
                    let seconds = self.ask * asked as f64;
                    let patience = self.policy.patience();
                    self.clock += seconds.min(patience);
                    self.policy.waited(seconds.min(patience));
                    self.policy.answered(asked, seconds);
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
            for steps in [128, 1000, 10_000] {
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
    fn beside_many_sessions_a_row_has_to_be_worth_more() {
        let load = |sessions: f64| Load {
            step: PLAIN / sessions,
            extra: std::array::from_fn(|count| 1e-3 * count as f64),
            sessions,
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
    fn where_the_second_row_is_cheap_one_draft_is_verified_that_is_seldom_right() {
        let mut extra = [30e-3; MAX_DRAFTS + 1];
        (extra[0], extra[1]) = (0.0, 0.5e-3);
        let load = Load {
            step: PLAIN,
            extra,
            sessions: 1.0,
        };
        assert_eq!(best_length(0.2, MOST, load, |count| extra[count]), 1);
        assert_eq!(best_length(0.02, MOST, load, |count| extra[count]), 0);
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
