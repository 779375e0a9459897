use std::collections::HashSet;
use std::time::{Duration, Instant};

use kakeya_core::{
    CacheConfig, CacheInspector, InvariantViolation, KvSide, SessionError, SessionId, SessionStore,
    StoreLimits, ViolationCounts, Window,
};

const SECOND: Duration = Duration::from_secs(1);
const LIMITS: StoreLimits = StoreLimits {
    capacity: 3,
    idle_ttl: Duration::from_secs(1800),
};
const CACHE: CacheConfig = CacheConfig {
    sink: 1,
    window: Window::Sliding(2),
    positions: kakeya_core::PositionPolicy::Streaming,
};

/// A cache of two layers that reports the lengths and the position it is given.
struct Reported {
    keys: [u64; 2],
    values: [u64; 2],
    position: u64,
}

impl Reported {
    fn uniform(length: u64, position: u64) -> Self {
        Self {
            keys: [length; 2],
            values: [length; 2],
            position,
        }
    }
}

impl CacheInspector for Reported {
    fn layers(&self) -> usize {
        2
    }

    fn k_length(&self, layer: usize) -> u64 {
        self.keys[layer]
    }

    fn v_length(&self, layer: usize) -> u64 {
        self.values[layer]
    }

    fn position(&self) -> u64 {
        self.position
    }
}

fn store() -> SessionStore<&'static str> {
    SessionStore::new(LIMITS, CACHE)
}

fn open(store: &mut SessionStore<&'static str>, now: Instant) -> SessionId {
    store
        .create(now, "label".to_owned(), vec![2], "slab")
        .unwrap()
}

#[test]
fn an_id_is_the_prefix_and_32_lowercase_hexadecimal_digits_and_reads_back() {
    let ids: HashSet<SessionId> = (0..1000).map(|_| SessionId::random()).collect();
    assert_eq!(ids.len(), 1000);
    for id in ids {
        let text = id.to_string();
        let hex = text.strip_prefix("sess-").unwrap();
        assert_eq!(hex.len(), 32);
        assert!(
            hex.bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        );
        assert_eq!(text.parse(), Ok(id.clone()));
        assert_eq!(format!("{id:?}"), text);
    }
    let zeros = format!("sess-{}", "0".repeat(32));
    assert_eq!(zeros.parse::<SessionId>().unwrap().to_string(), zeros);
}

#[test]
fn refuses_a_text_that_is_not_an_id() {
    let digits = "0123456789abcdef0123456789abcdef";
    let wrong = [
        String::new(),
        "sess-".to_owned(),
        digits.to_owned(),
        format!("sess-{}", &digits[1..]),
        format!("sess-{digits}0"),
        format!("sess-{}", digits.to_uppercase()),
        format!("sess-+{}", &digits[1..]),
        format!("SESS-{digits}"),
        format!("sess-{digits} "),
        format!("sess-{}é", &digits[2..]),
    ];
    for text in wrong {
        let error = text.parse::<SessionId>().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("`{text}` is not a session id: `sess-` and 32 lowercase hexadecimal digits")
        );
    }
}

#[test]
fn a_new_session_is_empty_and_holds_what_it_was_given() {
    let now = Instant::now();
    let mut store = store();
    assert!(store.is_empty());
    assert_eq!(store.limits(), LIMITS);
    let id = open(&mut store, now);
    assert_eq!(store.len(), 1);
    let session = store.get(&id).unwrap();
    assert_eq!(session.id(), &id);
    assert_eq!(session.label(), "label");
    assert_eq!(session.eos_token_ids(), [2]);
    assert_eq!(session.history(), [0; 0]);
    assert!(session.cached().is_empty());
    assert_eq!(session.resource(), &"slab");
    assert_eq!(session.last_position(), 0);
    assert_eq!(session.idle(now), Duration::ZERO);
    assert!(!session.is_busy());
    assert_eq!(
        store.iter().map(|session| session.id()).collect::<Vec<_>>(),
        [&id]
    );
}

#[test]
fn a_full_store_refuses_and_hands_the_resource_back() {
    let now = Instant::now();
    let mut store = store();
    for _ in 0..3 {
        open(&mut store, now);
    }
    let refused = store
        .create(now, String::new(), vec![], "the fourth")
        .unwrap_err();
    assert_eq!(refused, (SessionError::Full { capacity: 3 }, "the fourth"));
    assert_eq!(store.len(), 3);
}

#[test]
fn a_session_comes_back_under_its_id_with_its_history_and_its_idle_time() {
    let now = Instant::now();
    let mut store = store();
    let id: SessionId = "sess-0000000000000000000000000000002a".parse().unwrap();
    let (label, idle) = ("label".to_owned(), Duration::from_millis(3));
    let restored = store.restore(id.clone(), now, label.clone(), vec![2], vec![5, 6], "slab");
    restored.unwrap();
    let session = store.get(&id).unwrap();
    assert_eq!(
        (session.label(), session.eos_token_ids()),
        ("label", &[2][..])
    );
    assert_eq!(session.history(), [5, 6]);
    assert_eq!(session.cached().iter().collect::<Vec<_>>(), [5, 6]);
    assert_eq!(session.last_position(), 2);
    assert_eq!(session.idle(now + idle), idle);
    let again = store.restore(id.clone(), now, label, vec![], vec![], "another");
    assert_eq!(again, Err((SessionError::Taken { id }, "another")));
    assert_eq!(store.len(), 1);
}

#[test]
fn history_is_appended_to_and_the_cached_tokens_follow_it() {
    let now = Instant::now();
    let mut store = store();
    let id = open(&mut store, now);
    store.record(&id, &[10, 11], now).unwrap();
    store.record(&id, &[12, 13, 14], now).unwrap();
    let session = store.get(&id).unwrap();
    assert_eq!(session.history(), [10, 11, 12, 13, 14]);
    assert_eq!(session.cached().iter().collect::<Vec<_>>(), [10, 13, 14]);
}

#[test]
fn an_ended_session_is_not_found_by_any_method_and_gives_its_resource_back() {
    let now = Instant::now();
    let mut store = store();
    let id = open(&mut store, now);
    *store.get_mut(&id).unwrap().resource_mut() = "used slab";
    assert_eq!(store.remove(&id).unwrap().into_resource(), "used slab");

    let not_found = SessionError::NotFound { id: id.clone() };
    assert_eq!(store.get(&id).unwrap_err(), not_found);
    assert_eq!(store.get_mut(&id).unwrap_err(), not_found);
    assert_eq!(store.record(&id, &[1], now).unwrap_err(), not_found);
    assert_eq!(store.touch(&id, now).unwrap_err(), not_found);
    assert_eq!(store.set_busy(&id, true).unwrap_err(), not_found);
    assert_eq!(
        store.check(&id, &Reported::uniform(0, 0)).unwrap_err(),
        not_found
    );
    assert_eq!(store.remove(&id).unwrap_err(), not_found);
    assert_eq!(store.violations(), ViolationCounts::default());
}

#[test]
fn a_session_that_begins_with_a_history_is_like_one_that_came_to_it() {
    let now = Instant::now();
    let mut store = store();
    let history = vec![7, 8, 9, 10, 11];
    let begun = store
        .create_with_history(now, "label".to_owned(), vec![2], history.clone(), "slab")
        .unwrap();
    let grown = open(&mut store, now);
    store.record(&grown, &history, now).unwrap();
    let cached = |id: &SessionId| store.get(id).unwrap().cached().iter().collect::<Vec<_>>();
    assert_eq!(cached(&begun), cached(&grown));
    assert_eq!(cached(&begun), [7, 10, 11]);
    assert_eq!(store.get(&begun).unwrap().history(), history);
    // Its position is at its end already: nothing may come before it.
    let back = store.check(&begun, &Reported::uniform(3, 4)).unwrap_err();
    let inv2 = InvariantViolation::Inv2 {
        last: 5,
        observed: 4,
    };
    assert_eq!(back, SessionError::Invariant(inv2));
    assert_eq!(store.check(&begun, &Reported::uniform(3, 5)), Ok(()));
}

#[test]
fn recording_and_touching_refresh_the_idle_clock_which_never_goes_back() {
    let start = Instant::now();
    let mut store = store();
    let id = open(&mut store, start);
    let idle = |store: &SessionStore<_>, at| store.get(&id).unwrap().idle(start + at);
    assert_eq!(idle(&store, 5 * SECOND), 5 * SECOND);
    store.record(&id, &[], start + 2 * SECOND).unwrap();
    assert_eq!(idle(&store, 5 * SECOND), 3 * SECOND);
    store.touch(&id, start + 4 * SECOND).unwrap();
    assert_eq!(idle(&store, 5 * SECOND), SECOND);
    store.touch(&id, start).unwrap();
    assert_eq!(idle(&store, 5 * SECOND), SECOND);
    assert_eq!(idle(&store, SECOND), Duration::ZERO);
}

#[test]
fn sessions_idle_for_the_ttl_have_expired_the_longest_idle_first() {
    let start = Instant::now();
    let mut store = store();
    let late = open(&mut store, start + 10 * SECOND);
    let early = open(&mut store, start);
    let middle = open(&mut store, start + 5 * SECOND);
    let ttl = LIMITS.idle_ttl;
    assert_eq!(store.expired(start + ttl - SECOND), []);
    assert_eq!(store.expired(start + ttl), vec![early.clone()]);
    assert_eq!(
        store.expired(start + ttl + 10 * SECOND),
        [early, middle, late]
    );
    assert_eq!(store.len(), 3, "saying what has expired ends nothing");
}

#[test]
fn the_least_recently_used_session_is_the_one_to_evict() {
    let start = Instant::now();
    let mut store = store();
    assert_eq!(store.least_recently_used(), None);
    let first = open(&mut store, start);
    let second = open(&mut store, start + SECOND);
    assert_eq!(store.least_recently_used(), Some(first.clone()));
    store.touch(&first, start + 2 * SECOND).unwrap();
    assert_eq!(store.least_recently_used(), Some(second));
}

#[test]
fn a_busy_session_neither_expires_nor_is_evicted() {
    let start = Instant::now();
    let mut store = store();
    let busy = open(&mut store, start);
    let idle = open(&mut store, start + SECOND);
    assert_eq!(store.set_busy(&busy, true), Ok(false));
    assert_eq!(store.set_busy(&busy, true), Ok(true));
    assert!(store.get(&busy).unwrap().is_busy());
    let late = start + 2 * LIMITS.idle_ttl;
    assert_eq!(store.least_recently_used(), Some(idle.clone()));
    assert_eq!(store.evictable_count(), 1);
    assert_eq!(store.expired(late), vec![idle.clone()]);
    store.set_busy(&idle, true).unwrap();
    assert_eq!(store.evictable_count(), 0);
    assert_eq!(store.least_recently_used(), None);
    assert_eq!(store.expired(late), []);
    store.set_busy(&busy, false).unwrap();
    assert_eq!(store.least_recently_used(), Some(busy));
}

#[test]
fn a_cache_that_agrees_with_the_record_passes_and_moves_the_position() {
    let now = Instant::now();
    let mut store = store();
    let id = open(&mut store, now);
    for (tokens, cached, position) in [(2, 2, 2), (1, 3, 3), (5, 3, 8), (0, 3, 8)] {
        store.record(&id, &vec![1; tokens], now).unwrap();
        store
            .check(&id, &Reported::uniform(cached, position))
            .unwrap();
        assert_eq!(store.get(&id).unwrap().last_position(), position);
    }
    assert_eq!(store.violations(), ViolationCounts { inv1: 0, inv2: 0 });
}

#[test]
fn inv_1_fires_for_the_keys_or_the_values_of_any_layer() {
    let cases = [
        (
            Reported {
                keys: [1, 2],
                ..Reported::uniform(2, 2)
            },
            0,
            KvSide::Keys,
            1,
        ),
        (
            Reported {
                keys: [2, 3],
                ..Reported::uniform(2, 2)
            },
            1,
            KvSide::Keys,
            3,
        ),
        (
            Reported {
                values: [0, 2],
                ..Reported::uniform(2, 2)
            },
            0,
            KvSide::Values,
            0,
        ),
        (
            Reported {
                values: [2, 1],
                ..Reported::uniform(2, 2)
            },
            1,
            KvSide::Values,
            1,
        ),
    ];
    let now = Instant::now();
    let mut store = store();
    let id = open(&mut store, now);
    store.record(&id, &[7, 8], now).unwrap();
    for (count, (cache, layer, which, observed)) in (1..).zip(cases) {
        let violation = InvariantViolation::Inv1 {
            layer,
            which,
            recorded: 2,
            observed,
        };
        assert_eq!(
            store.check(&id, &cache).unwrap_err(),
            SessionError::Invariant(violation)
        );
        assert_eq!(
            store.violations(),
            ViolationCounts {
                inv1: count,
                inv2: 0
            }
        );
    }
    assert_eq!(
        store.get(&id).unwrap().history(),
        [7, 8],
        "nothing is repaired"
    );
}

#[test]
fn inv_2_fires_when_the_position_goes_back_and_the_last_good_one_is_kept() {
    let now = Instant::now();
    let mut store = store();
    let id = open(&mut store, now);
    store.check(&id, &Reported::uniform(0, 9)).unwrap();
    for (count, observed) in [(1, 8), (2, 0)] {
        let violation = InvariantViolation::Inv2 { last: 9, observed };
        assert_eq!(
            store
                .check(&id, &Reported::uniform(0, observed))
                .unwrap_err(),
            SessionError::Invariant(violation)
        );
        assert_eq!(
            store.violations(),
            ViolationCounts {
                inv1: 0,
                inv2: count
            }
        );
    }
    store.check(&id, &Reported::uniform(0, 9)).unwrap();
}

#[test]
fn when_both_are_violated_both_are_counted_and_inv_1_is_reported() {
    let now = Instant::now();
    let mut store = store();
    let id = open(&mut store, now);
    store.check(&id, &Reported::uniform(0, 9)).unwrap();
    let error = store.check(&id, &Reported::uniform(1, 8)).unwrap_err();
    let expected = InvariantViolation::Inv1 {
        layer: 0,
        which: KvSide::Keys,
        recorded: 0,
        observed: 1,
    };
    assert_eq!(error, SessionError::Invariant(expected));
    assert_eq!(store.violations(), ViolationCounts { inv1: 1, inv2: 1 });
}

#[test]
fn violations_outlive_their_session() {
    let now = Instant::now();
    let mut store = store();
    let id = open(&mut store, now);
    store.check(&id, &Reported::uniform(1, 0)).unwrap_err();
    store.remove(&id).unwrap();
    assert_eq!(store.violations().inv1, 1);
}

#[test]
fn room_made_ahead_shows_nowhere() {
    let now = Instant::now();
    for window in [Window::Sliding(2), Window::Full] {
        let cache = CacheConfig { window, ..CACHE };
        let [mut with, mut without] = [(); 2].map(|()| SessionStore::new(LIMITS, cache));
        let (ours, theirs) = (open(&mut with, now), open(&mut without, now));
        for (room, tokens) in [(1000, &[5, 6][..]), (0, &[7]), (3, &[8, 9, 10]), (1, &[])] {
            with.reserve(&ours, room).unwrap();
            with.record(&ours, tokens, now).unwrap();
            without.record(&theirs, tokens, now).unwrap();
            let (found, expected) = (with.get(&ours).unwrap(), without.get(&theirs).unwrap());
            assert_eq!(found.history(), expected.history());
            assert!(found.cached().iter().eq(expected.cached().iter()));
        }
    }
    let unknown = SessionId::random();
    assert_eq!(
        store().reserve(&unknown, 1),
        Err(SessionError::NotFound { id: unknown })
    );
}
