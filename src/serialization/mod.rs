//! From a program's types to the bytes of keys and values, and back.
//!
//! A [`TypedProducer`](crate::TypedProducer) has one [`Serializer`] for keys and one for values. This module has:
//!
//! | here | takes and gives | bytes | null |
//! |---|---|---|---|
//! | [`java()`] | strings, bytes, integers, floating point numbers, `bool`, `()`, `Option` of each | what Java's serializer of the type writes | `()`, and `None` |
//! | `json()`, with the feature `json` | whatever serde serializes | compact JSON, the members of each object sorted by name | |
//! | [`text()`] | whatever can be displayed, and parsed | the text in UTF-8: a number is its digits | |
//! | [`uuid()`] | `u128` and `[u8; 16]` | Java's `UUIDSerializer`: 36 characters | |
//! | [`nullable(s)`](nullable) | `Option` of what `s` takes | what `s` writes | `None` |
//! | [`from_fn(f)`](from_fn) | what the function takes | what it returns | |
//! | [`try_from_fn(f)`](try_from_fn) | likewise | what is in the `Result` that it returns | |
//! | [`deserializer_fn(f)`](deserializer_fn) | gives what is in the `Result` that the function returns | what it reads | |
//!
//! In `from_fn(|login: &Login| ..)` the argument's type says what the program's messages are; no other type has to be
//! written out. A reference to a serializer or deserializer, and a `Box` or `Arc` of one, are serializers and
//! deserializers, too. A program can also implement the trait for a type of its own:
//!
//! ```
//! use std::borrow::Cow;
//!
//! use kafka_blocking::serialization::{Context, SerializationError, Serializer};
//!
//! /// Says in a header which form the value has.
//! struct Marked;
//!
//! impl Serializer<[u8]> for Marked {
//!     fn serialize<'v>(
//!         &self,
//!         value: &'v [u8],
//!         context: &mut Context<'_, '_>,
//!     ) -> Result<Option<Cow<'v, [u8]>>, SerializationError> {
//!         if value.len() > 1000 {
//!             return Err(format!("{} bytes are too many for {}", value.len(), context.topic).into());
//!         }
//!         context.headers.push("form", "raw");
//!         Ok(Some(Cow::Borrowed(value)))
//!     }
//! }
//! ```
//!
//! Serializers and deserializers run on the calling thread, several at once.

mod adapters;
mod java;
#[cfg(feature = "json")]
mod json;
mod malformed;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

pub use self::adapters::{
    DeserializerFn, FromFn, Nullable, Text, TryFromFn, deserializer_fn, from_fn, nullable, text, try_from_fn,
};
pub use self::java::{Java, UuidText, java, uuid};
#[cfg(feature = "json")]
pub use self::json::{Json, json};
pub use self::malformed::Malformed;
use crate::record::Headers;

/// Why something could not be serialized. It may be any error. The send fails with
/// [`ErrorKind::Serialization`](crate::ErrorKind::Serialization) and this error as its source, and nothing is sent.
/// `into()` makes one from a text.
pub type SerializationError = Box<dyn std::error::Error + Send + Sync>;

/// Why bytes could not be deserialized. It may be any error. The deserializers of this module return [`Malformed`],
/// except for the errors of serde for JSON, and of a type's `FromStr` for a text.
pub type DeserializationError = Box<dyn std::error::Error + Send + Sync>;

/// Makes the bytes of a key or a value.
///
/// *Thread*: the one that sends, so several at once. A panic fails only that record.
pub trait Serializer<T: ?Sized>: Send + Sync {
    /// The bytes of `value`, or `None` for null. They may be borrowed from `value`. Headers may be added.
    ///
    /// *Errors*: any. Nothing is sent then.
    fn serialize<'v>(
        &self,
        value: &'v T,
        context: &mut Context<'_, '_>,
    ) -> Result<Option<Cow<'v, [u8]>>, SerializationError>;
}

/// Reads the bytes of a key or a value.
///
/// `'de` is how long the bytes live, as in serde. A `T` that borrows from them (`&'de str`, `&'de [u8]`, or a structure
/// of these) is read without a copy. A `T` that owns its data can be read for every `'de`: an implementation for it is
/// written `impl Deserializer<'_, Thing> for ThingDeserializer`, and a function that needs one asks for `D: for<'de>
/// Deserializer<'de, Thing>`.
///
/// ```
/// use kafka_blocking::serialization::{Deserializer, Origin, Part, java};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let headers = kafka_blocking::Headers::new();
/// let origin = Origin::new("names", Part::Value, &headers);
/// let bytes = b"Ada".to_vec();
/// let name: &str = java().deserialize(Some(&bytes), &origin)?;
/// assert_eq!(name.as_ptr(), bytes.as_ptr());
/// # Ok(())
/// # }
/// ```
pub trait Deserializer<'de, T>: Send + Sync {
    /// The value that `bytes` stand for. `None` is null, which is not the same as an empty value.
    ///
    /// *Errors*: any.
    fn deserialize(&self, bytes: Option<&'de [u8]>, origin: &Origin<'_>) -> Result<T, DeserializationError>;
}

/// A part of a record. A schema registry keeps a schema for each of a topic's parts (`topic-key`, `topic-value`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The key.
    Key,
    /// The value.
    Value,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::Value => "value",
        })
    }
}

/// What a serializer gets besides the value. The key is serialized before the value, with the same headers.
#[derive(Debug)]
#[non_exhaustive]
pub struct Context<'a, 'h> {
    /// The topic to which the record goes.
    pub topic: &'a str,
    /// Whether this is the record's key or its value.
    pub part: Part,
    /// The record's headers, which the serializer may change.
    pub headers: &'a mut Headers<'h>,
}

impl<'a, 'h> Context<'a, 'h> {
    /// A context as a producer makes it.
    pub fn new(topic: &'a str, part: Part, headers: &'a mut Headers<'h>) -> Self {
        Self { topic, part, headers }
    }
}

/// What a deserializer gets besides the bytes.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Origin<'a> {
    /// The topic from which the record comes.
    pub topic: &'a str,
    /// Whether this is the record's key or its value.
    pub part: Part,
    /// The record's headers.
    pub headers: &'a Headers<'a>,
}

impl<'a> Origin<'a> {
    /// An origin as a consumer makes it.
    pub fn new(topic: &'a str, part: Part, headers: &'a Headers<'a>) -> Self {
        Self { topic, part, headers }
    }
}

/// Each of these pointers serializes and deserializes like what it points to.
macro_rules! by_pointer {
    ($($pointer:ty),*) => {
        $(impl<T: ?Sized, S: Serializer<T> + ?Sized> Serializer<T> for $pointer {
            fn serialize<'v>(
                &self,
                value: &'v T,
                context: &mut Context<'_, '_>,
            ) -> Result<Option<Cow<'v, [u8]>>, SerializationError> {
                (**self).serialize(value, context)
            }
        }

        impl<'de, T, S: Deserializer<'de, T> + ?Sized> Deserializer<'de, T> for $pointer {
            fn deserialize(&self, bytes: Option<&'de [u8]>, origin: &Origin<'_>) -> Result<T, DeserializationError> {
                (**self).deserialize(bytes, origin)
            }
        })*
    };
}

by_pointer!(&S, Box<S>, Arc<S>);

#[cfg(test)]
mod tests;
