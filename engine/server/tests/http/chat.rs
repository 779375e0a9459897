//! What a chat request asks for, and what it may not.

use kakeya_server::http::body::parse;
use kakeya_server::http::requests::{
    ChatBody, ChatRequest, Delivery, Message, ResponseFormat, Role, SamplingSettings, ToolChoice,
};
use serde_json::json;

use crate::support::{assert_refused, chat};

#[test]
fn the_least_request_has_openais_defaults() {
    let expected = ChatRequest {
        model: "m".into(),
        messages: vec![Message {
            role: Role::User,
            content: "hi".into(),
            name: None,
            tool_calls: vec![],
            tool_call_id: None,
        }],
        max_tokens: None,
        stop: vec![],
        sampling: SamplingSettings::default(),
        logprobs: None,
        n: 1,
        delivery: Delivery::Whole,
        format: ResponseFormat::Text,
        tools: vec![],
        tool_choice: ToolChoice::None,
        parallel_tool_calls: true,
        template_variables: None,
    };
    assert_eq!(chat(json!({})), Ok(expected.clone()));
    let unused = json!({
        "reasoning_effort": "low", "user": "me", "metadata": {}, "store": false, "functions": null,
        "function_call": null, "audio": null, "tools": null, "tool_choice": null,
        "response_format": null, "modalities": ["text"], "logprobs": null, "top_logprobs": null,
        "parallel_tool_calls": null, "chat_template_kwargs": null,
    });
    assert_eq!(chat(unused), Ok(expected));
}

#[test]
fn a_model_and_messages_are_required() {
    assert_refused(
        chat,
        &[
            (json!({"model": null}), "model", "`model` is required"),
            (json!({"model": 5}), "model", "expected a string"),
            (
                json!({"messages": null}),
                "messages",
                "`messages` is required",
            ),
            (json!({"messages": []}), "messages", "`messages` is empty"),
            (json!({"messages": "hi"}), "messages", "expected a sequence"),
            (
                json!({"messages": ["hi"]}),
                "messages[0]",
                "expected an object",
            ),
        ],
    );
}

#[test]
fn the_most_tokens_go_by_either_name() {
    for (fields, expected) in [
        (json!({"max_tokens": 5}), Some(5)),
        (json!({"max_tokens": 5.0}), Some(5)),
        (json!({"max_completion_tokens": 1}), Some(1)),
        (
            json!({"max_tokens": 7, "max_completion_tokens": 7}),
            Some(7),
        ),
        (
            json!({"max_tokens": null, "max_completion_tokens": u32::MAX}),
            Some(u32::MAX),
        ),
    ] {
        assert_eq!(chat(fields).map(|request| request.max_tokens), Ok(expected));
    }
    let from_1 = "must be an integer from 1 to 4294967295";
    assert_refused(
        chat,
        &[
            (json!({"max_tokens": 0}), "max_tokens", from_1),
            (json!({"max_tokens": -1}), "max_tokens", from_1),
            (json!({"max_tokens": 5.5}), "max_tokens", from_1),
            (json!({"max_tokens": 1e300}), "max_tokens", from_1),
            (json!({"max_tokens": 1_u64 << 32}), "max_tokens", from_1),
            (
                json!({"max_completion_tokens": 0}),
                "max_completion_tokens",
                from_1,
            ),
            (
                json!({"max_tokens": 5, "max_completion_tokens": 6}),
                "max_completion_tokens",
                "`max_tokens` is 5 and `max_completion_tokens` is 6: give one, or the same",
            ),
        ],
    );
}

#[test]
fn alternatives_are_told_only_with_logprobs() {
    for (fields, expected) in [
        (json!({"logprobs": false}), None),
        (json!({"logprobs": true}), Some(0)),
        (json!({"logprobs": true, "top_logprobs": 0}), Some(0)),
        (json!({"logprobs": true, "top_logprobs": 20}), Some(20)),
    ] {
        assert_eq!(chat(fields).map(|request| request.logprobs), Ok(expected));
    }
    let needs = "only allowed with `logprobs` set";
    assert_refused(
        chat,
        &[
            (
                json!({"logprobs": true, "top_logprobs": 21}),
                "top_logprobs",
                "from 0 to 20",
            ),
            (
                json!({"logprobs": true, "top_logprobs": -1}),
                "top_logprobs",
                "from 0 to 20",
            ),
            (json!({"top_logprobs": 2}), "top_logprobs", needs),
            (
                json!({"logprobs": false, "top_logprobs": 0}),
                "top_logprobs",
                needs,
            ),
            (json!({"logprobs": 5}), "logprobs", "expected a boolean"),
        ],
    );
}

#[test]
fn a_request_has_one_to_sixteen_answers() {
    for n in [1, 16] {
        assert_eq!(chat(json!({ "n": n })).map(|request| request.n), Ok(n));
    }
    assert_refused(
        chat,
        &[
            (json!({"n": 0}), "n", "must be an integer from 1 to 16"),
            (json!({"n": 17}), "n", "must be an integer from 1 to 16"),
        ],
    );
}

#[test]
fn the_form_of_an_answer_is_text_or_json_or_json_of_a_schema() {
    let format = |given| chat(json!({ "response_format": given })).map(|request| request.format);
    assert_eq!(format(json!({"type": "text"})), Ok(ResponseFormat::Text));
    assert_eq!(
        format(json!({"type": "json_object"})),
        Ok(ResponseFormat::JsonObject)
    );
    let body = br#"{"model":"m","messages":[{"role":"user","content":"hi"}],"response_format":
        {"type":"json_schema","json_schema":{"name":"pet-1","strict":true,
        "schema":{"type":"object","properties":{"name":{},"age":{}}}}}}"#;
    let request = parse::<ChatBody>(body)
        .and_then(ChatBody::validate)
        .expect("fits");
    let ResponseFormat::JsonSchema {
        name,
        schema,
        strict,
    } = request.format
    else {
        panic!("no schema: {request:?}")
    };
    assert_eq!((name.as_str(), strict), ("pet-1", true));
    assert_eq!(
        schema.text(),
        r#"{"type":"object","properties":{"name":{},"age":{}}}"#
    );
    let format = |given| chat(json!({ "response_format": given }));
    let schema = |given| format(json!({"type": "json_schema", "json_schema": given}));
    assert_refused(
        format,
        &[
            (json!({}), "response_format.type", "is required"),
            (json!("text"), "response_format", "expected an object"),
            (
                json!({"type": "xml"}),
                "response_format.type",
                "must be `text`, `json_object`",
            ),
            (
                json!({"type": "json_schema"}),
                "response_format.json_schema",
                "is required",
            ),
        ],
    );
    let at = "response_format.json_schema";
    let (name_at, schema_at) = (format!("{at}.name"), format!("{at}.schema"));
    assert_refused(
        schema,
        &[
            (json!({"schema": {}}), &name_at, "is required"),
            (
                json!({"name": "a b", "schema": {}}),
                &name_at,
                "must be 1 to 64 characters",
            ),
            (json!({"name": "a"}), &schema_at, "is required"),
            (
                json!({"name": "a", "schema": []}),
                &schema_at,
                "not a usable JSON object",
            ),
        ],
    );
    let loose = schema(json!({"name": "a", "schema": {}}))
        .expect("fits")
        .format;
    assert!(matches!(
        loose,
        ResponseFormat::JsonSchema { strict: false, .. }
    ));
}

#[test]
fn a_template_is_told_what_else_it_knows() {
    let request = chat(json!({"chat_template_kwargs": {"enable_thinking": false}})).expect("fits");
    let variables = request.template_variables.expect("given");
    assert_eq!(variables.text(), r#"{"enable_thinking":false}"#);
    let wrong = json!({"chat_template_kwargs": 5});
    assert_refused(
        chat,
        &[(wrong, "chat_template_kwargs", "not a usable JSON object")],
    );
}

#[test]
fn what_is_not_served_is_refused_rather_than_ignored() {
    assert_refused(
        chat,
        &[
            (json!({"functions": []}), "functions", "use `tools`"),
            (
                json!({"function_call": "auto"}),
                "function_call",
                "use `tools`",
            ),
            (
                json!({"audio": {"voice": "alloy"}}),
                "audio",
                "answers are text",
            ),
        ],
    );
}
