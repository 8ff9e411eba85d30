//! Record batches of format v2 (KIP-98): the header, and the writer. All numbers are big-endian.

use byteorder::{BigEndian, ByteOrder};

use super::compression::{Compression, Compressor, Decompressor};
use super::reader::{DecodedBatch, corrupt, decode_own};
use super::varint::{varint_len, varlong_len, write_numbers};
use super::{Headers, TimestampType};
use crate::error::{Error, ErrorKind, Recovery, Result};
use crate::topic::ProducerIdAndEpoch;

/// The bytes of a batch before its first record.
pub(crate) const BATCH_HEADER_BYTES: usize = 61;
/// The bytes before the ones that the header's length field counts: the base offset and the length itself.
pub(crate) const BATCH_LENGTH_OVERHEAD: usize = 12;
/// The position at which the bytes that the CRC covers begin.
const CRC_START: usize = 21;
/// Java's `DefaultRecord.MAX_RECORD_OVERHEAD`: length, attributes, timestamp, offset, and the lengths of the parts.
const MAX_RECORD_OVERHEAD: usize = 21;

/// An upper bound for the size of a batch of one record whose parts have this [size](parts_size). Java uses the same
/// estimate to check `max.request.size` and to decide whether a batch has room
/// (`DefaultRecordBatch.estimateBatchSizeUpperBound`).
pub(crate) fn record_size_upper_bound(parts_size: usize) -> usize {
    BATCH_HEADER_BYTES + MAX_RECORD_OVERHEAD + parts_size
}

/// Encodes records straight into a batch's buffer, after the space for the header.
///
/// *Thread*: the one that holds the lock of the partition's open batch.
pub(crate) struct BatchWriter {
    buffer: Vec<u8>,
    count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchWriter {
    /// An empty batch in `buffer`, whose content is dropped and whose capacity is kept.
    pub(crate) fn new(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        buffer.resize(BATCH_HEADER_BYTES, 0);
        Self { buffer, count: 0, base_timestamp: 0, max_timestamp: 0 }
    }

    /// Adds a record and returns its index in the batch. Allocates nothing within the buffer's capacity.
    ///
    /// Errors: `RecordTooLarge` where record or batch would not fit the format's 31-bit lengths; the batch is unchanged
    /// then.
    pub(crate) fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers<'_>,
    ) -> Result<u32> {
        self.append_sized(timestamp, key, value, headers, parts_size(key, value, headers))
    }

    /// [`append`](Self::append) for a caller who knows the [size](parts_size) of the record's parts.
    pub(crate) fn append_sized(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers<'_>,
        parts_size: usize,
    ) -> Result<u32> {
        let timestamp_delta = self.timestamp_delta(timestamp);
        let offset_delta = self.next_offset_delta();
        let body = body_size(timestamp_delta, offset_delta, parts_size);
        if self.buffer.len() + body + 5 > MAX_BATCH_BYTES {
            return Err(too_large(body));
        }

        write_numbers(&mut self.buffer, |head| {
            head.varint(wire_len(body));
            head.byte(0); // The record's attributes, of which none is in use.
            head.varlong(timestamp_delta);
            head.varint(offset_delta);
            head.varint(wire_part_len(key));
            if key.is_none() {
                head.varint(wire_part_len(value));
            }
        });
        if let Some(key) = key {
            self.buffer.extend_from_slice(key);
            write_numbers(&mut self.buffer, |head| head.varint(wire_part_len(value)));
        }
        self.buffer.extend_from_slice(value.unwrap_or_default());
        write_numbers(&mut self.buffer, |head| head.varint(wire_len(headers.len())));
        for header in headers {
            self.append_header_part(Some(header.name().as_bytes()));
            self.append_header_part(header.value());
        }

        let index = self.count;
        if index == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        } else if timestamp > self.max_timestamp {
            self.max_timestamp = timestamp;
        }
        self.count += 1;
        Ok(index)
    }

    fn append_header_part(&mut self, part: Option<&[u8]>) {
        write_numbers(&mut self.buffer, |head| head.varint(wire_part_len(part)));
        self.buffer.extend_from_slice(part.unwrap_or_default());
    }

    /// Goes on in a larger buffer, whose content is dropped. Returns the old buffer.
    pub(crate) fn move_to(&mut self, mut buffer: Vec<u8>) -> Vec<u8> {
        buffer.clear();
        buffer.extend_from_slice(&self.buffer);
        std::mem::replace(&mut self.buffer, buffer)
    }

    /// Exactly how many bytes a record with parts of this [size](parts_size) would add now.
    pub(crate) fn encoded_size(&self, timestamp: i64, parts_size: usize) -> usize {
        let body = body_size(self.timestamp_delta(timestamp), self.next_offset_delta(), parts_size);
        varint_len(wire_len(body)) + body
    }

    /// The batch's size in bytes before compression, with its header.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// How many records were added.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Whether no record was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The first record's timestamp.
    pub(crate) fn base_timestamp(&self) -> Option<i64> {
        (self.count > 0).then_some(self.base_timestamp)
    }

    /// Compresses the records if asked and writes the header, except for what [`SealedBytes::stamp`] adds.
    ///
    /// Errors: `Compression`; `Bug` for an empty batch, which brokers refuse.
    pub(crate) fn seal(self, compressor: &mut Compressor) -> Result<SealedBytes> {
        if self.count == 0 {
            return Err(Error::bug("an empty batch was sealed"));
        }
        let compression = compressor.compression();
        self.seal_with(compressor, compression.id())
    }

    /// The buffer of a batch that is given up.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// [`seal`](Self::seal) with all attribute bits chosen by the caller.
    pub(super) fn seal_with(self, compressor: &mut Compressor, attributes: i16) -> Result<SealedBytes> {
        let uncompressed_len = self.buffer.len();
        let mut bytes = compressor.compress_batch(self.buffer)?;
        let header = BatchHeader {
            base_offset: 0,
            batch_length: batch_length(bytes.len())?,
            leader_epoch: -1,
            crc: 0,
            attributes: Attributes(attributes),
            last_offset_delta: wire_offset(self.count.saturating_sub(1)),
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            identity: ProducerIdAndEpoch::NONE,
            base_sequence: -1,
            count: wire_offset(self.count),
        };
        header.write(&mut bytes)?;
        Ok(SealedBytes { bytes, uncompressed_len, max_timestamp: self.max_timestamp })
    }

    fn timestamp_delta(&self, timestamp: i64) -> i64 {
        if self.count == 0 { 0 } else { timestamp.wrapping_sub(self.base_timestamp) }
    }

    fn next_offset_delta(&self) -> i32 {
        wire_offset(self.count)
    }
}

/// A batch in the form in which it is sent, complete except for the producer's stamp.
///
/// *Thread*: owned by the partition's queue, and so by one sender at a time.
pub(crate) struct SealedBytes {
    bytes: Vec<u8>,
    uncompressed_len: usize,
    max_timestamp: i64,
}

impl SealedBytes {
    /// Writes the producer's identity and the sequence of the first record, then the CRC. It may be called again when
    /// the epoch was bumped; a retry under the same epoch keeps the bytes.
    pub(crate) fn stamp(&mut self, identity: ProducerIdAndEpoch, base_sequence: i32, transactional: bool) {
        // The writer made the buffer with its header, so neither conversion can fail.
        if let Some(header) = self.bytes.first_chunk_mut::<BATCH_HEADER_BYTES>() {
            let attributes = BigEndian::read_i16(&header[21..23]);
            let attributes = attributes & !Attributes::TRANSACTIONAL;
            let attributes = if transactional { attributes | Attributes::TRANSACTIONAL } else { attributes };
            BigEndian::write_i16(&mut header[21..23], attributes);
            BigEndian::write_i64(&mut header[43..51], identity.producer_id);
            BigEndian::write_i16(&mut header[51..53], identity.epoch);
            BigEndian::write_i32(&mut header[53..57], base_sequence);
        }
        write_crc(&mut self.bytes);
    }

    /// The batch's bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Its size in bytes before compression, with its header.
    pub(crate) fn uncompressed_len(&self) -> usize {
        self.uncompressed_len
    }

    /// The latest timestamp of all records.
    pub(crate) fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// The records, decompressed, to split this batch into several.
    pub(crate) fn decode(&self, decompressor: &mut Decompressor) -> Result<DecodedBatch> {
        decode_own(&self.bytes, decompressor)
    }

    /// The buffer, to be used again.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

/// A batch's header. Its magic byte, which is 2, is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) base_offset: i64,
    /// The bytes after this field, so [`BATCH_LENGTH_OVERHEAD`] less than the whole batch.
    pub(crate) batch_length: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) crc: u32,
    pub(crate) attributes: Attributes,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) identity: ProducerIdAndEpoch,
    pub(crate) base_sequence: i32,
    pub(crate) count: i32,
}

impl BatchHeader {
    /// Reads the header of the first batch in `batch`. Only the magic is checked.
    ///
    /// Errors: `BrokerMisbehaved` for another format, and for too few bytes.
    pub(crate) fn read(batch: &[u8]) -> Result<Self> {
        let Some(h) = batch.first_chunk::<BATCH_HEADER_BYTES>() else {
            return Err(corrupt(format!("a batch of {} bytes", batch.len())));
        };
        if h[16] != 2 {
            return Err(corrupt(format!("a batch of format {}", h[16])));
        }
        Ok(Self {
            base_offset: BigEndian::read_i64(&h[0..8]),
            batch_length: BigEndian::read_i32(&h[8..12]),
            leader_epoch: BigEndian::read_i32(&h[12..16]),
            crc: BigEndian::read_u32(&h[17..21]),
            attributes: Attributes(BigEndian::read_i16(&h[21..23])),
            last_offset_delta: BigEndian::read_i32(&h[23..27]),
            base_timestamp: BigEndian::read_i64(&h[27..35]),
            max_timestamp: BigEndian::read_i64(&h[35..43]),
            identity: ProducerIdAndEpoch {
                producer_id: BigEndian::read_i64(&h[43..51]),
                epoch: BigEndian::read_i16(&h[51..53]),
            },
            base_sequence: BigEndian::read_i32(&h[53..57]),
            count: BigEndian::read_i32(&h[57..61]),
        })
    }

    /// Writes the header over the first bytes of `batch`, with this CRC; none is computed.
    pub(super) fn write(&self, batch: &mut [u8]) -> Result<()> {
        let Some(header) = batch.first_chunk_mut::<BATCH_HEADER_BYTES>() else {
            return Err(Error::bug("a batch without room for its header"));
        };
        BigEndian::write_i64(&mut header[0..8], self.base_offset);
        BigEndian::write_i32(&mut header[8..12], self.batch_length);
        BigEndian::write_i32(&mut header[12..16], self.leader_epoch);
        header[16] = 2;
        BigEndian::write_u32(&mut header[17..21], self.crc);
        BigEndian::write_i16(&mut header[21..23], self.attributes.0);
        BigEndian::write_i32(&mut header[23..27], self.last_offset_delta);
        BigEndian::write_i64(&mut header[27..35], self.base_timestamp);
        BigEndian::write_i64(&mut header[35..43], self.max_timestamp);
        BigEndian::write_i64(&mut header[43..51], self.identity.producer_id);
        BigEndian::write_i16(&mut header[51..53], self.identity.epoch);
        BigEndian::write_i32(&mut header[53..57], self.base_sequence);
        BigEndian::write_i32(&mut header[57..61], self.count);
        Ok(())
    }
}

/// A batch's attribute bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes(pub(crate) i16);

impl Attributes {
    const CODEC: i16 = 0x07;
    pub(super) const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    pub(super) const CONTROL: i16 = 0x20;

    /// The codec, or `None` for an id that is not known.
    pub(crate) fn compression(self) -> Option<Compression> {
        Compression::from_id(self.0 & Self::CODEC)
    }

    pub(crate) fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 { TimestampType::CreateTime } else { TimestampType::LogAppendTime }
    }

    pub(crate) fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    pub(crate) fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }
}

/// Lengths are signed 32-bit numbers.
const MAX_BATCH_BYTES: usize = 0x7fff_ffff;

/// The CRC of everything after the CRC field.
pub(super) fn crc_of(batch: &[u8]) -> u32 {
    crc32c::crc32c(batch.get(CRC_START..).unwrap_or_default())
}

/// Computes the CRC and writes it into its field.
pub(crate) fn write_crc(batch: &mut [u8]) {
    let crc = crc_of(batch);
    if let Some(field) = batch.get_mut(17..CRC_START) {
        BigEndian::write_u32(field, crc);
    }
}

/// A record's size after its own length field.
fn body_size(timestamp_delta: i64, offset_delta: i32, parts_size: usize) -> usize {
    1 + varlong_len(timestamp_delta) + varint_len(offset_delta) + parts_size
}

/// How many bytes key, value and headers take in a record, with their lengths.
pub(crate) fn parts_size(key: Option<&[u8]>, value: Option<&[u8]>, headers: &Headers<'_>) -> usize {
    let mut size = part_size(key) + part_size(value) + varint_len(wire_len(headers.len()));
    for header in headers {
        size += part_size(Some(header.name().as_bytes())) + part_size(header.value());
    }
    size
}

fn part_size(part: Option<&[u8]>) -> usize {
    match part {
        Some(bytes) => varint_len(wire_len(bytes.len())) + bytes.len(),
        None => 1,
    }
}

/// A length as it is written. It saturates, but no written record has such a length: `append` refuses records that are
/// too large.
fn wire_len(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}

/// The length of a part as it is written: -1 for none.
fn wire_part_len(part: Option<&[u8]>) -> i32 {
    part.map_or(-1, |bytes| wire_len(bytes.len()))
}

/// A count of records as it is written. It always fits, because a batch of 2 GiB has fewer records.
fn wire_offset(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn batch_length(total: usize) -> Result<i32> {
    let length = total.checked_sub(BATCH_LENGTH_OVERHEAD).and_then(|length| i32::try_from(length).ok());
    length.ok_or_else(|| too_large(total))
}

fn too_large(size: usize) -> Error {
    Error::new(ErrorKind::RecordTooLarge, Recovery::Fix, format!("a record or batch of {size} bytes cannot be encoded"))
        .over_limit("record batch format", MAX_BATCH_BYTES as u64)
}

#[cfg(test)]
mod tests;
