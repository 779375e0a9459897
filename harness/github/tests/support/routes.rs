//! What each call does to the state, and answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::schema::Schemas;
use super::{RepoLabel, State, reply};

/// The most files that are listed.
const FILE_CAP: usize = 3000;
/// The most annotations of a request.
const BATCH: usize = 50;

pub fn answer(state: &mut State, address: SocketAddr, parts: &Parts, body: &Value) -> Response {
    let host = format!("http://{address}");
    let authorization = parts.headers.get("authorization");
    let sent = authorization
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if sent != format!("Bearer {}", state.token) && sent != format!("token {}", state.token) {
        return error(401, "Bad credentials");
    }
    let Some(path) = parts.uri.path().strip_prefix(state.prefix) else {
        return error(404, "Not Found");
    };
    let method = parts.method.as_str();
    let query = parts.uri.query().unwrap_or_default();
    if let Some(former) = &state.former
        && let Some(below) = path.strip_prefix(&format!("/repos/{former}"))
    {
        // By number, as GitHub does.
        let status = if method == "GET" { 301 } else { 307 };
        let to = format!("{host}{}/repositories/1{below}?{query}", state.prefix);
        let to = to.trim_end_matches('?').to_owned();
        return reply(
            status,
            &[("location", to.clone())],
            &json!({ "message": "Moved Permanently", "url": to }),
        );
    }
    let named = format!("/repos/{}", state.repo);
    let below = path
        .strip_prefix(&named)
        .or_else(|| path.strip_prefix("/repositories/1"));
    let Some(below) = below else {
        return error(404, "Not Found");
    };
    let below: Vec<_> = below.split('/').skip(1).map(decoded).collect();
    let below: Vec<_> = below.iter().map(String::as_str).collect();
    let query: BTreeMap<_, _> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), decoded(value)))
        .collect();
    let needs = match (method, below.as_slice()) {
        ("GET", ["pulls", ..]) => "pull_requests=read",
        ("GET", ["contents", ..] | ["git", ..]) => "contents=read",
        ("POST", ["labels"]) => "issues=write; pull_requests=write",
        ("POST" | "DELETE", ["issues", ..]) => "issues=write; pull_requests=write",
        ("POST" | "PATCH", ["check-runs", ..]) => "checks=write",
        _ => "",
    };
    if state
        .lacks
        .iter()
        .any(|lacks| !needs.is_empty() && needs.contains(lacks))
    {
        let accepted = [("x-accepted-github-permissions", needs.to_owned())];
        let message = "Resource not accessible by integration";
        return reply(403, &accepted, &json!({ "message": message }));
    }
    let schemas = Schemas::get();
    let number = state.number.to_string();
    match (method, below.as_slice()) {
        ("GET", []) => ok(schemas, "repository", json!({ "full_name": state.repo })),
        ("GET", ["pulls", n]) if *n == number => ok(schemas, "pull", pull(state)),
        ("GET", ["pulls", n, "files"]) if *n == number => {
            files(state, schemas, &host, parts, &query)
        }
        ("GET", ["contents", "gates", "labels.toml"]) => match &state.policy {
            Some(policy) if query.get("ref") == Some(&state.base) => policy.clone().into_response(),
            _ => error(404, "Not Found"),
        },
        ("GET", ["git", "trees", branch]) if *branch == state.base => {
            let node = |path: &String| json!({ "path": path, "type": "blob", "mode": "100644", "sha": "x" });
            let tree: Vec<_> = state.tree.iter().map(node).collect();
            let tree = json!({ "sha": "x", "tree": tree, "truncated": state.tree_truncated });
            ok(schemas, "tree", tree)
        }
        ("GET", ["issues", n, "labels"]) if *n == number => {
            let all: Vec<_> = state
                .on_pull
                .iter()
                .map(|name| json!({ "name": name }))
                .collect();
            page(schemas, "labels", &all, &host, parts, &query, None)
        }
        ("GET", ["labels", name]) => match find(state, name) {
            Some(label) => ok(schemas, "label", shown(label)),
            None => error(404, "Not Found"),
        },
        ("POST", ["labels"]) => make_label(state, schemas, body),
        ("POST", ["issues", n, "labels"]) if *n == number => add_labels(state, schemas, body),
        ("DELETE", ["issues", n, "labels", name]) if *n == number => {
            let at = state
                .on_pull
                .iter()
                .position(|known| known.eq_ignore_ascii_case(name));
            let Some(at) = at else {
                return error(404, "Label does not exist");
            };
            state.on_pull.remove(at);
            let left: Vec<_> = state
                .on_pull
                .iter()
                .map(|name| json!({ "name": name }))
                .collect();
            ok(schemas, "removed", json!(left))
        }
        ("POST", ["check-runs"]) => make_check(state, schemas, body),
        ("GET", ["check-runs", id]) => match check(state, id) {
            Some(at) => ok(schemas, "check", shown_check(&state.checks[at])),
            None => error(404, "Not Found"),
        },
        ("PATCH", ["check-runs", id]) => match check(state, id) {
            Some(at) => change_check(state, schemas, at, body),
            None => error(404, "Not Found"),
        },
        ("GET", ["commits", sha, "check-runs"]) => {
            let is_asked = |check: &&Value| {
                check["head_sha"] == *sha
                    && Some(check["name"].as_str().unwrap())
                        == query.get("check_name").map(String::as_str)
            };
            let runs: Vec<_> = state
                .checks
                .iter()
                .filter(is_asked)
                .map(shown_check)
                .collect();
            ok(
                schemas,
                "checks",
                json!({ "total_count": runs.len(), "check_runs": runs }),
            )
        }
        _ => error(404, "Not Found"),
    }
}

fn ok(schemas: &Schemas, name: &str, given: Value) -> Response {
    let status = if name.starts_with("made-") { 201 } else { 200 };
    reply(status, &[], &schemas.answer(name, given))
}

fn error(status: u16, message: &str) -> Response {
    let body = json!({ "message": message, "documentation_url": "https://docs.github.com/rest" });
    reply(status, &[], &body)
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .unwrap()
        .into_owned()
}

fn pull(state: &State) -> Value {
    json!({
        "number": state.number,
        "state": if state.open { "open" } else { "closed" },
        "changed_files": state.told.unwrap_or(state.files.len() as u64),
        "head": { "sha": state.head },
        // A branch is a commit; one for each name is enough.
        "base": { "ref": state.base, "sha": format!("{:0<40}", state.base.len()) },
    })
}

fn files(
    state: &mut State,
    schemas: &Schemas,
    host: &str,
    parts: &Parts,
    query: &BTreeMap<String, String>,
) -> Response {
    let file = |(path, previous): &(String, Option<String>)| match previous {
        Some(previous) => {
            json!({ "filename": path, "status": "renamed", "previous_filename": previous })
        }
        None => json!({ "filename": path, "status": "modified" }),
    };
    let all: Vec<_> = state.files.iter().take(FILE_CAP).map(file).collect();
    let next = match (&state.elsewhere, state.endless) {
        (Some(elsewhere), _) => Some(elsewhere.clone()),
        (None, true) => Some(format!("{host}{}", parts.uri)),
        (None, false) => None,
    };
    let answer = page(schemas, "files", &all, host, parts, query, next);
    match state.pushes.pop_front() {
        Some(head) if head == "closed" => state.open = false,
        Some(head) if head.starts_with("base:") => state.base = head["base:".len()..].to_owned(),
        Some(head) => state.head = head,
        None => {}
    }
    answer
}

/// One page, with the links that GitHub gives.
fn page(
    schemas: &Schemas,
    name: &str,
    all: &[Value],
    host: &str,
    parts: &Parts,
    query: &BTreeMap<String, String>,
    next: Option<String>,
) -> Response {
    let number = |name: &str, default: usize| {
        query
            .get(name)
            .map_or(default, |text| text.parse().unwrap())
    };
    let size = number("per_page", 30).clamp(1, 100);
    let at = number("page", 1);
    let last = all.len().div_ceil(size).max(1);
    let items: Vec<_> = all
        .iter()
        .skip((at - 1) * size)
        .take(size)
        .cloned()
        .collect();
    let link = |page: usize, rel: &str| {
        let path = parts.uri.path();
        format!(r#"<{host}{path}?per_page={size}&page={page}>; rel="{rel}""#)
    };
    let mut links = Vec::new();
    if at > 1 {
        links.push(link(at - 1, "prev"));
    }
    match next {
        Some(next) => links.push(format!(r#"<{next}>; rel="next""#)),
        None if at < last => links.extend([link(at + 1, "next"), link(last, "last")]),
        None => {}
    }
    if at > 1 {
        links.push(link(1, "first"));
    }
    let headers: Vec<_> = (!links.is_empty())
        .then(|| ("link", links.join(", ")))
        .into_iter()
        .collect();
    reply(200, &headers, &schemas.answer(name, json!(items)))
}

fn find<'a>(state: &'a State, name: &str) -> Option<&'a RepoLabel> {
    state
        .labels
        .iter()
        .find(|label| label.name.eq_ignore_ascii_case(name))
}

fn shown(label: &RepoLabel) -> Value {
    json!({ "name": label.name, "color": label.color, "description": label.description })
}

fn unfit(faults: &[String]) -> Option<Response> {
    let body = json!({ "message": format!("Invalid request.\n\n{}", faults.join("\n")) });
    (!faults.is_empty()).then(|| reply(422, &[], &body))
}

fn make_label(state: &mut State, schemas: &Schemas, body: &Value) -> Response {
    if let Some(refusal) = unfit(&schemas.faults_of_body("make-label", body)) {
        return refusal;
    }
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    if find(state, &text("name")).is_some() {
        let errors = json!([{ "resource": "Label", "code": "already_exists", "field": "name" }]);
        let body = json!({ "message": "Validation Failed", "errors": errors, "documentation_url": "https://docs.github.com/rest" });
        return reply(422, &[], &schemas.answer("invalid", body));
    }
    let label = RepoLabel {
        name: text("name"),
        color: text("color"),
        description: text("description"),
    };
    let answer = shown(&label);
    state.labels.push(label);
    ok(schemas, "made-label", answer)
}

fn add_labels(state: &mut State, schemas: &Schemas, body: &Value) -> Response {
    if let Some(refusal) = unfit(&schemas.faults_of_body("add-label", body)) {
        return refusal;
    }
    for name in body["labels"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if find(state, name).is_none() {
            // As GitHub does: it makes one, of a colour of its own.
            let (name, color) = (name.to_owned(), "ededed".to_owned());
            state.labels.push(RepoLabel {
                name,
                color,
                description: String::new(),
            });
        }
        if !state
            .on_pull
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
        {
            state.on_pull.push(name.to_owned());
        }
    }
    let all: Vec<_> = state
        .on_pull
        .iter()
        .map(|name| json!({ "name": name }))
        .collect();
    ok(schemas, "added", json!(all))
}

fn check(state: &State, id: &str) -> Option<usize> {
    state
        .checks
        .iter()
        .position(|check| check["id"].as_u64() == id.parse().ok())
}

/// A check run as it is shown: with the number of its annotations instead of them.
fn shown_check(check: &Value) -> Value {
    let mut shown = check.clone();
    let annotations = check["output"]["annotations"]
        .as_array()
        .map_or(0, Vec::len);
    shown["output"]["annotations_count"] = json!(annotations);
    shown["output"]
        .as_object_mut()
        .unwrap()
        .remove("annotations");
    shown
}

fn make_check(state: &mut State, schemas: &Schemas, body: &Value) -> Response {
    if let Some(refusal) = unfit(&schemas.faults_of_body("make-check", body)) {
        return refusal;
    }
    if body["output"]["annotations"]
        .as_array()
        .is_some_and(|all| all.len() > BATCH)
    {
        return error(422, "Invalid request. Too many annotations");
    }
    let mut check = body.clone();
    check["id"] = json!(state.checks.len() + 1);
    check["html_url"] = json!(format!("https://github.com/{}/runs/1", state.repo));
    let answer = shown_check(&check);
    state.checks.push(check);
    ok(schemas, "made-check", answer)
}

fn change_check(state: &mut State, schemas: &Schemas, at: usize, body: &Value) -> Response {
    if let Some(refusal) = unfit(&schemas.faults_of_body("add-to-check", body)) {
        return refusal;
    }
    let added = body["output"]["annotations"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    if added.len() > BATCH {
        return error(422, "Invalid request. Too many annotations");
    }
    let check = &mut state.checks[at];
    for name in ["status", "conclusion"] {
        if let Some(value) = body.get(name) {
            check[name] = value.clone();
        }
    }
    if let Some(annotations) = check["output"]["annotations"].as_array_mut() {
        annotations.extend(added);
    }
    ok(schemas, "check", shown_check(&state.checks[at]))
}
