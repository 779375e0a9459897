//! JSON shapes that derived structs do not have.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
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

/// A text, or something else in its place: a list of texts or of parts, or a struct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextOr<T> {
    /// A text.
    Text(String),
    /// What is not one.
    Other(T),
}

/// What may stand in the place of a text.
pub trait InPlaceOfText {
    /// Both, as errors name them.
    const EXPECTED: &'static str;
}

impl<T> InPlaceOfText for Vec<T> {
    const EXPECTED: &'static str = "a string or an array";
}

impl<T> InPlaceOfText for Object<T> {
    const EXPECTED: &'static str = "a string or an object";
}

impl<'de, T: Deserialize<'de> + InPlaceOfText> Deserialize<'de> for TextOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de> + InPlaceOfText> Visitor<'de> for Either<T> {
            type Value = TextOr<T>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(T::EXPECTED)
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(TextOr::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                T::deserialize(SeqAccessDeserializer::new(list)).map(TextOr::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(TextOr::Other)
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}

/// A JSON object in the words of the client: what a model is shown keeps the order of its fields, and the spelling of
/// its numbers.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct RawObject {
    given: Box<RawValue>,
    #[serde(skip)]
    fields: Map<String, Value>,
}

impl RawObject {
    /// The object that stands at `param`.
    ///
    /// # Errors
    /// What is no object, or is one that JSON readers refuse: nested too deep, or with half a surrogate pair.
    pub fn read(param: &str, given: Box<RawValue>) -> Result<Self, ApiError> {
        // The words were skimmed up to here. A reader of values has a bound on depth and looks into strings.
        match serde_json::from_str(given.get()) {
            Ok(fields) => Ok(Self { given, fields }),
            Err(cause) => {
                let message = format!("`{param}` is not a usable JSON object: {cause} of it");
                Err(ApiError::invalid(param, message))
            }
        }
    }

    /// Its JSON text.
    pub fn text(&self) -> &str {
        self.given.get()
    }

    /// Its fields, in their order.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }
}

impl PartialEq for RawObject {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}
