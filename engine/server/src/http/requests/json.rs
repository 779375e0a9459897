//! JSON shapes that derived structs do not have.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::http::error::ApiError;

/// A struct that is read from a JSON object alone. A derived one would be read from an array as well, by position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// A list that may be written as its only element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Texts {
    /// The element.
    One(String),
    /// The list.
    Many(Vec<String>),
}

impl Texts {
    /// The elements, and the name by which each stands in the request as `param`.
    pub fn named(self, param: &str) -> Vec<(String, String)> {
        match self {
            Self::One(text) => vec![(param.to_owned(), text)],
            Self::Many(texts) => texts
                .into_iter()
                .enumerate()
                .map(|(index, text)| (format!("{param}[{index}]"), text))
                .collect(),
        }
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Texts;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a string or an array of strings")
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Texts::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Ok(Texts::Many(texts))
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

/// A JSON object in the words of the client: what a model is shown keeps the order of its fields, and the spelling of
/// its numbers.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct RawObject(Box<RawValue>);

impl RawObject {
    /// The object that stands at `param`.
    ///
    /// # Errors
    /// What is no object, or is one that JSON readers refuse: nested too deep, or with half a surrogate pair.
    pub fn read(param: &str, given: Box<RawValue>) -> Result<Self, ApiError> {
        // The words were skimmed up to here. A reader of values has a bound on depth and looks into strings.
        match serde_json::from_str::<Map<String, Value>>(given.get()) {
            Ok(_) => Ok(Self(given)),
            Err(cause) => {
                let message = format!("`{param}` is not a usable JSON object: {cause} of it");
                Err(ApiError::invalid(param, message))
            }
        }
    }

    /// Its JSON text.
    pub fn text(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for RawObject {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}
