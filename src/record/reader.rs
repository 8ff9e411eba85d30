//! Reads batches of every format. The bytes may come from anyone who can write to a topic, so nothing in them is
//! trusted: lengths and counts are checked against the bytes that are there, and the CRC is checked before anything
//! that it covers.

use std::borrow::Cow;

use byteorder::{BigEndian, ByteOrder};

use super::batch::{Attributes, BATCH_HEADER_BYTES, BatchHeader};
use super::batch::{BATCH_LENGTH_OVERHEAD, crc_of};
use super::compression::{Compression, Decompressor};
use super::legacy;
use super::varint::{read_varint, read_varlong};
use super::{Headers, TimestampType};
use crate::bytes::SharedBytes;
use crate::error::{Error, ErrorKind, Recovery, Result};
use crate::topic::ProducerIdAndEpoch;

/// The smallest entry of any format, counted after its length field: a message v0 without key and value.
const MIN_ENTRY_BYTES: i32 = 14;
/// The position of the magic byte, which is the same in every format.
const MAGIC_AT: usize = 16;
/// The smallest record: its length, attributes, two deltas, two nulls, and a count of headers.
const MIN_RECORD_BYTES: usize = 7;

/// Decodes all batches of one partition of a fetch response, of any format. A partial batch at the end is left out.
/// Ends after the first error.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn read_batches(
    bytes: &SharedBytes,
    decompressor: &mut Decompressor,
) -> impl Iterator<Item = Result<DecodedBatch>> {
    let mut failed = false;
    Batches::new(bytes).map_while(move |raw| {
        if failed {
            return None;
        }
        let decoded = raw.and_then(|raw| raw.decode(decompressor));
        failed = decoded.is_err();
        Some(decoded)
    })
}

/// Finds where batches begin and end, without looking into them.
///
/// A partial batch at the end is left out: a broker cuts its answer at the size limit of the fetch. Ends after an
/// error, because then it is not known where the next batch begins.
pub(crate) struct Batches<'b> {
    shared: &'b SharedBytes,
    /// The position in `shared` at which the next batch begins.
    position: usize,
    rest: &'b [u8],
}

impl<'b> Batches<'b> {
    pub(crate) fn new(bytes: &'b SharedBytes) -> Self {
        Self { shared: bytes, position: 0, rest: bytes }
    }

    /// [`new`](Self::new) from a place on where a batch begins.
    pub(crate) fn starting_at(bytes: &'b SharedBytes, position: usize) -> Self {
        Self { shared: bytes, position, rest: bytes.get(position..).unwrap_or_default() }
    }

    /// What bytes that were not returned yet; at the end, the partial batch.
    pub(crate) fn rest(&self) -> &'b [u8] {
        self.rest
    }

    fn split(&self) -> Result<Option<(RawBatch<'b>, &'b [u8])>> {
        let Some((prefix, _)) = self.rest.split_first_chunk::<BATCH_LENGTH_OVERHEAD>() else {
            return Ok(None);
        };
        let length = BigEndian::read_i32(&prefix[8..]);
        if length < MIN_ENTRY_BYTES {
            return Err(corrupt(format!("a batch of length {length}")));
        }
        let Some(&magic) = self.rest.get(MAGIC_AT) else {
            return Ok(None);
        };
        if magic > 2 {
            return Err(corrupt(format!("a batch of format {magic}")));
        }
        let total = usize::try_from(length).ok().and_then(|length| length.checked_add(BATCH_LENGTH_OVERHEAD));
        let batch = total.and_then(|total| self.rest.split_at_checked(total));
        Ok(batch.map(|(bytes, rest)| (RawBatch { shared: self.shared, start: self.position, bytes, magic }, rest)))
    }
}

impl<'b> Iterator for Batches<'b> {
    type Item = Result<RawBatch<'b>>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.split() {
            Ok(Some((batch, rest))) => {
                self.position += batch.bytes.len();
                self.rest = rest;
                Some(Ok(batch))
            }
            Ok(None) => None,
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

/// The bytes of one batch, or of one message of an old format. Only its length and magic are checked.
#[derive(Clone, Copy)]
pub(crate) struct RawBatch<'b> {
    /// The bytes that hold this batch and others, and the position at which it begins.
    shared: &'b SharedBytes,
    start: usize,
    bytes: &'b [u8],
    magic: u8,
}

impl<'b> RawBatch<'b> {
    /// All its bytes.
    pub(crate) fn bytes(&self) -> &'b [u8] {
        self.bytes
    }

    /// The format: 0, 1 or 2.
    pub(crate) fn magic(&self) -> u8 {
        self.magic
    }

    /// The header of a batch of format 2. `None` for old formats, and where the batch is too short.
    pub(crate) fn header(&self) -> Option<BatchHeader> {
        (self.magic == 2).then(|| BatchHeader::read(self.bytes))?.ok()
    }

    /// What is behind its header, in which its records lie as they are or compressed. A message of an old format has no
    /// header of its own.
    pub(crate) fn body(&self) -> &'b [u8] {
        let start = if self.magic == 2 { BATCH_HEADER_BYTES } else { 0 };
        self.bytes.get(start..).unwrap_or_default()
    }

    /// Whether its records are compressed, as far as its attributes can be read.
    pub(crate) fn is_compressed(&self) -> bool {
        let attributes = match self.magic {
            2 => self.header().map(|header| header.attributes),
            _ => self.bytes.get(MAGIC_AT + 1).map(|attributes| Attributes(i16::from(*attributes))),
        };
        attributes.is_none_or(|attributes| attributes.compression() != Some(Compression::None))
    }

    /// Checks the CRC and the header, for a batch of format 2, or decodes a message of an old one.
    ///
    /// Errors: `BrokerMisbehaved`, as [`decode`](Self::decode) has it.
    pub(crate) fn check(&self, decompressor: &mut Decompressor) -> Result<()> {
        match self.magic {
            2 => self.header_with_good_crc().map(drop).map_err(|error| self.locate(&error)),
            _ => self.decode(decompressor).map(|batch| batch.recycle(decompressor)),
        }
    }

    /// The offset with which it begins: of its first record, or of the last one in the formats before 2.
    pub(crate) fn offset(&self) -> Option<i64> {
        Some(BigEndian::read_i64(self.bytes.first_chunk::<8>()?))
    }

    /// The offset from which to read on behind this batch, even if it cannot be decoded.
    pub(crate) fn next_offset(&self) -> Option<i64> {
        let offset = BigEndian::read_i64(self.bytes.first_chunk::<8>()?);
        // The formats before 2 begin with the offset of their last message.
        let delta = if self.magic == 2 { self.header()?.last_offset_delta } else { 0 };
        offset.checked_add(i64::from(delta))?.checked_add(1)
    }

    /// Checks the CRC, then the header, and decompresses the records.
    ///
    /// Errors: `BrokerMisbehaved` for damaged data; `Compression` for records over the limit, and for a codec that
    /// is not built in. Each names the batch's offset and the offset behind it.
    pub(crate) fn decode(&self, decompressor: &mut Decompressor) -> Result<DecodedBatch> {
        let decoded = match self.magic {
            2 => self.header_with_good_crc().and_then(|header| {
                decode_v2(header, self.bytes, decompressor, |_| self.shared_from(BATCH_HEADER_BYTES))
            }),
            _ => legacy::decode(self, decompressor),
        };
        decoded.map_err(|error| self.locate(&error))
    }

    /// Its bytes from `start` on, as a part of those in which it lies.
    pub(super) fn shared_from(&self, start: usize) -> Result<SharedBytes> {
        let part = self.shared.slice(self.start + start..self.start + self.bytes.len());
        part.ok_or_else(|| Error::bug("a batch reaches beyond the bytes in which it lies"))
    }

    fn header_with_good_crc(&self) -> Result<BatchHeader> {
        let header = BatchHeader::read(self.bytes)?;
        let computed = crc_of(self.bytes);
        if header.crc != computed {
            return Err(corrupt(format!("the CRC is {computed:#010x} and should be {:#010x}", header.crc)));
        }
        Ok(header)
    }

    /// The error with the batch's offsets added to its text.
    fn locate(&self, error: &Error) -> Error {
        let offset = self.bytes.first_chunk::<8>().map_or(-1, |bytes| BigEndian::read_i64(bytes));
        let next = self.next_offset().map_or_else(String::new, |next| format!(", next offset {next}"));
        let limit = error.context().limit;
        Error::new(error.kind(), error.recovery(), format!("batch at offset {offset}{next}: {}", error.message()))
            .in_context(|context| context.limit = limit)
            .with_source(error.clone())
    }
}

/// Decodes a batch that this process has made, whose CRC need not be right yet. The records are copied, so that the
/// batch stays as it is.
pub(super) fn decode_own(bytes: &[u8], decompressor: &mut Decompressor) -> Result<DecodedBatch> {
    let records = bytes.get(BATCH_HEADER_BYTES..).unwrap_or_default();
    let copy = |decompressor: &mut Decompressor| decompressor.decompress(Compression::None, records);
    decode_v2(BatchHeader::read(bytes)?, bytes, decompressor, copy)
}

/// Decodes a batch of format 2. `uncompressed` gives its records if they need not be decompressed.
fn decode_v2(
    header: BatchHeader,
    bytes: &[u8],
    decompressor: &mut Decompressor,
    uncompressed: impl FnOnce(&mut Decompressor) -> Result<SharedBytes>,
) -> Result<DecodedBatch> {
    let records = bytes.get(BATCH_HEADER_BYTES..).unwrap_or_default();
    let Ok(count) = u32::try_from(header.count) else {
        return Err(corrupt(format!("{} records", header.count)));
    };
    // A compacted batch may keep fewer records than offsets, or none.
    let last_offset = header.base_offset.checked_add(i64::from(header.last_offset_delta));
    let last_offset = match last_offset {
        Some(last) if header.base_offset >= 0 && header.last_offset_delta >= header.count.max(1) - 1 => last,
        _ => {
            let (base, delta) = (header.base_offset, header.last_offset_delta);
            return Err(corrupt(format!("base offset {base}, last offset delta {delta}, {count} records")));
        }
    };
    let Some(compression) = header.attributes.compression() else {
        return Err(unknown_codec(header.attributes));
    };
    let data = match compression {
        Compression::None => uncompressed(decompressor)?,
        // A batch that compaction has emptied has only a header.
        _ if count == 0 && records.is_empty() => uncompressed(decompressor)?,
        _ => decompressor.decompress(compression, records)?,
    };
    if usize::try_from(count).unwrap_or(usize::MAX) > data.len() / MIN_RECORD_BYTES {
        return Err(corrupt(format!("{count} records in {} bytes", data.len())));
    }
    let timestamp_type = header.attributes.timestamp_type();
    Ok(DecodedBatch {
        base_offset: header.base_offset,
        last_offset,
        leader_epoch: header.leader_epoch,
        magic: 2,
        compression,
        timestamp_type,
        max_timestamp: header.max_timestamp,
        identity: header.identity,
        base_sequence: header.base_sequence,
        is_transactional: header.attributes.is_transactional(),
        is_control: header.attributes.is_control(),
        count,
        layout: match timestamp_type {
            TimestampType::CreateTime => Layout::Records { base_timestamp: header.base_timestamp },
            TimestampType::LogAppendTime => Layout::RecordsAppendedAt { timestamp: header.max_timestamp },
        },
        data,
    })
}

/// A batch, or a message of an old format with the messages in it, checked and decompressed. Each record is decoded
/// when it is asked for.
///
/// It owns a part of its bytes: of those that were received if the batch was not compressed, else of those that it was
/// decompressed into. So it may live longer than what it was read from, and a clone copies no bytes.
#[derive(Clone)]
#[cfg_attr(
    not(any(test, feature = "testing")),
    expect(
        dead_code,
        reason = "the producer decodes its own batches only to split them, which needs only the records"
    )
)]
pub(crate) struct DecodedBatch {
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    /// -1 if unknown.
    pub(crate) leader_epoch: i32,
    pub(crate) magic: u8,
    /// The codec, at its default level.
    pub(crate) compression: Compression,
    pub(crate) timestamp_type: TimestampType,
    pub(crate) max_timestamp: i64,
    pub(crate) identity: ProducerIdAndEpoch,
    /// -1 for a producer without idempotence.
    pub(crate) base_sequence: i32,
    pub(crate) is_transactional: bool,
    /// Whether its records are markers for consumers, not for the application.
    pub(crate) is_control: bool,
    /// How many records it has; compaction may have left fewer than there are offsets.
    pub(crate) count: u32,
    pub(super) layout: Layout,
    pub(super) data: SharedBytes,
}

/// How a batch's data is to be read.
#[derive(Clone, Copy)]
pub(super) enum Layout {
    /// Records of format 2, with timestamps relative to this one.
    Records { base_timestamp: i64 },
    /// Records of format 2, which all have this timestamp.
    RecordsAppendedAt { timestamp: i64 },
    /// Messages of format 0 or 1.
    Messages(legacy::MessageSet),
}

/// A position in a batch, from which to read on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    position: usize,
    /// How many records are before it.
    index: u32,
    /// The least offset that the next record can have, relative to the batch's first.
    min_offset_delta: i64,
}

impl DecodedBatch {
    /// The offset from which to read on after this batch.
    #[cfg(test)]
    pub(crate) fn next_offset(&self) -> i64 {
        self.last_offset.saturating_add(1)
    }

    /// The records, in order. Ends after the first error.
    pub(crate) fn records(&self) -> RecordIter<'_> {
        RecordIter { batch: self, data: &self.data, cursor: Cursor::default() }
    }

    /// The control record, if this is a control batch. Such a batch has one record, or none after a compaction.
    ///
    /// Errors: `BrokerMisbehaved` where it cannot be read.
    pub(crate) fn control_record(&self) -> Result<Option<ControlRecord>> {
        if !self.is_control {
            return Ok(None);
        }
        let record = self.records().next().transpose()?;
        record.map(|record| ControlRecord::from_key(record.key)).transpose()
    }

    /// The record at `cursor`, which moves past it; `None` at the end. After an error the cursor is at the end.
    #[cfg(test)]
    pub(crate) fn read(&self, cursor: &mut Cursor) -> Option<Result<RecordView<'_>>> {
        self.read_in(&self.data, cursor)
    }

    /// [`read`](Self::read) in bytes that are the batch's own, and may outlive this value.
    #[inline]
    pub(crate) fn read_in<'d>(&self, data: &'d [u8], cursor: &mut Cursor) -> Option<Result<RecordView<'d>>> {
        let mut rest = data.get(cursor.position..).unwrap_or_default();
        if cursor.index == self.count {
            if rest.is_empty() {
                return None;
            }
            cursor.position = data.len();
            return Some(Err(corrupt(format!("{} bytes after the last record of batch {self}", rest.len()))));
        }
        match self.take_record(&mut rest, cursor) {
            Ok(record) => {
                cursor.position = data.len() - rest.len();
                cursor.index += 1;
                Some(Ok(record))
            }
            Err(error) => {
                let message = format!("record {} of batch {self}: {}", cursor.index, error.message());
                *cursor = Cursor { position: data.len(), index: self.count, ..*cursor };
                Some(Err(corrupt(message)))
            }
        }
    }

    /// Removes a record from the front of `input` and returns it.
    fn take_record<'d>(&self, input: &mut &'d [u8], cursor: &mut Cursor) -> Result<RecordView<'d>> {
        let mut record = match self.layout {
            Layout::Messages(set) => set.read(input)?,
            Layout::Records { .. } | Layout::RecordsAppendedAt { .. } => read_record(input)?,
        };
        match self.layout {
            Layout::Records { base_timestamp } => record.timestamp = base_timestamp.wrapping_add(record.timestamp),
            Layout::RecordsAppendedAt { timestamp } => record.timestamp = timestamp,
            Layout::Messages(_) => record.offset = record.offset.saturating_sub(self.base_offset),
        }
        let (delta, offset) = (record.offset, self.base_offset.checked_add(record.offset));
        match offset.filter(|offset| delta >= cursor.min_offset_delta && *offset <= self.last_offset) {
            Some(offset) => {
                cursor.min_offset_delta = delta + 1;
                record.offset = offset;
                Ok(record)
            }
            None => Err(corrupt(format!("offset delta {delta} after {}", cursor.min_offset_delta - 1))),
        }
    }

    /// Its records, decompressed.
    pub(crate) fn data(&self) -> &[u8] {
        &self.data
    }

    /// How much memory of its own its records take: none where they lie in the bytes in which the batch came.
    pub(crate) fn own_bytes(&self) -> usize {
        if self.compression == Compression::None { 0 } else { self.data.len() }
    }

    /// Gives the memory of a batch that is not needed any more back for a later one, if the batch was decompressed into
    /// memory of its own and no clone of it is left.
    pub(crate) fn recycle(self, decompressor: &mut Decompressor) {
        // The bytes of a batch that was not compressed belong to the answer.
        if self.compression != Compression::None && self.count > 0 {
            decompressor.recycle(self.data);
        }
    }
}

impl std::fmt::Display for DecodedBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}..={}", self.base_offset, self.last_offset)
    }
}

/// A batch's records, in order.
pub(crate) struct RecordIter<'d> {
    batch: &'d DecodedBatch,
    data: &'d [u8],
    cursor: Cursor,
}

impl<'d> Iterator for RecordIter<'d> {
    type Item = Result<RecordView<'d>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batch.read_in(self.data, &mut self.cursor)
    }
}

/// A record in a batch, borrowed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordView<'d> {
    pub(crate) offset: i64,
    /// Milliseconds since 1970; -1 for a message of format 0, which has none.
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'d [u8]>,
    pub(crate) value: Option<&'d [u8]>,
    pub(crate) headers: HeadersView<'d>,
}

/// A record's headers, still encoded. Their lengths were checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeadersView<'d> {
    count: usize,
    bytes: &'d [u8],
}

impl<'d> HeadersView<'d> {
    /// Of bytes that were read as this many headers before.
    pub(crate) fn new(count: usize, bytes: &'d [u8]) -> Self {
        Self { count, bytes }
    }

    /// The headers as they are encoded, with what comes behind them.
    pub(crate) fn bytes(&self) -> &'d [u8] {
        self.bytes
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Names and values, in order. Bytes of a name that are not UTF-8 are replaced, as Java does.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Cow<'d, str>, Option<&'d [u8]>)> + use<'d> {
        let mut rest = self.bytes;
        (0..self.count).map_while(move |_| {
            let (name, value) = read_header(&mut rest)?;
            Some((String::from_utf8_lossy(name), value))
        })
    }

    /// The same headers as a list that borrows its parts.
    pub(crate) fn to_headers(self) -> Headers<'d> {
        self.iter().collect()
    }
}

/// What a control batch's record says (`ControlRecordType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ControlRecord {
    /// The transaction of the batch's producer ends here, and its records are to be ignored.
    Abort,
    /// The transaction of the batch's producer ends here, and its records count.
    Commit,
    /// A type that a consumer does not act on.
    Other(i16),
}

impl ControlRecord {
    /// Reads it from the record's key: a version, which may be any, and a type.
    pub(crate) fn from_key(key: Option<&[u8]>) -> Result<Self> {
        let Some(key) = key.and_then(<[u8]>::first_chunk::<4>) else {
            return Err(corrupt("a control record without a type"));
        };
        Ok(match BigEndian::read_i16(&key[2..]) {
            0 => Self::Abort,
            1 => Self::Commit,
            other => Self::Other(other),
        })
    }
}

/// Removes a record from the front of `input` and returns it, with its offset and its timestamp still relative.
fn read_record<'d>(input: &mut &'d [u8]) -> Result<RecordView<'d>> {
    let length = read_varint(input).and_then(|length| usize::try_from(length).ok());
    let (mut body, rest) =
        length.and_then(|length| input.split_at_checked(length)).ok_or_else(|| corrupt("bad length"))?;
    *input = rest;
    read_body(&mut body).filter(|_| body.is_empty()).ok_or_else(|| corrupt("bad content"))
}

fn read_body<'d>(body: &mut &'d [u8]) -> Option<RecordView<'d>> {
    *body = body.get(1..)?; // The attributes, none of which is in use.
    let timestamp = read_varlong(body)?;
    let offset = i64::from(read_varint(body)?);
    let key = read_nullable(body)?;
    let value = read_nullable(body)?;
    let count = usize::try_from(read_varint(body)?).ok()?;
    let headers = HeadersView { count, bytes: body };
    // Each header takes at least two bytes, so the loop ends soon even if the count is wrong.
    for _ in 0..count {
        read_header(body)?;
    }
    Some(RecordView { offset, timestamp, key, value, headers })
}

fn read_header<'d>(input: &mut &'d [u8]) -> Option<(&'d [u8], Option<&'d [u8]>)> {
    let name = read_nullable(input)??;
    let value = read_nullable(input)?;
    Some((name, value))
}

/// Removes a length and that many bytes from the front of `input`. The length -1 stands for null; a smaller one is an
/// error.
#[expect(clippy::option_option, reason = "the outer one is an error without a text, the inner one null")]
fn read_nullable<'d>(input: &mut &'d [u8]) -> Option<Option<&'d [u8]>> {
    let length = read_varint(input)?;
    if length == -1 {
        return Some(None);
    }
    let (bytes, rest) = input.split_at_checked(usize::try_from(length).ok()?)?;
    *input = rest;
    Some(Some(bytes))
}

/// The error of damaged data.
pub(super) fn corrupt(message: impl Into<Cow<'static, str>>) -> Error {
    Error::misbehaved(message)
}

pub(super) fn unknown_codec(attributes: Attributes) -> Error {
    let message = format!("no codec is known for the attributes {:#06x}", attributes.0);
    Error::new(ErrorKind::Compression, Recovery::Fix, message)
}

#[cfg(test)]
mod tests;
