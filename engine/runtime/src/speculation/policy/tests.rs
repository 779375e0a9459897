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
