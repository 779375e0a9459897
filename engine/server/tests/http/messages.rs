//! Messages: what is taken, and the form in which chat templates read it.

use kakeya_server::http::ApiError;
use kakeya_server::http::requests::{Message, Role, messages_json};
use serde_json::{Value, json};

use crate::support::{assert_refused, chat};

fn messages(given: Value) -> Result<Vec<Message>, ApiError> {
    chat(json!({ "messages": given })).map(|request| request.messages)
}

fn message(given: Value) -> Result<Message, ApiError> {
    messages(json!([given])).map(|mut messages| messages.remove(0))
}

#[test]
fn every_role_is_taken_and_a_developer_speaks_as_the_system() {
    for (role, expected, written) in [
        ("system", Role::System, "system"),
        ("developer", Role::Developer, "system"),
        ("user", Role::User, "user"),
        ("assistant", Role::Assistant, "assistant"),
    ] {
        let message = message(json!({"role": role, "content": "a"})).expect("taken");
        assert_eq!(message.role, expected);
        let json = messages_json(&[message]).expect("JSON");
        assert_eq!(json, format!(r#"[{{"role":"{written}","content":"a"}}]"#));
    }
    assert_refused(
        message,
        &[
            (json!({"content": "a"}), "messages[0].role", "is required"),
            (
                json!({"role": "function", "content": "a"}),
                "messages[0].role",
                "must be `system`, ",
            ),
            (
                json!({"role": 5, "content": "a"}),
                "messages[0].role",
                "expected a string",
            ),
        ],
    );
}

#[test]
fn a_content_is_a_text_or_parts_of_text() {
    let content = |given| message(json!({"role": "user", "content": given}));
    let part = |text: &str| json!({"type": "text", "text": text});
    for (given, expected) in [
        (json!("a"), "a"),
        (json!(""), ""),
        (json!([part("a")]), "a"),
        (json!([part("a"), part("b")]), "a\nb"),
    ] {
        assert_eq!(
            content(given).map(|message| message.content),
            Ok(expected.to_owned())
        );
    }
    let at = "messages[0].content";
    let (first, second) = (format!("{at}[0]"), format!("{at}[1].type"));
    let image = json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}});
    let only_text = "`messages[0].content[1]` is of type `image_url`, and this model takes only";
    assert_refused(
        content,
        &[
            (json!(null), at, "is required"),
            (json!([]), at, "must have a part or more"),
            (json!(5), at, "expected a string or an array"),
            (json!({"a": 1}), at, "invalid type: map"),
            (json!([part("a"), image]), &second, only_text),
            (
                json!([{"type": "input_audio"}]),
                &format!("{first}.type"),
                "`input_audio`",
            ),
            (
                json!([{"text": "a"}]),
                &format!("{first}.type"),
                "is required",
            ),
            (
                json!([{"type": "text"}]),
                &format!("{first}.text"),
                "is required",
            ),
            (
                json!([{"type": "text", "text": 5}]),
                &format!("{first}.text"),
                "expected a string",
            ),
            (json!(["a"]), &first, "expected an object"),
        ],
    );
}

#[test]
fn calls_and_their_answers_reach_the_template_in_its_form() {
    let call = |arguments: &str| {
        let function = json!({"name": "look", "arguments": arguments});
        json!({"id": "call_1", "type": "function", "function": function})
    };
    let given = json!([
        {"role": "user", "content": "where?", "name": "Zo\u{eb} P."},
        {"role": "assistant", "content": null, "tool_calls": [call(r#"{"z": 1.50, "a": 2}"#)]},
        {"role": "tool", "content": "there", "tool_call_id": "call_1"},
        {"role": "assistant", "tool_calls": [call("[1"), call("7")], "refusal": null},
    ]);
    let json = messages_json(&messages(given).expect("taken")).expect("JSON");
    let called = |arguments: &str| {
        format!(
            r#"{{"id":"call_1","type":"function","function":{{"name":"look","arguments":{arguments}}}}}"#
        )
    };
    let (object, broken, number) = (
        called(r#"{"z": 1.50, "a": 2}"#),
        called(r#""[1""#),
        called(r#""7""#),
    );
    let expected = [
        "{\"role\":\"user\",\"content\":\"where?\",\"name\":\"Zo\u{eb} P.\"}".to_owned(),
        format!(r#"{{"role":"assistant","content":"","tool_calls":[{object}]}}"#),
        r#"{"role":"tool","content":"there","tool_call_id":"call_1"}"#.to_owned(),
        format!(r#"{{"role":"assistant","content":"","tool_calls":[{broken},{number}]}}"#),
    ];
    assert_eq!(json, format!("[{}]", expected.join(",")));
}

#[test]
fn a_call_stands_in_a_message_of_the_assistant_and_is_whole() {
    let at = "messages[0].tool_calls";
    let function = json!({"name": "look", "arguments": "{}"});
    let call = json!({"id": "1", "type": "function", "function": function});
    assert_refused(
        message,
        &[
            (
                json!({"role": "user", "content": "a", "tool_calls": [call]}),
                at,
                "of the assistant",
            ),
            (
                json!({"role": "assistant"}),
                "messages[0].content",
                "is required",
            ),
            (
                json!({"role": "assistant", "tool_calls": []}),
                "messages[0].content",
                "is required",
            ),
        ],
    );
    let none: Value = json!({"role": "user", "content": "a", "tool_calls": []});
    assert!(message(none).is_ok());
    let calls = |given| message(json!({"role": "assistant", "tool_calls": [given]}));
    let called = |given| calls(json!({"id": "1", "type": "function", "function": given}));
    let first = |field: &str| format!("{at}[0].{field}");
    assert_refused(
        calls,
        &[
            (
                json!({"type": "function", "function": function}),
                &first("id"),
                "is required",
            ),
            (
                json!({"id": "1", "function": function}),
                &first("type"),
                "is required",
            ),
            (
                json!({"id": "1", "type": "custom"}),
                &first("type"),
                "must be `function`",
            ),
            (
                json!({"id": "1", "type": "function"}),
                &first("function"),
                "is required",
            ),
        ],
    );
    assert_refused(
        called,
        &[
            (
                json!({"arguments": ""}),
                &first("function.name"),
                "is required",
            ),
            (
                json!({"name": "a b", "arguments": ""}),
                &first("function.name"),
                "1 to 64",
            ),
            (
                json!({"name": "a"}),
                &first("function.arguments"),
                "is required",
            ),
            (
                json!({"name": "a", "arguments": {}}),
                &first("function.arguments"),
                "a string",
            ),
        ],
    );
}

#[test]
fn the_answer_of_a_tool_says_which_call_it_answers() {
    let at = "messages[0].tool_call_id";
    assert_refused(
        message,
        &[
            (json!({"role": "tool", "content": "a"}), at, "is required"),
            (
                json!({"role": "user", "content": "a", "tool_call_id": "1"}),
                at,
                "of a tool",
            ),
        ],
    );
}

#[test]
fn a_name_has_a_character_or_more_and_an_end() {
    let named = |name: Value| message(json!({"role": "user", "content": "a", "name": name}));
    let longest = "\u{e9}".repeat(64);
    assert_eq!(
        named(json!(longest)).map(|message| message.name),
        Ok(Some(longest.clone()))
    );
    let at = "messages[0].name";
    assert_refused(
        named,
        &[
            (json!(""), at, "must have 1 to 64 characters"),
            (json!(longest + "e"), at, "must have 1 to 64 characters"),
        ],
    );
}
