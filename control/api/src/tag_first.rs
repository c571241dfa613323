//! Enums that say which variant they are in a field of their own (`tag`), read without a copy of everything behind it.
//!
//! serde reads such an enum into a tree first, as the tag may come last. Pollux writes it first, and a transaction may have
//! tens of thousands of changes of a variant or two: those are read as they come. Whatever comes otherwise is read as
//! serde does.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserializer;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde_json::{Map, Value};

/// An enum with a tag.
pub trait TagFirst: Sized {
    /// The name of the field.
    const TAG: &'static str;

    /// Whether a variant is read as it comes.
    fn is_direct(variant: &str) -> bool;

    /// Reads the fields of a variant that is read as it comes.
    ///
    /// # Errors
    /// What is wrong with them.
    fn direct<'de, A: MapAccess<'de>>(
        variant: &str,
        fields: MapAccessDeserializer<A>,
    ) -> Result<Self, A::Error>;

    /// Reads all of it.
    ///
    /// # Errors
    /// What is wrong with it.
    fn whole(value: Value) -> Result<Self, serde_json::Error>;
}

/// Implements serde's traits for a [`TagFirst`] whose own functions of these names are derived (`remote = "Self"`).
macro_rules! serde_tag_first {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                Self::serialize(self, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::tag_first::deserialize(deserializer)
            }
        }
    };
}
pub(crate) use serde_tag_first;

/// Reads an enum with a tag.
///
/// # Errors
/// What is wrong with it.
pub fn deserialize<'de, T: TagFirst, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_map(TagVisitor(PhantomData))
}

struct TagVisitor<T>(PhantomData<T>);

impl<'de, T: TagFirst> Visitor<'de> for TagVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with a field `{}`", T::TAG)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut read = Map::new();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if read.is_empty() && key == T::TAG {
                let variant: Value = map.next_value()?;
                match variant.as_str() {
                    Some(variant) if T::is_direct(variant) => {
                        return T::direct(variant, MapAccessDeserializer::new(map));
                    }
                    _ => read.insert(key.into_owned(), variant),
                };
                continue;
            }
            let value = map.next_value()?;
            if read.insert(key.clone().into_owned(), value).is_some() {
                return Err(A::Error::custom(format_args!("duplicate field `{key}`")));
            }
        }
        T::whole(Value::Object(read)).map_err(A::Error::custom)
    }
}
