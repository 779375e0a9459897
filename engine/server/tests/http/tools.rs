//! Tools: what is taken, and the form in which chat templates read it.

use kakeya_server::http::body::parse;
use kakeya_server::http::requests::{ChatBody, ToolChoice, tools_json};
use serde_json::{Value, json};

use crate::support::{assert_refused, chat};

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name}})
}

#[test]
fn tools_reach_the_template_in_its_form_and_in_the_clients_words() {
    let body = br#"{"model":"m","messages":[{"role":"user","content":"hi"}],"tools":[
        {"function":{"strict":true,"parameters":{"type":"object","properties":{"z":{},"a":{}}},
        "description":"looks","name":"look_1"},"type":"function"},
        {"type":"function","function":{"name":"wait-2"}}]}"#;
    let request = parse::<ChatBody>(body)
        .and_then(ChatBody::validate)
        .expect("taken");
    let expected = concat!(
        r#"[{"type":"function","function":{"name":"look_1","description":"looks","#,
        r#""parameters":{"type":"object","properties":{"z":{},"a":{}}}}},"#,
        r#"{"type":"function","function":{"name":"wait-2"}}]"#,
    );
    assert_eq!(
        tools_json(&request.tools).expect("JSON").as_deref(),
        Some(expected)
    );
    let strict: Vec<_> = request
        .tools
        .iter()
        .map(|tool| tool.function().strict)
        .collect();
    assert_eq!(strict, [true, false]);
    assert_eq!(request.tool_choice, ToolChoice::Auto);
    let none = chat(json!({"tools": []})).expect("taken");
    assert_eq!(tools_json(&none.tools).expect("JSON"), None);
    assert_eq!(none.tool_choice, ToolChoice::None);
    let one_by_one = chat(json!({"tools": [tool("a")], "parallel_tool_calls": false}));
    assert!(!one_by_one.expect("taken").parallel_tool_calls);
}

#[test]
fn a_tool_is_a_function_with_a_name_and_a_schema() {
    let tools = |given: Value| chat(json!({ "tools": [given] }));
    let function = |given: Value| tools(json!({"type": "function", "function": given}));
    assert_refused(
        tools,
        &[
            (
                json!({"function": {"name": "a"}}),
                "tools[0].type",
                "is required",
            ),
            (
                json!({"type": "retrieval"}),
                "tools[0].type",
                "must be `function`",
            ),
            (
                json!({"type": "function"}),
                "tools[0].function",
                "is required",
            ),
            (json!("look"), "tools[0]", "expected an object"),
        ],
    );
    let name = "tools[0].function.name";
    let allowed = "must be 1 to 64 characters from a-z, A-Z, 0-9, `_` and `-`";
    let schema = "tools[0].function.parameters";
    assert_refused(
        function,
        &[
            (json!({}), name, "is required"),
            (json!({"name": ""}), name, allowed),
            (json!({"name": "a b"}), name, allowed),
            (json!({"name": "\u{e9}"}), name, allowed),
            (json!({"name": "a".repeat(65)}), name, allowed),
            (
                json!({"name": "a", "parameters": []}),
                schema,
                "not a usable JSON object",
            ),
            (
                json!({"name": "a", "parameters": "{}"}),
                schema,
                "not a usable JSON object",
            ),
            (
                json!({"name": "a", "strict": 1}),
                "tools[0].function.strict",
                "a boolean",
            ),
        ],
    );
    assert!(function(json!({"name": "a".repeat(64), "parameters": null})).is_ok());
}

#[test]
fn there_are_at_most_128_tools_and_no_two_of_a_name() {
    let many: Vec<_> = (0..128)
        .map(|index| tool(&format!("tool_{index}")))
        .collect();
    assert_eq!(
        chat(json!({ "tools": many })).map(|request| request.tools.len()),
        Ok(128)
    );
    let over: Vec<_> = many.into_iter().chain([tool("more")]).collect();
    let twice = json!({"tools": [tool("a"), tool("b"), tool("a")]});
    assert_refused(
        chat,
        &[
            (
                json!({ "tools": over }),
                "tools",
                "`tools` has 129 tools, and may have 128",
            ),
            (
                twice,
                "tools[2].function.name",
                "is `a`, as is that of a tool before it",
            ),
        ],
    );
}

#[test]
fn a_choice_is_a_word_or_one_of_the_tools() {
    let named = |name: &str| json!({"type": "function", "function": {"name": name}});
    let choice =
        |given: Value| chat(json!({"tools": [tool("a"), tool("b")], "tool_choice": given}));
    for (given, expected) in [
        (json!("none"), ToolChoice::None),
        (json!("auto"), ToolChoice::Auto),
        (json!("required"), ToolChoice::Required),
        (named("b"), ToolChoice::Function("b".into())),
    ] {
        assert_eq!(
            choice(given).map(|request| request.tool_choice),
            Ok(expected)
        );
    }
    let name = "tool_choice.function.name";
    let function = "tool_choice.function";
    assert_refused(
        choice,
        &[
            (
                json!("any"),
                "tool_choice",
                "must be `none`, `auto`, `required` or a function",
            ),
            (json!(true), "tool_choice", "expected a string or an object"),
            (json!(["auto"]), "tool_choice", "expected an object"),
            (
                json!({"function": {"name": "a"}}),
                "tool_choice.type",
                "is required",
            ),
            (
                json!({"type": "tool"}),
                "tool_choice.type",
                "must be `function`",
            ),
            (json!({"type": "function"}), function, "is required"),
            (
                json!({"type": "function", "function": {}}),
                name,
                "is required",
            ),
            (named("c"), name, "names `c`, which is not among `tools`"),
        ],
    );
}

#[test]
fn a_choice_without_tools_can_only_be_none() {
    let none = chat(json!({"tool_choice": "none"})).map(|request| request.tool_choice);
    assert_eq!(none, Ok(ToolChoice::None));
    let named = json!({"type": "function", "function": {"name": "a"}});
    for choice in [json!("auto"), json!("required"), named] {
        let fields = json!({"tools": [], "tool_choice": choice});
        assert_refused(
            chat,
            &[(fields, "tool_choice", "only allowed with `tools`")],
        );
    }
}
