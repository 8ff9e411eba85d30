//! How the cluster shows its logs and the requests that reached it.

use std::sync::Arc;
use std::time::Instant;

use super::groups::known_epoch;
use super::versions::Api;
use crate::bytes::SharedBytes;
use crate::error::Result;
use crate::record::aborted::AbortedTransactions;
use crate::record::batch::BatchHeader;
use crate::record::compression::{Compression, DEFAULT_MAX_DECOMPRESSED_BYTES, Decompressor};
use crate::record::reader::{ControlRecord, DecodedBatch, read_batches};
use crate::record::{Headers, Timestamp};
use crate::topic::{BrokerId, ProducerIdAndEpoch};

/// A record in a partition's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRecord {
    partition: i32,
    offset: i64,
    timestamp: Option<Timestamp>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Headers<'static>,
    producer: ProducerIdAndEpoch,
    sequence: i32,
    compression: Compression,
    batch_base_offset: i64,
}

impl LoggedRecord {
    /// The partition's index, from 0.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The record's offset.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// The record's time, and whose clock it is from; `None` in the oldest message format, which has no times.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.timestamp
    }

    /// The key, `None` where it is null.
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// The value, `None` where it is null.
    pub fn value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    /// The headers, in order.
    pub fn headers(&self) -> &Headers<'static> {
        &self.headers
    }

    /// The key as text; what is not UTF-8 is replaced, and null is empty.
    pub fn key_text(&self) -> String {
        String::from_utf8_lossy(self.key().unwrap_or_default()).into_owned()
    }

    /// The value as text; what is not UTF-8 is replaced, and null is empty.
    pub fn value_text(&self) -> String {
        String::from_utf8_lossy(self.value().unwrap_or_default()).into_owned()
    }

    /// The producer's id and epoch; `None` for a producer without idempotence.
    pub fn producer(&self) -> Option<ProducerIdAndEpoch> {
        self.producer.known()
    }

    /// The record's sequence number; `None` for a producer without idempotence.
    pub fn sequence(&self) -> Option<i32> {
        known_sequence(self.sequence)
    }

    /// How the record's batch was compressed.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// The offset of the first record of its batch.
    pub fn batch_base_offset(&self) -> i64 {
        self.batch_base_offset
    }
}

/// A batch in a partition's log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoggedBatch {
    /// The offset of its first record.
    pub base_offset: i64,
    /// The offset of its last record.
    pub last_offset: i64,
    /// How many records it has.
    pub records: u32,
    /// Its size in bytes, with its header.
    pub size_bytes: usize,
    /// How it was compressed.
    pub compression: Compression,
    /// The epoch of the leader that wrote it; `None` in old message formats, which have none.
    pub leader_epoch: Option<i32>,
    /// The latest time of its records; `None` in the oldest message format, which has no times.
    pub max_timestamp: Option<Timestamp>,
    /// The producer's id and epoch; `None` for a producer without idempotence.
    pub producer: Option<ProducerIdAndEpoch>,
    /// The sequence number of its first record; `None` for a producer without idempotence.
    pub base_sequence: Option<i32>,
    /// Whether it is part of a transaction.
    pub is_transactional: bool,
    /// Whether it is a control batch.
    pub is_control: bool,
    /// How it ends a transaction, if it does.
    pub marker: Option<Marker>,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Marker {
    /// The records of the transaction count.
    Commit,
    /// The records of the transaction are to be ignored.
    Abort,
}

/// The transaction or group that a request names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenTransaction {
    /// The transactional id.
    pub transactional_id: Option<String>,
    /// The producer's id and epoch; for Produce they are in its batches.
    pub producer: Option<ProducerIdAndEpoch>,
    /// The group.
    pub group: Option<String>,
    /// Whether EndTxn commits.
    pub is_commit: Option<bool>,
}

/// A request that reached a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenRequest {
    /// The broker.
    pub broker: BrokerId,
    /// Which connection it came over; every connection of the cluster has its own number.
    pub connection: u64,
    /// When it was read.
    pub at: Instant,
    /// What it asks for.
    pub api: Api,
    /// Its version.
    pub version: i16,
    /// Its correlation id.
    pub correlation_id: i32,
    /// The client's id.
    pub client_id: Option<String>,
    /// The topics that it names, each with a partition if it names one, in its order.
    pub partitions: Vec<(Arc<str>, Option<i32>)>,
    /// The batches that it produces.
    pub batches: Vec<SeenBatch>,
    /// The transaction or group that it names.
    pub transaction: Option<SeenTransaction>,
}

/// A batch in a Produce request. Batches that cannot be read are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenBatch {
    /// The topic's name; empty if its id is not known.
    pub topic: Arc<str>,
    /// The partition's index.
    pub partition: i32,
    /// How many records it has, as its header says.
    pub records: i32,
    /// Its size in bytes.
    pub size_bytes: usize,
    /// The producer's id and epoch; `None` for a producer without idempotence.
    pub producer: Option<ProducerIdAndEpoch>,
    /// The sequence number of its first record; `None` for a producer without idempotence.
    pub base_sequence: Option<i32>,
    /// Whether it is part of a transaction.
    pub is_transactional: bool,
}

impl SeenBatch {
    pub(super) fn new(topic: Arc<str>, partition: i32, bytes: &[u8]) -> Option<Self> {
        let header = BatchHeader::read(bytes).ok()?;
        Some(Self {
            topic,
            partition,
            records: header.count,
            size_bytes: bytes.len(),
            producer: header.identity.known(),
            base_sequence: known_sequence(header.base_sequence),
            is_transactional: header.attributes.is_transactional(),
        })
    }
}

/// A sequence number from the protocol, where -1 means none.
fn known_sequence(sequence: i32) -> Option<i32> {
    (sequence >= 0).then_some(sequence)
}

/// The sequence number that comes `by` after `base`; 0 follows the largest number.
fn sequence_after(base: i32, by: i64) -> i32 {
    if base < 0 {
        return -1;
    }
    let sequence = (i64::from(base) + by) & i64::from(i32::MAX);
    i32::try_from(sequence).unwrap_or(-1)
}

/// Decodes batches from the log of `partition`, and passes the records from offset `from` on to `keep`, except for
/// aborted ones. Control batches have no records for `keep`.
///
/// *Errors*: `BrokerMisbehaved` and `Compression`, for batches that cannot be decoded.
pub(super) fn decode_records(
    bytes: &SharedBytes,
    partition: i32,
    from: i64,
    mut aborted: AbortedTransactions,
    keep: &mut impl FnMut(LoggedRecord),
) -> Result<i64> {
    let mut decompressor = Decompressor::new(DEFAULT_MAX_DECOMPRESSED_BYTES);
    let mut next = from;
    for batch in read_batches(bytes, &mut decompressor) {
        let batch = batch?;
        next = next.max(batch.last_offset.saturating_add(1));
        if aborted.contain(&batch)? || batch.is_control {
            continue;
        }
        for record in batch.records() {
            let record = record?;
            if record.offset < from {
                continue;
            }
            keep(LoggedRecord {
                partition,
                offset: record.offset,
                timestamp: Timestamp::from_wire(record.timestamp, batch.timestamp_type),
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record.headers.iter().collect::<Headers<'_>>().into_owned(),
                producer: batch.identity,
                sequence: sequence_after(batch.base_sequence, record.offset - batch.base_offset),
                compression: batch.compression,
                batch_base_offset: batch.base_offset,
            });
        }
    }
    Ok(next)
}

/// A batch of the log in the form for tests.
pub(super) fn logged_batch(batch: &DecodedBatch, size_bytes: usize) -> Result<LoggedBatch> {
    Ok(LoggedBatch {
        base_offset: batch.base_offset,
        last_offset: batch.last_offset,
        records: batch.count,
        size_bytes,
        compression: batch.compression,
        leader_epoch: known_epoch(batch.leader_epoch),
        max_timestamp: Timestamp::from_wire(batch.max_timestamp, batch.timestamp_type),
        producer: batch.identity.known(),
        base_sequence: known_sequence(batch.base_sequence),
        is_transactional: batch.is_transactional,
        is_control: batch.is_control,
        marker: match batch.control_record()? {
            Some(ControlRecord::Abort) => Some(Marker::Abort),
            Some(ControlRecord::Commit) => Some(Marker::Commit),
            Some(ControlRecord::Other(_)) | None => None,
        },
    })
}
