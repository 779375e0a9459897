//! Bounds on the filters that take memory because a number says so: the library allocates before it looks, and an
//! allocation that fails ends the process.
//!
//! Bounded they are what `transformers` has. What an expression alone can build, such as a text that is doubled over and
//! over, has no such place to look: its steps are bounded, and what they hold is not.

use minijinja::value::{Kwargs, Rest};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};

/// The most columns or blanks that a filter is asked for.
const MOST: usize = 1 << 12;
/// The most elements of a sequence that becomes a list. A sequence times a number can have any length.
const LONGEST: usize = 1 << 20;

/// Puts bounded filters in the place of the library's own.
pub(super) fn set(environment: &mut Environment<'_>) {
    environment.add_filter(
        "batch",
        |state: &State<'_, '_>, value: Value, count: usize, fill: Option<Value>| {
            elements(&value)?;
            filters::batch(state, value, number(count)?, fill)
        },
    );
    environment.add_filter(
        "slice",
        |state: &State<'_, '_>, value: Value, count: usize, fill: Option<Value>| {
            elements(&value)?;
            filters::slice(state, value, number(count)?, fill)
        },
    );
    environment.add_filter("list", |state: &State<'_, '_>, value: Value| {
        elements(&value)?;
        filters::list(state, value)
    });
    environment.add_filter(
        "format",
        |state: &State<'_, '_>, text: &Value, values: Rest<Value>| {
            widths(text.as_str().unwrap_or_default())?;
            filters::format(state, text, values)
        },
    );
    environment.add_filter("indent", indent);
}

/// Jinja's `indent`: blanks before every line but the first, unless `first`, and but the empty ones, unless `blank`.
fn indent(
    text: String,
    width: Option<usize>,
    first: Option<bool>,
    blank: Option<bool>,
    named: Kwargs,
) -> Result<String, Error> {
    let width = match width {
        Some(width) => width,
        None => named.get::<Option<usize>>("width")?.unwrap_or(4),
    };
    let flag = |given: Option<bool>, name| match given {
        Some(flag) => Ok(flag),
        None => Ok::<_, Error>(named.get::<Option<bool>>(name)?.unwrap_or(false)),
    };
    let (first, blank) = (flag(first, "first")?, flag(blank, "blank")?);
    named.assert_all_used()?;
    let blanks = " ".repeat(number(width)?);
    let lines = text.split('\n').enumerate().map(|(index, line)| {
        let indented = if index == 0 {
            first
        } else {
            blank || !line.is_empty()
        };
        if indented {
            format!("{blanks}{line}")
        } else {
            line.to_owned()
        }
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

fn number(given: usize) -> Result<usize, Error> {
    if given <= MOST {
        return Ok(given);
    }
    refuse(format!(
        "a filter is asked for {given}, expected at most {MOST}"
    ))
}

fn elements(value: &Value) -> Result<(), Error> {
    match value.len() {
        Some(length) if length > LONGEST => refuse(format!(
            "a list of {length} elements is made, expected at most {LONGEST}"
        )),
        _ => Ok(()),
    }
}

/// The widths and precisions of a format have four digits at most.
fn widths(format: &str) -> Result<(), Error> {
    let digits = format.split(|character: char| !character.is_ascii_digit());
    if digits.map(str::len).max().unwrap_or(0) <= 4 {
        return Ok(());
    }
    refuse("a format has a number of more than four digits".to_owned())
}

fn refuse<T>(detail: String) -> Result<T, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, detail))
}
