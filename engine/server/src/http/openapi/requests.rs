//! The schemas of request bodies. Each property may also be null, which says nothing.

use serde_json::{Map, Value, json};

use super::{array, boolean, nullable, object, reference, string};
use crate::http::ranges::{
    BEST_OF, FREQUENCY_PENALTY, LOGIT_BIAS, LOGPROBS, MAX_COMPLETION_TOKENS, MAX_LABEL, MAX_NAME,
    MAX_PROMPTS, MAX_STOPS, MAX_TOKENS, MAX_TOKENS_WITH_ECHO, MAX_TOOLS, MIN_P, N,
    PRESENCE_PENALTY, REPETITION_PENALTY, SEED, TEMPERATURE, TOKEN_ID, TOP_K, TOP_LOGPROBS, TOP_P,
};
use crate::http::requests::completions::DEFAULT_MAX_TOKENS;
use crate::http::schema::MAX_SCHEMA_BYTES;

pub(super) fn schemas() -> Map<String, Value> {
    [
        ("ChatRequest", chat()),
        ("CompletionRequest", completion()),
        ("TokenizeRequest", tokenize()),
        ("DetokenizeRequest", detokenize()),
        ("NewSession", new_session()),
        ("AppendRequest", append()),
        ("ContinueRequest", continue_session()),
        ("Message", message()),
        ("Tool", tool()),
        ("ToolCall", tool_call()),
        ("ToolChoice", tool_choice()),
        ("ResponseFormat", response_format()),
    ]
    .into_iter()
    .map(|(name, schema)| (name.to_owned(), schema))
    .collect()
}

/// A body whose properties, but for those that are required, may be null.
fn body(required: &[&str], properties: Vec<(&'static str, Value)>) -> Value {
    let properties = properties.into_iter().map(|(name, schema)| {
        let required = required.contains(&name);
        (name, if required { schema } else { nullable(schema) })
    });
    object(required, properties.collect())
}

fn with_default(mut schema: Value, default: impl Into<Value>) -> Value {
    schema["default"] = default.into();
    schema
}

fn with_example(mut schema: Value, example: impl Into<Value>) -> Value {
    schema["examples"] = json!([example.into()]);
    schema
}

/// The properties that chats and completions share.
fn shared() -> Vec<(&'static str, Value)> {
    let stop = json!({ "type": "string", "minLength": 1 });
    let stops = json!({ "type": "array", "items": stop, "maxItems": MAX_STOPS });
    let options = body(&[], vec![("include_usage", boolean())]);
    let mut properties = drawing();
    properties.extend([
        ("model", string()),
        ("stop", json!({ "anyOf": [stop, stops] })),
        ("n", with_default(N.schema(), 1)),
        ("stream", with_default(boolean(), false)),
        ("stream_options", options),
    ]);
    properties
}

/// The properties that say how tokens are drawn.
fn drawing() -> Vec<(&'static str, Value)> {
    let biases = json!({
        "type": "object",
        "propertyNames": { "pattern": "^(0|[1-9][0-9]*)$" },
        "additionalProperties": LOGIT_BIAS.schema(),
    });
    vec![
        ("temperature", with_default(TEMPERATURE.schema(), 1)),
        ("top_p", with_default(TOP_P.schema(), 1)),
        ("top_k", with_default(TOP_K.schema(), 0)),
        ("min_p", with_default(MIN_P.schema(), 0)),
        ("seed", SEED.schema()),
        (
            "presence_penalty",
            with_default(PRESENCE_PENALTY.schema(), 0),
        ),
        (
            "frequency_penalty",
            with_default(FREQUENCY_PENALTY.schema(), 0),
        ),
        (
            "repetition_penalty",
            with_default(REPETITION_PENALTY.schema(), 1),
        ),
        ("logit_bias", biases),
    ]
}

fn chat() -> Value {
    let mut properties = shared();
    properties.extend([
        (
            "messages",
            with_example(
                messages(),
                json!([{ "role": "user", "content": "What is a KV cache?" }]),
            ),
        ),
        ("max_tokens", MAX_TOKENS.schema()),
        ("max_completion_tokens", MAX_COMPLETION_TOKENS.schema()),
        ("logprobs", with_default(boolean(), false)),
        ("top_logprobs", TOP_LOGPROBS.schema()),
        ("response_format", reference("ResponseFormat")),
        ("tools", tools()),
        ("tool_choice", reference("ToolChoice")),
        ("parallel_tool_calls", with_default(boolean(), true)),
        ("chat_template_kwargs", json!({ "type": "object" })),
    ]);
    body(&["model", "messages"], properties)
}

fn completion() -> Value {
    let tokens = json!({ "type": "array", "items": TOKEN_ID.schema(), "minItems": 1 });
    let prompt = json!({ "anyOf": [string(), tokens] });
    let prompts =
        json!({ "type": "array", "items": prompt, "minItems": 1, "maxItems": MAX_PROMPTS });
    let mut properties = shared();
    properties.extend([
        (
            "prompt",
            with_example(
                json!({ "anyOf": [string(), tokens, prompts] }),
                "Once upon a time",
            ),
        ),
        (
            "max_tokens",
            with_example(
                with_default(MAX_TOKENS_WITH_ECHO.schema(), DEFAULT_MAX_TOKENS),
                DEFAULT_MAX_TOKENS,
            ),
        ),
        ("logprobs", LOGPROBS.schema()),
        ("best_of", BEST_OF.schema()),
        ("echo", with_default(boolean(), false)),
    ]);
    body(&["model", "prompt"], properties)
}

fn tokenize() -> Value {
    body(
        &[],
        vec![
            ("model", string()),
            ("prompt", string()),
            ("add_special_tokens", with_default(boolean(), true)),
            ("messages", messages()),
            ("tools", tools()),
            ("add_generation_prompt", with_default(boolean(), true)),
            ("chat_template_kwargs", json!({ "type": "object" })),
            ("return_token_strs", with_default(boolean(), false)),
        ],
    )
}

fn detokenize() -> Value {
    let tokens = array(TOKEN_ID.schema());
    body(&["tokens"], vec![("model", string()), ("tokens", tokens)])
}

fn new_session() -> Value {
    let label = json!({ "type": "string", "maxLength": MAX_LABEL });
    let eos = array(TOKEN_ID.schema());
    body(&[], vec![("label", label), ("eos_token_ids", eos)])
}

fn append() -> Value {
    let tokens = with_example(array(TOKEN_ID.schema()), json!([504, 3837, 253]));
    body(&["tokens"], vec![("tokens", tokens)])
}

fn continue_session() -> Value {
    let mut properties = drawing();
    properties.push(("max_tokens", with_example(MAX_TOKENS.schema(), 1)));
    body(&["max_tokens"], properties)
}

fn messages() -> Value {
    json!({ "type": "array", "items": reference("Message"), "minItems": 1 })
}

fn tools() -> Value {
    json!({ "type": "array", "items": reference("Tool"), "maxItems": MAX_TOOLS })
}

fn message() -> Value {
    let roles = json!({ "enum": ["system", "developer", "user", "assistant", "tool"] });
    let part = object(
        &["type", "text"],
        vec![("type", json!({ "const": "text" })), ("text", string())],
    );
    let parts = json!({ "type": "array", "items": part, "minItems": 1 });
    let author = json!({ "type": "string", "minLength": 1, "maxLength": MAX_NAME });
    body(
        &["role"],
        vec![
            ("role", roles),
            ("content", json!({ "anyOf": [string(), parts] })),
            ("name", author),
            ("tool_calls", array(reference("ToolCall"))),
            ("tool_call_id", string()),
        ],
    )
}

/// A name of a function or of a schema.
fn name() -> Value {
    json!({ "type": "string", "pattern": format!("^[a-zA-Z0-9_-]{{1,{MAX_NAME}}}$") })
}

/// The schema of a function's arguments.
fn parameters() -> Value {
    json!({
        "type": "object",
        "properties": { "type": { "const": "object" } },
        "description": format!(
            "A JSON schema, which the arguments are held to. All of a request have at most {MAX_SCHEMA_BYTES} bytes"
        ),
    })
}

fn tool() -> Value {
    let mut strict = with_default(boolean(), false);
    strict["description"] = json!(
        "Whether a keyword of the schema that arguments cannot be held to is refused, rather than left out"
    );
    let function = body(
        &["name"],
        vec![
            ("name", name()),
            ("description", string()),
            ("parameters", parameters()),
            ("strict", strict),
        ],
    );
    of_function(function)
}

/// What is of the type `function`, which is the only one.
fn of_function(function: Value) -> Value {
    let properties = vec![
        ("type", json!({ "const": "function" })),
        ("function", function),
    ];
    object(&["type", "function"], properties)
}

fn tool_call() -> Value {
    let called = object(
        &["name", "arguments"],
        vec![("name", name()), ("arguments", string())],
    );
    let mut call = of_function(called);
    call["properties"]["id"] = string();
    call["required"] = json!(["id", "type", "function"]);
    call
}

fn tool_choice() -> Value {
    let named = of_function(object(&["name"], vec![("name", name())]));
    json!({ "anyOf": [{ "enum": ["none", "auto", "required"] }, named] })
}

fn response_format() -> Value {
    let schema = json!({
        "type": "object",
        "description": format!(
            "A JSON schema of at most {MAX_SCHEMA_BYTES} bytes, which answers are held to. A keyword that they cannot \
             be held to is refused"
        ),
    });
    let mut strict = with_default(boolean(), false);
    strict["description"] = json!("Answers are held to the schema with it and without it");
    let schema = body(
        &["name", "schema"],
        vec![("name", name()), ("schema", schema), ("strict", strict)],
    );
    body(
        &["type"],
        vec![
            (
                "type",
                json!({ "enum": ["text", "json_object", "json_schema"] }),
            ),
            ("json_schema", schema),
        ],
    )
}
