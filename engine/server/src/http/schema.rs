//! What a JSON schema may cost before it is compiled: the compiler has bounds of its own, on grammars and on lexers, and
//! none on what it copies to get there.
//!
//! A schema whose parts all hold at once (`allOf`, or an `anyOf` beside other keywords) is compiled by multiplying their
//! alternatives out, and each product carries copies of what it is made of. [`Weight`] is an upper bound of that, found
//! without doing it.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// The longest text of a schema, in bytes; all schemas of a request's tools count together.
pub const MAX_SCHEMA_BYTES: usize = 128 * 1024;

/// The most bytes that the alternatives of a schema may come to.
const MAX_WEIGHT: u64 = 32 << 20;

/// The largest number, without its powers of ten, whose multiples are asked for: a lexer has as many states.
const MAX_MULTIPLE: u64 = 10_000;

/// What it is worth, in bytes, to see whether two patterns of `patternProperties` can match the same name: an automaton
/// is made of them, within the compiler's own bounds.
const PATTERN_PAIR: u64 = 3000;

/// The same for two alternatives of `oneOf`, whose first keywords are compared.
const OPTION_PAIR: u64 = 8;

/// The types that a schema without `type` has.
const TYPES: u64 = 6;

/// What no compiler is asked for, because it allows and forbids nothing.
const ANNOTATIONS: [&str; 16] = [
    "$anchor",
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "contentEncoding",
    "contentMediaType",
    "default",
    "definitions",
    "deprecated",
    "description",
    "examples",
    "id",
    "readOnly",
    "title",
    "writeOnly",
];

/// What a schema comes to when it is multiplied out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Weight {
    /// The most alternatives that stand in one place.
    alternatives: u64,
    /// What all of them hold together.
    bytes: u64,
    /// The largest number whose multiples are asked for in one place.
    multiple: u64,
}

impl Weight {
    const NONE: Self = Self {
        alternatives: 1,
        bytes: 0,
        multiple: 1,
    };

    fn of_bytes(bytes: usize) -> Self {
        Self {
            bytes: bytes as u64,
            ..Self::NONE
        }
    }

    /// Of each of `count` with each of the others.
    fn of_pairs(count: u64, bytes: u64) -> Self {
        Self {
            bytes: count.saturating_mul(count).saturating_mul(bytes) / 2,
            ..Self::NONE
        }
    }

    /// One beside the other, such as two properties.
    fn beside(self, other: Self) -> Self {
        Self {
            alternatives: self.alternatives.max(other.alternatives),
            bytes: self.bytes.saturating_add(other.bytes),
            multiple: self.multiple.max(other.multiple),
        }
    }

    /// One or the other.
    fn or(self, other: Self) -> Self {
        Self {
            alternatives: self.alternatives.saturating_add(other.alternatives),
            ..self.beside(other)
        }
    }

    /// Both at once.
    fn and(self, other: Self) -> Self {
        let here = self.bytes.saturating_mul(other.alternatives);
        let there = other.bytes.saturating_mul(self.alternatives);
        Self {
            alternatives: self.alternatives.saturating_mul(other.alternatives),
            bytes: here.saturating_add(there),
            multiple: self.multiple.saturating_mul(other.multiple),
        }
    }
}

/// Refuses a schema that would cost too much to compile. It is as deep in calls as references lead into each other.
///
/// # Errors
/// What is too much, to stand behind the name of the field.
pub fn bounded(schema: &Value) -> Result<(), String> {
    let mut scale = Scale {
        root: schema,
        known: HashMap::new(),
    };
    let weight = scale.weigh(schema, false);
    if weight.multiple > MAX_MULTIPLE {
        return Err(format!(
            "`multipleOf` asks for multiples of a number with the digits {}, and {MAX_MULTIPLE} is the most",
            weight.multiple
        ));
    }
    if weight.bytes > MAX_WEIGHT {
        return Err(format!(
            "what `allOf`, `anyOf`, `oneOf`, `enum` and `$ref` ask for at once has too many combinations: up to {} \
             bytes, and {MAX_WEIGHT} is the most",
            weight.bytes
        ));
    }
    Ok(())
}

/// Weighs the schemas of one document.
struct Scale<'s> {
    root: &'s Value,
    /// What references lead to. One that is being weighed weighs nothing: the compiler leaves it as a reference, or
    /// refuses it.
    known: HashMap<&'s str, Weight>,
}

impl<'s> Scale<'s> {
    /// `spread` says that it holds at once with others, so that its references are followed.
    fn weigh(&mut self, schema: &'s Value, spread: bool) -> Weight {
        let Value::Object(schema) = schema else {
            return Weight::of_bytes(size(schema));
        };
        let own = |key: &str| !is_applicator(key) && !ANNOTATIONS.contains(&key);
        let held = schema.keys().filter(|key| is_applicator(key)).count()
            + usize::from(schema.keys().any(|key| own(key)));
        let all = schema.get("allOf").and_then(Value::as_array);
        let spread = spread || held > 1 || all.is_some_and(|all| all.len() > 1);
        let mut weight = self.own(schema, spread);
        for (key, value) in schema {
            weight = match (key.as_str(), value) {
                ("anyOf" | "oneOf", Value::Array(options)) => {
                    let options = options.iter().map(|option| self.weigh(option, spread));
                    let either = options.reduce(Weight::or).unwrap_or(Weight::NONE);
                    let compared = if key == "oneOf" { OPTION_PAIR } else { 0 };
                    weight.and(either.beside(Weight::of_pairs(either.alternatives, compared)))
                }
                ("allOf", Value::Array(all)) => all
                    .iter()
                    .fold(weight, |weight, one| weight.and(self.weigh(one, spread))),
                ("enum", Value::Array(values)) => weight.and(Weight {
                    alternatives: values.len() as u64,
                    ..Weight::of_bytes(size(value))
                }),
                ("const", value) => weight.and(Weight::of_bytes(size(value))),
                ("$ref", Value::String(to)) if spread => weight.and(self.referred(to)),
                _ => weight,
            };
        }
        weight
    }

    /// The keywords that hold for the value itself, all of them together.
    fn own(&mut self, schema: &'s Map<String, Value>, spread: bool) -> Weight {
        let mut weight = Weight::NONE;
        let mut constrained = false;
        for (key, value) in schema {
            if is_applicator(key) || ANNOTATIONS.contains(&key.as_str()) {
                continue;
            }
            constrained = true;
            weight = weight.beside(Weight::of_bytes(key.len()));
            weight = weight.beside(match (key.as_str(), value) {
                ("properties" | "patternProperties", Value::Object(parts)) => {
                    let compared = match key.as_str() {
                        "properties" => 0,
                        _ => PATTERN_PAIR,
                    };
                    let compared = Weight::of_pairs(parts.len() as u64, compared);
                    parts.iter().fold(compared, |all, (name, part)| {
                        let name = Weight::of_bytes(name.len());
                        all.beside(name).beside(self.weigh(part, spread))
                    })
                }
                ("prefixItems" | "items", Value::Array(parts)) => {
                    parts.iter().fold(Weight::NONE, |all, part| {
                        all.beside(self.weigh(part, spread))
                    })
                }
                ("items" | "additionalItems" | "additionalProperties", part) => {
                    self.weigh(part, spread)
                }
                ("multipleOf", Value::Number(number)) => Weight {
                    multiple: digits(&number.to_string()),
                    ..Weight::NONE
                },
                _ => Weight::of_bytes(size(value)),
            });
        }
        let alternatives = match schema.get("type") {
            Some(Value::Array(types)) => types.len().max(1) as u64,
            None if constrained => TYPES,
            _ => 1,
        };
        Weight {
            alternatives: weight.alternatives.max(alternatives),
            bytes: weight.bytes.saturating_mul(alternatives),
            ..weight
        }
    }

    fn referred(&mut self, to: &'s str) -> Weight {
        if let Some(known) = self.known.get(to) {
            return *known;
        }
        let target = to.strip_prefix('#').and_then(|to| self.root.pointer(to));
        self.known.insert(to, Weight::NONE);
        let weight = target.map_or(Weight::NONE, |target| self.weigh(target, true));
        self.known.insert(to, weight);
        weight
    }
}

/// Whether a keyword combines schemas that hold for the same value.
fn is_applicator(key: &str) -> bool {
    matches!(key, "allOf" | "anyOf" | "oneOf" | "enum" | "const" | "$ref")
}

/// About how long a value's text is.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(values) => values.iter().map(size).sum::<usize>() + 2,
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| name.len() + size(value) + 4;
            fields.iter().map(field).sum::<usize>() + 2
        }
    }
}

/// The digits of a number between its first and its last that is not 0: 1250, 12.5 and 1.25e9 all have 125.
fn digits(number: &str) -> u64 {
    let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
    let plain: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let plain = plain.trim_matches('0');
    if plain.is_empty() {
        1
    } else {
        plain.parse().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(schema: &Value) -> String {
        bounded(schema).expect_err("too much")
    }

    #[test]
    fn what_people_ask_for_is_light() {
        let person = json!({
            "$defs": {
                "Address": {"type": "object", "properties": {"street": {"type": "string"}}, "title": "A"},
                "Node": {"type": "object", "properties": {
                    "value": {"type": ["integer", "null"], "multipleOf": 0.01},
                    "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
                }},
            },
            "type": "object",
            "properties": {
                "name": {"type": "string", "pattern": "^[A-Z]", "maxLength": 100},
                "kind": {"enum": (0..1000).map(|at| format!("kind {at}")).collect::<Vec<_>>()},
                "home": {"allOf": [{"$ref": "#/$defs/Address"}], "description": "where"},
                "pair": {"prefixItems": [{"const": 1}, true], "items": false},
                "list": {"$ref": "#/$defs/Node"},
            },
            "patternProperties": {"^x-": {"type": "string"}},
            "additionalProperties": false,
        });
        assert_eq!(bounded(&person), Ok(()));
        assert_eq!(bounded(&json!(true)), Ok(()));
        assert_eq!(bounded(&json!({"anyOf": [], "type": []})), Ok(()));
    }

    #[test]
    fn alternatives_that_hold_at_once_are_multiplied() {
        let some = |count: usize| {
            let options: Vec<_> = (0..count)
                .map(|length| json!({"type": "string", "maxLength": length}))
                .collect();
            json!({ "anyOf": options })
        };
        let text = json!({"type": "string", "const": "q".repeat(30_000)});
        assert_eq!(bounded(&json!({"allOf": [text, some(220)]})), Ok(()));
        let product = json!({"allOf": [text, some(220), some(220)]});
        assert!(refused(&product).contains("too many combinations"));
        // However they come to hold at once.
        let defs = json!({"text": text, "some": some(220), "both": {"allOf": [
            {"$ref": "#/$defs/some"}, {"$ref": "#/$defs/some"}]}});
        let siblings = json!({"$defs": defs, "type": "string", "const": "q".repeat(30_000), "$ref": "#/$defs/both"});
        assert!(refused(&siblings).contains("too many combinations"));
        let apart = json!({"$defs": defs, "type": "object", "properties": {
            "a": {"$ref": "#/$defs/both"}, "b": {"$ref": "#/$defs/text"}}});
        assert_eq!(bounded(&apart), Ok(()));
        let within = json!({"$defs": defs, "allOf": [
            {"properties": {"a": {"$ref": "#/$defs/both"}}},
            {"additionalProperties": {"$ref": "#/$defs/text"}},
        ]});
        assert!(refused(&within).contains("too many combinations"));
    }

    #[test]
    fn references_that_lead_nowhere_or_in_a_circle_come_to_an_end() {
        for to in ["#/$defs/none", "elsewhere", "#/$defs/n", "#"] {
            let schema = json!({"$defs": {"n": {"allOf": [{"$ref": "#/$defs/n"}, {"$ref": to}]}},
                "type": "object", "$ref": to});
            assert_eq!(bounded(&schema), Ok(()), "{to}");
        }
    }

    #[test]
    fn a_lexer_of_as_many_states_as_a_number_is_large_is_not_built() {
        let multiple = |of: Value| json!({"type": "number", "multipleOf": of});
        for light in [
            json!(1),
            json!(0.001),
            json!(10_000),
            json!(2.5e9),
            json!(0),
            json!(1_000_000),
        ] {
            assert_eq!(bounded(&multiple(light.clone())), Ok(()), "{light}");
        }
        let many = refused(&multiple(json!(999_983)));
        assert!(
            many.contains("`multipleOf`") && many.contains("999983"),
            "{many}"
        );
        assert!(bounded(&multiple(json!(f64::MAX / 3.0))).is_err());
        let both = json!({"allOf": [multiple(json!(997)), multiple(json!(991))]});
        assert!(refused(&both).contains("988027"));
        let either = json!({"anyOf": [multiple(json!(997)), multiple(json!(991))]});
        assert_eq!(bounded(&either), Ok(()));
    }

    #[test]
    fn pairs_that_are_compared_count() {
        let patterns: Map<_, _> = (0..200)
            .map(|at| (format!("^p{at}"), json!({"type": ["string", "null"]})))
            .collect();
        let patterns = json!({"type": "object", "patternProperties": patterns});
        assert!(bounded(&patterns).is_err());
        let options: Vec<_> = (0..4000).map(|at| json!({ "const": at })).collect();
        assert!(bounded(&json!({ "oneOf": options })).is_err());
        assert_eq!(bounded(&json!({ "anyOf": options })), Ok(()));
    }
}
