//! A partition's log, and what it remembers of the producers that wrote to it.

use std::collections::{HashMap, VecDeque};

use super::validate::Refusal;
use crate::error::{ErrorCode, Result};
use crate::protocol::frame::SharedBytes;
use crate::record::batch::BatchHeader;
use crate::record::broker::{assign_offset, set_log_append_time};
use crate::topic::ProducerIdAndEpoch;

/// How many batches of a producer a partition remembers (`ProducerStateEntry.NUM_BATCHES_TO_RETAIN`).
const REMEMBERED_BATCHES: usize = 5;

/// A partition's log.
///
/// Thread: any, under the cluster's lock.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) start_offset: i64,
    pub(super) end_offset: i64,
    batches: Vec<Stored>,
    producers: HashMap<i64, ProducerEntry>,
}

/// A batch as it lies in the log.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) last_offset: i64,
    pub(super) max_timestamp: i64,
    pub(super) bytes: SharedBytes,
}

#[derive(Debug)]
struct ProducerEntry {
    epoch: i16,
    /// Oldest first.
    batches: VecDeque<Remembered>,
}

#[derive(Clone, Copy, Debug)]
struct Remembered {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    last_offset: i64,
    timestamp: i64,
}

/// Where a batch is in the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Appended {
    pub(super) base_offset: i64,
    /// -1 where the topic keeps the producer's timestamps.
    pub(super) log_append_time: i64,
}

/// How a partition takes batches.
#[derive(Clone, Copy, Debug)]
pub(super) struct AppendRules {
    pub(super) leader_epoch: i32,
    /// The time to stamp on the records, for a topic with `message.timestamp.type=LogAppendTime`.
    pub(super) log_append_time: Option<i64>,
    /// Whether a producer that the partition does not know must begin with sequence 0 (before Kafka 2.5).
    pub(super) unknown_producer_starts_at_zero: bool,
}

impl Log {
    /// Appends a valid batch, unless the producer's sequence forbids it or the log has it already.
    pub(super) fn append(
        &mut self,
        bytes: &[u8],
        header: &BatchHeader,
        rules: AppendRules,
    ) -> Result<Appended, Refusal> {
        if let Some(duplicate) = self.check_sequence(header, rules)? {
            // The broker answers with the batch's timestamp, whatever the topic's timestamp type is.
            return Ok(Appended { base_offset: duplicate.base_offset, log_append_time: duplicate.timestamp });
        }
        let base_offset = self.end_offset;
        let last_offset = base_offset.saturating_add(i64::from(header.last_offset_delta));
        let mut bytes = bytes.to_vec();
        let stamped = assign_offset(&mut bytes, base_offset, rules.leader_epoch)
            .and_then(|()| rules.log_append_time.map_or(Ok(()), |time| set_log_append_time(&mut bytes, time)));
        stamped.map_err(|error| Refusal::new(ErrorCode::UNKNOWN_SERVER_ERROR, error.to_string()))?;
        let max_timestamp = rules.log_append_time.unwrap_or(header.max_timestamp);
        self.batches.push(Stored { last_offset, max_timestamp, bytes: bytes.into() });
        self.end_offset = last_offset.saturating_add(1);
        self.remember(header, base_offset, last_offset, max_timestamp);
        Ok(Appended { base_offset, log_append_time: rules.log_append_time.unwrap_or(-1) })
    }

    /// Gives a batch its offsets and forgets it.
    pub(super) fn swallow(&mut self, header: &BatchHeader) -> Appended {
        let base_offset = self.end_offset;
        let records = i64::from(header.last_offset_delta.max(0)).saturating_add(1);
        self.end_offset = base_offset.saturating_add(records);
        self.start_offset = self.end_offset;
        Appended { base_offset, log_append_time: -1 }
    }

    /// `ProducerStateEntry.findDuplicateBatch` and `ProducerAppendInfo.checkSequence`: the batch that this one
    /// repeats, if it does.
    fn check_sequence(&self, header: &BatchHeader, rules: AppendRules) -> Result<Option<Remembered>, Refusal> {
        let ProducerIdAndEpoch { producer_id, epoch } = header.identity;
        if producer_id < 0 {
            return Ok(None);
        }
        let (first, last) = (header.base_sequence, last_sequence(header));
        let out_of_order = |expected: i32| {
            let message = format!("producer {producer_id} epoch {epoch}: sequence {first} came, {expected} was due");
            Err(Refusal::new(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, message))
        };
        let Some(entry) = self.producers.get(&producer_id) else {
            if rules.unknown_producer_starts_at_zero && first != 0 {
                let message = format!("producer {producer_id} is not known, and its sequence is {first}");
                return Err(Refusal::new(ErrorCode::UNKNOWN_PRODUCER_ID, message));
            }
            return Ok(None);
        };
        if epoch < entry.epoch {
            let message = format!("producer {producer_id}: epoch {epoch} came after {}", entry.epoch);
            return Err(Refusal::new(ErrorCode::INVALID_PRODUCER_EPOCH, message));
        }
        if epoch > entry.epoch {
            return if first == 0 { Ok(None) } else { out_of_order(0) };
        }
        let same = |batch: &&Remembered| batch.first_sequence == first && batch.last_sequence == last;
        if let Some(duplicate) = entry.batches.iter().find(same) {
            return Ok(Some(*duplicate));
        }
        let Some(newest) = entry.batches.back() else {
            return Ok(None);
        };
        let due = newest.last_sequence.checked_add(1).unwrap_or(0);
        if first == due { Ok(None) } else { out_of_order(due) }
    }

    fn remember(&mut self, header: &BatchHeader, base_offset: i64, last_offset: i64, timestamp: i64) {
        let ProducerIdAndEpoch { producer_id, epoch } = header.identity;
        if producer_id < 0 {
            return;
        }
        let (first_sequence, last_sequence) = (header.base_sequence, last_sequence(header));
        let entry =
            self.producers.entry(producer_id).or_insert_with(|| ProducerEntry { epoch, batches: VecDeque::new() });
        if entry.epoch != epoch {
            *entry = ProducerEntry { epoch, batches: VecDeque::new() };
        }
        if entry.batches.len() == REMEMBERED_BATCHES {
            entry.batches.pop_front();
        }
        entry.batches.push_back(Remembered { first_sequence, last_sequence, base_offset, last_offset, timestamp });
    }

    /// Forgets every producer, as a broker does of those that were silent for long.
    pub(super) fn forget_producers(&mut self) {
        self.producers.clear();
    }

    /// Drops the records from `offset` on, and what is known of producers from them. A batch goes as a whole.
    pub(super) fn truncate(&mut self, offset: i64) {
        if offset >= self.end_offset {
            return;
        }
        while self.batches.last().is_some_and(|batch| batch.last_offset >= offset) {
            self.batches.pop();
        }
        self.end_offset = self.batches.last().map_or(self.start_offset.min(offset), |batch| batch.last_offset + 1);
        self.start_offset = self.start_offset.min(self.end_offset);
        let end = self.end_offset;
        for entry in self.producers.values_mut() {
            entry.batches.retain(|batch| batch.last_offset < end);
        }
        self.producers.retain(|_, entry| !entry.batches.is_empty());
    }

    /// Drops the records before `offset`. A batch that reaches beyond it stays.
    pub(super) fn delete_before(&mut self, offset: i64) {
        self.start_offset = offset.clamp(self.start_offset, self.end_offset);
        let start = self.start_offset;
        self.batches.retain(|batch| batch.last_offset >= start);
    }

    /// The batches that hold `offset` and what follows.
    pub(super) fn batches_from(&self, offset: i64) -> &[Stored] {
        let first = self.batches.partition_point(|batch| batch.last_offset < offset);
        self.batches.get(first..).unwrap_or_default()
    }

    /// All batches.
    pub(super) fn batches(&self) -> &[Stored] {
        &self.batches
    }
}

/// The sequence of a batch's last record; 0 follows the largest number.
fn last_sequence(header: &BatchHeader) -> i32 {
    let wrapped = header.base_sequence.checked_add(header.last_offset_delta);
    wrapped.unwrap_or_else(|| header.base_sequence.wrapping_add(header.last_offset_delta) & i32::MAX)
}
