//! `messages!`: a message is a table, and everything else follows from it.
//!
//! ```text
//! messages! {
//!     /// What the API is for.
//!     api 0 Produce, versions 3..=13, flexible 9.. => ProduceRequest, ProduceResponse;
//!
//!     /// A structure; its rows are in the order of the wire.
//!     ProduceRequest {
//!         /// name: type, versions that have the field;
//!         acks:     i16,            3..;
//!         /// with a default of its own, and words (the methods of `Row`) for what the schema says besides;
//!         epoch:    i32 = -1,       7.., ignorable;
//!         /// null is not allowed at every version that has the field.
//!         name:     Option<String>, 0.., nullable(10..);
//!     } + tagged {
//!         /// number => and the same columns.
//!         0 => current_leader: LeaderIdAndEpoch, 10..;
//!     }
//! }
//! ```
//!
//! Names, order and versions are those of Kafka's own schemas (`clients/src/main/resources/common/message`). A
//! nullable field without another default is null by default, which in Java some are not.

use std::ops::{RangeFrom, RangeInclusive};

use super::frame::{FrameReader, FrameWriter};
use super::wire::{At, Wire};
use crate::error::{Error, ErrorKind, Recovery, Result};

/// Defines structures and their [`Wire`] implementations, and with an `api` line the
/// [`Request`](super::api::Request). See the module's text for the columns.
macro_rules! messages {
    (
        $(#[$api_meta:meta])*
        api $key:literal $api:ident, versions $versions:expr $(, flexible $flexible:literal ..)?
            => $request:ident, $response:ident;
        $($structures:tt)*
    ) => {
        $(#[$api_meta])*
        impl $crate::protocol::api::Request for $request {
            const KEY: i16 = $key;
            const NAME: &'static str = stringify!($api);
            const VERSIONS: std::ops::RangeInclusive<i16> = $versions;
            const FLEXIBLE: i16 = [$($flexible,)? i16::MAX][0];
            type Response = $response;
        }

        $crate::protocol::schema::messages! { $($structures)* }
    };
    ($(
        $(#[$meta:meta])*
        $name:ident {$(
            $(#[$field_meta:meta])*
            $field:ident: $ty:ty $(= $default:expr)?, $versions:expr $(, $word:ident $(($argument:expr))?)*;
        )*} $(+ tagged {$(
            $(#[$tagged_meta:meta])*
            $tag:literal => $tagged:ident: $tagged_ty:ty $(= $tagged_default:expr)?, $tagged_versions:expr
                $(, $tagged_word:ident $(($tagged_argument:expr))?)*;
        )*})?
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) struct $name {
            $($(#[$field_meta])* pub(crate) $field: $ty,)*
            $($($(#[$tagged_meta])* pub(crate) $tagged: $tagged_ty,)*)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($field: $crate::protocol::schema::or_default!($($default)?),)*
                    $($($tagged: $crate::protocol::schema::or_default!($($tagged_default)?),)*)?
                }
            }
        }

        impl $crate::protocol::wire::Structure for $name {}

        impl $crate::protocol::wire::Wire for $name {
            fn write(
                &self,
                w: &mut $crate::protocol::frame::FrameWriter,
                at: $crate::protocol::wire::At,
            ) -> $crate::error::Result<()> {
                $(
                    $crate::protocol::schema::Row::new(stringify!($name), stringify!($field), $versions)
                        $(.$word($($argument)?))*
                        .write::<$ty>(&self.$field, || $crate::protocol::schema::or_default!($($default)?), w, at)?;
                )*
                let mut tags = $crate::protocol::schema::TagWriter::default();
                $($(
                    $crate::protocol::schema::Row::new(stringify!($name), stringify!($tagged), $tagged_versions)
                        $(.$tagged_word($($tagged_argument)?))*
                        .write_tagged::<$tagged_ty>(
                            $tag,
                            &self.$tagged,
                            || $crate::protocol::schema::or_default!($($tagged_default)?),
                            &mut tags,
                            at,
                        )?;
                )*)?
                tags.finish(w, at)
            }

            fn read(
                r: &mut $crate::protocol::frame::FrameReader<'_>,
                at: $crate::protocol::wire::At,
            ) -> $crate::error::Result<Self> {
                #[allow(unused_mut, reason = "only tagged fields are set later")]
                let mut structure = Self {
                    $($field:
                        $crate::protocol::schema::Row::new(stringify!($name), stringify!($field), $versions)
                            $(.$word($($argument)?))*
                            .read::<$ty>(|| $crate::protocol::schema::or_default!($($default)?), r, at)?,
                    )*
                    $($($tagged: $crate::protocol::schema::or_default!($($tagged_default)?),)*)?
                };
                if at.flexible {
                    for _ in 0..r.take_uvarint()? {
                        // A tag that is not in the table is skipped: the other side may be newer.
                        match r.take_tag()? {
                            $($(($tag, value) => {
                                $crate::protocol::schema::Row::new(
                                    stringify!($name),
                                    stringify!($tagged),
                                    $tagged_versions,
                                )
                                .read_tagged::<$tagged_ty>(&mut structure.$tagged, value, at)?;
                            })*)?
                            _ => {}
                        }
                    }
                }
                Ok(structure)
            }
        }
    )*};
}

/// The default in a row's cell, or the type's.
macro_rules! or_default {
    () => {
        Default::default()
    };
    ($default:expr) => {
        $default
    };
}

pub(crate) use {messages, or_default};

/// What a row says beside the field's type.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    structure: &'static str,
    field: &'static str,
    versions: Versions,
    nullable: Versions,
    ignorable: bool,
}

impl Row {
    #[inline]
    pub(crate) fn new(structure: &'static str, field: &'static str, versions: impl Into<Versions>) -> Self {
        Self { structure, field, versions: versions.into(), nullable: Versions::ALL, ignorable: false }
    }

    /// Word: a value that the version has no place for is dropped in silence.
    #[inline]
    pub(crate) fn ignorable(mut self) -> Self {
        self.ignorable = true;
        self
    }

    /// Word: null is allowed at these versions alone.
    #[inline]
    pub(crate) fn nullable(mut self, versions: impl Into<Versions>) -> Self {
        self.nullable = versions.into();
        self
    }

    #[inline]
    pub(crate) fn write<T: Wire + PartialEq>(
        self,
        value: &T,
        default: impl FnOnce() -> T,
        w: &mut FrameWriter,
        at: At,
    ) -> Result<()> {
        if !self.versions.contains(at.version) {
            return if self.ignorable || *value == default() { Ok(()) } else { Err(self.absent(at)) };
        }
        if value.is_null() && !self.nullable.contains(at.version) {
            return Err(self.not_nullable(at));
        }
        value.write(w, at).map_err(|error| self.fault(&error))
    }

    #[inline]
    pub(crate) fn read<T: Wire>(self, default: impl FnOnce() -> T, r: &mut FrameReader<'_>, at: At) -> Result<T> {
        if !self.versions.contains(at.version) {
            return Ok(default());
        }
        match T::read(r, at) {
            Ok(value) if value.is_null() && !self.nullable.contains(at.version) => {
                Err(self.fault(&Error::misbehaved("it is null, and must not be")))
            }
            Ok(value) => Ok(value),
            Err(error) => Err(self.fault(&error)),
        }
    }

    /// A tagged field is written only where it differs from its default.
    #[inline]
    pub(crate) fn write_tagged<T: Wire + PartialEq>(
        self,
        tag: u32,
        value: &T,
        default: impl FnOnce() -> T,
        tags: &mut TagWriter,
        at: At,
    ) -> Result<()> {
        if *value == default() {
            return Ok(());
        }
        if !(at.flexible && self.versions.contains(at.version)) {
            return if self.ignorable { Ok(()) } else { Err(self.absent(at)) };
        }
        tags.add(tag, value, at).map_err(|error| self.fault(&error))
    }

    /// `value` is all the bytes of the field, and no others.
    pub(crate) fn read_tagged<T: Wire>(self, field: &mut T, mut value: FrameReader<'_>, at: At) -> Result<()> {
        if self.versions.contains(at.version) {
            *field = T::read(&mut value, at)
                .and_then(|read| value.expect_end().map(|()| read))
                .map_err(|error| self.fault(&error))?;
        }
        Ok(())
    }

    #[cold]
    fn fault(self, error: &Error) -> Error {
        Error::new(error.kind(), error.recovery(), format!("{}.{}: {error}", self.structure, self.field))
    }

    #[cold]
    fn absent(self, at: At) -> Error {
        let Self { structure, field, versions, .. } = self;
        let text = format!("{structure}.{field} is set, but version {} does not have it ({versions})", at.version);
        Error::new(ErrorKind::UnsupportedVersion, Recovery::Fix, text)
    }

    #[cold]
    fn not_nullable(self, at: At) -> Error {
        let Self { structure, field, nullable, .. } = self;
        let text = format!("{structure}.{field} is null, which version {} does not allow ({nullable})", at.version);
        Error::new(ErrorKind::UnsupportedVersion, Recovery::Fix, text)
    }
}

/// A range of versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) min: i16,
    pub(crate) max: i16,
}

impl Versions {
    const ALL: Self = Self { min: 0, max: i16::MAX };

    #[inline]
    pub(crate) fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

impl From<RangeFrom<i16>> for Versions {
    #[inline]
    fn from(range: RangeFrom<i16>) -> Self {
        Self { min: range.start, max: i16::MAX }
    }
}

impl From<RangeInclusive<i16>> for Versions {
    #[inline]
    fn from(range: RangeInclusive<i16>) -> Self {
        Self { min: *range.start(), max: *range.end() }
    }
}

impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { min, max } = *self;
        if max == i16::MAX { write!(f, "versions {min} and later") } else { write!(f, "versions {min} to {max}") }
    }
}

/// The tagged fields at the end of a structure: their number stands before them, and their sizes before each.
#[derive(Default)]
pub(crate) struct TagWriter {
    count: u32,
    fields: FrameWriter,
}

impl TagWriter {
    fn add<T: Wire>(&mut self, tag: u32, value: &T, at: At) -> Result<()> {
        let mut bytes = FrameWriter::new();
        value.write(&mut bytes, at)?;
        if !bytes.splices().is_empty() {
            return Err(Error::bug("records in a tagged field"));
        }
        let bytes = bytes.bytes();
        let len = u32::try_from(bytes.len()).map_err(|_| super::frame::too_long("a tagged field", bytes.len()))?;
        self.fields.put_uvarint(tag);
        self.fields.put_uvarint(len);
        self.fields.put(bytes);
        self.count += 1;
        Ok(())
    }

    #[inline]
    pub(crate) fn finish(self, w: &mut FrameWriter, at: At) -> Result<()> {
        if at.flexible {
            w.put_uvarint(self.count);
            w.put(self.fields.bytes());
        }
        Ok(())
    }
}
