//! The OpenAPI document of the HTTP door.
//!
//! It is written by hand rather than derived: a body is read into structs that take any number and any role, so that
//! a refusal can name the field, and what is allowed is said by [`ranges`](super::ranges), which the schemas here
//! read as well.

mod requests;
mod responses;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::error::ErrorKind;
use crate::door::Door;

/// What a route answers when all is well.
#[derive(Debug, Clone, Copy)]
enum Success {
    /// JSON of this schema.
    Json(&'static str),
    /// JSON of the first schema, or events of the second with `stream` set.
    Streamable(&'static str, &'static str),
    /// A text.
    Text,
    /// Any JSON object.
    AnyJson,
    /// JSON of this schema, of something new.
    Created(&'static str),
    /// Events of this schema.
    Events(&'static str),
    /// A document for a person.
    Html,
}

/// A route.
struct Route {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    request: Option<&'static str>,
    success: Success,
    errors: &'static [ErrorKind],
}

/// What reading a body may come to.
const BODY: [ErrorKind; 5] = {
    use ErrorKind::*;
    [
        InvalidRequest,
        BodyTooSlow,
        BodyTooLarge,
        UnsupportedMediaType,
        Unprocessable,
    ]
};

/// What generating may come to.
const GENERATE: [ErrorKind; 10] = {
    use ErrorKind::*;
    let [invalid, slow, large, media, unprocessable] = BODY;
    [
        invalid,
        ContextLength,
        ModelNotFound,
        slow,
        large,
        media,
        unprocessable,
        Overloaded,
        Server,
        Unavailable,
    ]
};

/// What turning text into tokens, or back, may come to.
const TOKENS: [ErrorKind; 7] = {
    use ErrorKind::*;
    let [invalid, slow, large, media, unprocessable] = BODY;
    [
        invalid,
        ModelNotFound,
        slow,
        large,
        media,
        unprocessable,
        Server,
    ]
};

/// What asking for a session may come to.
const SESSION: [ErrorKind; 4] = {
    use ErrorKind::*;
    [InvalidRequest, SessionNotFound, Server, Unavailable]
};

/// What working in a session may come to.
const WORK: [ErrorKind; 8] = {
    use ErrorKind::*;
    [
        InvalidRequest,
        SessionNotFound,
        BodyTooSlow,
        BodyTooLarge,
        UnsupportedMediaType,
        Overloaded,
        Server,
        Unavailable,
    ]
};

const MODEL: &str = "/v1/models/{id}";
const SESSION_PATH: &str = "/v1/sessions/{id}";

const ROUTES: [Route; 18] = [
    Route {
        method: "post",
        path: "/v1/chat/completions",
        summary: "Answer a chat",
        request: Some("ChatRequest"),
        success: Success::Streamable("ChatCompletion", "ChatCompletionChunk"),
        errors: &GENERATE,
    },
    Route {
        method: "post",
        path: "/v1/completions",
        summary: "Continue a text",
        request: Some("CompletionRequest"),
        success: Success::Streamable("TextCompletion", "TextCompletion"),
        errors: &GENERATE,
    },
    Route {
        method: "get",
        path: "/v1/models",
        summary: "List the models that are served",
        request: None,
        success: Success::Json("ModelList"),
        errors: &[],
    },
    Route {
        method: "get",
        path: MODEL,
        summary: "Tell of a model that is served",
        request: None,
        success: Success::Json("Model"),
        errors: &[ErrorKind::ModelNotFound],
    },
    Route {
        method: "post",
        path: "/tokenize",
        summary: "Turn a text or a chat into tokens",
        request: Some("TokenizeRequest"),
        success: Success::Json("Tokenized"),
        errors: &TOKENS,
    },
    Route {
        method: "post",
        path: "/detokenize",
        summary: "Turn tokens into text",
        request: Some("DetokenizeRequest"),
        success: Success::Json("Detokenized"),
        errors: &TOKENS,
    },
    Route {
        method: "get",
        path: "/v1/sessions",
        summary: "List the sessions of the key",
        request: None,
        success: Success::Json("SessionList"),
        errors: &[ErrorKind::Server, ErrorKind::Unavailable],
    },
    Route {
        method: "post",
        path: "/v1/sessions",
        summary: "Open a session",
        request: Some("NewSession"),
        success: Success::Created("Session"),
        errors: &WORK,
    },
    Route {
        method: "get",
        path: "/v1/sessions/{id}",
        summary: "Tell of a session",
        request: None,
        success: Success::Json("Session"),
        errors: &SESSION,
    },
    Route {
        method: "delete",
        path: "/v1/sessions/{id}",
        summary: "Close a session",
        request: None,
        success: Success::Json("History"),
        errors: &SESSION,
    },
    Route {
        method: "get",
        path: "/v1/sessions/{id}/tokens",
        summary: "Tell the tokens of a session's history",
        request: None,
        success: Success::Json("HistoryTokens"),
        errors: &SESSION,
    },
    Route {
        method: "post",
        path: "/v1/sessions/{id}/tokens",
        summary: "Append tokens to a session's history",
        request: Some("AppendRequest"),
        success: Success::Json("History"),
        errors: &WORK,
    },
    Route {
        method: "post",
        path: "/v1/sessions/{id}/generate",
        summary: "Generate tokens at the end of a session's history",
        request: Some("ContinueRequest"),
        success: Success::Events("SessionEvent"),
        errors: &WORK,
    },
    Route {
        method: "get",
        path: "/",
        summary: "A page to chat with the model and to watch sessions",
        request: None,
        success: Success::Html,
        errors: &[],
    },
    Route {
        method: "get",
        path: "/healthz",
        summary: "Whether the process lives",
        request: None,
        success: Success::Text,
        errors: &[],
    },
    Route {
        method: "get",
        path: "/readyz",
        summary: "Whether requests are taken",
        request: None,
        success: Success::Text,
        errors: &[ErrorKind::Unavailable],
    },
    Route {
        method: "get",
        path: "/metrics",
        summary: "What is measured, for Prometheus",
        request: None,
        success: Success::Text,
        errors: &[],
    },
    Route {
        method: "get",
        path: "/openapi.json",
        summary: "This document",
        request: None,
        success: Success::AnyJson,
        errors: &[],
    },
];

/// The document of a server of `model`, whose name it gives as an example of what requests may say.
pub fn document(model: &str) -> Value {
    let mut schemas = requests::schemas();
    for schema in schemas.values_mut() {
        if let Some(property) = schema.pointer_mut("/properties/model") {
            property["examples"] = json!([model]);
        }
    }
    schemas.extend(responses::schemas());
    let mut paths = Map::new();
    for route in &ROUTES {
        let methods = paths.entry(route.path).or_insert_with(|| json!({}));
        methods[route.method] = operation(route);
    }
    paths[MODEL]["get"]["parameters"][0]["example"] = model.into();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Kakeya",
            "description": "OpenAI-compatible single-shot requests, and gRPC's sessions over HTTP.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut responses = BTreeMap::new();
    let content = content(route.success);
    let status = match route.success {
        Success::Created(_) => "201",
        _ => "200",
    };
    let mut answer = json!({ "description": "What was asked for", "content": content });
    let session = match (route.success, route.request) {
        (Success::Created(_), _) => Some("$response.body#/id"),
        // Only now is there something to go on from.
        (_, Some("AppendRequest")) => Some("$request.path.id"),
        _ => None,
    };
    if let Some(session) = session {
        answer["links"] = links(session);
    }
    responses.insert(status.to_owned(), answer);
    let guarded = !Door::Http.is_open(route.path);
    let denied = guarded.then_some(&ErrorKind::InvalidApiKey);
    for kind in denied.into_iter().chain(route.errors) {
        let status = kind.status();
        let mut response = json!({
            "description": status.canonical_reason(),
            "content": { "application/json": { "schema": reference("Error") } },
        });
        if kind.retry_after().is_some() {
            let header = json!({ "schema": { "type": "integer", "minimum": 1 } });
            response["headers"] = json!({ "Retry-After": header });
        }
        responses.insert(status.as_str().to_owned(), response);
    }
    let mut operation = json!({ "summary": route.summary, "responses": responses });
    if guarded {
        // Or none: a server need not have keys.
        operation["security"] = json!([{ "key": [] }, {}]);
    }
    if let Some(schema) = route.request {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": reference(schema) } },
        });
    }
    let mut parameters = Vec::new();
    if route.path.contains("/{id}") {
        parameters.push(
            json!({ "name": "id", "in": "path", "required": true, "schema": { "type": "string" } }),
        );
    }
    if route.path.ends_with("/tokens") && route.method == "get" {
        let from = json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX, "default": 0 });
        parameters.push(json!({ "name": "from", "in": "query", "schema": from }));
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    operation
}

/// What can be done with a session, whose id this expression finds.
fn links(session: &str) -> Value {
    let of_session = |route: &&Route| route.path.starts_with(SESSION_PATH);
    let link = |route: &Route| {
        // A JSON pointer, in which a slash within a name is written `~1`.
        let path = route.path.replace('/', "~1");
        let operation = format!("#/paths/{path}/{}", route.method);
        let parameters = json!({ "id": session });
        let link = json!({ "operationRef": operation, "parameters": parameters });
        (route.summary.to_owned(), link)
    };
    let links: Map<_, _> = ROUTES.iter().filter(of_session).map(link).collect();
    links.into()
}

fn content(success: Success) -> Value {
    match success {
        Success::Json(schema) | Success::Created(schema) => {
            json!({ "application/json": { "schema": reference(schema) } })
        }
        Success::Streamable(whole, chunk) => json!({
            "application/json": { "schema": reference(whole) },
            "text/event-stream": { "schema": event(chunk) },
        }),
        Success::Events(kind) => json!({ "text/event-stream": { "schema": event(kind) } }),
        Success::Html => json!({ "text/html": { "schema": { "type": "string" } } }),
        Success::Text => json!({ "text/plain": { "schema": { "type": "string" } } }),
        Success::AnyJson => json!({ "application/json": { "schema": { "type": "object" } } }),
    }
}

/// One event of a stream: that is what the schema of a stream is about before OpenAPI 3.2.
fn event(kind: &str) -> Value {
    let kinds = [reference(kind), reference("Error")];
    let json = json!({
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": { "anyOf": kinds },
    });
    let data = json!({ "anyOf": [{ "const": "[DONE]" }, json] });
    let mut event = object(&["data"], vec![("data", data)]);
    event["description"] =
        format!("An event: {kind}, or what went wrong; the last is `[DONE]`").into();
    event
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// The schema of an object with these properties.
fn object(required: &[&str], properties: Vec<(&str, Value)>) -> Value {
    let properties: Map<_, _> = properties
        .into_iter()
        .map(|(name, schema)| (name.to_owned(), schema))
        .collect();
    json!({ "type": "object", "required": required, "properties": properties })
}

/// A schema, or null.
fn nullable(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

fn array(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn string() -> Value {
    json!({ "type": "string" })
}

fn boolean() -> Value {
    json!({ "type": "boolean" })
}
