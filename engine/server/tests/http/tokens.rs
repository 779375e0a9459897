//! What asks for tokens, and for their text.

use kakeya_server::http::ApiError;
use kakeya_server::http::body::parse;
use kakeya_server::http::requests::{
    DetokenizeBody, DetokenizeRequest, TokenizeBody, TokenizeInput, TokenizeRequest,
};
use serde_json::{Value, json};

use crate::support::assert_refused;

fn tokenize(body: Value) -> Result<TokenizeRequest, ApiError> {
    parse::<TokenizeBody>(body.to_string().as_bytes())?.validate()
}

fn detokenize(body: Value) -> Result<DetokenizeRequest, ApiError> {
    parse::<DetokenizeBody>(body.to_string().as_bytes())?.validate()
}

#[test]
fn a_text_becomes_tokens_with_those_around_it_unless_told() {
    let text = |add_special_tokens| TokenizeInput::Text {
        prompt: "a".into(),
        add_special_tokens,
    };
    let read = tokenize(json!({"prompt": "a"})).expect("taken");
    assert_eq!(
        read,
        TokenizeRequest {
            model: None,
            input: text(true),
            with_texts: false
        }
    );
    let fields = json!({
        "model": "m", "prompt": "a", "add_special_tokens": false, "return_token_strs": true
    });
    let expected = TokenizeRequest {
        model: Some("m".into()),
        input: text(false),
        with_texts: true,
    };
    assert_eq!(tokenize(fields), Ok(expected));
}

#[test]
fn a_chat_becomes_tokens_as_it_would_be_generated_from() {
    let messages = json!([{"role": "user", "content": "hi"}]);
    let read = tokenize(json!({ "messages": messages })).expect("taken");
    let TokenizeInput::Chat {
        messages: read,
        tools,
        add_generation_prompt,
        template_variables,
    } = read.input
    else {
        panic!("no chat")
    };
    assert_eq!(
        (read.len(), tools.len(), add_generation_prompt),
        (1, 0, true)
    );
    assert_eq!(template_variables, None);
    let full = tokenize(json!({
        "messages": messages, "add_generation_prompt": false,
        "tools": [{"type": "function", "function": {"name": "a"}}],
        "chat_template_kwargs": {"enable_thinking": true},
    }));
    let Ok(TokenizeInput::Chat {
        tools,
        add_generation_prompt,
        template_variables,
        ..
    }) = full.map(|read| read.input)
    else {
        panic!("no chat")
    };
    assert_eq!((tools.len(), add_generation_prompt), (1, false));
    assert_eq!(
        template_variables.expect("given").text(),
        r#"{"enable_thinking":true}"#
    );
}

#[test]
fn either_a_text_or_a_chat_is_given() {
    let messages = json!([{"role": "user", "content": "hi"}]);
    assert_refused(
        tokenize,
        &[
            (json!({}), "prompt", "`prompt` or `messages` is required"),
            (
                json!({"prompt": "a", "messages": messages}),
                "prompt",
                "both given",
            ),
            (json!({"prompt": ["a"]}), "prompt", "expected a string"),
            (json!({"messages": []}), "messages", "is empty"),
            (
                json!({"messages": messages, "tools": [{}]}),
                "tools[0].type",
                "is required",
            ),
            (
                json!({"messages": messages, "chat_template_kwargs": []}),
                "chat_template_kwargs",
                "not a usable JSON object",
            ),
        ],
    );
}

#[test]
fn tokens_become_text() {
    let read = detokenize(json!({"model": "m", "tokens": [1, 2.0, u32::MAX]}));
    let tokens = vec![1, 2, u32::MAX];
    assert_eq!(
        read,
        Ok(DetokenizeRequest {
            model: Some("m".into()),
            tokens
        })
    );
    let none = DetokenizeRequest {
        model: None,
        tokens: vec![],
    };
    assert_eq!(detokenize(json!({"tokens": []})), Ok(none));
    assert_refused(
        detokenize,
        &[
            (json!({}), "tokens", "`tokens` is required"),
            (json!({"tokens": "1"}), "tokens", "expected a sequence"),
            (
                json!({"tokens": [1, -1]}),
                "tokens[1]",
                "from 0 to 4294967295",
            ),
            (
                json!({"tokens": [1, "a"]}),
                "tokens[1]",
                "expected a JSON number",
            ),
        ],
    );
}
