//! Message sets of the formats 0 and 1, which old log segments still hold. They are read only.
//!
//! Several messages are compressed together: their message set, compressed, is the value of one message, the wrapper. A
//! wrapper has the offset of its last message. In format 0 the messages in it have their real offsets; in format 1
//! their offsets count from 0, so that a broker need not compress them again (KIP-31).

use byteorder::{BigEndian, ByteOrder};

use super::TimestampType;
use super::batch::Attributes;
use super::compression::{Compression, Decompressor};
use super::reader::{DecodedBatch, HeadersView, Layout, RawBatch, RecordView, corrupt, unknown_codec};
use crate::bytes::SharedBytes;
use crate::error::{Error, Result};
use crate::topic::ProducerIdAndEpoch;

/// The timestamp of a message without one.
const NO_TIMESTAMP: i64 = -1;

/// How to read a set of messages.
#[derive(Clone, Copy)]
pub(super) struct MessageSet {
    /// The format that each message must have.
    magic: u8,
    /// The number to add to the offsets.
    base: i64,
    /// The timestamp of all messages, if the wrapper's timestamp replaces theirs.
    timestamp: Option<i64>,
}

/// Decodes one message, and those that it wraps.
pub(super) fn decode(raw: &RawBatch<'_>, decompressor: &mut Decompressor) -> Result<DecodedBatch> {
    let magic = raw.magic();
    let outer = Message::read(&mut raw.bytes())?;
    if outer.offset < 0 {
        return Err(corrupt(format!("offset {}", outer.offset)));
    }
    let timestamp_type = outer.timestamp_type();
    let Some(compression) = outer.attributes.compression() else {
        return Err(unknown_codec(outer.attributes));
    };
    let unwrapped = match compression {
        Compression::None => Unwrapped::alone(raw.shared_from(0)?, &outer),
        // Zstd came with a version of the protocol that has only batches (KIP-110).
        Compression::Zstd(_) => return Err(corrupt(format!("zstd in a message of format {magic}"))),
        _ => Unwrapped::unwrap(&outer, compression, decompressor)?,
    };
    Ok(DecodedBatch {
        base_offset: unwrapped.first_offset,
        last_offset: unwrapped.last_offset,
        leader_epoch: -1,
        magic,
        compression,
        timestamp_type,
        max_timestamp: outer.timestamp,
        identity: ProducerIdAndEpoch::NONE,
        base_sequence: -1,
        is_transactional: false,
        is_control: false,
        count: unwrapped.count,
        layout: Layout::Messages(MessageSet {
            magic,
            base: unwrapped.base,
            timestamp: (timestamp_type == TimestampType::LogAppendTime).then_some(outer.timestamp),
        }),
        data: unwrapped.data,
    })
}

struct Unwrapped {
    data: SharedBytes,
    count: u32,
    base: i64,
    first_offset: i64,
    last_offset: i64,
}

impl Unwrapped {
    /// A message that is no wrapper.
    fn alone(data: SharedBytes, message: &Message<'_>) -> Self {
        let offset = message.offset;
        Self { data, count: 1, base: 0, first_offset: offset, last_offset: offset }
    }

    fn unwrap(outer: &Message<'_>, compression: Compression, decompressor: &mut Decompressor) -> Result<Self> {
        let value = outer.value.ok_or_else(|| corrupt("a compressed message without a value"))?;
        let data = decompressor.decompress(compression, value)?;
        let mut rest = &*data;
        let (mut count, mut first, mut last) = (0_u32, None, 0);
        while !rest.is_empty() {
            let Some(offset) = skip_message(&mut rest) else {
                // Old producers cut the set at a size limit; only the complete messages count.
                break;
            };
            first = first.or(Some(offset));
            last = offset;
            count = count.checked_add(1).ok_or_else(|| corrupt("too many messages"))?;
        }
        let complete = data.slice(0..data.len() - rest.len());
        let data = complete.ok_or_else(|| Error::bug("messages reach beyond the bytes in which they lie"))?;
        let Some(first) = first else {
            return Err(corrupt("a compressed message without messages in it"));
        };
        let base = match outer.magic {
            0 => 0,
            // Some versions of librdkafka did not set the wrapper's offset.
            _ if outer.offset == 0 => 0,
            _ => match outer.offset.checked_sub(last) {
                Some(base) if base >= 0 => base,
                _ => return Err(corrupt(format!("last offset {last} in a wrapper of offset {}", outer.offset))),
            },
        };
        match (base.checked_add(first), base.checked_add(last)) {
            (Some(first_offset), Some(last_offset)) if first_offset >= 0 && last_offset >= first_offset => {
                Ok(Self { data, count, base, first_offset, last_offset: last_offset.max(outer.offset) })
            }
            _ => Err(corrupt(format!("offsets {first} to {last} in a wrapper of offset {}", outer.offset))),
        }
    }
}

impl MessageSet {
    /// Removes a message from the front of `input` and returns it.
    #[inline]
    pub(super) fn read<'d>(&self, input: &mut &'d [u8]) -> Result<RecordView<'d>> {
        let message = Message::read(input)?;
        if message.magic != self.magic {
            return Err(corrupt(format!("format {} in a wrapper of format {}", message.magic, self.magic)));
        }
        // A message outside of a wrapper is read here only if it is not compressed.
        if message.attributes.compression() != Some(Compression::None) {
            return Err(corrupt("a compressed message in a compressed message"));
        }
        let offset = message.offset.checked_add(self.base);
        Ok(RecordView {
            offset: offset.ok_or_else(|| corrupt(format!("offset {}", message.offset)))?,
            timestamp: self.timestamp.unwrap_or(message.timestamp),
            key: message.key,
            value: message.value,
            headers: HeadersView::default(),
        })
    }
}

/// One message.
struct Message<'d> {
    offset: i64,
    magic: u8,
    attributes: Attributes,
    timestamp: i64,
    key: Option<&'d [u8]>,
    value: Option<&'d [u8]>,
}

impl<'d> Message<'d> {
    /// Removes a message from the front of `input` and returns it. The CRC is checked before the content.
    fn read(input: &mut &'d [u8]) -> Result<Self> {
        let cut_short = || corrupt("a message cut short");
        let (offset, mut body) = take_message(input).ok_or_else(cut_short)?;
        let crc = BigEndian::read_u32(take_chunk::<4>(&mut body).ok_or_else(cut_short)?);
        let computed = crc32fast::hash(body);
        if crc != computed {
            return Err(corrupt(format!("the CRC is {computed:#010x} and should be {crc:#010x}")));
        }
        Self::read_body(offset, &mut body)
            .filter(|_| body.is_empty())
            .ok_or_else(|| corrupt("bad content of a message"))
    }

    fn read_body(offset: i64, body: &mut &'d [u8]) -> Option<Self> {
        let [magic, attributes] = *take_chunk(body)?;
        let timestamp = match magic {
            0 => NO_TIMESTAMP,
            1 => BigEndian::read_i64(take_chunk::<8>(body)?),
            _ => return None,
        };
        Some(Self {
            offset,
            magic,
            attributes: Attributes(i16::from(attributes)),
            timestamp,
            key: take_nullable(body)?,
            value: take_nullable(body)?,
        })
    }

    fn timestamp_type(&self) -> TimestampType {
        if self.magic == 0 { TimestampType::CreateTime } else { self.attributes.timestamp_type() }
    }
}

/// Removes a message from the front of `input`. Returns its offset, and the bytes that its length counts. `None` if
/// there are too few bytes; the input is unchanged then.
fn take_message<'d>(input: &mut &'d [u8]) -> Option<(i64, &'d [u8])> {
    let mut rest = *input;
    let offset = BigEndian::read_i64(take_chunk::<8>(&mut rest)?);
    let length = usize::try_from(BigEndian::read_i32(take_chunk::<4>(&mut rest)?)).ok()?;
    let (body, rest) = rest.split_at_checked(length)?;
    *input = rest;
    Some((offset, body))
}

fn skip_message(input: &mut &[u8]) -> Option<i64> {
    take_message(input).map(|(offset, _)| offset)
}

fn take_chunk<'d, const N: usize>(input: &mut &'d [u8]) -> Option<&'d [u8; N]> {
    let (chunk, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(chunk)
}

#[expect(clippy::option_option, reason = "the outer one is an error without a text, the inner one null")]
fn take_nullable<'d>(input: &mut &'d [u8]) -> Option<Option<&'d [u8]>> {
    let length = BigEndian::read_i32(take_chunk::<4>(input)?);
    if length == -1 {
        return Some(None);
    }
    let (bytes, rest) = input.split_at_checked(usize::try_from(length).ok()?)?;
    *input = rest;
    Some(Some(bytes))
}
