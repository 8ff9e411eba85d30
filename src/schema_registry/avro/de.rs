//! Makes the program's own types from Avro's values, with serde.
//!
//! It does this like `apache_avro`, except for three things, because values come from strangers. The errors of
//! `apache_avro` quote the value, once more at each union, with the quotes of the inner text escaped, so that the error
//! of a short record may have gigabytes. It writes out the zeros of a decimal, whatever the scale, even for a field
//! that the type does not have. And it shows what may be secret. Here an error says what kind of value was found, and
//! does not show the value.

use std::collections::hash_map;
use std::fmt::{self, Display, Write as _};
use std::slice;

use apache_avro::BigDecimal;
use apache_avro::types::Value;
use serde_core::de::value::BorrowedStrDeserializer;
use serde_core::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde_core::forward_to_deserialize_any;

/// How many characters of an error are kept.
const MAX_ERROR: usize = 300;
/// How many zeros that are not among its digits the text of a decimal may have. With more, the text is in scientific
/// notation.
const MAX_ZEROS: u64 = 1_000;
/// The most bytes of digits of a decimal from which a text is made: the time for it grows with their square.
const MAX_DIGITS_BYTES: u64 = 4_096;

/// The value as one of the program's own types.
pub(super) fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, Misfit> {
    T::deserialize(ValueDeserializer(value))
}

/// Why a value does not fit a type, as the end of a sentence. It shows names and kinds, but nothing of the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Misfit(String);

impl Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misfit {}

/// The displayed text, cut to [`MAX_ERROR`] characters. The rest is not even formatted.
pub(super) fn bounded(shown: impl Display) -> String {
    struct Room(String, usize);
    impl fmt::Write for Room {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for c in text.chars() {
                self.1 = self.1.checked_sub(1).ok_or(fmt::Error)?;
                self.0.push(c);
            }
            Ok(())
        }
    }
    let mut room = Room(String::new(), MAX_ERROR);
    if write!(room, "{shown}").is_err() {
        room.0.push('…');
    }
    room.0
}

impl de::Error for Misfit {
    fn custom<T: Display>(message: T) -> Self {
        Self(bounded(message))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("{} was found, and {expected} is expected", described(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("{} was found that is not {expected}", described(found)))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!("a symbol was found that is none of {expected:?}"))
    }
}

/// The kind of what serde found, without its content.
fn described(found: Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
        Unexpected::Float(_) => "a floating point number",
        Unexpected::Char(_) | Unexpected::Str(_) => "a string",
        Unexpected::Bytes(_) => "bytes",
        Unexpected::Unit => "null",
        Unexpected::Option => "an optional value",
        Unexpected::NewtypeStruct => "a value in another",
        Unexpected::Seq => "an array",
        Unexpected::Map => "a map or record",
        _ => "another kind of value",
    }
}

/// A value that is being read.
#[derive(Clone, Copy)]
struct ValueDeserializer<'de>(&'de Value);

impl<'de> ValueDeserializer<'de> {
    /// The value in a union; any other value itself. No union is directly in another.
    fn inner(self) -> &'de Value {
        if let Value::Union(_, inner) = self.0 { inner } else { self.0 }
    }

    fn misfit(self, expected: &str) -> Misfit {
        let found = match self.inner() {
            Value::Null => "null",
            Value::Boolean(_) => "a boolean",
            Value::Int(_) => "an int",
            Value::Long(_) => "a long",
            Value::Float(_) => "a float",
            Value::Double(_) => "a double",
            Value::Bytes(_) => "bytes",
            Value::String(_) => "a string",
            Value::Fixed(..) => "a fixed",
            Value::Enum(..) => "a symbol of an enumeration",
            Value::Union(..) => "a union in a union",
            Value::Array(_) => "an array",
            Value::Map(_) => "a map",
            Value::Record(_) => "a record",
            Value::Date(_) => "a date",
            Value::Decimal(_) => "a decimal",
            Value::BigDecimal(_) => "a big-decimal",
            Value::TimeMillis(_) | Value::TimeMicros(_) => "a time",
            Value::TimestampMillis(_)
            | Value::TimestampMicros(_)
            | Value::TimestampNanos(_)
            | Value::LocalTimestampMillis(_)
            | Value::LocalTimestampMicros(_)
            | Value::LocalTimestampNanos(_) => "a timestamp",
            Value::Duration(_) => "a duration",
            Value::Uuid(_) => "a uuid",
        };
        Misfit(format!("{found} was found, and {expected} is expected"))
    }

    fn integer(self) -> Option<i64> {
        match *self.inner() {
            Value::Int(number) | Value::Date(number) | Value::TimeMillis(number) => Some(number.into()),
            Value::Long(number)
            | Value::TimeMicros(number)
            | Value::TimestampMillis(number)
            | Value::TimestampMicros(number)
            | Value::TimestampNanos(number)
            | Value::LocalTimestampMillis(number)
            | Value::LocalTimestampMicros(number)
            | Value::LocalTimestampNanos(number) => Some(number),
            _ => None,
        }
    }

    /// The bytes of a `fixed` of `N` bytes. As such the serializer writes the integer types that Avro does not have.
    fn fixed<const N: usize>(self) -> Option<[u8; N]> {
        if let Value::Fixed(_, bytes) = self.inner() { bytes.as_slice().try_into().ok() } else { None }
    }

    /// The bytes of a value that does not hold them in this form.
    fn converted_bytes(self) -> Result<Option<Vec<u8>>, Misfit> {
        Ok(Some(match self.inner() {
            Value::Uuid(uuid) => uuid.as_bytes().to_vec(),
            Value::Decimal(decimal) => decimal_bytes(decimal)?,
            Value::BigDecimal(decimal) => big_decimal_bytes(decimal),
            Value::Duration(duration) => <[u8; 12]>::from(*duration).to_vec(),
            _ => return Ok(None),
        }))
    }

    fn borrowed_bytes(self) -> Option<&'de [u8]> {
        match self.inner() {
            Value::String(text) => Some(text.as_bytes()),
            Value::Bytes(bytes) | Value::Fixed(_, bytes) => Some(bytes),
            _ => None,
        }
    }
}

fn decimal_bytes(decimal: &apache_avro::Decimal) -> Result<Vec<u8>, Misfit> {
    Vec::try_from(decimal).map_err(|_| Misfit("a decimal was found that has no bytes".to_owned()))
}

/// The bytes as in Avro: the length of the digits, the digits, and the scale.
fn big_decimal_bytes(decimal: &BigDecimal) -> Vec<u8> {
    fn long(number: i64, bytes: &mut Vec<u8>) {
        let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
        while let Ok(1_u8..) = u8::try_from((rest >> 7).min(1)) {
            bytes.push(u8::try_from(rest & 0x7f).unwrap_or_default() | 0x80);
            rest >>= 7;
        }
        bytes.push(u8::try_from(rest).unwrap_or_default());
    }
    let (digits, scale) = decimal.as_bigint_and_exponent();
    let digits = digits.to_signed_bytes_be();
    let mut bytes = Vec::with_capacity(digits.len() + 12);
    long(i64::try_from(digits.len()).unwrap_or(i64::MAX), &mut bytes);
    bytes.extend(digits);
    long(scale, &mut bytes);
    bytes
}

fn big_decimal_text(decimal: &BigDecimal) -> Result<String, Misfit> {
    let (digits, scale) = decimal.as_bigint_and_exponent();
    if digits.bits() > MAX_DIGITS_BYTES * 8 {
        return Err(Misfit(format!("a big-decimal of more than {MAX_DIGITS_BYTES} bytes has no text here")));
    }
    let zeros_at_most = scale.unsigned_abs();
    Ok(if zeros_at_most <= MAX_ZEROS { decimal.to_plain_string() } else { decimal.to_scientific_notation() })
}

impl<'de> Deserializer<'de> for ValueDeserializer<'de> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if let Some(number) = self.integer() {
            return match self.inner() {
                Value::Int(number) | Value::Date(number) | Value::TimeMillis(number) => visitor.visit_i32(*number),
                _ => visitor.visit_i64(number),
            };
        }
        match self.inner() {
            Value::Null => visitor.visit_unit(),
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Float(number) => visitor.visit_f32(*number),
            Value::Double(number) => visitor.visit_f64(*number),
            Value::String(text) | Value::Enum(_, text) => visitor.visit_borrowed_str(text),
            Value::Uuid(uuid) => visitor.visit_string(uuid.to_string()),
            Value::BigDecimal(decimal) => visitor.visit_string(big_decimal_text(decimal)?),
            Value::Bytes(_) | Value::Fixed(..) | Value::Decimal(_) | Value::Duration(_) => {
                self.deserialize_bytes(visitor)
            }
            Value::Array(items) => visitor.visit_seq(Items(items.iter())),
            Value::Map(items) => visitor.visit_map(Entries { rest: items.iter(), value: None }),
            Value::Record(fields) => visitor.visit_map(FieldsOf { rest: fields.iter(), value: None }),
            _ => Err(self.misfit("another value")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 f32 f64
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if let Some(bytes) = self.fixed() {
            return visitor.visit_u64(u64::from_le_bytes(bytes));
        }
        let number = self.integer().and_then(|number| u64::try_from(number).ok());
        visitor.visit_u64(number.ok_or_else(|| self.misfit("a number from 0, or a fixed of 8 bytes,"))?)
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if let Some(bytes) = self.fixed() {
            return visitor.visit_u128(u128::from_le_bytes(bytes));
        }
        let number = self.integer().and_then(|number| u128::try_from(number).ok());
        visitor.visit_u128(number.ok_or_else(|| self.misfit("a number from 0, or a fixed of 16 bytes,"))?)
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if let Some(bytes) = self.fixed() {
            return visitor.visit_i128(i128::from_le_bytes(bytes));
        }
        let number = self.integer();
        visitor.visit_i128(number.ok_or_else(|| self.misfit("a number, or a fixed of 16 bytes,"))?.into())
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if let Some(bytes) = self.fixed() {
            let c = char::from_u32(u32::from_le_bytes(bytes));
            return visitor.visit_char(c.ok_or_else(|| self.misfit("a character"))?);
        }
        let text = match self.inner() {
            Value::String(text) => Some(text.as_str()),
            Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        };
        let mut characters = text.unwrap_or_default().chars();
        match (characters.next(), characters.next()) {
            (Some(c), None) => visitor.visit_char(c),
            _ => Err(self.misfit("a string of one character")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.inner() {
            Value::Enum(_, text) => visitor.visit_borrowed_str(text),
            Value::Uuid(uuid) => visitor.visit_string(uuid.to_string()),
            Value::BigDecimal(decimal) => visitor.visit_string(big_decimal_text(decimal)?),
            _ => {
                let text = self.borrowed_bytes().and_then(|bytes| std::str::from_utf8(bytes).ok());
                visitor.visit_borrowed_str(text.ok_or_else(|| self.misfit("a string in UTF-8"))?)
            }
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match (self.borrowed_bytes(), self.converted_bytes()?) {
            (Some(bytes), _) => visitor.visit_borrowed_bytes(bytes),
            (None, Some(bytes)) => visitor.visit_byte_buf(bytes),
            // Some types accept an array of small numbers as bytes.
            (None, None) if matches!(self.inner(), Value::Array(_)) => self.deserialize_seq(visitor),
            (None, None) => Err(self.misfit("a value of bytes")),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.inner() {
            Value::Null => visitor.visit_none(),
            inner => visitor.visit_some(ValueDeserializer(inner)),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.inner() {
            Value::Null => visitor.visit_unit(),
            _ => Err(self.misfit("null")),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match (self.0, self.inner()) {
            (_, Value::Array(items)) => visitor.visit_seq(Items(items.iter())),
            (Value::Union(..), Value::Null) => visitor.visit_seq(Items([].iter())),
            _ => Err(self.misfit("an array")),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.inner() {
            Value::Map(_) | Value::Record(_) => self.deserialize_any(visitor),
            _ => Err(self.misfit("a map or record")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match (self.0, self.inner()) {
            (_, Value::Record(fields)) => visitor.visit_map(FieldsOf { rest: fields.iter(), value: None }),
            (Value::Union(..), Value::Null) => visitor.visit_map(FieldsOf { rest: [].iter(), value: None }),
            _ => Err(self.misfit("a record")),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::String(symbol) | Value::Enum(_, symbol) => {
                visitor.visit_enum(Variant { name: symbol, content: None, branch: false })
            }
            // The branches of the union are the variants, in the same order.
            Value::Union(index, inner) => {
                let name = usize::try_from(*index).ok().and_then(|index| variants.get(index).copied());
                let name =
                    name.ok_or_else(|| Misfit(format!("the type has no variant for branch {index} of a union")))?;
                visitor.visit_enum(Variant { name, content: Some(inner), branch: true })
            }
            // The record holds the variant's name, and its content.
            Value::Record(fields) => match fields.as_slice() {
                [(kind, Value::String(name) | Value::Enum(_, name)), rest @ ..] if kind == "type" => {
                    let content = rest.first().map(|(_, content)| content);
                    visitor.visit_enum(Variant { name, content, branch: false })
                }
                _ => Err(self.misfit("a record whose first field is \"type\", with a variant's name,")),
            },
            _ => Err(self.misfit("a variant")),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    /// The value is ignored, so nothing is made from it.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

struct Items<'de>(slice::Iter<'de, Value>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        self.0.next().map(|item| seed.deserialize(ValueDeserializer(item))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Entries<'de> {
    rest: hash_map::Iter<'de, String, Value>,
    value: Option<&'de Value>,
}

struct FieldsOf<'de> {
    rest: slice::Iter<'de, (String, Value)>,
    value: Option<(&'de str, &'de Value)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(BorrowedStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let value = self.value.take().ok_or_else(|| Misfit("a type asks for a value without its key".to_owned()))?;
        seed.deserialize(ValueDeserializer(value))
    }
}

impl<'de> MapAccess<'de> for FieldsOf<'de> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        let Some((name, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some((name, value));
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let (name, value) =
            self.value.take().ok_or_else(|| Misfit("a type asks for a value without its key".to_owned()))?;
        seed.deserialize(ValueDeserializer(value))
            .map_err(|Misfit(fault)| Misfit(bounded(format_args!("{name}: {fault}"))))
    }
}

/// A variant: its name, and its content.
struct Variant<'de> {
    name: &'de str,
    content: Option<&'de Value>,
    /// Whether it comes from a branch of a union, not from a symbol.
    branch: bool,
}

impl<'de> Variant<'de> {
    fn content(&self) -> Result<ValueDeserializer<'de>, Misfit> {
        self.content.map(ValueDeserializer).ok_or_else(|| Misfit("a variant without content was found".to_owned()))
    }
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Misfit;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Misfit> {
        Ok((seed.deserialize(BorrowedStrDeserializer::new(self.name))?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        match self.content {
            // A branch with a value in it cannot be a variant without content.
            Some(value) if self.branch && *value != Value::Null => Err(ValueDeserializer(value).misfit("null")),
            _ => Ok(()),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Misfit> {
        seed.deserialize(self.content()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Misfit> {
        self.content()?.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Misfit> {
        self.content()?.deserialize_struct("", fields, visitor)
    }
}
