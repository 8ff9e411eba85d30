//! Direct batches: filled by the program, and sent to a partition as a whole.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::delivery::{Delivery, no_wait_in_a_logger};
use super::producer::Producer;
use super::shared::{SendOptions, Shared, no_such_partition};
use crate::error::{Error, ErrorKind, Recovery, Result, Written};
use crate::logging;
use crate::producer::buffer::accumulator::HandOver;
use crate::producer::buffer::completion::{BatchCompletion, Outcome};
use crate::producer::buffer::draft::{Draft, RecordParts};
use crate::producer::buffer::topic_table::with_memory;
use crate::producer::buffer::wait_limit::WaitLimit;
use crate::producer::record_metadata::RecordMetadata;
use crate::record::batch::{BATCH_HEADER_BYTES, parts_size};
use crate::record::{Headers, IntoBytes, Record, Timestamp};
use crate::time::{self, wall_clock_ms};

impl Producer {
    /// Makes a batch that is in no queue: [`append`](DirectBatch::append) fills it, and
    /// [`send_batch`](Self::send_batch) sends it. There can be any number of them at a time. Most programs need none,
    /// for [`send`](Self::send) makes batches by itself; they are for programs that decide themselves which records are
    /// in one batch, and drop or keep a batch as a whole.
    ///
    /// ```
    /// use kafka_blocking::{Appended, Producer};
    /// # use kafka_blocking::testing::FakeCluster;
    ///
    /// # fn main() -> kafka_blocking::Result<()> {
    /// # let cluster = FakeCluster::builder().topic("readings", 2).start()?;
    /// # let servers = cluster.bootstrap();
    /// let producer = Producer::builder(servers).build()?;
    /// let mut batch = producer.create_batch();
    /// for reading in ["20.5", "20.7", "21.0"] {
    ///     if let Appended::Full = batch.append("sensor-7", reading)? {
    ///         break;
    ///     }
    /// }
    /// let sent = producer.send_batch(batch, "readings", 1)?.wait()?;
    /// assert_eq!((sent.base_offset(), sent.record_count()), (Some(0), 3));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// *Blocks* never, and needs no memory yet.
    pub fn create_batch(&self) -> DirectBatch {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        DirectBatch { shared: Arc::clone(&self.0.0), draft: None, closed: false, id }
    }

    /// Puts a batch into the queue of a partition, behind everything that was sent there before. From then on it is a
    /// batch like any other: what was sent to the partition later comes after it, retries, deadlines, sequence numbers
    /// and transactions are the same, and a batch that the broker finds too large is split. A batch that is not
    /// [closed](DirectBatch::close) and has room is filled further by [`send`](Self::send), until its linger is over or
    /// a thread waits for it.
    ///
    /// Interceptors and the partitioner are not called for it.
    ///
    /// *Blocks* only while topic or partition are not known yet, at most for `max_block`.
    ///
    /// *Errors*: [`BatchNotSent`], which has the batch: none of its records was sent, and none will be unless the
    /// program sends the batch again. Its error is `Timeout(Metadata)`, after which the same call may succeed;
    /// `InvalidInput` for a batch without records, a bad topic name or a partition below 0; `NoSuchPartition`; `Broker`
    /// where the cluster refuses the topic; `Misuse` for a batch that another producer has made, whose memory and
    /// limits it follows, or outside of a transaction; `Closed`. Every later failure comes out of the handle.
    pub fn send_batch(&self, batch: DirectBatch, topic: &str, partition: i32) -> Result<BatchDelivery, BatchNotSent> {
        self.0.0.send_batch(batch, topic, partition, &SendOptions::BLOCKING)
    }

    /// [`send_batch`](Self::send_batch) without waiting for anything: if that would have to wait, the batch is returned
    /// with `WouldBlock`. A topic that is not known yet is asked for meanwhile.
    ///
    /// *Blocks* never. *Errors*: those of `send_batch`, and `WouldBlock`.
    pub fn try_send_batch(
        &self,
        batch: DirectBatch,
        topic: &str,
        partition: i32,
    ) -> Result<BatchDelivery, BatchNotSent> {
        self.0.0.send_batch(batch, topic, partition, &SendOptions { may_block: false, ..SendOptions::BLOCKING })
    }
}

/// Records that a program gathers by itself, in no queue yet: see [`Producer::create_batch`].
///
/// It is bounded by the producer's `batch_size` and `batch_records` as any batch is, and its bytes count as buffer
/// memory from its first record on, until it is delivered, has failed or is dropped. A program that holds many direct
/// batches leaves less memory for `send`. Dropping a batch discards its records and releases its memory.
///
/// A direct batch does not keep its producer open.
pub struct DirectBatch {
    shared: Arc<Shared>,
    /// `None` before the first record, and after the batch was sent.
    draft: Option<Draft>,
    closed: bool,
    /// Distinguishes its records from those of other batches.
    id: u64,
}

/// What [`DirectBatch::append`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a full batch has not taken the record"]
pub enum Appended {
    /// The batch has the record.
    Added(AppendedRecord),
    /// The batch has no room for the record, or is closed; it is unchanged. A smaller record may still fit.
    Full,
}

impl Appended {
    /// The record's place in the batch, if the batch has taken it.
    pub fn record(self) -> Option<AppendedRecord> {
        match self {
            Self::Added(record) => Some(record),
            Self::Full => None,
        }
    }

    /// Whether the batch has not taken the record.
    pub fn is_full(self) -> bool {
        self == Self::Full
    }
}

/// A record's place in a [`DirectBatch`]. [`BatchDelivery::record`] returns its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendedRecord {
    index: u32,
    timestamp: i64,
    size_bytes: usize,
    batch: u64,
}

impl AppendedRecord {
    /// Its index in the batch, from 0. Its offset is the batch's with this added.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Its timestamp: the given one, or the time of the `append`.
    pub fn timestamp(&self) -> Timestamp {
        Timestamp::from_millis(self.timestamp)
    }

    /// How many bytes it takes in the batch, before compression.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }
}

impl DirectBatch {
    /// Adds a record with a key and a value: strings or bytes, or `Option`s of them where `None` is null, as in
    /// `None::<&str>`. Its time is now.
    ///
    /// A record that is larger than `batch_size` is taken only by an empty batch, which is then full. A batch that
    /// would have to grow while buffer memory is used up counts as full.
    ///
    /// *Blocks* only for the buffer memory of the first record, at most for `max_block`.
    ///
    /// *Errors*: nothing was added, and the batch is as it was. `RecordTooLarge` for a record over `max_request_size`
    /// or `buffer_memory`, with its size and the limit; `Timeout(BufferMemory)`; `Closed`.
    pub fn append<'a>(&mut self, key: impl IntoBytes<'a>, value: impl IntoBytes<'a>) -> Result<Appended> {
        self.append_with(key, value, &Headers::new(), None)
    }

    /// [`append`](Self::append) of a record with headers, and with a time of its own (`None`: now).
    ///
    /// *Blocks* as `append` does. *Errors*: those of `append`, and `InvalidInput` for a time before 1970.
    pub fn append_with<'a>(
        &mut self,
        key: impl IntoBytes<'a>,
        value: impl IntoBytes<'a>,
        headers: &Headers<'_>,
        timestamp: Option<Timestamp>,
    ) -> Result<Appended> {
        let (key, value) = (key.into_bytes(), value.into_bytes());
        let appended = self.try_append(key.as_deref(), value.as_deref(), headers, timestamp);
        appended.map_err(Error::not_written_unless_said)
    }

    fn try_append(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers<'_>,
        timestamp: Option<Timestamp>,
    ) -> Result<Appended> {
        let shared = &*self.shared;
        shared.check_open()?;
        if self.closed {
            return Ok(Appended::Full);
        }
        let parts_size = parts_size(key, value, headers);
        let timestamp = timestamp.map(Timestamp::millis);
        shared.check_size_and_time(timestamp, parts_size)?;
        let timestamp = timestamp.unwrap_or_else(wall_clock_ms);
        let parts = RecordParts { timestamp, key, value, headers, parts_size, transaction: 0 };
        let mut wait_limit = WaitLimit { started: None, limit: Some(shared.config.max_block) };
        let before = self.size_bytes();
        let Some(index) = shared.accumulator.add(&mut self.draft, &parts, &mut wait_limit, &*shared.senders)? else {
            return Ok(Appended::Full);
        };
        let size_bytes = self.size_bytes().saturating_sub(before);
        Ok(Appended::Added(AppendedRecord { index, timestamp, size_bytes, batch: self.id }))
    }

    /// The batch takes no further record: neither by [`append`](Self::append) nor, once it is sent, by
    /// [`Producer::send`]. So it is sent without linger.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// How many records it has.
    pub fn record_count(&self) -> u32 {
        self.draft.as_ref().map_or(0, Draft::count)
    }

    /// Whether it has no record.
    pub fn is_empty(&self) -> bool {
        self.draft.is_none()
    }

    /// What it takes before compression, with a batch's header of 61 bytes.
    pub fn size_bytes(&self) -> usize {
        self.draft.as_ref().map_or(BATCH_HEADER_BYTES, Draft::len)
    }
}

impl Drop for DirectBatch {
    fn drop(&mut self) {
        let Some(draft) = self.draft.take() else { return };
        if self.shared.is_inherited() {
            // Releasing its memory takes a lock, which a thread of the other process may have held at the fork.
            Box::leak(Box::new(draft));
        } else {
            draft.discard(&self.shared.accumulator.budget);
        }
    }
}

impl fmt::Debug for DirectBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectBatch")
            .field("record_count", &self.record_count())
            .field("size_bytes", &self.size_bytes())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

/// A batch that was not sent, with the reason. Nothing of it is in the log, and it is in no queue.
///
/// `?` turns it into its [`Error`], and drops the batch.
#[derive(Debug)]
pub struct BatchNotSent {
    error: Error,
    batch: DirectBatch,
}

impl BatchNotSent {
    pub(crate) fn new(error: Error, batch: DirectBatch) -> Self {
        Self { error: error.not_written_unless_said(), batch }
    }

    /// Why.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Returns the batch, so that it can be sent again, or elsewhere.
    pub fn into_batch(self) -> DirectBatch {
        self.batch
    }
}

impl fmt::Display for BatchNotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl std::error::Error for BatchNotSent {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl From<BatchNotSent> for Error {
    fn from(not_sent: BatchNotSent) -> Self {
        not_sent.error
    }
}

/// What the cluster says of a batch that it has accepted. It is shown as `topic-partition@offset, 3 records`.
#[derive(Clone, PartialEq, Eq)]
pub struct BatchMetadata {
    /// The metadata of the batch's first record.
    first: RecordMetadata,
    record_count: u32,
    /// The parts into which the batch was split: the index and the offset of each part's first record.
    parts: Vec<(u32, Option<i64>)>,
}

impl BatchMetadata {
    /// The topic.
    pub fn topic(&self) -> &str {
        self.first.topic()
    }

    /// The partition's index, from 0.
    pub fn partition(&self) -> i32 {
        self.first.partition()
    }

    /// The offset of the batch's first record. `None` where it is not known: with `Acks::None`, and when the broker
    /// recognised a batch as written before without remembering where (KIP-98).
    pub fn base_offset(&self) -> Option<i64> {
        self.first.offset()
    }

    /// How many records the program has put into the batch. Records that `send` has added are not counted.
    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    /// The first record's timestamp in the log, as in [`RecordMetadata::timestamp`].
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.first.timestamp()
    }

    /// The offset of the record with this index. `None` where it is not known, and if the batch has no such record.
    pub fn offset_of(&self, index: u32) -> Option<i64> {
        if index >= self.record_count {
            return None;
        }
        let after = self.parts.partition_point(|(first, _)| *first <= index);
        let (first, offset) = *self.parts.get(after.checked_sub(1)?)?;
        offset?.checked_add(i64::from(index - first))
    }
}

impl fmt::Debug for BatchMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchMetadata")
            .field("topic", &self.topic())
            .field("partition", &self.partition())
            .field("base_offset", &self.base_offset())
            .field("record_count", &self.record_count)
            .field("timestamp", &self.timestamp())
            .field("parts", &self.parts)
            .finish()
    }
}

impl fmt::Display for BatchMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} records", self.first, self.record_count)
    }
}

/// The handle of a batch that was sent. Every later failure comes out of it.
///
/// Dropping it discards the answer, not the batch, which is delivered or fails for good; [`detach`](Self::detach) says
/// that this is intended.
#[must_use = "only the handle tells whether the batch was delivered: wait for it, or say with `detach` that nobody will look"]
pub struct BatchDelivery {
    completion: Arc<BatchCompletion>,
    /// The number of the batch's own records; records of `send` may follow them.
    count: u32,
    first_timestamp: i64,
    batch: u64,
}

impl BatchDelivery {
    /// Waits for the result of the whole batch.
    ///
    /// *Blocks* until each of its records is acknowledged or has failed, at most for the producer's `delivery_timeout`.
    /// It ends the linger of the batch.
    ///
    /// *Thread*: as [`Delivery::wait`].
    ///
    /// *Errors*: every reason for which a batch is not acknowledged; if the broker names a record as the cause
    /// (KIP-467), that record's. [`Error::written`] says whether any of it may be in the log. A batch that was split
    /// can fail in part: then it is not `No`, and [`record`](Self::record) gives the result of each record.
    pub fn wait(self) -> Result<BatchMetadata> {
        if logging::is_inside() && !self.is_done() {
            return Err(no_wait_in_a_logger());
        }
        loop {
            if let Some(result) = self.wait_until(None) {
                return result;
            }
        }
    }

    /// Waits for the result of the whole batch; `None` means that it is still on its way. Like [`wait`](Self::wait) it
    /// ends the linger.
    ///
    /// *Blocks* until there is a result, at most for `timeout`, or a moment longer if the connection takes no bytes.
    /// *Errors*: those of `wait`.
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<BatchMetadata>> {
        if logging::is_inside() {
            return self.try_wait();
        }
        self.wait_until(Some(time::deadline(Instant::now(), timeout)))
    }

    /// The result of the whole batch, if there is one yet. Never blocks.
    pub fn try_wait(&self) -> Option<Result<BatchMetadata>> {
        self.result().ok()
    }

    /// Whether every record of the batch has a result. Never blocks.
    pub fn is_done(&self) -> bool {
        first_unfinished(&self.completion, 0, self.count).is_none()
    }

    /// The handle of one record, as [`Producer::send`] gives it. A record of another batch fails at once, with
    /// `Misuse`.
    pub fn record(&self, record: &AppendedRecord) -> Delivery {
        if record.batch != self.batch {
            let text = "the record is not one of this batch, but of another one";
            return Delivery::refused(
                Error::new(ErrorKind::Misuse, Recovery::Fix, text),
                self.completion.callbacks().clone(),
            );
        }
        Delivery::accepted(Arc::clone(&self.completion), record.index, record.timestamp)
    }

    /// How many records the program has put into the batch.
    pub fn record_count(&self) -> u32 {
        self.count
    }

    /// Drops the handle, as [`Delivery::detach`] does.
    pub fn detach(self) {}

    /// Has `callback` run with the result of the whole batch, once, on the thread `kafka-callbacks`, as soon as there
    /// is one.
    ///
    /// *Thread*: `kafka-callbacks`; after [`Producer::close`] the calling one.
    pub fn on_complete(self, callback: impl FnOnce(Result<BatchMetadata>) + Send + 'static) {
        let completion = Arc::clone(&self.completion);
        let index = first_unfinished(&completion, 0, self.count).unwrap_or(0);
        let callback = Box::new(callback);
        completion.call_back(index, -1, Box::new(move |_| self.tell(callback)));
    }

    /// Calls the callback if the batch has its result; otherwise waits for the next part by a callback. *Thread*:
    /// `kafka-callbacks`.
    fn tell(self, callback: BatchCallback) {
        match self.result() {
            Ok(result) => callback(result),
            Err(index) => {
                let completion = Arc::clone(&self.completion);
                let later = completion.call_back_later(index, -1, Box::new(move |_| self.tell(callback)));
                // If that part has its result by now, its callback runs here and is not queued: a flush waits for the
                // present callback only.
                if let Some(job) = later {
                    (job.callback)(job.result);
                }
            }
        }
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Option<Result<BatchMetadata>> {
        loop {
            match self.result() {
                Ok(result) => return Some(result),
                Err(index) => drop(self.completion.wait(index, -1, deadline)?),
            }
        }
    }

    /// The result of the whole batch, or the index of the first record that has none yet.
    fn result(&self) -> Result<Result<BatchMetadata>, u32> {
        if let Some(index) = first_unfinished(&self.completion, 0, self.count) {
            return Err(index);
        }
        let (mut parts, mut first, mut failure) = (Vec::new(), None, None);
        each_part(&self.completion, 0, self.count, &mut |at, part, outcome| {
            match outcome {
                Outcome::Failed { error, records } => {
                    let end = self.count.saturating_sub(at);
                    // The error of a record that is the cause, rather than that of the other records.
                    let named = records.iter().find(|(index, _)| *index < end).map(|(_, error)| error);
                    failure.get_or_insert_with(|| named.unwrap_or(error).clone());
                }
                _ => match part.answer(outcome, 0, self.first_timestamp) {
                    Ok(metadata) => {
                        parts.push((at, metadata.offset()));
                        first.get_or_insert(metadata);
                    }
                    Err(error) => {
                        failure.get_or_insert(error);
                    }
                },
            }
        });
        Ok(match (failure, first) {
            (Some(error), None) => Err(error),
            // If all of it were sent again, the acknowledged part would be written twice.
            (Some(error), Some(_)) if !error.may_be_written() => Err(error.with_written(Written::Maybe)),
            (Some(error), Some(_)) => Err(error),
            (None, Some(first)) => Ok(BatchMetadata { first, record_count: self.count, parts }),
            (None, None) => Err(Error::bug("a batch without records was sent")),
        })
    }
}

impl fmt::Debug for BatchDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchDelivery")
            .field("record_count", &self.count)
            .field("result", &self.try_wait())
            .finish_non_exhaustive()
    }
}

/// The program's callback for the result of a batch.
type BatchCallback = Box<dyn FnOnce(Result<BatchMetadata>) + Send>;

/// The first record without a result, of those before `end`. `first`: the index of the completion's first record.
fn first_unfinished(completion: &BatchCompletion, first: u32, end: u32) -> Option<u32> {
    if first >= end {
        return None;
    }
    match completion.outcome() {
        None => Some(first),
        Some(Outcome::Split(parts)) => {
            parts.iter().find_map(|(at, part)| first_unfinished(part, first.saturating_add(*at), end))
        }
        Some(_) => None,
    }
}

/// Calls `visit` for every finished part of the batch that has records before `end`, in order, with the index of its
/// first record.
fn each_part(
    completion: &BatchCompletion,
    first: u32,
    end: u32,
    visit: &mut dyn FnMut(u32, &BatchCompletion, &Outcome),
) {
    match completion.outcome() {
        Some(Outcome::Split(parts)) => {
            for (at, part) in parts {
                let first = first.saturating_add(*at);
                if first < end {
                    each_part(part, first, end, visit);
                }
            }
        }
        Some(outcome) => visit(first, completion, outcome),
        None => {}
    }
}

impl Shared {
    pub(crate) fn send_batch(
        &self,
        mut batch: DirectBatch,
        topic: &str,
        partition: i32,
        options: &SendOptions<'_>,
    ) -> Result<BatchDelivery, BatchNotSent> {
        let sent = self.hand_over(&mut batch, &Record::to(topic).partition(partition), options);
        sent.map_err(|error| BatchNotSent::new(error, batch))
    }

    /// `target` is a record that names the batch's topic and partition. After an error the batch still has its records.
    fn hand_over(
        &self,
        batch: &mut DirectBatch,
        target: &Record<'_>,
        options: &SendOptions<'_>,
    ) -> Result<BatchDelivery> {
        if !std::ptr::eq(self, &*batch.shared) {
            let text = "the batch was made by another producer, and only that one can send it";
            return Err(Error::new(ErrorKind::Misuse, Recovery::Fix, text));
        }
        self.check(target)?;
        if batch.is_empty() {
            return Err(Error::invalid("the batch has no records").at_topic(&target.topic));
        }
        with_memory(&target.topic, |memory| {
            let mut started = None;
            let mut recent = self.recent(&target.topic, memory, &mut started, options.may_block)?;
            recent.topic.touch(&self.cluster);
            let known = self.choose(target, &mut recent, memory, &mut started, options);
            known.map_err(|error| error.at_topic(&target.topic))?;
            let index = target.partition.unwrap_or(-1);
            let partition = recent.topic.partition(index).ok_or_else(|| no_such_partition(&recent.topic, index))?;
            let Some(draft) = batch.draft.take() else { return Err(Error::bug("the batch's records are gone")) };
            let (count, first_timestamp) = (draft.count(), draft.base_timestamp().unwrap_or(-1));
            let how = HandOver { closed: batch.closed, started, transaction: options.transaction };
            match self.accumulator.hand_over(partition, draft, how, &*self.senders) {
                Ok(completion) => {
                    memory.set(Some(recent));
                    Ok(BatchDelivery { completion, count, first_timestamp, batch: batch.id })
                }
                Err((draft, error)) => {
                    batch.draft = Some(draft);
                    Err(error.at_partition(partition.name()))
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeCluster;

    /// A transaction may end, or the producer close, between the check and the partition's lock.
    #[test]
    fn a_batch_that_its_partition_refuses_comes_back_whole() {
        let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
        let producer = Producer::builder(cluster.bootstrap()).build().unwrap();
        producer.partitions_for("t").unwrap();
        let mut batch = producer.create_batch();
        assert!(!batch.append("k", "v").unwrap().is_full());
        producer.0.0.topic_table.refuse(&Error::invalid("for the test"));
        let refused = producer.send_batch(batch, "t", 0).unwrap_err();
        assert_eq!((refused.error().kind(), refused.error().context().partition), (ErrorKind::InvalidInput, Some(0)));
        // Or the batch's transaction has ended, and the next one is open.
        producer.0.0.topic_table.allow(2);
        let options = SendOptions { transaction: 1, ..SendOptions::BLOCKING };
        let refused = producer.0.0.send_batch(refused.into_batch(), "t", 0, &options).unwrap_err();
        assert_eq!((refused.error().kind(), refused.error().context().partition), (ErrorKind::Misuse, Some(0)));
        let batch = refused.into_batch();
        assert_eq!(batch.record_count(), 1);
        producer.0.0.topic_table.allow(0);
        assert_eq!(producer.send_batch(batch, "t", 0).unwrap().wait().unwrap().base_offset(), Some(0));
        producer.close_timeout(Duration::from_secs(60)).unwrap();
    }

    #[test]
    fn what_is_handed_around_stays_small_and_may_cross_threads() {
        fn crosses<T: Send>() {}
        crosses::<DirectBatch>();
        crosses::<BatchDelivery>();
        crosses::<BatchNotSent>();
        assert!(size_of::<BatchNotSent>() <= 128, "{}", size_of::<BatchNotSent>());
    }
}
