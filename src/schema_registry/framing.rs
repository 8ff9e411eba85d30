//! The frame around a value, which names the schema that it was written with.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Recovery, Result};

/// The first byte of every frame.
const MAGIC: u8 = 0;

/// A record's key or value as the serializers of the Confluent Schema Registry frame it: a byte 0, the id of the
/// writer's schema in four bytes, most significant first, and the payload.
///
/// The payload is the value in Avro, with one exception: for the schema `bytes` it is only the bytes, without their
/// length before them, as Java's serializers write and read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed<'a> {
    /// The id of the schema that the payload was written with.
    pub schema_id: u32,
    /// The value, in the format of the schema's type.
    pub payload: &'a [u8],
}

impl<'a> Framed<'a> {
    /// The magic byte and the id.
    pub(super) const HEADER_BYTES: usize = 5;

    /// Splits a frame into its parts.
    ///
    /// *Errors*: [`ErrorKind::Serialization`] if the bytes are too few, do not begin with 0, or hold an id that no
    /// registry assigns. Then they were written by something other than a serializer of a schema registry.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (header, payload) = bytes.split_first_chunk::<{ Framed::HEADER_BYTES }>().ok_or_else(|| {
            malformed(format!("{} bytes are too few for the magic byte and a schema's id", bytes.len()))
        })?;
        let [magic, id @ ..] = *header;
        if magic != MAGIC {
            return Err(malformed(format!(
                "the first byte is {magic}, not 0: a serializer of a schema registry did not write this"
            )));
        }
        let schema_id = u32::from_be_bytes(id);
        if i32::try_from(schema_id).is_err() {
            return Err(malformed(format!("{schema_id} cannot be a schema's id")));
        }
        Ok(Self { schema_id, payload })
    }

    /// The frame in one vector.
    pub fn to_vec(&self) -> Vec<u8> {
        [&Self::header(self.schema_id)[..], self.payload].concat()
    }

    /// The first five bytes of a frame.
    pub fn header(schema_id: u32) -> [u8; 5] {
        let [a, b, c, d] = schema_id.to_be_bytes();
        [MAGIC, a, b, c, d]
    }
}

/// The error of bytes that are no value of a schema.
pub(super) fn malformed(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Serialization, Recovery::Fix, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_zero_the_id_in_four_bytes_and_the_payload() {
        let framed = Framed { schema_id: 0x0102_0304, payload: b"abc" };
        assert_eq!(framed.to_vec(), [0, 1, 2, 3, 4, b'a', b'b', b'c']);
        assert_eq!(Framed::parse(&framed.to_vec()).unwrap(), framed);
        // A payload may be empty: null in Avro.
        assert_eq!(Framed::parse(&[0, 0, 0, 0, 1]).unwrap(), Framed { schema_id: 1, payload: &[] });
    }

    #[test]
    fn what_is_no_frame_is_refused_with_the_reason() {
        for (bytes, reason) in [
            (&b""[..], "0 bytes are too few"),
            (&[0, 0, 0, 1], "4 bytes are too few"),
            (b"{\"a\":1}", "the first byte is 123, not 0"),
            (&[1, 0, 0, 0, 1, 2], "the first byte is 1, not 0"),
            (&[0, 0xff, 0xff, 0xff, 0xff, 2], "4294967295 cannot be a schema's id"),
        ] {
            let error = Framed::parse(bytes).unwrap_err();
            assert_eq!((error.kind(), error.recovery()), (ErrorKind::Serialization, Recovery::Fix));
            assert!(error.to_string().starts_with(reason), "{error}");
        }
    }
}
