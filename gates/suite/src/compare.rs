//! Comparisons that cases make: exact, never empty, and with a message a reader can act on.

use std::cell::RefCell;
use std::fmt::Debug;

use crate::failure::{CaseFailure, CaseResult};

thread_local! {
    /// What the case that this thread runs has compared so far.
    static COMPARED: RefCell<Vec<Compared>> = const { RefCell::new(Vec::new()) };
}

/// A comparison that a case made, all of whose values agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// What was compared.
    pub what: String,
    /// Where the found values lay in memory.
    pub found_at: usize,
    /// Where the expected values lay.
    pub expected_at: usize,
    /// How many.
    pub values: usize,
}

/// The comparisons that this thread has made since the last call.
pub(crate) fn take_compared() -> Vec<Compared> {
    COMPARED.take()
}

const SHOWN_CHARACTERS: usize = 200;

/// Fails the case with a sentence unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {{
        let holds: bool = $condition;
        if !holds {
            return Err($crate::CaseFailure::violated(format!($($message)+)));
        }
    }};
}

/// Fails the case, naming found and expected, unless both are equal.
#[macro_export]
macro_rules! ensure_eq {
    ($found:expr, $expected:expr, $($what:tt)+) => {
        match (&$found, &$expected) {
            (found, expected) => {
                if *found != *expected {
                    return Err($crate::CaseFailure::unequal(
                        format!($($what)+),
                        $crate::shown(found),
                        $crate::shown(expected),
                    ));
                }
            }
        }
    };
}

/// A value's debug form, cut where a failure message would stop being readable.
#[doc(hidden)]
pub fn shown(value: &(impl Debug + ?Sized)) -> String {
    cut(format!("{value:?}"))
}

fn cut(text: String) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((cut, _)) => format!("{}... ({} characters)", &text[..cut], text.chars().count()),
        None => text,
    }
}

/// Requires the same bits in every element. NaN equals NaN of the same payload, and 0.0 differs from -0.0.
///
/// # Errors
/// When lengths or bits differ, or when there is nothing to compare.
pub fn ensure_same_bits(what: &str, found: &[f32], expected: &[f32]) -> CaseResult {
    same(
        what,
        found,
        expected,
        |a, b| a.to_bits() == b.to_bits(),
        show_bits,
    )
}

/// Requires the same token ids.
///
/// # Errors
/// When lengths or ids differ, or when there is nothing to compare.
pub fn ensure_same_tokens(what: &str, found: &[u32], expected: &[u32]) -> CaseResult {
    same(what, found, expected, |a, b| a == b, u32::to_string)
}

/// Requires the same digest, so that a computation is compared with one of another host that left its digest alone.
///
/// # Errors
/// When the digests differ, with both in full, or when there is none.
pub fn ensure_same_digest(what: &str, found: &str, expected: &str) -> CaseResult {
    if found != expected {
        return Err(CaseFailure::unequal(what, found, expected));
    }
    same(
        what,
        found.as_bytes(),
        expected.as_bytes(),
        |a, b| a == b,
        u8::to_string,
    )
}

/// Requires at least one differing bit: the shape of a negative control.
///
/// # Errors
/// When all bits agree, when there is nothing to compare, or when the lengths differ, because then the
/// control did not compute the same thing and proves nothing.
pub fn ensure_different_bits(what: &str, left: &[f32], right: &[f32]) -> CaseResult {
    check_lengths(what, left.len(), right.len())?;
    if left
        .iter()
        .zip(right)
        .any(|(a, b)| a.to_bits() != b.to_bits())
    {
        return Ok(());
    }
    Err(CaseFailure::violated(format!(
        "{what}: all {} values have equal bits, and the control must differ",
        left.len()
    )))
}

fn show_bits(value: &f32) -> String {
    format!("{value:e} (0x{:08x})", value.to_bits())
}

fn check_lengths(what: &str, found: usize, expected: usize) -> CaseResult {
    if found != expected {
        return Err(CaseFailure::unequal(
            format!("{what}, number of values"),
            found.to_string(),
            expected.to_string(),
        ));
    }
    if found == 0 {
        return Err(CaseFailure::NothingCompared {
            what: what.to_owned(),
        });
    }
    Ok(())
}

fn same<T>(
    what: &str,
    found: &[T],
    expected: &[T],
    equal: impl Fn(&T, &T) -> bool,
    show: impl Fn(&T) -> String,
) -> CaseResult {
    check_lengths(what, found.len(), expected.len())?;
    let (found_at, expected_at) = (found.as_ptr() as usize, expected.as_ptr() as usize);
    if found_at == expected_at {
        return Err(CaseFailure::ComparedWithItself {
            what: what.to_owned(),
        });
    }
    let mut differing = found
        .iter()
        .zip(expected)
        .enumerate()
        .filter(|(_, (a, b))| !equal(a, b));
    let Some((index, (a, b))) = differing.next() else {
        COMPARED.with_borrow_mut(|all| {
            all.push(Compared {
                what: what.to_owned(),
                found_at,
                expected_at,
                values: found.len(),
            });
        });
        return Ok(());
    };
    let count = 1 + differing.count();
    Err(CaseFailure::unequal(
        format!(
            "{what}, {count} of {} values differ, first at index {index}",
            found.len()
        ),
        show(a),
        show(b),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(result: CaseResult) -> Result<(), String> {
        result.map_err(|failure| failure.to_string())
    }

    #[test]
    fn equal_bits_pass_and_a_negative_zero_does_not() {
        let (nan, another) = ([f32::NAN], [f32::NAN]);
        assert_eq!(text(ensure_same_bits("x", &nan, &another)), Ok(()));
        assert_eq!(
            text(ensure_same_bits(
                "logits",
                &[1.0, 0.0, 2.0],
                &[1.0, -0.0, 3.0]
            )),
            Err(
                "logits, 2 of 3 values differ, first at index 1: found 0e0 (0x00000000), \
                 expected -0e0 (0x80000000)"
                    .to_owned()
            )
        );
    }

    #[test]
    fn comparing_nothing_fails() {
        let expected = Err("x: both sides are empty, so nothing was compared".to_owned());
        assert_eq!(text(ensure_same_bits("x", &[], &[])), expected);
        assert_eq!(text(ensure_same_tokens("x", &[], &[])), expected);
        assert_eq!(text(ensure_same_digest("x", "", "")), expected);
        assert_eq!(text(ensure_different_bits("x", &[], &[])), expected);
    }

    #[test]
    fn comparing_a_thing_with_itself_fails() {
        let values = vec![1.0, 2.0];
        assert_eq!(
            text(ensure_same_bits("x", &values, &values)),
            Err("x: both sides lie in one place, so a thing was compared with itself".to_owned())
        );
        assert_eq!(
            text(ensure_same_bits("x", &values, &values.clone())),
            Ok(())
        );
    }

    #[test]
    fn what_was_compared_is_kept_until_it_is_taken() {
        take_compared();
        let values = vec![7, 8, 9];
        ensure_same_tokens("x", &values, &values.clone()).unwrap();
        assert!(ensure_same_tokens("y", &values, &[7]).is_err());
        let compared = take_compared();
        assert_eq!(compared.len(), 1);
        assert_eq!((compared[0].what.as_str(), compared[0].values), ("x", 3));
        assert_ne!(compared[0].found_at, compared[0].expected_at);
        assert!(take_compared().is_empty());
    }

    #[test]
    fn digests_that_differ_are_both_told() {
        take_compared();
        let (found, expected) = ("af".to_owned(), "af".to_owned());
        assert_eq!(text(ensure_same_digest("d", &found, &expected)), Ok(()));
        assert_eq!(take_compared().len(), 1);
        assert_eq!(
            text(ensure_same_digest("d", "af", "a0")),
            Err("d: found af, expected a0".to_owned())
        );
    }

    #[test]
    fn tokens_of_different_length_fail() {
        let (stream, another) = ([1, 2], [1, 2]);
        assert_eq!(
            text(ensure_same_tokens("stream", &stream, &another)),
            Ok(())
        );
        assert_eq!(
            text(ensure_same_tokens("stream", &[1, 2], &[1])),
            Err("stream, number of values: found 2, expected 1".to_owned())
        );
    }

    #[test]
    fn a_control_that_does_not_differ_fails() {
        assert_eq!(
            text(ensure_different_bits("c", &[1.0, 2.0], &[1.0, 2.5])),
            Ok(())
        );
        assert_eq!(
            text(ensure_different_bits("c", &[1.0], &[1.0])),
            Err("c: all 1 values have equal bits, and the control must differ".to_owned())
        );
    }

    #[test]
    fn macros_return_early_with_both_sides() {
        fn check(length: usize) -> CaseResult {
            crate::ensure!(length > 1, "length {length} is too short");
            crate::ensure_eq!(length, 3, "length of session {}", 9);
            Ok(())
        }
        assert_eq!(text(check(3)), Ok(()));
        assert_eq!(text(check(0)), Err("length 0 is too short".to_owned()));
        assert_eq!(
            text(check(4)),
            Err("length of session 9: found 4, expected 3".to_owned())
        );
    }

    #[test]
    fn long_values_are_cut() {
        let long = "é".repeat(500);
        let cut = shown(&long);
        assert!(cut.ends_with("... (502 characters)"), "{cut}");
        assert_eq!(shown(&7), "7");
    }
}
