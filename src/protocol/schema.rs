//! `messages!`: a message is a table, from which everything else is generated.
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
//! Names, order and versions are those of Kafka's own schemas (`clients/src/main/resources/common/message`). A nullable
//! field without another default is null by default; in Java some of them are not.

use std::ops::{RangeFrom, RangeInclusive};

use super::frame::{FrameReader, FrameWriter, too_long};
use super::wire::{At, Wire, null};
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
            $field:ident: $ty:ty $(= $default:expr)?, $versions:expr $(, $word:ident $(($arg:expr))?)*;
        )*} $(+ tagged {$(
            $(#[$tagged_meta:meta])*
            $tag:literal => $tagged:ident: $tagged_ty:ty $(= $tagged_default:expr)?, $tagged_versions:expr
                $(, $tagged_word:ident $(($tagged_arg:expr))?)*;
        )*})?
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) struct $name {
            $($(#[$field_meta])* pub(crate) $field: $ty,)*
            $($($(#[$tagged_meta])* pub(crate) $tagged: $tagged_ty,)*)?
        }

        const _: () = {
            use $crate::error::Result;
            use $crate::protocol::frame::{FrameReader, FrameWriter};
            use $crate::protocol::schema::{TagWriter, row};
            use $crate::protocol::wire::{At, Structure, Wire};

            /// A function for each row.
            struct Rows;
            impl Rows {
                $(row! { $name.$field: $ty $(= $default)?, $versions $(, $word $(($arg))?)* })*
                $($(row! {
                    $name.$tagged: $tagged_ty $(= $tagged_default)?, $tagged_versions
                        $(, $tagged_word $(($tagged_arg))?)*
                })*)?
            }

            impl Default for $name {
                fn default() -> Self {
                    Self {
                        $($field: Rows::$field().default(),)*
                        $($($tagged: Rows::$tagged().default(),)*)?
                    }
                }
            }

            impl Structure for $name {}

            impl Wire for $name {
                fn write(&self, w: &mut FrameWriter, at: At) -> Result<()> {
                    $(Rows::$field().write(&self.$field, w, at)?;)*
                    let tags = TagWriter::default();
                    $($(let tags = Rows::$tagged().write_tagged($tag, &self.$tagged, tags, at)?;)*)?
                    tags.finish(w, at)
                }

                fn read(r: &mut FrameReader<'_>, at: At) -> Result<Self> {
                    #[allow(unused_mut, reason = "only tagged fields are set later")]
                    let mut structure = Self {
                        $($field: Rows::$field().read(r, at)?,)*
                        $($($tagged: Rows::$tagged().default(),)*)?
                    };
                    if at.flexible {
                        for _ in 0..r.take_uvarint()? {
                            // A tag that the table does not have is skipped: the other side may be newer.
                            match r.take_tag()? {
                                $($(($tag, value) => {
                                    Rows::$tagged().read_tagged(&mut structure.$tagged, value, at)?;
                                })*)?
                                _ => {}
                            }
                        }
                    }
                    Ok(structure)
                }
            }

            #[cfg(test)]
            impl $crate::protocol::sample::Sample for $name {
                fn sample(seed: $crate::protocol::sample::Seed, at: At) -> Self {
                    Self {
                        $($field: Rows::$field().sample(seed, at),)*
                        $($($tagged: Rows::$tagged().sample(seed, at),)*)?
                    }
                }
            }
        };
    )*};
}

/// A row as a function of its field's name.
macro_rules! row {
    ($name:ident . $field:ident: $ty:ty, $versions:expr $(, $word:ident $(($arg:expr))?)*) => {
        $crate::protocol::schema::row! {
            $name.$field: $ty = Default::default(), $versions $(, $word $(($arg))?)*
        }
    };
    ($name:ident . $field:ident: $ty:ty = $default:expr, $versions:expr $(, $word:ident $(($arg:expr))?)*) => {
        #[inline(always)]
        fn $field() -> $crate::protocol::schema::Row<$ty> {
            $crate::protocol::schema::Row::new(stringify!($name), stringify!($field), || $default, $versions)
                $(.$word($($arg)?))*
        }
    };
}

pub(crate) use {messages, row};

/// A row of a table: the field's name, and what the table says of it.
pub(crate) struct Row<T> {
    structure: &'static str,
    field: &'static str,
    default: fn() -> T,
    versions: Versions,
    nullable: Versions,
    ignorable: bool,
}

impl<T: Wire + PartialEq> Row<T> {
    #[inline(always)]
    pub(crate) fn new(
        structure: &'static str,
        field: &'static str,
        default: fn() -> T,
        versions: impl Into<Versions>,
    ) -> Self {
        let versions = versions.into();
        Self { structure, field, default, versions, nullable: Versions::ALL, ignorable: false }
    }

    /// Word: at a version without this field, its value is dropped without an error.
    #[inline(always)]
    pub(crate) fn ignorable(self) -> Self {
        Self { ignorable: true, ..self }
    }

    /// Word: null is allowed only at these versions.
    #[inline(always)]
    pub(crate) fn nullable(self, versions: impl Into<Versions>) -> Self {
        Self { nullable: versions.into(), ..self }
    }

    #[inline(always)]
    pub(crate) fn default(&self) -> T {
        (self.default)()
    }

    #[inline]
    pub(crate) fn write(&self, value: &T, w: &mut FrameWriter, at: At) -> Result<()> {
        if !self.versions.contains(at.version) {
            return if self.ignorable || *value == self.default() { Ok(()) } else { Err(self.absent(at)) };
        }
        if value.is_null() && !self.nullable.contains(at.version) {
            return Err(self.not_nullable(at));
        }
        value.write(w, at).map_err(|error| self.fault(&error))
    }

    #[inline]
    pub(crate) fn read(&self, r: &mut FrameReader<'_>, at: At) -> Result<T> {
        if !self.versions.contains(at.version) {
            return Ok(self.default());
        }
        match T::read(r, at) {
            Ok(value) if value.is_null() && !self.nullable.contains(at.version) => Err(self.fault(&null())),
            Ok(value) => Ok(value),
            Err(error) => Err(self.fault(&error)),
        }
    }

    /// A tagged field is written only where it differs from its default.
    #[inline]
    pub(crate) fn write_tagged(&self, tag: u32, value: &T, mut tags: TagWriter, at: At) -> Result<TagWriter> {
        if *value == self.default() {
            return Ok(tags);
        }
        if at.flexible && self.versions.contains(at.version) {
            tags.add(tag, value, at).map_err(|error| self.fault(&error))?;
        } else if !self.ignorable {
            return Err(self.absent(at));
        }
        Ok(tags)
    }

    /// `value` reads exactly the bytes of the field.
    pub(crate) fn read_tagged(&self, field: &mut T, mut value: FrameReader<'_>, at: At) -> Result<()> {
        if self.versions.contains(at.version) {
            *field = T::read(&mut value, at)
                .and_then(|read| value.expect_end().map(|()| read))
                .map_err(|error| self.fault(&error))?;
        }
        Ok(())
    }

    #[cold]
    fn fault(&self, error: &Error) -> Error {
        Error::new(error.kind(), error.recovery(), format!("{}.{}: {error}", self.structure, self.field))
    }

    #[cold]
    fn absent(&self, at: At) -> Error {
        let Self { structure, field, versions, .. } = self;
        let text = format!("{structure}.{field} is set, but version {} does not have it ({versions})", at.version);
        Error::new(ErrorKind::UnsupportedVersion, Recovery::Fix, text)
    }

    #[cold]
    fn not_nullable(&self, at: At) -> Error {
        let Self { structure, field, nullable, .. } = self;
        let text = format!("{structure}.{field} is null, which version {} does not allow ({nullable})", at.version);
        Error::new(ErrorKind::UnsupportedVersion, Recovery::Fix, text)
    }
}

#[cfg(test)]
impl<T: Wire + PartialEq + super::sample::Sample> Row<T> {
    /// A value made from the field's name; null if the seed wants nulls and the version allows them.
    pub(crate) fn sample(&self, seed: super::sample::Seed, at: At) -> T {
        if self.versions.contains(at.version) {
            T::sample(seed.field(self.field, self.nullable.contains(at.version)), at)
        } else {
            self.default()
        }
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

/// The tagged fields at the end of a structure. Their number comes before all of them, and the size of each before its
/// value.
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
        let len = u32::try_from(bytes.len()).map_err(|_| too_long("a tagged field", bytes.len()))?;
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
