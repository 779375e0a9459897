use std::time::{Duration, Instant};

use kakeya_core::{AdmissionError, AdmissionPolicy, Scheduler, Ticket, TicketState};

const SECOND: Duration = Duration::from_secs(1);
const QUEUE: AdmissionPolicy = AdmissionPolicy::Queue {
    max_wait: Duration::from_secs(10),
    cap: 2,
};

fn submit(scheduler: &mut Scheduler, count: usize, now: Instant) -> Vec<Ticket> {
    (0..count).map(|_| scheduler.submit(now).unwrap()).collect()
}

#[test]
fn a_request_is_pending_until_it_is_admitted_and_then_ends_once() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(1, AdmissionPolicy::Reject);
    let ticket = scheduler.submit(now).unwrap();
    assert_eq!(scheduler.state(ticket), Some(TicketState::Pending));
    assert_eq!(scheduler.admit(now), [ticket]);
    assert_eq!(scheduler.state(ticket), Some(TicketState::Admitted));
    assert_eq!(scheduler.admit(now), [], "a ticket is admitted once");
    scheduler.complete(ticket, now).unwrap();
    assert_eq!(scheduler.state(ticket), Some(TicketState::Completed));
}

#[test]
fn the_reject_policy_turns_away_what_has_no_slot_at_once() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(2, AdmissionPolicy::Reject);
    let tickets = submit(&mut scheduler, 2, now);
    assert_eq!(
        scheduler.submit(now),
        Err(AdmissionError::Rejected { slots: 2 })
    );
    assert_eq!(scheduler.admit(now), tickets);
    assert_eq!(
        scheduler.submit(now),
        Err(AdmissionError::Rejected { slots: 2 })
    );
    scheduler.complete(tickets[0], now).unwrap();
    assert!(scheduler.submit(now).is_ok());
}

#[test]
fn under_the_reject_policy_a_pending_request_waits_as_long_as_it_takes() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(1, AdmissionPolicy::Reject);
    let ticket = scheduler.submit(now).unwrap();
    assert_eq!(scheduler.take_expired(now + 1000 * SECOND), []);
    assert_eq!(scheduler.admit(now + 1000 * SECOND), [ticket]);
}

#[test]
fn no_slots_admit_nothing() {
    let mut scheduler = Scheduler::new(0, AdmissionPolicy::Reject);
    assert_eq!(
        scheduler.submit(Instant::now()),
        Err(AdmissionError::Rejected { slots: 0 })
    );
}

#[test]
fn the_queue_takes_as_many_as_its_cap_beyond_the_slots() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(2, QUEUE);
    let tickets = submit(&mut scheduler, 4, now);
    assert_eq!(
        scheduler.submit(now),
        Err(AdmissionError::QueueFull { slots: 2, cap: 2 })
    );
    assert_eq!(scheduler.admit(now), tickets[..2]);
    assert_eq!((scheduler.active(), scheduler.pending()), (2, 2));
    assert_eq!(
        scheduler.submit(now),
        Err(AdmissionError::QueueFull { slots: 2, cap: 2 })
    );
    scheduler.cancel(tickets[3], now).unwrap();
    assert!(scheduler.submit(now).is_ok());
}

#[test]
fn slots_go_to_the_requests_that_have_waited_longest() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(
        1,
        AdmissionPolicy::Queue {
            max_wait: SECOND,
            cap: 9,
        },
    );
    let tickets = submit(&mut scheduler, 5, now);
    scheduler.cancel(tickets[2], now).unwrap();
    let mut order = Vec::new();
    while let [ticket] = scheduler.admit(now)[..] {
        order.push(ticket);
        scheduler.complete(ticket, now).unwrap();
    }
    assert_eq!(order, [tickets[0], tickets[1], tickets[3], tickets[4]]);
}

#[test]
fn a_request_that_waits_longer_than_it_may_fails_and_is_reported_once() {
    let start = Instant::now();
    let mut scheduler = Scheduler::new(1, QUEUE);
    let running = scheduler.submit(start).unwrap();
    assert_eq!(scheduler.admit(start), [running]);
    let first = scheduler.submit(start).unwrap();
    let second = scheduler.submit(start + SECOND).unwrap();
    assert_eq!(
        scheduler.take_expired(start + 10 * SECOND),
        [],
        "it may wait as long as that"
    );
    assert_eq!(
        scheduler.take_expired(start + 10 * SECOND + SECOND / 2),
        [first]
    );
    assert_eq!(scheduler.state(first), Some(TicketState::Failed));
    assert_eq!(scheduler.state(second), Some(TicketState::Pending));
    assert_eq!(scheduler.take_expired(start + 12 * SECOND), [second]);
    assert_eq!(scheduler.take_expired(start + 12 * SECOND), []);
    assert_eq!(
        scheduler.state(running),
        Some(TicketState::Admitted),
        "an admitted one has time"
    );
}

#[test]
fn those_that_waited_too_long_fail_before_a_slot_or_a_place_is_given() {
    let start = Instant::now();
    let late = start + 11 * SECOND;
    let mut scheduler = Scheduler::new(1, QUEUE);
    let stale = submit(&mut scheduler, 3, start);
    let fresh = scheduler.submit(late).unwrap();
    assert_eq!(scheduler.admit(late), [fresh]);
    assert_eq!(scheduler.take_expired(late), stale);
}

#[test]
fn every_transition_but_the_documented_ones_is_refused_and_changes_nothing() {
    use TicketState::{Admitted, Cancelled, Completed, Failed, Pending};
    type End = fn(&mut Scheduler, Ticket, Instant) -> Result<(), AdmissionError>;
    let ends: [(TicketState, End); 3] = [
        (Completed, Scheduler::complete),
        (Cancelled, Scheduler::cancel),
        (Failed, Scheduler::fail),
    ];
    let now = Instant::now();
    for from in [Pending, Admitted, Completed, Cancelled, Failed] {
        for (to, end) in ends {
            let mut scheduler = Scheduler::new(1, AdmissionPolicy::Reject);
            let ticket = scheduler.submit(now).unwrap();
            if from != Pending {
                scheduler.admit(now);
            }
            for (state, reach) in ends {
                if state == from {
                    reach(&mut scheduler, ticket, now).unwrap();
                }
            }
            let allowed = match from {
                Pending => to != Completed,
                Admitted => true,
                _ => false,
            };
            let result = end(&mut scheduler, ticket, now);
            if allowed {
                assert_eq!(result, Ok(()), "{from} to {to}");
                assert_eq!(scheduler.state(ticket), Some(to));
                assert_eq!((scheduler.active(), scheduler.pending()), (0, 0));
                assert_eq!(
                    scheduler.admit(now),
                    [],
                    "a request that ended is not admitted"
                );
            } else {
                assert_eq!(result, Err(AdmissionError::InvalidTransition { from, to }));
                assert_eq!(scheduler.state(ticket), Some(from));
            }
            assert!(scheduler.state(ticket) == Some(Pending) || scheduler.pending() == 0);
        }
    }
}

#[test]
fn every_way_of_ending_frees_the_slot() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(1, QUEUE);
    for end in [Scheduler::complete, Scheduler::cancel, Scheduler::fail] {
        let ticket = scheduler.submit(now).unwrap();
        assert_eq!(scheduler.admit(now), [ticket]);
        assert_eq!(scheduler.active(), 1);
        end(&mut scheduler, ticket, now).unwrap();
        assert_eq!(scheduler.active(), 0);
    }
}

#[test]
fn only_a_request_that_has_ended_can_be_forgotten() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(1, QUEUE);
    let ticket = scheduler.submit(now).unwrap();
    assert!(!scheduler.forget(ticket), "pending");
    scheduler.admit(now);
    assert!(!scheduler.forget(ticket), "admitted");
    scheduler.complete(ticket, now).unwrap();
    assert!(scheduler.forget(ticket));
    assert!(!scheduler.forget(ticket), "forgotten");
    assert_eq!(scheduler.state(ticket), None);
    assert_eq!(scheduler.time_in_state(ticket, now), None);
    assert_eq!(
        scheduler.complete(ticket, now),
        Err(AdmissionError::UnknownTicket)
    );
}

#[test]
fn a_forgotten_request_is_not_reported_as_expired() {
    let start = Instant::now();
    let late = start + 11 * SECOND;
    let mut scheduler = Scheduler::new(1, QUEUE);
    let ticket = scheduler.submit(start).unwrap();
    assert_eq!(scheduler.admit(late), []);
    assert!(scheduler.forget(ticket));
    assert_eq!(scheduler.take_expired(late), []);
}

#[test]
fn the_time_in_a_state_begins_when_the_state_does() {
    let start = Instant::now();
    let mut scheduler = Scheduler::new(1, QUEUE);
    let ticket = scheduler.submit(start).unwrap();
    let time = |scheduler: &Scheduler, at| scheduler.time_in_state(ticket, start + at);
    assert_eq!(time(&scheduler, 3 * SECOND), Some(3 * SECOND));
    scheduler.admit(start + 4 * SECOND);
    assert_eq!(time(&scheduler, 5 * SECOND), Some(SECOND));
    scheduler.fail(ticket, start + 6 * SECOND).unwrap();
    assert_eq!(time(&scheduler, 9 * SECOND), Some(3 * SECOND));
}

#[test]
fn messages_say_what_was_refused() {
    let rejected = AdmissionError::Rejected { slots: 4 };
    assert_eq!(rejected.to_string(), "all 4 slots are busy");
    let full = AdmissionError::QueueFull { slots: 4, cap: 8 };
    assert_eq!(
        full.to_string(),
        "all 4 slots are busy and the queue of 8 is full"
    );
    let states = [
        (
            TicketState::Pending,
            TicketState::Completed,
            "pending cannot become completed",
        ),
        (
            TicketState::Cancelled,
            TicketState::Admitted,
            "cancelled cannot become admitted",
        ),
        (
            TicketState::Failed,
            TicketState::Failed,
            "failed cannot become failed",
        ),
    ];
    for (from, to, expected) in states {
        let error = AdmissionError::InvalidTransition { from, to };
        assert_eq!(error.to_string(), format!("a request that is {expected}"));
    }
    assert_eq!(
        AdmissionError::UnknownTicket.to_string(),
        "no request has this ticket"
    );
}
