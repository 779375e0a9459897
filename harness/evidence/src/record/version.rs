//! The version of the record's shape.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The version of the record's shape, written as `major.minor`.
///
/// A reader of one major version reads its own minor versions and older ones. Another major version is
/// refused: guessing at a meaning is how bad evidence passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaVersion {
    /// Changes when the meaning or the presence of a field changes.
    pub major: u32,
    /// Changes when a field is added.
    pub minor: u32,
}

impl SchemaVersion {
    /// The version this crate writes.
    pub const CURRENT: Self = Self { major: 2, minor: 0 };

    /// Reads `major.minor`.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    }

    /// Whether this crate reads records of that version.
    pub fn is_known(self) -> bool {
        let Self { major, minor } = Self::CURRENT;
        self.major == major && self.minor.cmp(&minor).is_le()
    }
}

impl fmt::Display for SchemaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Serialize for SchemaVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SchemaVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let version = Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "schema_version is {text:?}, expected `major.minor`"
            ))
        })?;
        if !version.is_known() {
            return Err(serde::de::Error::custom(format!(
                "schema_version is {version}, this reader knows {}",
                Self::CURRENT
            )));
        }
        Ok(version)
    }
}

impl JsonSchema for SchemaVersion {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SchemaVersion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "The version of the record's shape, `major.minor`.",
            "pattern": format!("^{}\\.[0-9]+$", Self::CURRENT.major),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_major_version_is_read() {
        let read = |text: &str| {
            serde_json::from_value::<SchemaVersion>(text.into()).map_err(|e| e.to_string())
        };
        assert_eq!(read("2.0"), Ok(SchemaVersion::CURRENT));
        for unknown in ["1.0", "3.0", "2.1"] {
            assert_eq!(
                read(unknown),
                Err(format!(
                    "schema_version is {unknown}, this reader knows 2.0"
                ))
            );
        }
        for malformed in ["1", "one.two", "1.x", ""] {
            assert_eq!(
                read(malformed),
                Err(format!(
                    "schema_version is {malformed:?}, expected `major.minor`"
                ))
            );
        }
        assert!(serde_json::from_value::<SchemaVersion>(1.into()).is_err());
    }
}
