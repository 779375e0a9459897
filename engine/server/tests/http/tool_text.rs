//! What models are told of tools whose templates leave them out.

use kakeya_server::http::requests::Message;
use kakeya_server::http::tool_text::{has_calls, in_words};
use serde_json::{Value, json};

use crate::support::chat;

fn user(content: &str) -> Value {
    json!({"role": "user", "content": content})
}

fn calls() -> Value {
    let call = |name: &str, arguments: &str| {
        json!({"id": name, "type": "function",
        "function": {"name": name, "arguments": arguments}})
    };
    json!({"role": "assistant", "content": null,
        "tool_calls": [call("look", "{\"at\": 1}"), call("wait", "{}")]})
}

fn answer(content: &str) -> Value {
    json!({"role": "tool", "tool_call_id": "x", "content": content})
}

/// The messages in words, each with its role.
fn told(messages: Value, tools: Value) -> Vec<(String, String)> {
    let request = chat(json!({"messages": messages, "tools": tools})).expect("taken");
    let told = in_words(&request.messages, &request.tools).expect("words");
    let role = |message: &Message| json!(message.role).as_str().expect("a word").to_owned();
    told.iter()
        .map(|message| {
            assert!(message.tool_calls.is_empty() && message.tool_call_id.is_none());
            (role(message), message.content.clone())
        })
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(role, text): &(&str, &str)| ((*role).to_owned(), (*text).to_owned());
    expected.iter().map(owned).collect()
}

const TOOLS: &str = r#"# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{"type":"function","function":{"name":"look","description":"looks","parameters":{"type":"object"}}}
{"type":"function","function":{"name":"wait"}}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{"name": "<function-name>", "arguments": <args-json-object>}
</tool_call>"#;

const CALLS: &str = r#"<tool_call>
{"name": "look", "arguments": {"at": 1}}
</tool_call>
<tool_call>
{"name": "wait", "arguments": {}}
</tool_call>"#;

#[test]
fn the_functions_stand_in_the_system_message() {
    let tools = json!([
        {"type": "function", "function": {"name": "look", "description": "looks", "parameters": {"type": "object"}}},
        {"type": "function", "function": {"name": "wait"}},
    ]);
    let found = told(json!([user("hi")]), tools.clone());
    assert_eq!(found, pairs(&[("system", TOOLS), ("user", "hi")]));
    for role in ["system", "developer"] {
        let first = json!({"role": role, "content": "Be brief."});
        let found = told(json!([first, user("hi")]), tools.clone());
        let system = format!("Be brief.\n\n{TOOLS}");
        assert_eq!(found, pairs(&[("system", &system), ("user", "hi")]));
    }
}

#[test]
fn calls_are_said_by_the_assistant_and_answers_by_the_user() {
    let found = told(
        json!([
            user("hi"),
            calls(),
            answer("seen"),
            answer("done"),
            user("so?")
        ]),
        json!([]),
    );
    let answers =
        "<tool_response>\nseen\n</tool_response>\n<tool_response>\ndone\n</tool_response>\nso?";
    assert_eq!(
        found,
        pairs(&[("user", "hi"), ("assistant", CALLS), ("user", answers)])
    );
    let mut spoken = calls();
    spoken["content"] = json!("I look.");
    let found = told(json!([user("hi"), spoken]), json!([]));
    assert_eq!(found[1].1, format!("I look.\n{CALLS}"));
}

#[test]
fn other_messages_stay_as_they_are() {
    let messages = json!([user("a"), user("b"), {"role": "assistant", "content": "c"}, user("d")]);
    let request = chat(json!({ "messages": messages })).expect("taken");
    assert_eq!(
        in_words(&request.messages, &[]),
        Ok(request.messages.clone())
    );
    assert!(!has_calls(&request.messages));
    let request = chat(json!({"messages": [user("a"), calls()]})).expect("taken");
    assert!(has_calls(&request.messages));
    let request = chat(json!({"messages": [answer("a")]})).expect("taken");
    assert!(has_calls(&request.messages));
}
