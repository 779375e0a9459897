//! A record as bytes: the one form it is written in, and reading that form strictly.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use crate::hex;
use crate::record::{Evidence, SchemaVersion};
use crate::statement::{self, Statement};
use crate::verify::Rejection;

/// The largest record that is read: fifty times what a whole run takes.
pub const LARGEST: u64 = 8 << 20;

/// The name of a run's files, without extension: platform, Unix time of the start, run id.
#[must_use]
pub fn stem(evidence: &Evidence) -> String {
    format!(
        "{}-{}-{}",
        evidence.platform,
        evidence.started.as_second(),
        evidence.run_id
    )
}

/// The canonical bytes of a record: its statement as JSON, the fields in their order, indented by two spaces, and a line
/// end.
///
/// A number that is not finite becomes null, which no reader takes for a number.
#[must_use]
pub fn to_bytes(evidence: &Evidence) -> Vec<u8> {
    write(&Statement::of(evidence.clone()))
}

fn write(statement: &Statement) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(statement)
        .expect("a statement is made of texts, numbers and lists");
    bytes.push(b'\n');
    bytes
}

/// The digest that the record's `content_sha256` must be.
#[must_use]
pub fn content_sha256(evidence: &Evidence) -> String {
    hex::sha256(&to_bytes(&Evidence {
        content_sha256: String::new(),
        ..evidence.clone()
    }))
}

/// Writes the digest of the rest into the record.
pub fn seal(evidence: &mut Evidence) {
    evidence.content_sha256 = content_sha256(evidence);
}

/// Reads a record, and accepts it only in its canonical form and with the content it was written with.
///
/// # Errors
/// The first reason why these bytes are no record.
pub fn read(bytes: &[u8]) -> Result<Evidence, Rejection> {
    let statement = parse(bytes)?;
    let canonical = write(&statement);
    if canonical != bytes {
        let same = canonical.iter().zip(bytes).take_while(|(a, b)| a == b);
        return Err(Rejection::NotCanonical {
            offset: same.count(),
        });
    }
    let subjects = statement::subjects(&statement.predicate);
    if statement.subject != subjects {
        return Err(Rejection::SubjectDiffers {
            found: statement::describe(&statement.subject),
            expected: statement::describe(&subjects),
        });
    }
    let evidence = statement.predicate;
    let found = content_sha256(&evidence);
    if evidence.content_sha256 != found {
        return Err(Rejection::ContentDiffers {
            found,
            expected: evidence.content_sha256,
        });
    }
    Ok(evidence)
}

/// Reads a statement in whatever layout: what a report may show. Whether it is as it was written is [`read`]'s to say.
///
/// # Errors
/// The first reason why these bytes hold no record.
pub fn parse(bytes: &[u8]) -> Result<Statement, Rejection> {
    if bytes.len() as u64 > LARGEST {
        return Err(Rejection::TooLarge {
            bytes: bytes.len() as u64,
            limit: LARGEST,
        });
    }
    check_keys(bytes)?;
    let heading: Heading = serde_json::from_slice(bytes).map_err(|error| classify(&error))?;
    // Records of the first generation were no statements.
    let version = heading.predicate.and_then(|head| head.schema_version);
    if let Some(found) = version.or(heading.schema_version)
        && !SchemaVersion::parse(&found).is_some_and(SchemaVersion::is_known)
    {
        return Err(Rejection::UnknownVersion {
            found,
            known: SchemaVersion::CURRENT.to_string(),
        });
    }
    for (found, wanted) in [
        (heading.kind, statement::STATEMENT_TYPE),
        (heading.predicate_type, statement::PREDICATE_TYPE),
    ] {
        if let Some(found) = found.filter(|found| found != wanted) {
            return Err(Rejection::OtherPredicate {
                found,
                wanted: wanted.to_owned(),
            });
        }
    }
    serde_json::from_slice(bytes).map_err(|error| classify(&error))
}

/// What is read of a file before it is known to be a record: what it says it is.
#[derive(Deserialize)]
struct Heading {
    #[serde(rename = "_type")]
    kind: Option<String>,
    #[serde(rename = "predicateType")]
    predicate_type: Option<String>,
    schema_version: Option<String>,
    predicate: Option<PredicateHeading>,
}

#[derive(Deserialize)]
struct PredicateHeading {
    schema_version: Option<String>,
}

/// Sorts what the reader says. Its own words are kept: they name the field, and the line.
fn classify(error: &serde_json::Error) -> Rejection {
    let reason = error.to_string();
    if reason.starts_with("unknown variant") {
        Rejection::UnknownValue { reason }
    } else if reason.starts_with("unknown field") {
        Rejection::UnknownField { reason }
    } else if reason.starts_with("missing field") {
        Rejection::MissingField { reason }
    } else {
        Rejection::WrongType { reason }
    }
}

/// Walks through the whole text and refuses a key written twice, which most readers let pass.
fn check_keys(bytes: &[u8]) -> Result<(), Rejection> {
    let twice = RefCell::new(None);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let result = Keys(&twice)
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end());
    if let Some(key) = twice.into_inner() {
        return Err(Rejection::DuplicateKey { key });
    }
    result.map_err(|error| match error.classify() {
        Category::Eof => Rejection::Truncated { bytes: bytes.len() },
        _ => Rejection::Malformed {
            reason: error.to_string(),
        },
    })
}

/// Visits any value, and keeps the first key that an object has twice.
#[derive(Clone, Copy)]
struct Keys<'a>(&'a RefCell<Option<String>>);

impl<'de> DeserializeSeed<'de> for Keys<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if let Some(twice) = seen.replace(key) {
                self.0.borrow_mut().get_or_insert(twice);
                return Err(serde::de::Error::custom("a key written twice"));
            }
            entries.next_value_seed(self)?;
        }
        Ok(())
    }
}

/// What a record's beginning says of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The run.
    pub run_id: String,
    /// The platform.
    pub platform: String,
    /// The tree.
    pub tree_sha256: String,
}

impl Identity {
    /// Bytes of a record's beginning that hold its identity.
    pub const HEAD: usize = 2048;

    /// Reads the identity from the beginning of a record in canonical form. Whether the rest is a record is not
    /// known by that; it is for passing over records of other trees without reading all of them.
    pub fn of(head: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(&head[..head.len().min(Self::HEAD)])
            .or_else(|error| std::str::from_utf8(&head[..error.valid_up_to()]))
            .ok()?;
        let value = |key: &str| {
            let (_, after) = text.split_once(&format!("\"{key}\": \""))?;
            let (value, _) = after.split_once('"')?;
            let plain = value
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
            plain.then(|| value.to_owned())
        };
        Some(Self {
            run_id: value("run_id")?,
            platform: value("platform")?,
            tree_sha256: value("tree_sha256")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn text(evidence: &Evidence) -> String {
        String::from_utf8(to_bytes(evidence)).unwrap()
    }

    fn code(text: &str) -> u16 {
        read(text.as_bytes()).unwrap_err().code().0
    }

    #[test]
    fn what_is_written_is_read_back() {
        let evidence = fixture::good();
        let text = text(&evidence);
        assert!(text.contains("\"schema_version\": \"2.0\""), "{text}");
        assert_eq!(read(text.as_bytes()), Ok(evidence));
    }

    #[test]
    fn every_field_must_be_there() {
        let text = text(&fixture::good());
        let whole: serde_json::Value = serde_json::from_str(&text).unwrap();
        let fields: Vec<_> = whole["predicate"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        for field in fields {
            let mut value = whole.clone();
            value["predicate"].as_object_mut().unwrap().remove(&field);
            let reason = read(value.to_string().as_bytes()).unwrap_err();
            assert_eq!(reason.code(), crate::verify::Code(9), "{field}");
            assert!(reason.to_string().contains(&field), "{field}: {reason}");
        }
    }

    #[test]
    fn a_field_nobody_knows_is_refused_wherever_it_is() {
        let text = text(&fixture::good());
        for pointer in [
            "",
            "/predicate",
            "/predicate/host",
            "/predicate/source",
            "/predicate/suites/0",
            "/predicate/cases/0",
            "/predicate/build",
            "/subject/0/digest",
        ] {
            let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
            value.pointer_mut(pointer).unwrap()["surprise"] = true.into();
            assert_eq!(code(&value.to_string()), 8, "{pointer}");
        }
    }

    #[test]
    fn each_way_of_not_being_a_record_has_its_code() {
        let good = text(&fixture::good());
        let with = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            good.replacen(from, to, 1)
        };
        for (text, expected) in [
            (good[..good.len() / 2].to_owned(), 3),
            (String::new(), 3),
            ("not JSON".to_owned(), 4),
            (format!("{good}{{}}"), 4),
            (with("\"passed\": 4", "\"passed\": NaN"), 4),
            (with("\"passed\": 4", "\"passed\": 1e999"), 4),
            (with("\"run_id\": ", "\"run_id\": \"x\", \"run_id\": "), 5),
            (with("\"2.0\"", "\"3.0\""), 6),
            (with("\"2.0\"", "\"two\""), 6),
            (
                "{\"schema_version\": \"1.0\", \"run_id\": \"x\"}".to_owned(),
                6,
            ),
            (with("\"completed\"", "\"complete\""), 7),
            (with("\"passed\": 4", "\"passed\": \"4\""), 10),
            (with("\"passed\": 4", "\"passed\": null"), 10),
            ("[]".to_owned(), 10),
            (with("  ", "   "), 11),
            (good.replace('\n', "\r\n"), 11),
        ] {
            assert_eq!(code(&text), expected, "{text:.200}");
        }
        let changed = with("\"kernel\": \"6.12.0\"", "\"kernel\": \"6.12.1\"");
        assert_eq!(code(&changed), 12);
        assert_eq!(code(&with("Statement/v1", "Statement/v0.1")), 192);
        assert_eq!(code(&with(":evidence:v2", ":evidence:v1")), 192);
        let subject = with("/guarded-tree", "/another-tree");
        assert_eq!(code(&subject), 190);
    }

    #[test]
    fn a_huge_file_is_refused_by_its_size() {
        let huge = vec![b' '; LARGEST as usize + 1];
        assert_eq!(read(&huge).unwrap_err().code().0, 2);
    }

    #[test]
    fn deep_nesting_is_refused_and_does_not_end_the_program() {
        let deep = "[".repeat(1 << 20);
        assert!(matches!(code(&deep), 3 | 4));
    }

    #[test]
    fn keys_of_every_kind_of_value_are_walked() {
        let values = r#"{"a": [null, true, -1, 2, 0.5, "x", {"b": {}}], "c": {"d": 1, "d": 2}}"#;
        assert_eq!(
            check_keys(values.as_bytes()),
            Err(Rejection::DuplicateKey { key: "d".into() })
        );
        let struck = check_keys(b"{\"a\": 1}");
        assert_eq!(struck, Ok(()));
        let odd =
            serde::de::Error::invalid_type(serde::de::Unexpected::Unit, &Keys(&RefCell::default()));
        let error: serde_json::Error = odd;
        assert!(error.to_string().contains("a JSON value"));
    }

    #[test]
    fn the_beginning_tells_which_run_it_is() {
        let evidence = fixture::good();
        let bytes = to_bytes(&evidence);
        let identity = Identity::of(&bytes).unwrap();
        assert_eq!(identity.run_id, evidence.run_id);
        assert_eq!(identity.platform, evidence.platform);
        assert_eq!(identity.tree_sha256, evidence.source.tree_sha256);
        assert_eq!(Identity::of(&bytes[..100]), None);
        assert_eq!(Identity::of(b"\xff"), None);
        let odd = String::from_utf8(bytes)
            .unwrap()
            .replace("linux-cpu", "a b");
        assert_eq!(Identity::of(odd.as_bytes()), None);
    }
}
