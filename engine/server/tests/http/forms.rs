//! What `response_format`, `tools` and `tool_choice` come to: a grammar, and the schemas in it.

use kakeya_server::http::ApiError;
use kakeya_server::http::forms::{AnswerForm, Calls};
use serde_json::{Value, json};

use crate::support::{assert_refused, chat, with};

fn form(fields: Value) -> Option<AnswerForm> {
    AnswerForm::of(&chat(fields).expect("taken")).expect("a form")
}

fn lines(form: &AnswerForm) -> Vec<&str> {
    form.grammar.lines().collect()
}

fn tools() -> Value {
    json!({"tools": [
        {"type": "function", "function": {"name": "look", "strict": true, "parameters":
            {"type": "object", "properties": {"z": {"type": "string"}, "a": {}}}}},
        {"type": "function", "function": {"name": "wait-2"}},
    ]})
}

const LOOK: &str = r#"tool_0: "\n{\"name\": \"look\", \"arguments\": " @args_0 "}\n</tool_call>""#;
const WAIT: &str =
    r#"tool_1: "\n{\"name\": \"wait-2\", \"arguments\": " @args_1 "}\n</tool_call>""#;
const OPEN: &str = r#"open: "<tool_call>""#;
const SEP: &str = r#"sep: "\n<tool_call>""#;

#[test]
fn any_text_has_no_form() {
    assert_eq!(form(json!({})), None);
    assert_eq!(form(json!({"response_format": {"type": "text"}})), None);
    assert_eq!(form(with(tools(), json!({"tool_choice": "none"}))), None);
}

#[test]
fn json_has_a_schema_in_the_order_of_its_properties() {
    let found = form(json!({"response_format": {"type": "json_object"}})).expect("a form");
    assert_eq!(lines(&found), ["start: @answer"]);
    assert_eq!(found.calls, Calls::Never);
    assert_eq!(found.schemas.len(), 1);
    assert_eq!(found.schemas[0].schema, json!({"type": "object"}));
    let schema = json!({"type": "object", "properties": {"z": {}, "a": {}}});
    let asked = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}});
    let found = form(json!({ "response_format": asked })).expect("a form");
    assert_eq!(lines(&found), ["start: @answer"]);
    let [named] = &found.schemas[..] else {
        panic!("{found:?}")
    };
    assert_eq!(
        (named.name.as_str(), named.param.as_str()),
        ("answer", "response_format")
    );
    assert!(!named.lenient);
    assert_eq!(
        named.schema.to_string(),
        r#"{"type":"object","properties":{"z":{},"a":{}}}"#
    );
}

#[test]
fn a_model_that_may_call_functions_may_also_say_something() {
    let found = form(tools()).expect("a form");
    assert_eq!(
        lines(&found),
        [
            "start: TEXT | lead body (sep body)*",
            r"TEXT: /(.|\n)*/",
            r"lead[lazy]: /(.|\n)*<tool_call>/",
            LOOK,
            WAIT,
            "body: tool_0 | tool_1",
            OPEN,
            SEP,
        ]
    );
    assert_eq!(found.calls, Calls::AfterText);
    let [look, wait] = &found.schemas[..] else {
        panic!("{found:?}")
    };
    assert_eq!((look.name.as_str(), look.lenient), ("args_0", false));
    assert_eq!(look.param, "tools[0].function.parameters");
    assert_eq!((wait.name.as_str(), wait.lenient), ("args_1", true));
    let none = json!({"type": "object", "properties": {}, "additionalProperties": false});
    assert_eq!(wait.schema, none);
    let once = form(with(tools(), json!({"parallel_tool_calls": false}))).expect("a form");
    assert_eq!(lines(&once)[0], "start: TEXT | lead body");
}

#[test]
fn with_a_format_it_calls_functions_or_answers_in_it() {
    let fields = json!({"response_format": {"type": "json_object"}});
    let found = form(with(tools(), fields.clone())).expect("a form");
    let rest = [LOOK, WAIT, "body: tool_0 | tool_1", OPEN, SEP];
    assert_eq!(lines(&found)[0], "start: @answer | open body (sep body)*");
    assert_eq!(lines(&found)[1..], rest);
    assert_eq!((found.calls, found.schemas.len()), (Calls::Whole, 3));
    // Whoever must call functions has no other answer.
    let fields = with(fields, json!({"tool_choice": "required"}));
    let found = form(with(tools(), fields)).expect("a form");
    assert_eq!(lines(&found)[0], "start: open body (sep body)*");
    assert_eq!(lines(&found)[1..], rest);
    assert_eq!((found.calls, found.schemas.len()), (Calls::Whole, 2));
}

#[test]
fn a_function_that_is_named_is_called_once() {
    let choice = json!({"tool_choice": {"type": "function", "function": {"name": "wait-2"}}});
    let found = form(with(tools(), choice)).expect("a form");
    let expected = ["start: open body", WAIT, "body: tool_1", OPEN, SEP];
    assert_eq!(lines(&found), expected);
    assert_eq!(found.schemas.len(), 1);
}

#[test]
fn arguments_are_an_object() {
    let of = |parameters: Value| {
        json!({"tools": [{"type": "function",
        "function": {"name": "a", "parameters": parameters}}]})
    };
    let found = form(of(json!({"properties": {"x": {}}}))).expect("a form");
    assert_eq!(found.schemas[0].schema["type"], "object");
    let read = |fields: Value| AnswerForm::of(&chat(fields)?);
    let param = "tools[0].function.parameters";
    let message = "must be of the `type` `object`";
    assert_refused(
        read,
        &[
            (of(json!({"type": "string"})), param, message),
            (of(json!({"type": ["object", "null"]})), param, message),
        ],
    );
}

#[test]
fn schemas_have_a_longest_length() {
    let schema = |length: usize| json!({"type": "object", "description": "d".repeat(length)});
    let read =
        |fields: Value| -> Result<Option<AnswerForm>, ApiError> { AnswerForm::of(&chat(fields)?) };
    let format = |length| {
        let json_schema = json!({"name": "n", "schema": schema(length)});
        json!({"response_format": {"type": "json_schema", "json_schema": json_schema}})
    };
    let tools = |length| {
        let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": schema(length)}});
        json!({"tools": [tool("a"), tool("b")]})
    };
    assert!(read(format(130_000)).is_ok() && read(tools(65_000)).is_ok());
    assert_refused(
        read,
        &[
            (format(131_072), "response_format", "131072 are the most"),
            (tools(65_536), "tools", "131072 are the most"),
        ],
    );
}
