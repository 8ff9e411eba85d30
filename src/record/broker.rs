//! What a broker does with batches, for the fake cluster: it checks what a producer sent, assigns offsets, and writes
//! transaction markers.

use byteorder::{BigEndian, ByteOrder};

use super::batch::{Attributes, BatchHeader, BatchWriter, SealedBytes, write_crc};
use super::compression::{Compression, Compressor, Decompressor};
use super::reader::{Batches, DecodedBatch, corrupt};
use super::{Headers, TimestampType};
use crate::bytes::SharedBytes;
use crate::error::{Error, Result};
use crate::topic::ProducerIdAndEpoch;

/// Decodes the one batch that a producer sent for a partition, and refuses what Kafka refuses (`LogValidator`,
/// `UnifiedLog.analyzeAndValidateRecords`), and in addition every header field that Java's client would have written
/// differently.
///
/// *Errors*: `BrokerMisbehaved`, although here it is the client that misbehaved; `Compression`.
pub(crate) fn decode_produced(bytes: &SharedBytes, decompressor: &mut Decompressor) -> Result<DecodedBatch> {
    let mut batches = Batches::new(bytes);
    let raw = batches.next().ok_or_else(|| corrupt("no batch"))??;
    if !batches.rest().is_empty() {
        return Err(corrupt("more than one batch"));
    }
    let batch = raw.decode(decompressor)?;
    if batch.magic != 2 {
        return Err(corrupt(format!("format {}", batch.magic)));
    }
    let header = BatchHeader::read(bytes)?;
    let expected_sequence = |sequence: i32| if batch.identity.is_some() { sequence >= 0 } else { sequence == -1 };
    let faults = [
        (batch.base_offset != 0, "the base offset is not 0"),
        (batch.count == 0, "no record"),
        (header.count.checked_sub(1) != Some(header.last_offset_delta), "count and last offset delta differ"),
        (batch.is_control, "a control batch from a client"),
        (batch.timestamp_type != TimestampType::CreateTime, "log append time from a client"),
        (batch.is_transactional && !batch.identity.is_some(), "a transaction without a producer id"),
        (batch.identity.is_some() && batch.identity.epoch < 0, "a producer id without an epoch"),
        (!expected_sequence(batch.base_sequence), "a base sequence that does not fit the producer id"),
        (header.attributes.0 & !0x17 != 0, "unknown attributes"),
    ];
    if let Some((_, fault)) = faults.iter().find(|(is_fault, _)| *is_fault) {
        return Err(corrupt(*fault));
    }
    let (mut expected, mut first_timestamp, mut max_timestamp) = (0, None, i64::MIN);
    for record in batch.records() {
        let record = record?;
        if record.offset != expected {
            return Err(corrupt(format!("offset delta {} where {expected} belongs", record.offset)));
        }
        expected += 1;
        first_timestamp = first_timestamp.or(Some(record.timestamp));
        max_timestamp = max_timestamp.max(record.timestamp);
    }
    if first_timestamp != Some(header.base_timestamp) || max_timestamp != header.max_timestamp {
        return Err(corrupt("the header's timestamps are not those of the records"));
    }
    Ok(batch)
}

/// Gives a batch its position in the log. The CRC covers neither field.
pub(crate) fn assign_offset(batch: &mut [u8], base_offset: i64, leader_epoch: i32) -> Result<()> {
    let header = BatchHeader { base_offset, leader_epoch, ..BatchHeader::read(batch)? };
    header.write(batch)
}

/// Sets the broker's time as the batch's timestamp (`message.timestamp.type=LogAppendTime`).
pub(crate) fn set_log_append_time(batch: &mut [u8], timestamp: i64) -> Result<()> {
    let header = BatchHeader::read(batch)?;
    let attributes = Attributes(header.attributes.0 | Attributes::LOG_APPEND_TIME);
    BatchHeader { attributes, max_timestamp: timestamp, ..header }.write(batch)?;
    write_crc(batch);
    Ok(())
}

/// The control batch that ends a transaction, as a coordinator has the brokers write it (`EndTransactionMarker`).
pub(crate) fn end_transaction_marker(
    identity: ProducerIdAndEpoch,
    is_commit: bool,
    coordinator_epoch: i32,
    timestamp: i64,
) -> Result<SealedBytes> {
    let key = [0, 0, 0, u8::from(is_commit)];
    // The value is a version and the coordinator's epoch.
    let mut value = [0; 6];
    BigEndian::write_i32(&mut value[2..], coordinator_epoch);
    let mut writer = BatchWriter::new(Vec::new());
    writer.append(timestamp, Some(&key), Some(&value), &Headers::new())?;
    let mut sealed = writer.seal_with(&mut Compressor::new(Compression::None), Attributes::CONTROL)?;
    if !identity.is_some() {
        return Err(Error::bug("a transaction without a producer id"));
    }
    sealed.stamp(identity, -1, true);
    Ok(sealed)
}
