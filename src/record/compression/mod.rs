//! How a batch's records are compressed: one codec a file.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Recovery, Result};

/// How the records of a batch are compressed.
///
/// Compression is per batch, and brokers and consumers understand all codecs (zstd from Kafka 2.1).
///
/// Default: [`Compression::None`]. Property: `compression.type`, and `compression.gzip.level` and
/// `compression.zstd.level` (KIP-390). Lz4 has no level here: its one mode is the fast one, as is Java's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// Not compressed.
    #[default]
    None,
    /// Gzip: the slowest, understood everywhere.
    Gzip(GzipLevel),
    /// Snappy: fast.
    Snappy,
    /// Lz4: the fastest.
    Lz4,
    /// Zstandard: the best ratio for its speed. Needs brokers from 2.1 and this crate's feature `zstd`.
    Zstd(ZstdLevel),
}

/// How hard gzip tries: 1 (fast) to 9 (small). Default: 6, as Java's -1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GzipLevel(u32);

/// How hard zstd tries: -131072 (fast) to 22 (small). Default: 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ZstdLevel(i32);

impl Compression {
    /// Gzip at its default level.
    pub fn gzip() -> Self {
        Self::Gzip(GzipLevel::default())
    }

    /// Zstd at its default level.
    pub fn zstd() -> Self {
        Self::Zstd(ZstdLevel::default())
    }

    /// Gzip at `level`, 1 to 9, or -1 for the default.
    ///
    /// Errors: `Config` for any other level.
    pub fn gzip_level(level: i32) -> Result<Self> {
        GzipLevel::new(level).map(Self::Gzip)
    }

    /// Zstd at `level`, -131072 to 22.
    ///
    /// Errors: `Config` for any other level.
    pub fn zstd_level(level: i32) -> Result<Self> {
        ZstdLevel::new(level).map(Self::Zstd)
    }

    /// The codec's name, as `compression.type` writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip(_) => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd(_) => "zstd",
        }
    }

    /// The codec's id, which is its attribute bits in a batch.
    pub(crate) fn id(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip(_) => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd(_) => 4,
        }
    }

    /// The codec of an id, at its default level.
    pub(crate) fn from_id(id: i16) -> Option<Self> {
        match id {
            0 => Some(Self::None),
            1 => Some(Self::gzip()),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::zstd()),
            _ => None,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Java's names: `none`, `gzip`, `snappy`, `lz4`, `zstd`.
impl FromStr for Compression {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "none" => Ok(Self::None),
            "gzip" => Ok(Self::gzip()),
            "snappy" => Ok(Self::Snappy),
            "lz4" => Ok(Self::Lz4),
            "zstd" => Ok(Self::zstd()),
            _ => Err(Error::config(format!("no codec is named {name:?}; there are none, gzip, snappy, lz4 and zstd"))),
        }
    }
}

impl GzipLevel {
    /// The level `level`, 1 to 9, or -1 for the default.
    ///
    /// Errors: `Config` for any other level.
    pub fn new(level: i32) -> Result<Self> {
        match u32::try_from(level) {
            Ok(level @ 1..=9) => Ok(Self(level)),
            _ if level == -1 => Ok(Self::default()),
            _ => Err(Error::config(format!("gzip's level is {level}; it must be -1 or 1 to 9"))),
        }
    }

    /// The level as a number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Default for GzipLevel {
    fn default() -> Self {
        Self(6)
    }
}

impl ZstdLevel {
    /// The level `level`, -131072 to 22. As in the zstd library, 0 means the default.
    ///
    /// Errors: `Config` for any other level.
    pub fn new(level: i32) -> Result<Self> {
        match level {
            0 => Ok(Self::default()),
            -131_072..=22 => Ok(Self(level)),
            _ => Err(Error::config(format!("zstd's level is {level}; it must be -131072 to 22"))),
        }
    }

    /// The level as a number.
    pub fn get(self) -> i32 {
        self.0
    }
}

impl Default for ZstdLevel {
    fn default() -> Self {
        Self(3)
    }
}

/// A producer's codec with what it keeps between batches.
///
/// Thread: sender; each has its own.
pub(crate) struct Compressor {
    compression: Compression,
}

impl Compressor {
    pub(crate) fn new(compression: Compression) -> Self {
        Self { compression }
    }

    pub(crate) fn compression(&self) -> Compression {
        self.compression
    }

    /// The batch in `buffer`, records from [`BATCH_HEADER_BYTES`](super::batch::BATCH_HEADER_BYTES) on, with its
    /// records compressed.
    pub(crate) fn compress_batch(&mut self, buffer: Vec<u8>) -> Result<Vec<u8>> {
        match self.compression {
            Compression::None => Ok(buffer),
            other => Err(Error::new(ErrorKind::Compression, Recovery::Fix, format!("{other} is not built in"))),
        }
    }
}
