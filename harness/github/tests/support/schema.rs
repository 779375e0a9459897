//! GitHub's published description of its API, as far as the loopback server needs it (`schemas.json`, cut out by
//! `schemas.py`): what an answer must hold, and what a body may.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

/// The schemas of one kind, `answers` or `bodies`.
pub struct Schemas(Value);

static ALL: LazyLock<Schemas> =
    LazyLock::new(|| Schemas(serde_json::from_str(include_str!("schemas.json")).unwrap()));

impl Schemas {
    pub fn get() -> &'static Self {
        &ALL
    }

    /// An answer of the documented form: what is given, and something of the right type for all else that is required.
    pub fn answer(&self, name: &str, given: Value) -> Value {
        let schema = &self.0["answers"][name];
        assert!(schema.is_object(), "no schema {name}");
        let answer = filled(schema, Some(given));
        let faults = faults(schema, &answer, name);
        assert!(
            faults.is_empty(),
            "the loopback server is wrong: {faults:?}"
        );
        answer
    }

    /// What is wrong with a body that was sent.
    pub fn faults_of_body(&self, name: &str, body: &Value) -> Vec<String> {
        let schema = &self.0["bodies"][name];
        assert!(schema.is_object(), "no schema {name}");
        faults(schema, body, name)
    }
}

fn filled(schema: &Value, given: Option<Value>) -> Value {
    match given {
        Some(Value::Object(mut given)) => {
            let required = schema["required"].as_array().into_iter().flatten();
            for name in required.filter_map(Value::as_str) {
                if !given.contains_key(name) {
                    given.insert(name.to_owned(), filled(&schema["properties"][name], None));
                }
            }
            let fill = |(name, value): (String, Value)| {
                let value = filled(&schema["properties"][&name], Some(value));
                (name, value)
            };
            Value::Object(given.into_iter().map(fill).collect())
        }
        Some(Value::Array(items)) => {
            let fill = |item| filled(&schema["items"], Some(item));
            Value::Array(items.into_iter().map(fill).collect())
        }
        Some(given) => given,
        None if schema["nullable"] == true => Value::Null,
        None => match (schema["enum"].get(0), kind(schema)) {
            (Some(first), _) => first.clone(),
            (_, "array") => json!([]),
            (_, "boolean") => json!(false),
            (_, "integer" | "number") => json!(0),
            (_, "string") => json!("x"),
            _ => filled(schema, Some(Value::Object(Map::new()))),
        },
    }
}

fn kind(schema: &Value) -> &str {
    let declared = schema["type"].as_str();
    declared.unwrap_or("object")
}

/// Where a value is not what a schema asks: types, required fields, enumerations, lengths.
fn faults(schema: &Value, value: &Value, at: &str) -> Vec<String> {
    for several in ["oneOf", "anyOf", "allOf"] {
        if let Some(parts) = schema[several].as_array() {
            if value.is_null() && schema["nullable"] == true {
                return Vec::new();
            }
            let all = parts.iter().map(|part| faults(part, value, at));
            let mut all: Vec<_> = all.collect();
            all.sort_by_key(Vec::len);
            return all.into_iter().next().unwrap_or_default();
        }
    }
    if value.is_null() && schema["nullable"] == true {
        return Vec::new();
    }
    let mut found = Vec::new();
    let fits = match schema["type"].as_str() {
        Some("array") => value.is_array(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("object") => value.is_object(),
        _ => true,
    };
    if !fits {
        found.push(format!("{at}: {value} is no {}", schema["type"]));
        return found;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        found.push(format!("{at}: {value} is none of {allowed:?}"));
    }
    let most = |name: &str| schema[name].as_u64().unwrap_or(u64::MAX) as usize;
    if value
        .as_str()
        .is_some_and(|text| text.chars().count() > most("maxLength"))
        || value
            .as_array()
            .is_some_and(|items| items.len() > most("maxItems"))
    {
        found.push(format!("{at}: too long"));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap_or_default();
        if value.get(name).is_none() {
            found.push(format!("{at}: {name} is missing"));
        }
    }
    for (name, part) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            found.extend(faults(part, value, &format!("{at}.{name}")));
        }
    }
    if schema["items"].is_object() {
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            found.extend(faults(&schema["items"], item, &format!("{at}[{index}]")));
        }
    }
    found
}
