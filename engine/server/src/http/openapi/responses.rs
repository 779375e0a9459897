//! The schemas of response bodies.

use serde_json::{Map, Value, json};

use super::{array, boolean, nullable, object, reference, string};

pub(super) fn schemas() -> Map<String, Value> {
    [
        (
            "ChatCompletion",
            chat("chat.completion", "message", "Reply"),
        ),
        (
            "ChatCompletionChunk",
            chat("chat.completion.chunk", "delta", "Delta"),
        ),
        ("TextCompletion", text_completion()),
        ("Reply", reply(&["role", "content", "refusal"], "ToolCall")),
        ("Delta", reply(&[], "ToolCallDelta")),
        ("ToolCallDelta", tool_call_delta()),
        ("ChatLogprobs", chat_logprobs()),
        ("CompletionLogprobs", completion_logprobs()),
        ("Usage", usage()),
        ("Model", model()),
        ("ModelList", model_list()),
        ("Tokenized", tokenized()),
        (
            "Detokenized",
            object(&["prompt"], vec![("prompt", string())]),
        ),
        ("Session", session()),
        (
            "SessionList",
            object(
                &["object", "data"],
                vec![
                    ("object", json!({ "const": "list" })),
                    ("data", array(reference("Session"))),
                ],
            ),
        ),
        (
            "History",
            object(
                &["id", "history_length"],
                vec![("id", string()), ("history_length", count())],
            ),
        ),
        (
            "HistoryTokens",
            object(
                &["id", "from", "tokens"],
                vec![
                    ("id", string()),
                    ("from", count()),
                    ("tokens", array(count())),
                ],
            ),
        ),
        ("SessionEvent", session_event()),
        ("Error", error()),
    ]
    .into_iter()
    .map(|(name, schema)| (name.to_owned(), schema))
    .collect()
}

fn session() -> Value {
    object(
        &[
            "id",
            "object",
            "history_length",
            "cached_length",
            "kv_live_bytes",
            "idle_seconds",
        ],
        vec![
            ("id", string()),
            ("object", json!({ "const": "session" })),
            ("label", string()),
            ("busy", boolean()),
            ("history_length", count()),
            ("cached_length", count()),
            ("kv_live_bytes", count()),
            ("idle_seconds", seconds()),
        ],
    )
}

/// Of the three kinds, each with properties of its own.
fn session_event() -> Value {
    let kinds = json!({ "enum": ["truncated", "token", "done"] });
    let reasons = [
        "max_tokens",
        "eos",
        "cancelled",
        "truncated",
        "stop_sequence",
        "complete",
    ];
    object(
        &["type"],
        vec![
            ("type", kinds),
            ("dropped_token_count", count()),
            ("token_id", count()),
            ("text", string()),
            ("stop_reason", json!({ "enum": reasons })),
            ("generated_token_count", count()),
            ("prefill_duration_seconds", seconds()),
            ("total_duration_seconds", seconds()),
        ],
    )
}

fn seconds() -> Value {
    json!({ "type": "number", "minimum": 0 })
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn logprob() -> Value {
    json!({ "type": "number", "maximum": 0 })
}

fn answer(kind: &str, choice: Value) -> Value {
    object(
        &[
            "id",
            "object",
            "created",
            "model",
            "choices",
            "system_fingerprint",
        ],
        vec![
            ("id", string()),
            ("object", json!({ "const": kind })),
            ("created", count()),
            ("model", string()),
            ("choices", array(choice)),
            ("usage", nullable(reference("Usage"))),
            ("system_fingerprint", nullable(string())),
        ],
    )
}

fn finish_reason() -> Value {
    nullable(json!({ "enum": ["stop", "length", "tool_calls"] }))
}

fn chat(kind: &str, content: &str, schema: &str) -> Value {
    let choice = object(
        &["index", content, "logprobs", "finish_reason"],
        vec![
            ("index", count()),
            (content, reference(schema)),
            ("logprobs", nullable(reference("ChatLogprobs"))),
            ("finish_reason", finish_reason()),
        ],
    );
    answer(kind, choice)
}

fn text_completion() -> Value {
    let choice = object(
        &["text", "index", "logprobs", "finish_reason"],
        vec![
            ("text", string()),
            ("index", count()),
            ("logprobs", nullable(reference("CompletionLogprobs"))),
            ("finish_reason", finish_reason()),
        ],
    );
    answer("text_completion", choice)
}

fn reply(required: &[&str], call: &str) -> Value {
    object(
        required,
        vec![
            ("role", json!({ "const": "assistant" })),
            ("content", nullable(string())),
            ("refusal", json!({ "type": "null" })),
            ("tool_calls", array(reference(call))),
        ],
    )
}

fn tool_call_delta() -> Value {
    let called = object(
        &["arguments"],
        vec![("name", string()), ("arguments", string())],
    );
    object(
        &["index", "function"],
        vec![
            ("index", count()),
            ("id", string()),
            ("type", json!({ "const": "function" })),
            ("function", called),
        ],
    )
}

fn chat_logprobs() -> Value {
    let fields = || {
        let byte = json!({ "type": "integer", "minimum": 0, "maximum": 255 });
        vec![
            ("token", string()),
            ("logprob", logprob()),
            ("bytes", array(byte)),
        ]
    };
    let mut token = fields();
    token.push((
        "top_logprobs",
        array(object(&["token", "logprob", "bytes"], fields())),
    ));
    let token = object(&["token", "logprob", "bytes", "top_logprobs"], token);
    object(
        &["content", "refusal"],
        vec![
            ("content", array(token)),
            ("refusal", json!({ "type": "null" })),
        ],
    )
}

fn completion_logprobs() -> Value {
    let top = json!({ "type": "object", "additionalProperties": logprob() });
    object(
        &["tokens", "token_logprobs", "top_logprobs", "text_offset"],
        vec![
            ("tokens", array(string())),
            ("token_logprobs", array(nullable(logprob()))),
            ("top_logprobs", array(nullable(top))),
            ("text_offset", array(count())),
        ],
    )
}

fn usage() -> Value {
    let details = object(&["cached_tokens"], vec![("cached_tokens", count())]);
    object(
        &[
            "prompt_tokens",
            "completion_tokens",
            "total_tokens",
            "prompt_tokens_details",
        ],
        vec![
            ("prompt_tokens", count()),
            ("completion_tokens", count()),
            ("total_tokens", count()),
            ("prompt_tokens_details", details),
        ],
    )
}

fn model() -> Value {
    object(
        &[
            "id",
            "object",
            "created",
            "owned_by",
            "max_model_len",
            "eos_token_ids",
        ],
        vec![
            ("id", string()),
            ("object", json!({ "const": "model" })),
            ("created", count()),
            ("owned_by", string()),
            ("max_model_len", count()),
            ("eos_token_ids", array(count())),
        ],
    )
}

fn model_list() -> Value {
    object(
        &["object", "data"],
        vec![
            ("object", json!({ "const": "list" })),
            ("data", array(reference("Model"))),
        ],
    )
}

fn tokenized() -> Value {
    object(
        &["count", "max_model_len", "tokens", "token_strs"],
        vec![
            ("count", count()),
            ("max_model_len", count()),
            ("tokens", array(count())),
            ("token_strs", nullable(array(string()))),
        ],
    )
}

fn error() -> Value {
    let details = object(
        &["message", "type", "param", "code"],
        vec![
            ("message", string()),
            ("type", string()),
            ("param", nullable(string())),
            ("code", nullable(string())),
        ],
    );
    object(&["error"], vec![("error", details)])
}
