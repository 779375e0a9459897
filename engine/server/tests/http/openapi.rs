//! The OpenAPI document says what the code does.

use std::collections::BTreeSet;
use std::time::Duration;

use kakeya_core::{GenerateDone, SessionId, SessionInfo, SessionSummary, StopReason};
use kakeya_server::http::ApiError;
use kakeya_server::http::openapi::document;
use kakeya_server::http::ranges;
use kakeya_server::http::responses::chat::{Call, CallDelta, Reply};
use kakeya_server::http::responses::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatLogprobs, CompletionChoice,
    CompletionLogprobs, Delta, Detokenized, FinishReason, Head, History, Model, ModelList, Session,
    SessionEvent, SessionList, TextCompletion, TokenLogprob, Tokenized, Tokens, Usage,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::support::{Answer, chat, completion, refusal};

/// What the model of these documents is called.
const MODEL: &str = "owner/model";

fn schema(name: &str) -> Value {
    let schema = document(MODEL)["components"]["schemas"][name].take();
    assert!(schema.is_object(), "{name}");
    schema
}

/// A property's schema, without the null that every optional one may be.
fn property(of: &str, name: &str) -> Value {
    let mut property = schema(of)["properties"][name].take();
    match property.pointer_mut("/anyOf/0").map(Value::take) {
        None => property,
        Some(inner) => inner,
    }
}

#[test]
fn every_route_is_there_with_the_statuses_it_may_answer() {
    let document = document(MODEL);
    assert_eq!(document["openapi"], "3.1.0");
    let generate = "200 400 401 404 408 413 415 422 429 500 503";
    let tokens = "200 400 401 404 408 413 415 422 500";
    let session = "200 400 401 404 500 503";
    let work = "200 400 401 404 408 413 415 429 500 503";
    let opening = "201 400 401 404 408 413 415 429 500 503";
    let expected = [
        ("/", "get", "200"),
        ("/detokenize", "post", tokens),
        ("/healthz", "get", "200"),
        ("/metrics", "get", "200 401"),
        ("/openapi.json", "get", "200 401"),
        ("/readyz", "get", "200 503"),
        ("/tokenize", "post", tokens),
        ("/v1/chat/completions", "post", generate),
        ("/v1/completions", "post", generate),
        ("/v1/models", "get", "200 401"),
        ("/v1/models/{id}", "get", "200 401 404"),
        ("/v1/sessions", "get", "200 401 500 503"),
        ("/v1/sessions", "post", opening),
        ("/v1/sessions/{id}", "get", session),
        ("/v1/sessions/{id}", "delete", session),
        ("/v1/sessions/{id}/tokens", "get", session),
        ("/v1/sessions/{id}/tokens", "post", work),
        ("/v1/sessions/{id}/generate", "post", work),
    ];
    let paths = document["paths"].as_object().expect("paths");
    let operations = paths.values().filter_map(Value::as_object);
    assert_eq!(
        operations.map(|path| path.len()).sum::<usize>(),
        expected.len()
    );
    for (path, method, statuses) in expected {
        let operation = &paths[path][method];
        let found: Vec<_> = operation["responses"]
            .as_object()
            .expect(path)
            .keys()
            .collect();
        assert_eq!(found, statuses.split(' ').collect::<Vec<_>>(), "{path}");
        assert_eq!(
            operation["requestBody"].is_object(),
            method == "post",
            "{path}"
        );
        assert_eq!(
            operation["security"].is_array(),
            statuses.contains("401"),
            "{path}"
        );
        assert_eq!(
            operation["parameters"].is_array(),
            path.contains("{id}"),
            "{path}"
        );
        for (status, response) in operation["responses"].as_object().expect(path) {
            let waits = matches!(status.as_str(), "429" | "503");
            assert_eq!(
                response["headers"]["Retry-After"].is_object(),
                waits,
                "{path} {status}"
            );
        }
    }
}

/// Every `$ref` in a value.
fn references<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|field| references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_to_a_schema_and_every_schema_is_referred_to() {
    let document = document(MODEL);
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    let schemas = document["components"]["schemas"]
        .as_object()
        .expect("schemas");
    let known: BTreeSet<_> = schemas
        .keys()
        .map(|name| format!("#/components/schemas/{name}"))
        .collect();
    assert_eq!(found, known.iter().map(String::as_str).collect());
}

#[test]
fn the_model_that_is_served_is_the_example() {
    let document = document(MODEL);
    for request in [
        "ChatRequest",
        "CompletionRequest",
        "TokenizeRequest",
        "DetokenizeRequest",
    ] {
        let model = &document["components"]["schemas"][request]["properties"]["model"];
        assert_eq!(model["examples"], json!([MODEL]), "{request}");
    }
    let parameters = &document["paths"]["/v1/models/{id}"]["get"]["parameters"];
    assert_eq!(parameters[0]["name"], "id");
    assert_eq!(parameters[0]["example"], MODEL);
}

#[test]
fn an_open_session_leads_to_what_can_be_done_with_it() {
    let document = document(MODEL);
    let opened = &document["paths"]["/v1/sessions"]["post"]["responses"]["201"];
    let tokens = &document["paths"]["/v1/sessions/{id}/tokens"];
    let appended = &tokens["post"]["responses"]["200"];
    for (answer, id) in [
        (opened, "$response.body#/id"),
        (appended, "$request.path.id"),
    ] {
        let links = answer["links"].as_object().expect("links");
        assert_eq!(links.len(), 5);
        for (name, link) in links {
            let operation = link["operationRef"].as_str().expect("a reference");
            let operation = operation.strip_prefix('#').expect("in this document");
            let operation = document.pointer(operation).expect("there");
            assert_eq!(operation["summary"], name.as_str());
            assert_eq!(operation["parameters"][0]["name"], "id");
            assert_eq!(link["parameters"]["id"], id);
        }
    }
    assert!(tokens["get"]["responses"]["200"]["links"].is_null());
}

#[test]
fn the_examples_are_taken() {
    let examples = |of: &str| {
        let properties = schema(of)["properties"].take();
        let properties = properties.as_object().expect("properties");
        let mut example = serde_json::Map::new();
        for (name, property) in properties {
            if let Some(value) = property.pointer("/examples/0") {
                example.insert(name.clone(), value.clone());
            }
        }
        assert!(example.len() > 1, "{of}");
        Value::Object(example)
    };
    chat(examples("ChatRequest")).expect("a chat");
    completion(examples("CompletionRequest")).expect("a completion");
}

#[test]
fn the_ranges_are_those_that_refuse() {
    let both = ["ChatRequest", "CompletionRequest"];
    let (of_chat, of_completion) = (&both[..1], &both[1..]);
    use ranges::*;
    let integers: [(Integers, &[&str]); 9] = [
        (TOP_K, &both),
        (SEED, &both),
        (N, &both),
        (MAX_TOKENS, of_chat),
        (MAX_COMPLETION_TOKENS, of_chat),
        (TOP_LOGPROBS, of_chat),
        (MAX_TOKENS_WITH_ECHO, of_completion),
        (LOGPROBS, of_completion),
        (BEST_OF, of_completion),
    ];
    for (Integers { name, least, most }, schemas) in integers {
        for of in schemas {
            let found = property(of, name);
            assert_eq!(found["type"], "integer", "{of} {name}");
            assert_eq!(
                (&found["minimum"], &found["maximum"]),
                (&json!(least), &json!(most))
            );
        }
    }
    let numbers: [Numbers; 6] = [
        TEMPERATURE,
        TOP_P,
        MIN_P,
        PRESENCE_PENALTY,
        FREQUENCY_PENALTY,
        REPETITION_PENALTY,
    ];
    for Numbers {
        name,
        least,
        above,
        most,
    } in numbers
    {
        for of in both {
            let found = property(of, name);
            let end = if above { "exclusiveMinimum" } else { "minimum" };
            assert_eq!(found["type"], "number", "{of} {name}");
            assert_eq!(
                (&found[end], &found["maximum"]),
                (&json!(least), &json!(most)),
                "{name}"
            );
        }
    }
    for of in both {
        let bias = &property(of, "logit_bias")["additionalProperties"];
        let (least, most) = (json!(LOGIT_BIAS.least), json!(LOGIT_BIAS.most));
        assert_eq!((&bias["minimum"], &bias["maximum"]), (&least, &most));
    }
    let document = document(MODEL);
    let schemas = &document["components"]["schemas"];
    let chat = &schemas["ChatRequest"]["properties"];
    assert_eq!(
        chat["stop"]["anyOf"][0]["anyOf"][1]["maxItems"],
        json!(MAX_STOPS)
    );
    assert_eq!(chat["tools"]["anyOf"][0]["maxItems"], json!(MAX_TOOLS));
    let prompt = &schemas["CompletionRequest"]["properties"]["prompt"]["anyOf"];
    assert_eq!(prompt[2]["maxItems"], json!(MAX_PROMPTS));
    assert_eq!(prompt[1]["items"], TOKEN_ID.schema());
    let author = &schemas["Message"]["properties"]["name"]["anyOf"][0];
    assert_eq!(author["maxLength"], json!(MAX_NAME));
    let name = &schemas["Tool"]["properties"]["function"]["properties"]["name"];
    assert_eq!(name["pattern"], "^[a-zA-Z0-9_-]{1,64}$");
}

#[test]
fn a_value_at_either_end_of_a_documented_range_is_taken_and_the_next_is_refused() {
    type Read = fn(Value) -> Result<(), ApiError>;
    let reads: [(&str, Read, Value); 2] = [
        (
            "ChatRequest",
            |fields| chat(fields).map(drop),
            json!({"logprobs": true}),
        ),
        (
            "CompletionRequest",
            |fields| completion(fields).map(drop),
            json!({"echo": true}),
        ),
    ];
    let mut tried = 0;
    for (of, read, others) in reads {
        let properties = schema(of)["properties"].take();
        for name in properties.as_object().expect("properties").keys() {
            let found = property(of, name);
            let ends = [
                ("minimum", -0.25, true),
                ("exclusiveMinimum", 0.0, false),
                ("maximum", 0.25, true),
            ];
            for (end, step, taken) in ends {
                let Some(value) = found.get(end) else {
                    continue;
                };
                tried += 1;
                let mut fields = others.clone();
                fields[name] = value.clone();
                // Every answer that is generated is sent.
                if name == "best_of" {
                    fields["n"] = value.clone();
                }
                assert_eq!(read(fields.clone()).is_ok(), taken, "{of} {name} {value}");
                // Beyond the ends of what a float tells apart, the next one is a whole binade away.
                let value = value.as_f64().expect("a number");
                fields[name] = json!(value + step * value.abs().max(4.0));
                assert_eq!(refusal(read(fields)).0, *name);
            }
        }
    }
    assert_eq!(tried, 2 * 2 * (6 + 6), "two ends of each range");
}

/// Asserts that a value has the properties of its schema and no others, all the way down.
fn assert_described(value: &Value, schema: &Value, document: &Value) {
    let described = |value, schema| assert_described(value, schema, document);
    if let Some(path) = schema["$ref"].as_str() {
        return described(value, document.pointer(&path[1..]).expect("a schema"));
    }
    if let Some(either) = schema["anyOf"].as_array() {
        let null = either
            .iter()
            .position(|schema| schema["type"] == "null")
            .expect("nullable");
        return if value.is_null() {
            described(value, &either[null])
        } else {
            described(value, &either[0])
        };
    }
    match value {
        Value::Object(fields) if schema["properties"].is_object() => {
            for (name, field) in fields {
                let property = &schema["properties"][name];
                assert!(property.is_object(), "`{name}` is not described");
                described(field, property);
            }
            for name in schema["required"].as_array().expect("a list") {
                assert!(
                    fields.contains_key(name.as_str().expect("a name")),
                    "{name} in {value}"
                );
            }
        }
        Value::Object(fields) => fields.values().for_each(|field| {
            described(field, &schema["additionalProperties"]);
        }),
        Value::Array(items) => items
            .iter()
            .for_each(|item| described(item, &schema["items"])),
        _ if schema["const"].is_string() => assert_eq!(value, &schema["const"]),
        _ if schema["enum"].is_array() => {
            assert!(
                schema["enum"].as_array().expect("a list").contains(value),
                "{value}"
            );
        }
        Value::String(_) => assert_eq!(schema["type"], "string", "{value}"),
        Value::Number(number) if number.is_f64() => assert_eq!(schema["type"], "number"),
        Value::Number(_) => assert_eq!(schema["type"], "integer", "{value}"),
        Value::Null => assert_eq!(schema["type"], "null"),
        Value::Bool(_) => assert_eq!(schema["type"], "boolean"),
    }
}

fn assert_answer(of: &str, answer: &impl Serialize) {
    let answer = serde_json::to_value(answer).expect("JSON");
    assert_described(&answer, &schema(of), &document(MODEL));
}

#[tokio::test]
async fn answers_have_the_properties_of_their_schemas() {
    let head = || Head {
        id: "id".into(),
        created: 1,
        model: "m".into(),
        system_fingerprint: Some("fp".into()),
    };
    let token = || TokenLogprob::new(vec![104, 105], -0.5);
    let call = || Call::new("c".into(), "look".into(), "{}".into());
    let usage = Usage::new(1, 0, 1);
    let mut logprobs = ChatLogprobs::default();
    logprobs.push(token(), vec![token()]);
    let logprobs = Some(logprobs);
    let mut columns = CompletionLogprobs::default();
    columns.push_first(b"a");
    columns.push(token(), vec![token()], 1);
    for message in [Reply::text("a"), Reply::calls(None, vec![call()])] {
        let choice = ChatChoice {
            index: 0,
            message,
            logprobs: logprobs.clone(),
            finish_reason: FinishReason::ToolCalls,
        };
        assert_answer(
            "ChatCompletion",
            &ChatCompletion::new(head(), vec![choice], usage),
        );
    }
    let calls = vec![
        CallDelta::begin(0, call()),
        CallDelta::arguments(0, "{".into()),
    ];
    for delta in [
        Delta::begin(),
        Delta::begin_without_text(),
        Delta::text("a"),
        Delta::calls(calls),
        Delta::default(),
    ] {
        let choice = ChatChunkChoice {
            index: 0,
            delta,
            logprobs: None,
            finish_reason: None,
        };
        assert_answer(
            "ChatCompletionChunk",
            &ChatChunk::new(head(), vec![choice], Some(None)),
        );
    }
    let choice = CompletionChoice {
        text: "a".into(),
        index: 0,
        logprobs: Some(columns),
        finish_reason: Some(FinishReason::Stop),
    };
    assert_answer(
        "TextCompletion",
        &TextCompletion::new(head(), vec![choice], usage),
    );
    assert_answer(
        "ModelList",
        &ModelList::new(vec![Model::new("m", 1, 8192, vec![0, 2])]),
    );
    assert_answer(
        "Tokenized",
        &Tokenized::new(vec![1], Some(vec!["a".into()]), 9),
    );
    assert_answer("Detokenized", &Detokenized { prompt: "a".into() });
    let id = SessionId::random();
    let info = SessionInfo {
        history_length: 9,
        cached_length: 5,
        kv_live_bytes: 640,
        inv1_violations: 0,
        inv2_violations: 0,
        idle: Duration::from_millis(1500),
    };
    assert_answer("Session", &Session::of(&id, &info));
    let summary = SessionSummary {
        id: id.clone(),
        label: "agent".to_owned(),
        busy: true,
        info,
    };
    assert_answer("SessionList", &SessionList::new(vec![summary]));
    assert_answer("History", &History::of(&id, 9));
    assert_answer("HistoryTokens", &Tokens::of(&id, 1, vec![3]));
    let done = GenerateDone {
        reason: StopReason::Eos,
        generated: 1,
        prefill: Duration::from_millis(250),
        total: Duration::from_millis(1500),
    };
    for event in [
        SessionEvent::Truncated {
            dropped_token_count: 1,
        },
        SessionEvent::Token {
            token_id: 1,
            text: "a".into(),
        },
        SessionEvent::done(&done, String::new()),
    ] {
        assert_answer("SessionEvent", &event);
    }
    assert_answer(
        "Error",
        &Answer::error(ApiError::missing("model")).await.json(),
    );
}
