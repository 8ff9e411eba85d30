//! The protocol's types, and how each is written and read.

use std::fmt;

use byteorder::{BigEndian, ByteOrder};

use super::frame::{FrameReader, FrameWriter, too_long};
use crate::bytes::SharedBytes;
use crate::error::{Error, Result};

/// What the layout of a field depends on, besides its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    /// The version of the message.
    pub(crate) version: i16,
    /// Whether lengths are compact and structures end with tagged fields (KIP-482).
    pub(crate) flexible: bool,
}

/// A type of the protocol.
pub(crate) trait Wire: Sized {
    /// Appends this value to a frame.
    fn write(&self, w: &mut FrameWriter, at: At) -> Result<()>;

    /// Reads the value that is next in a frame.
    fn read(r: &mut FrameReader<'_>, at: At) -> Result<Self>;

    /// Whether this is the null of a nullable type.
    #[inline]
    fn is_null(&self) -> bool {
        false
    }
}

/// A structure of the protocol, as the tables of [`messages`](super::messages) define them. Only structures implement
/// this; an `Option` of one is the protocol's nullable structure.
pub(crate) trait Structure: Wire {}

impl Wire for i8 {
    #[inline]
    fn write(&self, w: &mut FrameWriter, _: At) -> Result<()> {
        w.put(&[self.cast_unsigned()]);
        Ok(())
    }

    #[inline]
    fn read(r: &mut FrameReader<'_>, _: At) -> Result<Self> {
        let [byte] = r.take_array()?;
        Ok(byte.cast_signed())
    }
}

macro_rules! numbers {
    ($($number:ty: $read:ident),*) => {$(
        impl Wire for $number {
            #[inline]
            fn write(&self, w: &mut FrameWriter, _: At) -> Result<()> {
                // Not with byteorder: the compiler would inline less, and large messages would cost more instructions.
                w.put(&self.to_be_bytes());
                Ok(())
            }

            #[inline]
            fn read(r: &mut FrameReader<'_>, _: At) -> Result<Self> {
                // The array is as long as the number, so byteorder cannot panic.
                Ok(BigEndian::$read(&r.take_array::<{ size_of::<$number>() }>()?))
            }
        }
    )*};
}

numbers!(i16: read_i16, i32: read_i32, i64: read_i64, u16: read_u16, u32: read_u32, f64: read_f64);

impl Wire for bool {
    #[inline]
    fn write(&self, w: &mut FrameWriter, at: At) -> Result<()> {
        i8::from(*self).write(w, at)
    }

    #[inline]
    fn read(r: &mut FrameReader<'_>, at: At) -> Result<Self> {
        // Any other number is true, as in Java.
        Ok(i8::read(r, at)? != 0)
    }
}

/// A topic's id (KIP-516). All zero means no id.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Uuid(pub(crate) [u8; 16]);

impl Uuid {
    /// Whether this stands for no id.
    pub(crate) fn is_zero(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl Wire for Uuid {
    #[inline]
    fn write(&self, w: &mut FrameWriter, _: At) -> Result<()> {
        w.put(&self.0);
        Ok(())
    }

    #[inline]
    fn read(r: &mut FrameReader<'_>, _: At) -> Result<Self> {
        Ok(Self(r.take_array()?))
    }
}

/// The length of a string: an i16, or compact. `None` is null.
#[inline]
fn write_string_len(len: Option<usize>, w: &mut FrameWriter, at: At) -> Result<()> {
    if at.flexible {
        return write_compact_len(len, w);
    }
    let len = match len {
        Some(len) => i16::try_from(len).map_err(|_| too_long("a string", len))?,
        None => -1,
    };
    len.write(w, at)
}

#[inline]
fn read_string_len(r: &mut FrameReader<'_>, at: At) -> Result<Option<usize>> {
    if at.flexible { read_compact_len(r) } else { classic_len(i16::read(r, at)?.into()) }
}

/// The length of bytes, or the count of an array: an i32, or compact. `None` is null.
#[inline]
fn write_len(len: Option<usize>, w: &mut FrameWriter, at: At) -> Result<()> {
    if at.flexible {
        return write_compact_len(len, w);
    }
    let len = match len {
        Some(len) => i32::try_from(len).map_err(|_| too_long("a field", len))?,
        None => -1,
    };
    len.write(w, at)
}

#[inline]
fn read_len(r: &mut FrameReader<'_>, at: At) -> Result<Option<usize>> {
    if at.flexible { read_compact_len(r) } else { classic_len(i32::read(r, at)?) }
}

/// The compact form: an unsigned varint, one more than the length, 0 for null.
#[inline]
fn write_compact_len(len: Option<usize>, w: &mut FrameWriter) -> Result<()> {
    let len = match len {
        // Java's lengths are i32.
        Some(len) => i32::try_from(len).map_err(|_| too_long("a field", len))?.unsigned_abs() + 1,
        None => 0,
    };
    w.put_uvarint(len);
    Ok(())
}

#[inline]
fn read_compact_len(r: &mut FrameReader<'_>) -> Result<Option<usize>> {
    let len = r.take_uvarint()?.checked_sub(1);
    // A length that does not fit a usize is larger than any frame.
    Ok(len.map(|len| usize::try_from(len).unwrap_or(usize::MAX)))
}

#[inline]
fn classic_len(len: i32) -> Result<Option<usize>> {
    match usize::try_from(len) {
        Ok(len) => Ok(Some(len)),
        Err(_) if len == -1 => Ok(None),
        Err(_) => Err(Error::misbehaved(format!("the length is {len}"))),
    }
}

/// The error of a null that is not allowed.
#[cold]
pub(super) fn null() -> Error {
    Error::misbehaved("it is null, which is not allowed")
}

#[inline]
fn read_string(len: usize, r: &mut FrameReader<'_>) -> Result<String> {
    match std::str::from_utf8(r.take(len)?) {
        Ok(text) => Ok(text.to_owned()),
        Err(fault) => Err(Error::misbehaved(format!("a string is not UTF-8: {fault}"))),
    }
}

impl Wire for String {
    #[inline]
    fn write(&self, w: &mut FrameWriter, at: At) -> Result<()> {
        write_string_len(Some(self.len()), w, at)?;
        w.put(self.as_bytes());
        Ok(())
    }

    #[inline]
    fn read(r: &mut FrameReader<'_>, at: At) -> Result<Self> {
        let len = read_string_len(r, at)?.ok_or_else(null)?;
        read_string(len, r)
    }
}

impl Wire for Option<String> {
    #[inline]
    fn write(&self, w: &mut FrameWriter, at: At) -> Result<()> {
        match self {
            Some(string) => string.write(w, at),
            None => write_string_len(None, w, at),
        }
    }

    #[inline]
    fn read(r: &mut FrameReader<'_>, at: At) -> Result<Self> {
        read_string_len(r, at)?.map(|len| read_string(len, r)).transpose()
    }

    fn is_null(&self) -> bool {
        self.is_none()
    }
}

impl Wire for SharedBytes {
    fn write(&self, w: &mut FrameWriter, at: At) -> Result<()> {
        write_len(Some(self.len()), w, at)?;
        w.put(self);
        Ok(())
    }

    fn read(r: &mut FrameReader<'_>, at: At) -> Result<Self> {
        let len = read_len(r, at)?.ok_or_else(null)?;
        r.take_shared(len)
    }
}

impl Wire for Option<SharedBytes> {
    fn write(&self, w: &mut FrameWriter, at: At) -> Result<()> {
        match self {
            Some(bytes) => bytes.write(w, at),
            None => write_len(None, w, at),
        }
    }

    fn read(r: &mut FrameReader<'_>, at: At) -> Result<Self> {
        read_len(r, at)?.map(|len| r.take_shared(len)).transpose()
    }

    fn is_null(&self) -> bool {
        self.is_none()
    }
}

/// Record batches in a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Records {
    /// No records: null.
    #[default]
    Null,
    /// The bytes, as a part of the frame that they were read from.
    Inline(SharedBytes),
    /// This many bytes that are elsewhere. The sender of the frame puts them in their place. Never the result of
    /// reading.
    Spliced(usize),
}

impl Wire for Records {
    #[inline]
    fn write(&self, w: &mut FrameWriter, at: At) -> Result<()> {
        match self {
            Self::Null => write_len(None, w, at),
            Self::Inline(bytes) => bytes.write(w, at),
            Self::Spliced(len) => {
                write_len(Some(*len), w, at)?;
                w.splice(*len);
                Ok(())
            }
        }
    }

    #[inline]
    fn read(r: &mut FrameReader<'_>, at: At) -> Result<Self> {
        Ok(Option::<SharedBytes>::read(r, at)?.map_or(Self::Null, Self::Inline))
    }

    fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

fn write_items<T: Wire>(items: &[T], w: &mut FrameWriter, at: At) -> Result<()> {
    write_len(Some(items.len()), w, at)?;
    items.iter().try_for_each(|item| item.write(w, at))
}

fn read_items<T: Wire>(count: usize, r: &mut FrameReader<'_>, at: At) -> Result<Vec<T>> {
    let remaining = r.remaining();
    // Each item has at least one byte.
    if count > remaining {
        return Err(Error::misbehaved(format!("{count} items are announced, {remaining} bytes are left")));
    }
    // Reserved at once, so that no vector grows beyond the memory that was counted.
    r.claim(count, size_of::<T>())?;
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        items.push(T::read(r, at)?);
    }
    Ok(items)
}

impl<T: Wire> Wire for Vec<T> {
    fn write(&self, w: &mut FrameWriter, at: At) -> Result<()> {
        write_items(self, w, at)
    }

    fn read(r: &mut FrameReader<'_>, at: At) -> Result<Self> {
        let count = read_len(r, at)?.ok_or_else(null)?;
        read_items(count, r, at)
    }
}

impl<T: Wire> Wire for Option<Vec<T>> {
    fn write(&self, w: &mut FrameWriter, at: At) -> Result<()> {
        match self {
            Some(items) => write_items(items, w, at),
            None => write_len(None, w, at),
        }
    }

    fn read(r: &mut FrameReader<'_>, at: At) -> Result<Self> {
        read_len(r, at)?.map(|count| read_items(count, r, at)).transpose()
    }

    fn is_null(&self) -> bool {
        self.is_none()
    }
}

/// A nullable structure: a byte that is negative for null, and the structure.
impl<T: Structure> Wire for Option<T> {
    fn write(&self, w: &mut FrameWriter, at: At) -> Result<()> {
        match self {
            Some(structure) => {
                1i8.write(w, at)?;
                structure.write(w, at)
            }
            None => (-1i8).write(w, at),
        }
    }

    fn read(r: &mut FrameReader<'_>, at: At) -> Result<Self> {
        if i8::read(r, at)? < 0 { Ok(None) } else { T::read(r, at).map(Some) }
    }

    fn is_null(&self) -> bool {
        self.is_none()
    }
}
