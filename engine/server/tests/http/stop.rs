//! Stop strings end a text at the same place however it was cut into pieces.

use kakeya_server::http::stop::StopText;

/// What comes out of pieces, and the stop string that was met.
fn run<S: AsRef<str>>(stops: &[S], pieces: &[&str]) -> (String, Option<usize>) {
    let mut matcher = StopText::new(stops);
    let mut out = String::new();
    for piece in pieces {
        out += &matcher.push(piece);
    }
    let met = matcher.met();
    out += &matcher.finish();
    (out, met)
}

/// The rule, said plainly: the first place where a stop string is complete, and the longest one there.
fn expected<S: AsRef<str>>(stops: &[S], text: &str) -> (String, Option<usize>) {
    for end in 1..=text.len() {
        let there =
            |stop: &str| !stop.is_empty() && text.as_bytes()[..end].ends_with(stop.as_bytes());
        let complete = stops
            .iter()
            .enumerate()
            .filter(|(_, stop)| there(stop.as_ref()));
        // The first of those that are equally long.
        if let Some((index, stop)) = complete.rev().max_by_key(|(_, stop)| stop.as_ref().len()) {
            return (text[..end - stop.as_ref().len()].to_owned(), Some(index));
        }
    }
    (text.to_owned(), None)
}

fn given(text: &str, met: Option<usize>) -> (String, Option<usize>) {
    (text.to_owned(), met)
}

#[test]
fn text_is_given_out_up_to_the_stop_string_and_not_after() {
    assert_eq!(run(&["END"], &["one END two"]), given("one ", Some(0)));
    assert_eq!(
        run(&["END"], &["one ", "EN", "D", " two", "END"]),
        given("one ", Some(0))
    );
    assert_eq!(
        run(&["\n\n"], &["a\n", "b\n", "\nc"]),
        given("a\nb", Some(0))
    );
    assert_eq!(run(&["x"], &["x"]), given("", Some(0)));
}

#[test]
fn without_a_stop_string_the_whole_text_is_given_out() {
    assert_eq!(run::<&str>(&[], &["a", "b"]), given("ab", None));
    assert_eq!(run(&[""], &["a", "b"]), given("ab", None));
    assert_eq!(run(&["END"], &["one EN"]), given("one EN", None));
    assert_eq!(run(&["END"], &[]), given("", None));
}

#[test]
fn a_stop_string_that_overlaps_its_own_beginning_is_found() {
    assert_eq!(run(&["aab"], &["aaab"]), given("a", Some(0)));
    assert_eq!(run(&["aab"], &["a", "a", "a", "b"]), given("a", Some(0)));
    assert_eq!(run(&["ababc"], &["abab", "abc"]), given("ab", Some(0)));
}

#[test]
fn of_several_the_first_that_is_complete_counts_and_the_longest_there() {
    assert_eq!(run(&["abcd", "bc"], &["abcd"]), given("a", Some(1)));
    assert_eq!(run(&["b", "ab"], &["xab"]), given("x", Some(1)));
    assert_eq!(run(&["ab", "b"], &["xab"]), given("x", Some(0)));
    assert_eq!(run(&["ab", "ab"], &["ab"]), given("", Some(0)));
}

#[test]
fn only_what_may_begin_a_stop_string_is_held_back() {
    let mut matcher = StopText::new(&["END", "nd!"]);
    for (piece, out, held) in [
        ("the e", "the e", ""),
        ("n", "", "n"),
        ("d", "", "nd"),
        ("E", "nd", "E"),
        ("N", "", "EN"),
        ("E", "EN", "E"),
        ("xyz", "Exyz", ""),
    ] {
        assert_eq!(matcher.push(piece), out);
        assert_eq!(matcher.held(), held);
        assert_eq!(matcher.met(), None);
    }
    assert_eq!(matcher.push("END"), "");
    assert_eq!((matcher.held(), matcher.met()), ("", Some(0)));
}

#[test]
fn characters_of_many_bytes_stay_whole() {
    // The two letters share their first byte, the faces their first three.
    assert_eq!(
        run(&["\u{e9}\u{e8}"], &["\u{e9}", "\u{e9}", "\u{e8}"]),
        given("\u{e9}", Some(0))
    );
    assert_eq!(
        run(&["\u{1f600}"], &["a\u{1f601}", "\u{1f600}b"]),
        given("a\u{1f601}", Some(0))
    );
    let mut matcher = StopText::new(&["\u{1f600}!"]);
    assert_eq!(matcher.push("\u{1f601}"), "\u{1f601}");
    assert_eq!(matcher.push("\u{1f600}"), "");
    assert_eq!(matcher.push("?"), "\u{1f600}?");
}

#[test]
fn a_long_text_of_near_misses_costs_linear_time() {
    let stop = "a".repeat(20_000) + "b";
    let text = "a".repeat(2_000_000);
    assert_eq!(run(&[stop], &[&text]), given(&text, None));
}

#[test]
fn the_result_does_not_depend_on_how_the_text_was_cut() {
    const LETTERS: [&str; 5] = ["a", "b", "\u{e9}", "\u{e8}", "\u{1f600}"];
    let mut random = fastrand::Rng::with_seed(17);
    let mut met = 0;
    for _ in 0..20_000 {
        let letters = random.usize(2..=LETTERS.len());
        let mut word = |lengths: std::ops::RangeInclusive<usize>| -> String {
            let length = random.usize(lengths);
            (0..length)
                .map(|_| LETTERS[random.usize(..letters)])
                .collect()
        };
        let stops = [word(1..=6), word(1..=6), word(3..=9)];
        let text = word(0..=40);
        let mut pieces = Vec::new();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (next, _) = rest
                .char_indices()
                .nth(random.usize(0..=5))
                .unwrap_or((rest.len(), ' '));
            let (piece, after) = rest.split_at(next);
            pieces.push(piece);
            rest = after;
        }
        let expected = expected(&stops, &text);
        met += usize::from(expected.1.is_some());
        assert_eq!(run(&stops, &pieces), expected, "{stops:?} in {pieces:?}");
        assert_eq!(run(&stops, &[&text]), expected, "{stops:?} in {text:?}");
    }
    assert!((5_000..19_000).contains(&met), "both ends are tried: {met}");
}
