//! Serializers that are made from functions, that write texts, or that wrap another serializer.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};
use std::str::FromStr;

use super::{Context, DeserializationError, Deserializer, Malformed, Origin, SerializationError, Serializer};

/// The text of anything that can be displayed, in UTF-8. A number becomes its decimal digits, as in kiel and
/// [`partitioner::modulo()`](crate::partitioner::modulo). Reading parses the text.
pub const fn text() -> Text {
    Text
}

/// See [`text()`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Text;

impl<T: Display + ?Sized> Serializer<T> for Text {
    fn serialize<'v>(
        &self,
        value: &'v T,
        _: &mut Context<'_, '_>,
    ) -> Result<Option<Cow<'v, [u8]>>, SerializationError> {
        let mut text = String::new();
        write!(text, "{value}")?;
        Ok(Some(Cow::Owned(text.into_bytes())))
    }
}

impl<T> Deserializer<'_, T> for Text
where
    T: FromStr,
    T::Err: Into<DeserializationError>,
{
    fn deserialize(&self, bytes: Option<&[u8]>, _: &Origin<'_>) -> Result<T, DeserializationError> {
        let bytes = bytes.ok_or(Malformed::Null { wanted: "a text" })?;
        std::str::from_utf8(bytes).map_err(Malformed::Utf8)?.parse().map_err(Into::into)
    }
}

/// Writes null for `None`, and what `inner` writes for `Some`. In a compacted topic a null value deletes its key (a
/// tombstone).
pub const fn nullable<S>(inner: S) -> Nullable<S> {
    Nullable(inner)
}

/// See [`nullable`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Nullable<S>(S);

impl<T, S: Serializer<T>> Serializer<Option<T>> for Nullable<S> {
    fn serialize<'v>(
        &self,
        value: &'v Option<T>,
        context: &mut Context<'_, '_>,
    ) -> Result<Option<Cow<'v, [u8]>>, SerializationError> {
        match value {
            Some(value) => self.0.serialize(value, context),
            None => Ok(None),
        }
    }
}

impl<'de, T, D: Deserializer<'de, T>> Deserializer<'de, Option<T>> for Nullable<D> {
    fn deserialize(&self, bytes: Option<&'de [u8]>, origin: &Origin<'_>) -> Result<Option<T>, DeserializationError> {
        bytes.map(|_| self.0.deserialize(bytes, origin)).transpose()
    }
}

/// A serializer made from a function that cannot fail and returns bytes or a text. For a function that may fail there
/// is [`try_from_fn`].
///
/// ```
/// use kafka_blocking::serialization::from_fn;
///
/// struct Thing {
///     stuff: String,
/// }
///
/// let serializer = from_fn(|thing: &Thing| format!("stuff={}", thing.stuff));
/// # let _ = serializer;
/// ```
pub fn from_fn<T, F, B>(function: F) -> FromFn<F>
where
    T: ?Sized,
    F: Fn(&T) -> B + Send + Sync,
    B: Into<Vec<u8>>,
{
    FromFn(function)
}

/// See [`from_fn`].
#[derive(Clone, Copy)]
pub struct FromFn<F>(F);

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromFn")
    }
}

impl<T, F, B> Serializer<T> for FromFn<F>
where
    T: ?Sized,
    F: Fn(&T) -> B + Send + Sync,
    B: Into<Vec<u8>>,
{
    fn serialize<'v>(
        &self,
        value: &'v T,
        _: &mut Context<'_, '_>,
    ) -> Result<Option<Cow<'v, [u8]>>, SerializationError> {
        Ok(Some(Cow::Owned((self.0)(value).into())))
    }
}

/// A serializer made from a function that may fail. If it does, the send fails with
/// [`ErrorKind::Serialization`](crate::ErrorKind::Serialization), and the function's own error is its source.
///
/// ```
/// use kafka_blocking::serialization::try_from_fn;
///
/// struct Thing {
///     stuff: String,
/// }
///
/// let serializer = try_from_fn(|thing: &Thing| {
///     if thing.stuff.is_empty() { Err("there is no stuff") } else { Ok(format!("stuff={}", thing.stuff)) }
/// });
/// # let _ = serializer;
/// ```
pub fn try_from_fn<T, F, B, E>(function: F) -> TryFromFn<F>
where
    T: ?Sized,
    F: Fn(&T) -> Result<B, E> + Send + Sync,
    B: Into<Vec<u8>>,
    E: Into<SerializationError>,
{
    TryFromFn(function)
}

/// See [`try_from_fn`].
#[derive(Clone, Copy)]
pub struct TryFromFn<F>(F);

impl<F> fmt::Debug for TryFromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TryFromFn")
    }
}

impl<T, F, B, E> Serializer<T> for TryFromFn<F>
where
    T: ?Sized,
    F: Fn(&T) -> Result<B, E> + Send + Sync,
    B: Into<Vec<u8>>,
    E: Into<SerializationError>,
{
    fn serialize<'v>(
        &self,
        value: &'v T,
        _: &mut Context<'_, '_>,
    ) -> Result<Option<Cow<'v, [u8]>>, SerializationError> {
        (self.0)(value).map(|bytes| Some(Cow::Owned(bytes.into()))).map_err(Into::into)
    }
}

/// A deserializer made from a function of the bytes, which may fail. Null is refused; [`nullable`] accepts it.
///
/// ```
/// use kafka_blocking::serialization::{Deserializer, Origin, Part, deserializer_fn};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let digit = deserializer_fn(|bytes| match bytes {
///     [digit @ b'0'..=b'9'] => Ok(digit - b'0'),
///     _ => Err("one digit is expected"),
/// });
/// let headers = kafka_blocking::Headers::new();
/// assert_eq!(digit.deserialize(Some(b"7"), &Origin::new("votes", Part::Value, &headers))?, 7);
/// # Ok(())
/// # }
/// ```
///
/// The function's result owns its data. For a function whose result borrows from the bytes, use
/// `DeserializerFn(function)`.
pub fn deserializer_fn<F, T, E>(function: F) -> DeserializerFn<F>
where
    F: Fn(&[u8]) -> Result<T, E> + Send + Sync,
    E: Into<DeserializationError>,
{
    DeserializerFn(function)
}

/// A function of bytes as a deserializer: see [`deserializer_fn`].
#[derive(Clone, Copy)]
pub struct DeserializerFn<F>(pub F);

impl<F> fmt::Debug for DeserializerFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeserializerFn")
    }
}

impl<'de, F, T, E> Deserializer<'de, T> for DeserializerFn<F>
where
    F: Fn(&'de [u8]) -> Result<T, E> + Send + Sync,
    E: Into<DeserializationError>,
{
    fn deserialize(&self, bytes: Option<&'de [u8]>, _: &Origin<'_>) -> Result<T, DeserializationError> {
        (self.0)(bytes.ok_or(Malformed::Null { wanted: "a value" })?).map_err(Into::into)
    }
}
