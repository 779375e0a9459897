//! Calls are read out of an answer's text, however it is cut.

use kakeya_server::http::calls::{CallReader, Said};
use kakeya_server::http::forms::Calls;

/// Contents, and calls with their arguments.
type Heard = (String, Vec<(String, String)>);

/// What a reader makes of a text in pieces of `step` bytes, and whether it ends with a call.
fn heard(calls: Calls, text: &str, step: usize) -> (Heard, bool) {
    let mut reader = CallReader::new(calls);
    let mut said = Vec::new();
    for piece in text.as_bytes().chunks(step) {
        said.extend(reader.push(std::str::from_utf8(piece).expect("ASCII")));
    }
    let ends = reader.ends_with_a_call();
    said.extend(reader.finish());
    let (mut content, mut called) = (String::new(), Vec::<(String, String)>::new());
    for said in said {
        match said {
            Said::Content(text) => {
                assert!(!text.is_empty());
                content += &text;
            }
            Said::Call { index, name } => {
                assert_eq!(index as usize, called.len());
                called.push((name, String::new()));
            }
            Said::Arguments { index, text } => {
                assert!(!text.is_empty());
                assert_eq!(index as usize, called.len() - 1);
                called.last_mut().expect("a call").1 += &text;
            }
        }
    }
    ((content, called), ends)
}

/// Asserts what is heard, whatever the pieces.
fn assert_heard(calls: Calls, text: &str, content: &str, called: &[(&str, &str)], ends: bool) {
    let called = called
        .iter()
        .map(|(name, arguments)| ((*name).to_owned(), (*arguments).to_owned()));
    let expected = ((content.to_owned(), called.collect()), ends);
    for step in 1..=text.len().max(1) {
        assert_eq!(heard(calls, text, step), expected, "{text:?} by {step}");
    }
}

const LOOK: &str =
    "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": {\"x\": \"}\"}}}\n</tool_call>";
const WAIT: &str = "<tool_call>\n{\"name\": \"wait-2\", \"arguments\": {}}\n</tool_call>";

#[test]
fn text_without_calls_is_content() {
    for calls in [Calls::Never, Calls::Whole, Calls::AfterText] {
        assert_heard(calls, "", "", &[], false);
        assert_heard(calls, "a <tool b\n\n", "a <tool b\n\n", &[], false);
        assert_heard(
            calls,
            "{\"a\": \"<tool_cal\"}",
            "{\"a\": \"<tool_cal\"}",
            &[],
            false,
        );
        assert_heard(calls, "<tool", "<tool", &[], false);
    }
}

#[test]
fn what_looks_like_a_call_is_one_only_where_one_may_be() {
    assert_heard(Calls::Never, LOOK, LOOK, &[], false);
    let quoted = "{\"a\": \"<tool_call>\"}";
    assert_heard(Calls::Whole, quoted, quoted, &[], false);
    let look = ("look", "{\"at\": {\"x\": \"}\"}}");
    for calls in [Calls::Whole, Calls::AfterText] {
        assert_heard(calls, LOOK, "", &[look], true);
        let both = format!("{LOOK}\n{WAIT}");
        assert_heard(calls, &both, "", &[look, ("wait-2", "{}")], true);
    }
}

#[test]
fn text_before_a_call_is_content_without_the_blanks_between() {
    let text = format!("Let me see. \n\n{WAIT}");
    assert_heard(
        Calls::AfterText,
        &text,
        "Let me see.",
        &[("wait-2", "{}")],
        true,
    );
    let blank = format!(" \n{WAIT}");
    assert_heard(Calls::AfterText, &blank, "", &[("wait-2", "{}")], true);
}

#[test]
fn an_answer_may_be_cut_off_anywhere() {
    let arguments = "{\"at\": {\"x\": \"}\"}}";
    let begins = LOOK.find(arguments).expect("its arguments");
    for end in 0..LOOK.len() {
        let (content, called): (&str, &[(&str, &str)]) = match end {
            end if end < "<tool_call>".len() => (&LOOK[..end], &[]),
            end if end < begins => ("", &[]),
            end => (
                "",
                &[("look", &LOOK[begins..end.min(begins + arguments.len())])],
            ),
        };
        assert_heard(Calls::Whole, &LOOK[..end], content, called, false);
    }
}

#[test]
fn what_is_certain_is_told_at_once() {
    let mut reader = CallReader::new(Calls::AfterText);
    assert_eq!(reader.push("So <"), [Said::Content("So".into())]);
    assert_eq!(reader.push("b"), [Said::Content(" <b".into())]);
    assert_eq!(reader.push("\n<tool_call>\n{\"name\": \"look\""), []);
    let begins = Said::Call {
        index: 0,
        name: "look".into(),
    };
    assert_eq!(reader.push(", \"arguments\": "), [begins]);
    let arguments = |text: &str| Said::Arguments {
        index: 0,
        text: text.into(),
    };
    assert_eq!(reader.push("{\"a\": 1"), [arguments("{\"a\": 1")]);
    assert_eq!(reader.push("}"), []);
    assert_eq!(reader.push("}"), [arguments("}")]);
    assert!(!reader.ends_with_a_call());
    assert_eq!(reader.push("\n</tool_call>"), []);
    assert!(reader.ends_with_a_call());
    assert_eq!(reader.finish(), []);
}
