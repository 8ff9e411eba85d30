//! How a batch's records are compressed. Each codec has a file.

mod gzip;
mod lz4;
mod snappy;
#[cfg(feature = "zstd")]
mod zstd;

use std::fmt;
use std::str::FromStr;

use super::batch::BATCH_HEADER_BYTES;

use crate::bytes::SharedBytes;
use crate::error::{Error, ErrorKind, Recovery, Result};

/// The most bytes that the records of one batch may have after decompression. A broker limits what is sent, but not
/// what it decompresses to.
pub(crate) const DEFAULT_MAX_DECOMPRESSED_BYTES: usize = 128 << 20;

/// How the records of a batch are compressed.
///
/// Compression is per batch, and brokers and consumers understand all codecs (zstd from Kafka 2.1).
///
/// Default: [`Compression::None`]. Property: `compression.type`, and `compression.gzip.level` and
/// `compression.zstd.level` (KIP-390). Lz4 has no level here: it has only the fast mode, which is Java's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// Not compressed.
    #[default]
    None,
    /// Gzip: the slowest; every Kafka client understands it.
    Gzip(GzipLevel),
    /// Snappy: fast.
    Snappy,
    /// Lz4: the fastest.
    Lz4,
    /// Zstandard: the best ratio for its speed. Needs brokers from 2.1 and this crate's feature `zstd`.
    Zstd(ZstdLevel),
}

/// The level of gzip: 1 (fast) to 9 (small). Default: 6, as Java's -1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GzipLevel(i32);

/// The level of zstd: -131072 (fast) to 22 (small). Default: 3.
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

    /// Gzip at `level`, 1 to 9, or -1 for the default. Any other level is a fault that the builder's `build` reports.
    pub fn gzip_level(level: i32) -> Self {
        Self::Gzip(GzipLevel::new(level))
    }

    /// Zstd at `level`, -131072 to 22; 0 means the default. Any other level is a fault that the builder's `build` reports.
    pub fn zstd_level(level: i32) -> Self {
        Self::Zstd(ZstdLevel::new(level))
    }

    /// The codec's name, as it is written in `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip(_) => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd(_) => "zstd",
        }
    }

    /// What is wrong with its level, if anything is, as the rest of a sentence that begins with the setting's name.
    pub(crate) fn fault(self) -> Option<String> {
        match self {
            Self::Gzip(GzipLevel(level)) if !(1..=9).contains(&level) => {
                Some(format!("is gzip at level {level}, it must be -1 or 1 to 9"))
            }
            Self::Zstd(ZstdLevel(level)) if !(-131_072..=22).contains(&level) => {
                Some(format!("is zstd at level {level}, it must be -131072 to 22"))
            }
            _ => None,
        }
    }

    /// Whether this codec is built in. Errors: `Compression`, naming the feature that is missing.
    #[cfg(test)]
    pub(crate) fn check(self) -> Result<()> {
        codec(self).map(drop)
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
            _ => Err(Error::config(format!(
                "no codec is named {name:?}; the names are none, gzip, snappy, lz4 and zstd"
            ))),
        }
    }
}

impl GzipLevel {
    /// The level `level`, 1 to 9, or -1 for the default. Nothing is checked before a builder's `build`.
    pub fn new(level: i32) -> Self {
        if level == -1 { Self::default() } else { Self(level) }
    }

    /// The level as a number.
    pub fn get(self) -> i32 {
        self.0
    }
}

impl Default for GzipLevel {
    fn default() -> Self {
        Self(6)
    }
}

impl ZstdLevel {
    /// The level `level`, -131072 to 22. As in the zstd library, 0 means the default. Nothing is checked before a
    /// builder's `build`.
    pub fn new(level: i32) -> Self {
        if level == 0 { Self::default() } else { Self(level) }
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

/// One codec. It keeps its tables between calls, so that in steady state a batch allocates nothing.
trait Codec: Send {
    /// Appends `input`, compressed, to `output`.
    fn compress(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<()>;

    /// Appends what `input` decompresses to, and refuses more than `limit` bytes. `input` may be hostile: the memory
    /// used is bounded by what was decompressed, not by what headers claim. After an error the output may hold
    /// anything.
    fn decompress(&mut self, input: &[u8], output: &mut Vec<u8>, limit: usize) -> Result<()>;
}

/// A producer's codec with what it keeps between batches.
///
/// *Thread*: sender; each has its own.
pub(crate) struct Compressor {
    compression: Compression,
    codec: Option<Box<dyn Codec>>,
    scratch: Vec<u8>,
}

impl Compressor {
    pub(crate) fn new(compression: Compression) -> Self {
        Self { compression, codec: None, scratch: Vec::new() }
    }

    pub(crate) fn compression(&self) -> Compression {
        self.compression
    }

    /// Compresses the records of the batch in `buffer`, which begin at [`BATCH_HEADER_BYTES`]. The result is in the
    /// buffer of the batch before; `buffer` is kept for the batch after.
    pub(super) fn compress_batch(&mut self, buffer: Vec<u8>) -> Result<Vec<u8>> {
        if self.compression == Compression::None {
            return Ok(buffer);
        }
        let codec = match &mut self.codec {
            Some(codec) => codec,
            none => none.insert(codec(self.compression)?),
        };
        let mut output = std::mem::replace(&mut self.scratch, buffer);
        output.clear();
        output.reserve(self.scratch.capacity());
        output.resize(BATCH_HEADER_BYTES, 0);
        codec.compress(self.scratch.get(BATCH_HEADER_BYTES..).unwrap_or_default(), &mut output)?;
        Ok(output)
    }
}

/// Decompresses data of every codec, and keeps each codec's tables between batches.
///
/// *Thread*: the one that decodes a fetch response.
pub(crate) struct Decompressor {
    limit: usize,
    codecs: Vec<(Compression, Box<dyn Codec>)>,
    /// Memory for what is decompressed next.
    pub(super) spare: Option<SharedBytes>,
}

impl Decompressor {
    /// `limit`: the most bytes of records in one batch.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, codecs: Vec::new(), spare: None }
    }

    /// What `input` decompresses to.
    ///
    /// Errors: `BrokerMisbehaved` for damaged data; `Compression` for data over the limit, which the context names,
    /// and for a codec that is not built in.
    pub(super) fn decompress(&mut self, compression: Compression, input: &[u8]) -> Result<SharedBytes> {
        let known = self.codecs.iter_mut().position(|(known, _)| *known == compression);
        let codec = match known.and_then(|index| self.codecs.get_mut(index)) {
            Some((_, codec)) => codec,
            None => {
                self.codecs.push((compression, codec(compression)?));
                match self.codecs.last_mut() {
                    Some((_, codec)) => codec,
                    None => return Err(Error::bug("a codec was lost")),
                }
            }
        };
        let spare = self.spare.take().unwrap_or_default();
        spare.rewritten(|output| codec.decompress(input, output, self.limit))
    }

    /// Takes back what [`decompress`](Self::decompress) made. A later call uses the memory again if no other part of it
    /// exists.
    pub(super) fn recycle(&mut self, bytes: SharedBytes) {
        if bytes.spare_capacity() > self.spare.as_ref().map_or(0, SharedBytes::spare_capacity) {
            self.spare = Some(bytes);
        }
    }
}

fn codec(compression: Compression) -> Result<Box<dyn Codec>> {
    match compression {
        Compression::None => Ok(Box::new(Stored)),
        Compression::Gzip(level) => Ok(Box::new(gzip::Gzip::new(level.get().unsigned_abs()))),
        Compression::Snappy => Ok(Box::new(snappy::Snappy::new())),
        Compression::Lz4 => Ok(Box::new(lz4::Lz4::new())),
        #[cfg(feature = "zstd")]
        Compression::Zstd(level) => Ok(Box::new(zstd::Zstd::new(level.get()))),
        #[cfg(not(feature = "zstd"))]
        Compression::Zstd(_) => Err(zstd_is_missing()),
    }
}

/// Data that is not compressed.
struct Stored;

impl Codec for Stored {
    fn compress(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<()> {
        output.extend_from_slice(input);
        Ok(())
    }

    fn decompress(&mut self, input: &[u8], output: &mut Vec<u8>, limit: usize) -> Result<()> {
        if input.len() > limit {
            return Err(over_limit("none", limit));
        }
        output.extend_from_slice(input);
        Ok(())
    }
}

/// Makes `output` longer by `length` zeroed bytes and returns these.
fn tail(output: &mut Vec<u8>, length: usize) -> &mut [u8] {
    let start = output.len();
    output.resize(start + length, 0);
    output.get_mut(start..).unwrap_or_default()
}

/// The error of damaged data.
fn corrupt(codec: &'static str, what: &'static str) -> Error {
    Error::misbehaved(format!("{codec} data: {what}"))
}

/// The error of a codec that could not compress.
fn failed(codec: &'static str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Compression, Recovery::Fix, format!("{codec} could not compress a batch")).with_source(error)
}

fn over_limit(codec: &'static str, limit: usize) -> Error {
    let message = format!("{codec} data decompresses to more than is allowed");
    Error::new(ErrorKind::Compression, Recovery::Fix, message)
        .over_limit("max_decompressed_bytes", u64::try_from(limit).unwrap_or(u64::MAX))
}

#[cfg(not(feature = "zstd"))]
fn zstd_is_missing() -> Error {
    let message = "zstd is not built in: enable the feature \"zstd\" of the crate kafka-blocking";
    Error::new(ErrorKind::Compression, Recovery::Fix, message)
}

#[cfg(test)]
mod tests;
