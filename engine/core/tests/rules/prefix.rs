use kakeya_core::prefix::shared;
use kakeya_core::{PrefixIndex, PrefixOwner};

type Index = PrefixIndex<&'static str>;

fn any(_: &&'static str, _: usize) -> bool {
    true
}

/// An index of entries of one byte for each token.
fn index(limit: u64, entries: &[(&'static str, &[u32])]) -> Index {
    let mut index = Index::new(limit);
    for (kept, tokens) in entries {
        assert!(index.insert(None, (*tokens).into(), tokens.len() as u64, kept));
    }
    index
}

/// What of an index serves a prompt best, and for how many tokens.
fn longest(index: &Index, prompt: &[u32]) -> Option<(&'static str, usize)> {
    let found = index.longest(None, prompt, any)?;
    assert_eq!(&found.tokens[..found.shared], &prompt[..found.shared]);
    Some((found.kept, found.shared))
}

fn kept(index: &Index) -> Vec<&'static str> {
    let mut kept = Vec::new();
    for first in 0..10 {
        let mut seen = Vec::new();
        while let Some(found) = index.longest(None, &[first], |kept, _| !seen.contains(kept)) {
            seen.push(*found.kept);
        }
        kept.extend(seen);
    }
    kept.sort_unstable();
    kept
}

#[test]
fn the_entry_that_shares_most_is_found_wherever_it_stands() {
    let index = index(
        1000,
        &[
            ("a", &[1, 2, 3]),
            ("b", &[1, 2, 3, 4, 5]),
            ("c", &[1, 2, 9]),
            ("d", &[7]),
        ],
    );
    for (prompt, expected) in [
        (&[1, 2, 3, 4, 5, 6][..], Some(("b", 5))),
        (&[1, 2, 3, 4, 9], Some(("b", 4))),
        (&[1, 2, 3], Some(("a", 3))),
        (&[1, 2, 9, 9], Some(("c", 3))),
        (&[1, 2, 8], Some(("c", 2))),
        (&[7, 7], Some(("d", 1))),
        (&[0], None),
        (&[8], None),
        (&[], None),
    ] {
        let found = longest(&index, prompt);
        let lengths = |found: Option<(_, usize)>| found.map(|(_, shared)| shared);
        assert_eq!(lengths(found), lengths(expected), "{prompt:?}");
        // Where several share as much, any of them will do.
        if lengths(found) != Some(2) {
            assert_eq!(found, expected, "{prompt:?}");
        }
    }
}

#[test]
fn the_search_agrees_with_looking_at_all_of_them() {
    let mut state = 1u32;
    let mut next = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % below
    };
    for _ in 0..300 {
        let mut sequence = || -> Vec<u32> { (0..=next(6)).map(|_| next(3)).collect() };
        let all: Vec<Vec<u32>> = (0..12).map(|_| sequence()).collect();
        let prompt = sequence();
        let stranger = PrefixOwner::new("a stranger");
        let mut index = PrefixIndex::new(1000);
        for tokens in &all {
            index.insert(None, tokens.clone().into(), 1, tokens.len());
        }
        // Of some lengths nothing can be used.
        let usable = |kept: &usize, shared: usize| !(kept + shared).is_multiple_of(3);
        assert!(index.longest(Some(&stranger), &prompt, usable).is_none());
        let found = index.longest(None, &prompt, usable);
        let expected = all
            .iter()
            .map(|tokens| (tokens.len(), shared(tokens, &prompt)))
            .filter(|(kept, shared)| *shared > 0 && usable(kept, *shared))
            .map(|(_, shared)| shared)
            .max();
        assert_eq!(
            found.map(|found| found.shared),
            expected,
            "{all:?} {prompt:?}"
        );

        let covered = |kept: &usize, _| *kept != 2;
        index.remove_beginnings(Some(&stranger), &prompt, covered);
        index.remove_beginnings(None, &prompt, covered);
        let mut left: Vec<_> = all
            .iter()
            .filter(|tokens| {
                let beginning = prompt.starts_with(tokens) && **tokens != prompt;
                !beginning || tokens.len() == 2
            })
            .collect();
        left.sort();
        left.dedup();
        assert_eq!(index.len(), left.len(), "{all:?} {prompt:?}");
        assert_eq!(index.bytes(), left.len() as u64);
    }
}

#[test]
fn owners_never_see_each_others_entries() {
    let (one, other) = (PrefixOwner::new("one"), PrefixOwner::new("other"));
    let mut index = Index::new(100);
    assert!(index.insert(Some(one.clone()), [1, 2].into(), 2, "of one"));
    for stranger in [None, Some(&other)] {
        assert!(index.longest(stranger, &[1, 2, 3], any).is_none());
        index.remove(stranger, &[1, 2]);
        index.remove_all_from(stranger, &[1]);
        index.remove_beginnings(stranger, &[1, 2, 3], any);
    }
    assert!(index.insert(Some(other.clone()), [1, 2].into(), 2, "of the other"));
    let found = index.longest(Some(&one), &[1, 2, 3], any).unwrap();
    assert_eq!((*found.kept, found.shared), ("of one", 2));
    index.remove_all_from(Some(&one), &[1]);
    assert!(index.longest(Some(&one), &[1, 2], any).is_none());
    assert!(index.longest(Some(&other), &[1, 2], any).is_some());
    assert_eq!((index.len(), index.bytes()), (1, 2));
}

#[test]
fn what_was_of_no_use_for_longest_goes_first_and_no_more_than_must() {
    let mut index = index(10, &[("a", &[1; 3]), ("b", &[2; 3]), ("c", &[3; 3])]);
    let used = index.longest(None, &[1, 1], any).unwrap();
    index.touch(&used);
    assert!(!index.insert(None, [4; 2].into(), 2, "no room was made"));
    assert!(index.make_room(1));
    assert_eq!((kept(&index), index.evicted()), (vec!["a", "b", "c"], 0));
    assert!(index.make_room(4));
    assert_eq!((kept(&index), index.evicted()), (vec!["a", "c"], 1));
    assert!(index.insert(None, [4; 4].into(), 4, "d"));
    assert_eq!((index.bytes(), index.limit()), (10, 10));
    assert!(index.make_room(10));
    assert!(index.is_empty());
    assert_eq!((index.bytes(), index.evicted()), (0, 4));
}

#[test]
fn what_is_larger_than_the_whole_is_not_made_room_for() {
    let mut index = index(10, &[("a", &[1; 9])]);
    assert!(!index.make_room(11));
    assert!(!index.insert(None, [2; 3].into(), 11, "too large"));
    assert_eq!((kept(&index), index.evicted()), (vec!["a"], 0));
}

#[test]
fn an_entry_of_the_same_tokens_takes_the_place_of_the_old_one() {
    let mut index = index(10, &[("old", &[1; 6])]);
    assert!(index.insert(None, [1; 6].into(), 7, "new"));
    assert_eq!((kept(&index), index.bytes()), (vec!["new"], 7));
    index.remove(None, &[1; 5]);
    assert_eq!(index.len(), 1);
    index.remove(None, &[1; 6]);
    assert!(index.is_empty());
}

#[test]
fn all_that_begin_alike_can_be_dropped_together() {
    let mut index = index(
        100,
        &[
            ("a", &[1]),
            ("b", &[1, 2]),
            ("c", &[1, 2, 0]),
            ("d", &[1, 2, 9, 9]),
            ("e", &[1, 3]),
        ],
    );
    index.remove_all_from(None, &[1, 2]);
    assert_eq!(kept(&index), ["a", "e"]);
    index.remove_all_from(None, &[5]);
    assert_eq!(index.bytes(), 3);
}

#[test]
fn a_closed_index_keeps_nothing() {
    let mut index = index(100, &[("a", &[1, 2])]);
    index.close();
    assert!(index.is_empty() && index.bytes() == 0);
    assert!(!index.insert(None, [1].into(), 1, "late"));
    assert!(index.longest(None, &[1, 2], any).is_none());
}

#[test]
fn tokens_are_compared_up_to_the_first_that_differs() {
    let long: Vec<u32> = (0..1000).collect();
    for length in [0, 1, 63, 64, 65, 128, 200, 999] {
        let mut other = long.clone();
        other[length] = 5000;
        assert_eq!(shared(&long, &other), length);
        assert_eq!(shared(&long[..length], &long), length);
        assert_eq!(shared(&long, &long[..length]), length);
    }
    assert_eq!(shared(&long, &long), 1000);
}
