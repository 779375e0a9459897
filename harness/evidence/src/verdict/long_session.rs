//! The verdicts over a long session.

use super::Holds;
use crate::policy::Rule;
use crate::record::{Bucket, LongSession, Violations};

/// Judges a rule that is not about a suite.
pub(super) fn judge(rule: &Rule, session: &LongSession) -> (Holds, String) {
    if !session.complete {
        let reason = format!(
            "the long session ended after {} of {} s",
            session.ran_seconds, session.asked_seconds
        );
        return (Holds::No, reason);
    }
    // What drove the session is no fault of it, and nothing is measured about a thing that took no part.
    if *rule == Rule::ThroughSdk && !session.client.sdk {
        let reason = format!("the client was {}, which is no SDK", session.client.name);
        return (Holds::NotMeasured, reason);
    }
    let judged = match rule {
        Rule::MemoryBounded {
            buckets,
            kv_percent,
            resident_percent,
        } => memory_bounded(session, *buckets, [*kv_percent, *resident_percent]),
        Rule::LatencyBounded { ratio } => latency_bounded(session, *ratio),
        Rule::ThroughSdk => through_sdk(session),
        // A suite's rule is judged by its cases; what is left is about the counters.
        Rule::InvariantsClean | Rule::Suite { .. } => invariants_clean(session),
    };
    match judged {
        Ok(reason) => (Holds::Yes, reason),
        Err(reason) => (Holds::No, reason),
    }
}

/// Why a gate holds, or why it does not.
type Judged = Result<String, String>;

fn memory_bounded(session: &LongSession, buckets: usize, limits: [f64; 2]) -> Judged {
    let found = session.buckets.len();
    if found < buckets.max(2) {
        return Err(format!(
            "there are {found} time buckets, and {buckets} are asked for"
        ));
    }
    let what = ["the KV peak", "resident memory"];
    let of: [fn(&Bucket) -> u64; 2] = [
        |bucket| bucket.kv_bytes_peak,
        |bucket| bucket.resident_bytes_peak,
    ];
    let mut reasons = Vec::new();
    for ((what, of), limit) in what.into_iter().zip(of).zip(limits) {
        let first = of(&session.buckets[0]) as f64;
        if first == 0.0 {
            return Err(format!("{what} of the first bucket is nothing"));
        }
        // The greatest distance from the first bucket, in whichever direction.
        let drift = session
            .buckets
            .iter()
            .map(|bucket| 100.0 * (of(bucket) as f64 - first) / first)
            .fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
        let reason = format!("{what} drifts by {drift:+.1}% over {found} buckets");
        if drift.abs() >= limit {
            return Err(format!("{reason}, and may by less than {limit}%"));
        }
        reasons.push(reason);
    }
    Ok(reasons.join(", "))
}

fn latency_bounded(session: &LongSession, limit: f64) -> Judged {
    let (Some(first), Some(last)) = (session.buckets.first(), session.buckets.last()) else {
        return Err("there are no time buckets".to_owned());
    };
    let (first, last) = (first.turn_p50_seconds, last.turn_p50_seconds);
    let positive = |seconds: f64| seconds.is_finite() && seconds > 0.0;
    if session.buckets.len() < 2 || !positive(first) || !positive(last) {
        return Err("there are not two time buckets with turns to compare".to_owned());
    }
    let reason = format!(
        "the median turn took {first:.3} s in the first bucket and {last:.3} s in the last, {:.2} times as long",
        last / first
    );
    if last / first < limit {
        Ok(reason)
    } else {
        Err(format!("{reason}, and may less than {limit} times"))
    }
}

fn invariants_clean(session: &LongSession) -> Judged {
    let counters = session.violations;
    if session.turns > 0 && counters == Violations::default() {
        return Ok(format!("both counters are 0 after {} turns", session.turns));
    }
    Err(format!(
        "after {} turns INV-1 was violated {} times and INV-2 {} times",
        session.turns, counters.inv1, counters.inv2
    ))
}

fn through_sdk(session: &LongSession) -> Judged {
    let client = &session.client;
    let (all, wire) = (session.generates, session.generates_over_the_wire);
    let reason = format!(
        "{wire} of {all} Generate calls went over the wire through {} {}",
        client.name, client.version
    );
    if all > 0 && all == wire {
        Ok(reason)
    } else {
        Err(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    /// Three minutes, with round figures for the memory.
    fn session() -> LongSession {
        let mut session = fixture::long_session();
        session.asked_seconds = 180.0;
        session.ran_seconds = 180.0;
        for bucket in &mut session.buckets {
            bucket.kv_bytes_peak = 1000;
            bucket.resident_bytes_peak = 100_000;
        }
        session
    }

    const MEMORY: Rule = Rule::MemoryBounded {
        buckets: 3,
        kv_percent: 10.0,
        resident_percent: 10.0,
    };
    const LATENCY: Rule = Rule::LatencyBounded { ratio: 1.5 };

    fn judged(rule: &Rule, change: impl FnOnce(&mut LongSession)) -> String {
        let mut session = session();
        change(&mut session);
        let (holds, reason) = judge(rule, &session);
        format!("{holds}: {reason}")
    }

    #[test]
    fn a_good_session_holds_every_gate() {
        for (rule, text) in [
            (
                MEMORY,
                "holds: the KV peak drifts by +0.0% over 3 buckets, resident memory drifts by +0.0% over 3 buckets",
            ),
            (
                LATENCY,
                "holds: the median turn took 0.500 s in the first bucket and 0.500 s in the last, 1.00 times as long",
            ),
            (
                Rule::InvariantsClean,
                "holds: both counters are 0 after 30 turns",
            ),
            (
                Rule::ThroughSdk,
                "holds: 30 of 30 Generate calls went over the wire through kakeya 0.1.0",
            ),
        ] {
            assert_eq!(judged(&rule, |_| ()), text);
        }
    }

    #[test]
    fn a_session_that_was_cut_short_holds_nothing() {
        for rule in [MEMORY, LATENCY, Rule::InvariantsClean, Rule::ThroughSdk] {
            let text = judged(&rule, |session| {
                session.complete = false;
                session.ran_seconds = 90.0;
            });
            assert_eq!(
                text,
                "does not hold: the long session ended after 90 of 180 s"
            );
        }
    }

    #[test]
    fn memory_may_neither_grow_nor_shrink() {
        for (kv, resident, reason) in [
            (1099, 100_000, None),
            (1100, 100_000, Some("the KV peak drifts by +10.0%")),
            (900, 100_000, Some("the KV peak drifts by -10.0%")),
            (0, 100_000, Some("the KV peak drifts by -100.0%")),
            (1000, 110_000, Some("resident memory drifts by +10.0%")),
            (1000, 40_000, Some("resident memory drifts by -60.0%")),
        ] {
            let text = judged(&MEMORY, |session| {
                session.buckets[1].kv_bytes_peak = kv;
                session.buckets[1].resident_bytes_peak = resident;
            });
            match reason {
                None => assert!(text.starts_with("holds: "), "{text}"),
                Some(reason) => {
                    assert!(
                        text.starts_with(&format!("does not hold: {reason}")),
                        "{text}"
                    );
                    assert!(text.ends_with("and may by less than 10%"), "{text}");
                }
            }
        }
    }

    #[test]
    fn drift_needs_buckets_with_something_in_them() {
        let few = judged(&MEMORY, |session| session.buckets.truncate(2));
        assert_eq!(
            few,
            "does not hold: there are 2 time buckets, and 3 are asked for"
        );
        let empty = judged(&MEMORY, |session| session.buckets[0].kv_bytes_peak = 0);
        assert_eq!(
            empty,
            "does not hold: the KV peak of the first bucket is nothing"
        );
    }

    #[test]
    fn turns_may_not_become_half_as_slow_again() {
        let last = |seconds: f64| {
            judged(&LATENCY, |session| {
                session.buckets[2].turn_p50_seconds = seconds;
            })
        };
        assert!(last(0.74).starts_with("holds: "));
        assert!(last(0.1).starts_with("holds: "));
        assert_eq!(
            last(0.75),
            "does not hold: the median turn took 0.500 s in the first bucket and 0.750 s in the last, \
             1.50 times as long, and may less than 1.5 times"
        );
        for nothing in [0.0, -1.0, f64::NAN] {
            assert!(
                last(nothing).starts_with("does not hold: there are not two"),
                "{nothing}"
            );
        }
        let one = judged(&LATENCY, |session| session.buckets.truncate(1));
        assert!(one.starts_with("does not hold: there are not two"), "{one}");
        let none = judged(&LATENCY, |session| session.buckets.clear());
        assert_eq!(none, "does not hold: there are no time buckets");
    }

    #[test]
    fn one_violation_is_one_too_many_and_no_turn_is_no_proof() {
        let violated = judged(&Rule::InvariantsClean, |session| {
            session.violations.inv2 = 1
        });
        assert_eq!(
            violated,
            "does not hold: after 30 turns INV-1 was violated 0 times and INV-2 1 times"
        );
        let idle = judged(&Rule::InvariantsClean, |session| session.turns = 0);
        assert!(idle.starts_with("does not hold: after 0 turns"), "{idle}");
    }

    #[test]
    fn only_an_sdk_over_the_wire_counts() {
        let own = judged(&Rule::ThroughSdk, |session| {
            session.client.sdk = false;
            session.client.name = "grpc".into();
        });
        assert_eq!(own, "not measured: the client was grpc, which is no SDK");
        let short = judged(&Rule::ThroughSdk, |session| {
            session.generates_over_the_wire = 29;
        });
        assert!(short.starts_with("does not hold: 29 of 30"), "{short}");
        let none = judged(&Rule::ThroughSdk, |session| {
            session.generates = 0;
            session.generates_over_the_wire = 0;
        });
        assert!(none.starts_with("does not hold: 0 of 0"), "{none}");
    }
}
