//! The formats of Java's serializers.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Context, DeserializationError, Deserializer, Malformed, Origin, SerializationError, Serializer};

/// The bytes that Java's serializer of the type writes, so that Java's consumers read them with the deserializer of
/// the same name:
///
/// | here | in Java | bytes |
/// |---|---|---|
/// | `str`, `String`, `Box<str>`, `Arc<str>` | `StringSerializer` | UTF-8 |
/// | `[u8]`, `Vec<u8>`, `[u8; N]` | `ByteArraySerializer`, `BytesSerializer`, `ByteBufferSerializer` | as they are |
/// | `i16`, `i32`, `i64` | `ShortSerializer`, `IntegerSerializer`, `LongSerializer` | 2, 4, 8, the highest first |
/// | `f32`, `f64` | `FloatSerializer`, `DoubleSerializer` | 4, 8 of IEEE 754, the highest first |
/// | `bool` | `BooleanSerializer` | 0 or 1 |
/// | `()` | `VoidSerializer` | null |
/// | `Option` of one of them | the same, which write null for null | null, or as above |
///
/// References to these are accepted, too. For UUIDs there is [`uuid()`].
///
/// It reads the same types, and also `&str` and `&[u8]`, which are the record's own bytes without a copy. Reading is
/// stricter than in Java in one point: bytes that are not UTF-8 are an error, while Java's `StringDeserializer`
/// replaces them with U+FFFD. Null is an error except for `()` and `Option`.
///
/// ```
/// use kafka_blocking::serialization::{Deserializer, Origin, Part, java};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let headers = kafka_blocking::Headers::new();
/// let origin = Origin::new("counts", Part::Value, &headers);
/// let count: i32 = java().deserialize(Some(&[0, 0, 1, 2]), &origin)?;
/// assert_eq!(count, 258);
/// let error = Deserializer::<i32>::deserialize(&java(), Some(&[1, 2]), &origin).unwrap_err();
/// assert_eq!(error.to_string(), "an i32 is expected, in 4 bytes, and 2 were found");
/// # Ok(())
/// # }
/// ```
///
/// The [partitioner](crate::partitioner) of the same name puts these keys into the partitions in which Java puts them.
pub const fn java() -> Java {
    Java
}

/// See [`java()`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Java;

type Serialized<'v> = Result<Option<Cow<'v, [u8]>>, SerializationError>;
type Deserialized<T> = Result<T, DeserializationError>;

impl<T: ?Sized> Serializer<&T> for Java
where
    Self: Serializer<T>,
{
    fn serialize<'v>(&self, value: &'v &T, context: &mut Context<'_, '_>) -> Serialized<'v> {
        self.serialize(*value, context)
    }
}

impl<T> Serializer<Option<T>> for Java
where
    Self: Serializer<T>,
{
    fn serialize<'v>(&self, value: &'v Option<T>, context: &mut Context<'_, '_>) -> Serialized<'v> {
        match value {
            Some(value) => self.serialize(value, context),
            None => Ok(None),
        }
    }
}

impl<'de, T> Deserializer<'de, Option<T>> for Java
where
    Self: Deserializer<'de, T>,
{
    fn deserialize(&self, bytes: Option<&'de [u8]>, origin: &Origin<'_>) -> Deserialized<Option<T>> {
        bytes.map(|_| self.deserialize(bytes, origin)).transpose()
    }
}

/// The types whose bytes are borrowed.
macro_rules! borrowed {
    ($($type:ty: $bytes:expr),* $(,)?) => {
        $(impl Serializer<$type> for Java {
            fn serialize<'v>(&self, value: &'v $type, _: &mut Context<'_, '_>) -> Serialized<'v> {
                let bytes: fn(&$type) -> &[u8] = $bytes;
                Ok(Some(Cow::Borrowed(bytes(value))))
            }
        })*
    };
}

borrowed!(
    str: str::as_bytes,
    String: |text| text.as_bytes(),
    Box<str>: |text| text.as_bytes(),
    Arc<str>: |text| text.as_bytes(),
    [u8]: |bytes| bytes,
    Vec<u8>: |bytes| bytes,
);

impl<const N: usize> Serializer<[u8; N]> for Java {
    fn serialize<'v>(&self, value: &'v [u8; N], _: &mut Context<'_, '_>) -> Serialized<'v> {
        Ok(Some(Cow::Borrowed(value)))
    }
}

fn read_text(bytes: Option<&[u8]>) -> Deserialized<&str> {
    let bytes = bytes.ok_or(Malformed::Null { wanted: "a text" })?;
    Ok(std::str::from_utf8(bytes).map_err(Malformed::Utf8)?)
}

impl<'de> Deserializer<'de, &'de str> for Java {
    fn deserialize(&self, bytes: Option<&'de [u8]>, _: &Origin<'_>) -> Deserialized<&'de str> {
        read_text(bytes)
    }
}

macro_rules! text {
    ($($type:ty),*) => {
        $(impl Deserializer<'_, $type> for Java {
            fn deserialize(&self, bytes: Option<&[u8]>, _: &Origin<'_>) -> Deserialized<$type> {
                read_text(bytes).map(Into::into)
            }
        })*
    };
}

text!(String, Box<str>, Arc<str>);

impl<'de> Deserializer<'de, &'de [u8]> for Java {
    fn deserialize(&self, bytes: Option<&'de [u8]>, _: &Origin<'_>) -> Deserialized<&'de [u8]> {
        Ok(bytes.ok_or(Malformed::Null { wanted: "a value of bytes" })?)
    }
}

impl Deserializer<'_, Vec<u8>> for Java {
    fn deserialize(&self, bytes: Option<&[u8]>, origin: &Origin<'_>) -> Deserialized<Vec<u8>> {
        self.deserialize(bytes, origin).map(<[u8]>::to_vec)
    }
}

/// The bytes of a type that always has `N` of them.
fn fixed<const N: usize>(bytes: Option<&[u8]>, wanted: &'static str) -> Result<[u8; N], Malformed> {
    let bytes = bytes.ok_or(Malformed::Null { wanted })?;
    bytes.try_into().map_err(|_| Malformed::Length { wanted, expected: N, found: bytes.len() })
}

macro_rules! integers {
    ($($type:ty: $wanted:literal),*) => {
        $(impl Serializer<$type> for Java {
            fn serialize<'v>(&self, value: &'v $type, _: &mut Context<'_, '_>) -> Serialized<'v> {
                Ok(Some(Cow::Owned(value.to_be_bytes().to_vec())))
            }
        }

        impl Deserializer<'_, $type> for Java {
            fn deserialize(&self, bytes: Option<&[u8]>, _: &Origin<'_>) -> Deserialized<$type> {
                Ok(<$type>::from_be_bytes(fixed(bytes, $wanted)?))
            }
        })*
    };
}

integers!(i16: "an i16", i32: "an i32", i64: "an i64");

impl Serializer<f32> for Java {
    fn serialize<'v>(&self, value: &'v f32, _: &mut Context<'_, '_>) -> Serialized<'v> {
        Ok(Some(Cow::Owned(value.to_be_bytes().to_vec())))
    }
}

impl Deserializer<'_, f32> for Java {
    fn deserialize(&self, bytes: Option<&[u8]>, _: &Origin<'_>) -> Deserialized<f32> {
        Ok(f32::from_be_bytes(fixed(bytes, "an f32")?))
    }
}

/// The one NaN that Java's `DoubleSerializer` writes for all (`Double.doubleToLongBits`); its `FloatSerializer` keeps
/// the bits of each.
const NAN: u64 = 0x7ff8_0000_0000_0000;

impl Serializer<f64> for Java {
    fn serialize<'v>(&self, value: &'v f64, _: &mut Context<'_, '_>) -> Serialized<'v> {
        let bits = if value.is_nan() { NAN } else { value.to_bits() };
        Ok(Some(Cow::Owned(bits.to_be_bytes().to_vec())))
    }
}

impl Deserializer<'_, f64> for Java {
    fn deserialize(&self, bytes: Option<&[u8]>, _: &Origin<'_>) -> Deserialized<f64> {
        Ok(f64::from_be_bytes(fixed(bytes, "an f64")?))
    }
}

impl Serializer<bool> for Java {
    fn serialize<'v>(&self, value: &'v bool, _: &mut Context<'_, '_>) -> Serialized<'v> {
        Ok(Some(Cow::Borrowed(if *value { &[1] } else { &[0] })))
    }
}

impl Deserializer<'_, bool> for Java {
    fn deserialize(&self, bytes: Option<&[u8]>, _: &Origin<'_>) -> Deserialized<bool> {
        match fixed(bytes, "a bool")? {
            [0] => Ok(false),
            [1] => Ok(true),
            [found] => Err(Malformed::Bool { found }.into()),
        }
    }
}

impl Serializer<()> for Java {
    fn serialize<'v>(&self, (): &'v (), _: &mut Context<'_, '_>) -> Serialized<'v> {
        Ok(None)
    }
}

impl Deserializer<'_, ()> for Java {
    fn deserialize(&self, bytes: Option<&[u8]>, _: &Origin<'_>) -> Deserialized<()> {
        match bytes {
            None => Ok(()),
            // Java refuses even an empty value.
            Some(bytes) => Err(Malformed::Length { wanted: "null", expected: 0, found: bytes.len() }.into()),
        }
    }
}

/// UUIDs as Java's `UUIDSerializer` writes them: 36 characters, in lower case, `123e4567-e89b-12d3-a456-426614174000`.
/// A UUID is a `u128` or its 16 bytes, the highest first. (The type of the crate `uuid` is displayed in this form, so
/// [`text()`](super::text) does the same for it.) Upper case is accepted when reading.
pub const fn uuid() -> UuidText {
    UuidText
}

/// See [`uuid()`].
#[derive(Clone, Copy, Debug, Default)]
pub struct UuidText;

fn write_uuid(uuid: u128) -> Vec<u8> {
    let mut text = format!("{uuid:032x}");
    for place in [20, 16, 12, 8] {
        text.insert(place, '-');
    }
    text.into_bytes()
}

fn read_uuid(bytes: Option<&[u8]>) -> Result<u128, Malformed> {
    let bytes: [u8; 36] = fixed(bytes, "a UUID")?;
    let mut uuid = 0_u128;
    for (place, byte) in bytes.into_iter().enumerate() {
        let hyphen = matches!(place, 8 | 13 | 18 | 23);
        match char::from(byte).to_digit(16) {
            Some(digit) if !hyphen => uuid = (uuid << 4) | u128::from(digit),
            None if hyphen && byte == b'-' => {}
            _ => return Err(Malformed::Uuid),
        }
    }
    Ok(uuid)
}

impl Serializer<u128> for UuidText {
    fn serialize<'v>(&self, value: &'v u128, _: &mut Context<'_, '_>) -> Serialized<'v> {
        Ok(Some(Cow::Owned(write_uuid(*value))))
    }
}

impl Serializer<[u8; 16]> for UuidText {
    fn serialize<'v>(&self, value: &'v [u8; 16], _: &mut Context<'_, '_>) -> Serialized<'v> {
        Ok(Some(Cow::Owned(write_uuid(u128::from_be_bytes(*value)))))
    }
}

impl Deserializer<'_, u128> for UuidText {
    fn deserialize(&self, bytes: Option<&[u8]>, _: &Origin<'_>) -> Deserialized<u128> {
        Ok(read_uuid(bytes)?)
    }
}

impl Deserializer<'_, [u8; 16]> for UuidText {
    fn deserialize(&self, bytes: Option<&[u8]>, _: &Origin<'_>) -> Deserialized<[u8; 16]> {
        Ok(read_uuid(bytes)?.to_be_bytes())
    }
}
