//! A partition's log, and what the partition remembers of the producers that wrote to it.

use std::collections::{HashMap, VecDeque};

use super::validate::Refusal;
use crate::bytes::SharedBytes;
use crate::error::{ErrorCode, Result};
use crate::record::batch::BatchHeader;
use crate::record::broker::{assign_offset, end_transaction_marker, set_log_append_time};
use crate::topic::ProducerIdAndEpoch;

/// How many batches of a producer a partition remembers (`ProducerStateEntry.NUM_BATCHES_TO_RETAIN`).
const REMEMBERED_BATCHES: usize = 5;

/// A partition's log.
///
/// *Thread*: any, under the cluster's lock.
#[derive(Debug, Default)]
pub(super) struct PartitionLog {
    pub(super) start_offset: i64,
    pub(super) end_offset: i64,
    batches: Vec<StoredBatch>,
    producers: HashMap<i64, ProducerEntry>,
    /// The transactions that have ended, in the order of their markers.
    transactions: Vec<EndedTransaction>,
    /// How many markers the log has.
    markers: i64,
    /// By producer id: the lowest sequence number with which it has tried to begin a transaction, and in which epoch
    /// (`VerificationStateEntry`).
    begun: HashMap<i64, (i16, i32)>,
}

/// A transaction in the log, from its first record to its marker.
#[derive(Clone, Copy, Debug)]
pub(super) struct EndedTransaction {
    pub(super) producer_id: i64,
    pub(super) first_offset: i64,
    pub(super) marker_offset: i64,
    pub(super) is_commit: bool,
}

/// A batch in the log.
#[derive(Clone, Debug)]
pub(super) struct StoredBatch {
    pub(super) last_offset: i64,
    pub(super) max_timestamp: i64,
    pub(super) bytes: SharedBytes,
}

#[derive(Debug)]
struct ProducerEntry {
    epoch: i16,
    /// The first offset of the producer's open transaction.
    transaction: Option<i64>,
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

/// The position of a batch in the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogPosition {
    pub(super) base_offset: i64,
    /// -1 if the topic keeps the producer's timestamps.
    pub(super) log_append_time: i64,
}

/// The rules by which a partition appends batches.
#[derive(Clone, Copy, Debug)]
pub(super) struct AppendRules {
    pub(super) leader_epoch: i32,
    /// The timestamp for the records, for a topic with `message.timestamp.type=LogAppendTime`.
    pub(super) log_append_time: Option<i64>,
    /// Whether a producer that the partition does not know must begin with sequence 0 (before Kafka 2.5).
    pub(super) unknown_producer_starts_at_zero: bool,
    /// Whether a transaction of a producer that the partition does not know must begin with sequence 0, because the
    /// request follows transactions V2 (KIP-890).
    pub(super) transaction_starts_at_zero: bool,
}

impl PartitionLog {
    /// Appends a valid batch, unless its sequence number is wrong or the log has the batch already.
    pub(super) fn append(
        &mut self,
        bytes: &[u8],
        header: &BatchHeader,
        rules: AppendRules,
    ) -> Result<LogPosition, Refusal> {
        if let Some(duplicate) = self.check_sequence(header, rules)? {
            // The broker answers with the batch's timestamp, whatever the topic's timestamp type is.
            return Ok(LogPosition { base_offset: duplicate.base_offset, log_append_time: duplicate.timestamp });
        }
        let base_offset = self.end_offset;
        let last_offset = base_offset.saturating_add(i64::from(header.last_offset_delta));
        let mut bytes = bytes.to_vec();
        let stamped = assign_offset(&mut bytes, base_offset, rules.leader_epoch)
            .and_then(|()| rules.log_append_time.map_or(Ok(()), |time| set_log_append_time(&mut bytes, time)));
        stamped.map_err(|error| Refusal::new(ErrorCode::UNKNOWN_SERVER_ERROR, error.to_string()))?;
        let max_timestamp = rules.log_append_time.unwrap_or(header.max_timestamp);
        self.begun.remove(&header.identity.producer_id);
        self.batches.push(StoredBatch { last_offset, max_timestamp, bytes: bytes.into() });
        self.end_offset = last_offset.saturating_add(1);
        self.remember(header, base_offset, last_offset, max_timestamp);
        Ok(LogPosition { base_offset, log_append_time: rules.log_append_time.unwrap_or(-1) })
    }

    /// The last epoch up to this one in which a leader has written, and the offset behind what it has written.
    pub(super) fn end_of_epoch(&self, epoch: i32) -> (i32, i64) {
        let of = |stored: &StoredBatch| BatchHeader::read(&stored.bytes).map_or(-1, |header| header.leader_epoch);
        let end = self.batches.partition_point(|stored| of(stored) <= epoch);
        let last = end.checked_sub(1).and_then(|last| self.batches.get(last));
        last.map_or((-1, -1), |last| (of(last), last.last_offset.saturating_add(1)))
    }

    /// Changes the bytes of the batch with this offset. False if there is none.
    pub(super) fn damage(&mut self, offset: i64, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let place = self.batches.partition_point(|batch| batch.last_offset < offset);
        let Some(batch) = self.batches.get_mut(place).filter(|_| offset >= self.start_offset) else { return false };
        let mut bytes = batch.bytes.to_vec();
        change(&mut bytes);
        batch.bytes = bytes.into();
        true
    }

    /// Whether a producer has a transaction open here, in this epoch.
    pub(super) fn has_transaction(&self, producer: ProducerIdAndEpoch) -> bool {
        let entry = self.producers.get(&producer.producer_id);
        entry.is_some_and(|entry| entry.epoch == producer.epoch && entry.transaction.is_some())
    }

    /// Notes that a producer wants to begin a transaction with a batch, which may be written or not. No batch with a
    /// higher sequence number may begin it (KIP-890).
    pub(super) fn begin_transaction(&mut self, header: &BatchHeader) {
        let ProducerIdAndEpoch { producer_id, epoch } = header.identity;
        if self.has_transaction(header.identity) {
            return;
        }
        let begun = self.begun.entry(producer_id).or_insert((epoch, header.base_sequence));
        *begun = match *begun {
            (known, lowest) if known == epoch => (epoch, lowest.min(header.base_sequence)),
            (known, _) if known < epoch => (epoch, header.base_sequence),
            newer => newer,
        };
    }

    /// Writes the marker that ends a producer's transaction, also if the transaction has no records here.
    pub(super) fn end_transaction(
        &mut self,
        producer: ProducerIdAndEpoch,
        is_commit: bool,
        leader_epoch: i32,
        now: i64,
    ) -> Result<()> {
        let mut bytes = end_transaction_marker(producer, is_commit, 0, now)?.as_slice().to_vec();
        let offset = self.end_offset;
        assign_offset(&mut bytes, offset, leader_epoch)?;
        self.batches.push(StoredBatch { last_offset: offset, max_timestamp: now, bytes: bytes.into() });
        self.note_end(producer, is_commit);
        Ok(())
    }

    /// [`end_transaction`](Self::end_transaction) without keeping the marker.
    pub(super) fn swallow_end(&mut self, producer: ProducerIdAndEpoch, is_commit: bool) {
        self.note_end(producer, is_commit);
        self.transactions.clear();
        self.start_offset = self.end_offset;
    }

    fn note_end(&mut self, producer: ProducerIdAndEpoch, is_commit: bool) {
        let marker_offset = self.end_offset;
        self.end_offset = marker_offset.saturating_add(1);
        self.markers = self.markers.saturating_add(1);
        self.begun.remove(&producer.producer_id);
        let entry = self.producers.entry(producer.producer_id).or_insert_with(|| ProducerEntry::new(producer.epoch));
        if let Some(first_offset) = entry.transaction.take() {
            let producer_id = producer.producer_id;
            self.transactions.push(EndedTransaction { producer_id, first_offset, marker_offset, is_commit });
        }
        // In the same epoch the sequence numbers go on.
        if entry.epoch != producer.epoch {
            *entry = ProducerEntry::new(producer.epoch);
        }
    }

    /// The offset before which every transaction has ended.
    pub(super) fn stable_offset(&self) -> i64 {
        let open = self.producers.values().filter_map(|entry| entry.transaction);
        open.min().unwrap_or(self.end_offset)
    }

    /// The aborted transactions that have records from `from` on and before `end`
    /// (`TransactionIndex.collectAbortedTxns`).
    pub(super) fn aborted(&self, from: i64, end: i64) -> impl Iterator<Item = &EndedTransaction> {
        let first = self.transactions.partition_point(|transaction| transaction.marker_offset < from);
        let later = self.transactions.get(first..).unwrap_or_default();
        later.iter().filter(move |transaction| !transaction.is_commit && transaction.first_offset < end)
    }

    /// How many records were written, without markers.
    pub(super) fn record_count(&self) -> i64 {
        self.end_offset.saturating_sub(self.markers)
    }

    /// Gives a batch its offsets, and does not keep it.
    pub(super) fn swallow(&mut self, header: &BatchHeader) -> LogPosition {
        let base_offset = self.end_offset;
        let records = i64::from(header.last_offset_delta.max(0)).saturating_add(1);
        self.end_offset = base_offset.saturating_add(records);
        self.start_offset = self.end_offset;
        LogPosition { base_offset, log_append_time: -1 }
    }

    /// `ProducerStateEntry.findDuplicateBatch` and `ProducerAppendInfo.checkSequence`: the batch that this one repeats,
    /// if it repeats one.
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
        let entry = self.producers.get(&producer_id);
        if entry.is_some_and(|entry| entry.transaction.is_some()) && !header.attributes.is_transactional() {
            let same = |entry: &ProducerEntry| epoch == entry.epoch;
            if entry.is_some_and(same) {
                let message =
                    format!("producer {producer_id} has an open transaction, and the batch is not part of it");
                return Err(Refusal::new(ErrorCode::INVALID_TXN_STATE, message));
            }
        }
        if header.attributes.is_transactional() && !self.has_transaction(header.identity) {
            let is_unknown = entry.is_none_or(|entry| entry.batches.is_empty());
            if rules.transaction_starts_at_zero && is_unknown && first != 0 {
                return out_of_order(0);
            }
            let lowest = self.begun.get(&producer_id).filter(|(begun, _)| *begun == epoch);
            if let Some((_, lowest)) = lowest.filter(|(_, lowest)| first > *lowest) {
                return out_of_order(*lowest);
            }
        }
        let Some(entry) = entry else {
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
        let entry = self.producers.entry(producer_id).or_insert_with(|| ProducerEntry::new(epoch));
        if entry.epoch != epoch {
            *entry = ProducerEntry { transaction: entry.transaction, ..ProducerEntry::new(epoch) };
        }
        if header.attributes.is_transactional() && entry.transaction.is_none() {
            entry.transaction = Some(base_offset);
        }
        if entry.batches.len() == REMEMBERED_BATCHES {
            entry.batches.pop_front();
        }
        entry.batches.push_back(Remembered { first_sequence, last_sequence, base_offset, last_offset, timestamp });
    }

    /// Forgets every producer, as a broker forgets producers that have been silent for long.
    pub(super) fn forget_producers(&mut self) {
        // A producer with an open transaction is kept.
        self.producers.retain(|_, entry| entry.transaction.is_some());
        self.begun.clear();
    }

    /// Drops the records from `offset` on, and what is known of producers from these records. Only whole batches are
    /// dropped.
    pub(super) fn truncate(&mut self, offset: i64) {
        if offset >= self.end_offset {
            return;
        }
        while let Some(dropped) = self.batches.pop_if(|batch| batch.last_offset >= offset) {
            let is_marker = BatchHeader::read(&dropped.bytes).is_ok_and(|header| header.attributes.is_control());
            self.markers -= i64::from(is_marker);
        }
        self.end_offset = self.batches.last().map_or(self.start_offset.min(offset), |batch| batch.last_offset + 1);
        self.start_offset = self.start_offset.min(self.end_offset);
        let end = self.end_offset;
        for entry in self.producers.values_mut() {
            entry.batches.retain(|batch| batch.last_offset < end);
            entry.transaction = entry.transaction.filter(|first| *first < end);
        }
        // A transaction whose marker is gone is open again.
        while let Some(reopened) = self.transactions.pop_if(|transaction| transaction.marker_offset >= end) {
            if let Some(entry) = self.producers.get_mut(&reopened.producer_id)
                && reopened.first_offset < end
            {
                entry.transaction = Some(reopened.first_offset);
            }
        }
        self.producers.retain(|_, entry| !entry.batches.is_empty() || entry.transaction.is_some());
    }

    /// Drops the records before `offset`. A batch that reaches beyond `offset` stays.
    pub(super) fn delete_before(&mut self, offset: i64) {
        self.start_offset = offset.clamp(self.start_offset, self.end_offset);
        let start = self.start_offset;
        self.batches.retain(|batch| batch.last_offset >= start);
        self.transactions.retain(|transaction| transaction.marker_offset >= start);
    }

    /// The batch that holds `offset`, and all after it.
    pub(super) fn batches_from(&self, offset: i64) -> &[StoredBatch] {
        let first = self.batches.partition_point(|batch| batch.last_offset < offset);
        self.batches.get(first..).unwrap_or_default()
    }

    /// All batches.
    pub(super) fn batches(&self) -> &[StoredBatch] {
        &self.batches
    }
}

impl ProducerEntry {
    fn new(epoch: i16) -> Self {
        Self { epoch, transaction: None, batches: VecDeque::new() }
    }
}

/// The sequence of a batch's last record; 0 follows the largest number.
fn last_sequence(header: &BatchHeader) -> i32 {
    let wrapped = header.base_sequence.checked_add(header.last_offset_delta);
    wrapped.unwrap_or_else(|| header.base_sequence.wrapping_add(header.last_offset_delta) & i32::MAX)
}
