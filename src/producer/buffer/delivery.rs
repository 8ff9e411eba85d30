//! The handle that `send` returns, and the one result that a whole batch shares.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::accumulator::Partition;
use super::callbacks::{Callback, Callbacks, Job, Place};
use crate::error::{Error, ErrorKind, Recovery, Result, Written};
use crate::logging;
use crate::record::TimestampType;
use crate::time;
use crate::topic::TopicPartition;

/// What the cluster says of a record that it has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordMetadata {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The record's offset in the partition, or -1 where it is not known: with `Acks::None`, and when the broker
    /// recognised a batch as written before without remembering where (KIP-98).
    pub offset: i64,
    /// The record's timestamp in the log, in milliseconds since 1970: its own, or the broker's clock where the
    /// topic is configured with `message.timestamp.type=LogAppendTime`. -1 where the offset is -1 although the
    /// broker acknowledged.
    pub timestamp: i64,
    /// Whose clock the timestamp is.
    pub timestamp_type: TimestampType,
}

/// A record on its way. Every failure, early or late, comes out of here.
///
/// Dropping it discards the answer, not the record.
// Two words, so that it is handed on in registers.
pub struct Delivery {
    completion: Arc<BatchCompletion>,
    mark: Mark,
}

/// A record's index in its batch, and its timestamp in milliseconds after the completion's first; or [`FAR`].
#[derive(Clone, Copy)]
struct Mark(u64);

/// The record's timestamp is too far from the first one of its batch; the completion has it.
const FAR: i32 = i32::MIN;

impl Mark {
    fn new(index: u32, delta: i32) -> Self {
        Self(u64::from(index) << 32 | u64::from(delta.cast_unsigned()))
    }

    fn index(self) -> u32 {
        let [.., a, b, c, d] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    fn delta(self) -> i32 {
        let [a, b, c, d, ..] = self.0.to_le_bytes();
        i32::from_le_bytes([a, b, c, d])
    }
}

impl Delivery {
    pub(crate) fn accepted(completion: Arc<BatchCompletion>, index: u32, timestamp: i64) -> Self {
        let delta = timestamp.checked_sub(completion.first_timestamp).and_then(|delta| i32::try_from(delta).ok());
        let delta = delta.filter(|delta| *delta != FAR).unwrap_or_else(|| completion.keep_far(index, timestamp));
        Self { completion, mark: Mark::new(index, delta) }
    }

    pub(crate) fn refused(error: Error, callbacks: Callbacks) -> Self {
        Self { completion: BatchCompletion::refused(error, callbacks), mark: Mark::new(0, 0) }
    }

    fn timestamp(&self) -> i64 {
        match self.mark.delta() {
            FAR => self.completion.far(self.mark.index()),
            delta => self.completion.first_timestamp.saturating_add(i64::from(delta)),
        }
    }

    /// Waits for the record's result.
    ///
    /// *Blocks* until the record is acknowledged or has failed, at most for the producer's `delivery_timeout`. It
    /// cuts the linger of the record's batch: a thread that waits does not wait for a timer.
    ///
    /// *Thread*: while nobody else needs the broker's connection, the calling thread itself writes the request and
    /// reads the answer.
    ///
    /// *Errors*: every reason for which a record is not acknowledged; [`Error::written`] says whether it may be in
    /// the log all the same.
    pub fn wait(self) -> Result<RecordMetadata> {
        if logging::is_inside() && !self.is_done() {
            return Err(no_wait_in_a_logger());
        }
        loop {
            if let Some(result) = self.completion.wait(self.mark.index(), self.timestamp(), None) {
                return result;
            }
        }
    }

    /// Waits for the record's result; `None` means that it is still on its way. Like [`wait`](Self::wait) it cuts the
    /// linger.
    ///
    /// *Blocks* until there is a result, at most for `timeout`, or a moment longer where the connection takes nothing.
    /// *Errors*: those of `wait`.
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<RecordMetadata>> {
        if logging::is_inside() {
            return self.try_wait();
        }
        self.completion.wait(self.mark.index(), self.timestamp(), Some(time::deadline(Instant::now(), timeout)))
    }

    /// The record's result, if there is one yet. Never blocks.
    pub fn try_wait(&self) -> Option<Result<RecordMetadata>> {
        self.completion.result(self.mark.index(), self.timestamp())
    }

    /// Whether the record has a result. Never blocks.
    pub fn is_done(&self) -> bool {
        self.completion.is_done(self.mark.index())
    }

    /// Has `callback` run with the record's result, on the thread `kafka-callbacks`.
    ///
    /// Callbacks given to [`Producer::send_with`](crate::Producer::send_with) run in the order of their records;
    /// one that is added here, after the record may be done already, runs at the earliest moment from now.
    ///
    /// *Thread*: `kafka-callbacks`; after [`Producer::close`](crate::Producer::close) the calling one.
    pub fn on_complete(self, callback: impl FnOnce(Result<RecordMetadata>) + Send + 'static) {
        self.completion.call_back(self.mark.index(), self.timestamp(), Box::new(callback));
    }
}

/// The program's logger waits for what it has sent, perhaps on the thread that would send it.
#[cold]
pub(crate) fn no_wait_in_a_logger() -> Error {
    let text = "a logger cannot wait for a record while the producer logs: it may be on the thread that sends it";
    Error::new(ErrorKind::Misuse, Recovery::Fix, text).with_written(Written::Maybe)
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("result", &self.try_wait()).finish()
    }
}

/// How a batch ended.
pub(crate) enum Outcome {
    /// The log has it. `base_offset` -1: it is not known where. `log_append_time` -1: the records keep their own
    /// timestamps.
    Acknowledged { base_offset: i64, log_append_time: i64, acknowledged: bool },
    /// It failed, all of it; the broker may have named the records at fault (KIP-467).
    Failed { error: Error, records: Vec<(u32, Error)> },
    /// It was too large and goes on in parts; each with the index of its first record.
    Split(Vec<(u32, Arc<BatchCompletion>)>),
}

/// The result that the records of one batch share: one allocation and one wake-up for all of them.
pub(crate) struct BatchCompletion {
    /// `None`: the record was refused before it was in a batch.
    partition: Option<Arc<Partition>>,
    callbacks: Callbacks,
    /// The timestamp of the first record, from which those of the others are counted.
    first_timestamp: i64,
    outcome: OnceLock<Outcome>,
    /// Guards the sleepers and the callbacks that were added late.
    waiting: Mutex<Waiting>,
    done: Condvar,
}

#[derive(Default)]
struct Waiting {
    sleepers: u32,
    late: Vec<(u32, i64, Callback)>,
    /// Timestamps that are far from the first, by the records' indices.
    far: BTreeMap<u32, i64>,
}

impl BatchCompletion {
    /// The completion of a batch whose first record has this timestamp.
    pub(crate) fn new(partition: Arc<Partition>, callbacks: Callbacks, first_timestamp: i64) -> Arc<Self> {
        Self::with(Some(partition), callbacks, first_timestamp, OnceLock::new())
    }

    /// The completion of a single record that was in no batch.
    fn refused(error: Error, callbacks: Callbacks) -> Arc<Self> {
        Self::with(None, callbacks, -1, OnceLock::from(Outcome::Failed { error, records: Vec::new() }))
    }

    fn with(
        partition: Option<Arc<Partition>>,
        callbacks: Callbacks,
        first_timestamp: i64,
        outcome: OnceLock<Outcome>,
    ) -> Arc<Self> {
        Arc::new(Self {
            partition,
            callbacks,
            first_timestamp,
            outcome,
            waiting: Mutex::new(Waiting::default()),
            done: Condvar::new(),
        })
    }

    /// The completion of a part of this batch.
    pub(crate) fn sibling(&self) -> Arc<Self> {
        Self::with(self.partition.clone(), self.callbacks.clone(), self.first_timestamp, OnceLock::new())
    }

    #[cold]
    fn keep_far(&self, index: u32, timestamp: i64) -> i32 {
        self.waiting.lock().far.insert(index, timestamp);
        FAR
    }

    fn far(&self, index: u32) -> i64 {
        self.waiting.lock().far.get(&index).copied().unwrap_or(-1)
    }

    /// The batch goes on in parts, whose callbacks take the place of its own.
    pub(crate) fn divide(&self, place: Place, firsts: impl Iterator<Item = u32>) {
        if let Some(partition) = &self.partition {
            partition.callbacks().divide(place, firsts);
        }
    }

    /// Sets the outcome, wakes who waits and queues the callbacks of `registered`, which are in record order.
    /// Only the first outcome counts; false says that there was one before.
    /// `place`: where the batch stands in the order of the partition's callbacks, if it has any.
    pub(crate) fn complete(
        &self,
        outcome: Outcome,
        registered: Vec<(u32, i64, Callback)>,
        place: Option<Place>,
    ) -> bool {
        if self.outcome.set(outcome).is_err() {
            return false;
        }
        let late = {
            let mut waiting = self.waiting.lock();
            if waiting.sleepers > 0 {
                self.done.notify_all();
            }
            std::mem::take(&mut waiting.late)
        };
        let mut jobs = Vec::with_capacity(registered.len() + late.len());
        for (index, timestamp, callback) in registered.into_iter().chain(late) {
            self.queue(index, timestamp, callback, &mut jobs);
        }
        match (place, &self.partition) {
            (Some(place), Some(partition)) => partition.callbacks().leave(place, jobs, &self.callbacks),
            _ => self.callbacks.post(jobs),
        }
        true
    }

    /// Adds a callback's job where its record has a result, or hands the callback on to the part that has the record.
    fn queue(&self, index: u32, timestamp: i64, callback: Callback, jobs: &mut Vec<Job>) {
        match self.outcome.get() {
            Some(Outcome::Split(_)) | None => self.call_back(index, timestamp, callback),
            Some(outcome) => jobs.push(Job { callback, result: self.answer(outcome, index, timestamp) }),
        }
    }

    pub(crate) fn call_back(&self, index: u32, timestamp: i64, callback: Callback) {
        if let Some(job) = self.call_back_later(index, timestamp, callback) {
            self.callbacks.post(vec![job]);
        }
    }

    /// Keeps the callback until its record has a result. If it has one, the job comes back.
    pub(crate) fn call_back_later(&self, index: u32, timestamp: i64, callback: Callback) -> Option<Job> {
        let mut waiting = self.waiting.lock();
        match self.outcome.get() {
            None => {
                waiting.late.push((index, timestamp, callback));
                None
            }
            Some(Outcome::Split(parts)) => {
                drop(waiting);
                let (first, part) = part_of(parts, index)?;
                part.call_back_later(index - first, timestamp, callback)
            }
            Some(outcome) => {
                drop(waiting);
                Some(Job { callback, result: self.answer(outcome, index, timestamp) })
            }
        }
    }

    /// The partition of the batch, if there was one.
    pub(crate) fn partition_name(&self) -> Option<&TopicPartition> {
        self.partition.as_ref().map(|partition| partition.name())
    }

    /// The way to the thread of callbacks.
    pub(crate) fn callbacks(&self) -> &Callbacks {
        &self.callbacks
    }

    /// How the batch ended, if it has.
    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        self.outcome.get()
    }

    fn is_done(&self, index: u32) -> bool {
        match self.outcome.get() {
            None => false,
            Some(Outcome::Split(parts)) => {
                part_of(parts, index).is_none_or(|(first, part)| part.is_done(index - first))
            }
            Some(_) => true,
        }
    }

    fn result(&self, index: u32, timestamp: i64) -> Option<Result<RecordMetadata>> {
        match self.outcome.get()? {
            Outcome::Split(parts) => {
                let (first, part) = part_of(parts, index)?;
                part.result(index - first, timestamp)
            }
            outcome => Some(self.answer(outcome, index, timestamp)),
        }
    }

    pub(crate) fn wait(
        self: &Arc<Self>,
        index: u32,
        timestamp: i64,
        deadline: Option<Instant>,
    ) -> Option<Result<RecordMetadata>> {
        if self.outcome.get().is_none() {
            if let Some(partition) = &self.partition {
                partition.hurry(self, deadline);
            }
            let mut waiting = self.waiting.lock();
            waiting.sleepers += 1;
            while self.outcome.get().is_none() {
                match deadline {
                    None => self.done.wait(&mut waiting),
                    Some(deadline) => {
                        if self.done.wait_until(&mut waiting, deadline).timed_out() {
                            break;
                        }
                    }
                }
            }
            waiting.sleepers -= 1;
        }
        match self.outcome.get()? {
            Outcome::Split(parts) => {
                let (first, part) = part_of(parts, index)?;
                part.wait(index - first, timestamp, deadline)
            }
            outcome => Some(self.answer(outcome, index, timestamp)),
        }
    }

    #[inline]
    pub(crate) fn answer(&self, outcome: &Outcome, index: u32, timestamp: i64) -> Result<RecordMetadata> {
        match outcome {
            Outcome::Acknowledged { base_offset, log_append_time, acknowledged } => {
                let Some(name) = self.partition.as_ref().map(|partition| partition.name()) else {
                    return Err(Error::bug("a record without a partition was acknowledged"));
                };
                let (timestamp, timestamp_type) = match *log_append_time {
                    // Nothing is known of a batch that the broker only recognised: neither place nor time.
                    _ if *base_offset < 0 && *acknowledged => (-1, TimestampType::CreateTime),
                    -1 => (timestamp, TimestampType::CreateTime),
                    time => (time, TimestampType::LogAppendTime),
                };
                let offset = if *base_offset < 0 { -1 } else { base_offset.saturating_add(i64::from(index)) };
                Ok(RecordMetadata {
                    topic: Arc::clone(&name.topic),
                    partition: name.partition,
                    offset,
                    timestamp,
                    timestamp_type,
                })
            }
            Outcome::Failed { error, records } => {
                let own = records.iter().find(|(at, _)| *at == index).map(|(_, error)| error);
                Err(own.unwrap_or(error).clone())
            }
            Outcome::Split(_) => Err(Error::bug("a split batch was asked for a record's result")),
        }
    }
}

/// The part that has the record `index`, with the index of the part's first record.
fn part_of(parts: &[(u32, Arc<BatchCompletion>)], index: u32) -> Option<(u32, &Arc<BatchCompletion>)> {
    let after = parts.partition_point(|(first, _)| *first <= index);
    parts.get(after.checked_sub(1)?).map(|(first, part)| (*first, part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer::buffer::accumulator::PartitionId;
    use crate::topic::TopicPartition;

    #[test]
    fn a_timestamp_is_told_as_it_was_given_however_far_it_is_from_the_first() {
        let partition = Partition::new(PartitionId(0), TopicPartition { topic: "t".into(), partition: 0 });
        for first in [0, 1000, i64::MAX] {
            let completion = BatchCompletion::new(Arc::clone(&partition), Callbacks::start().unwrap().0, first);
            let near = [first, first - 1, first.saturating_add(1), first - i64::from(i32::MAX)];
            let far = [first - (1 << 31), first.saturating_add(1 << 31), first.saturating_sub(1 << 40), 0, i64::MAX];
            let times: Vec<i64> = near.into_iter().chain(far).collect();
            let sent: Vec<Delivery> = times
                .iter()
                .zip(0..)
                .map(|(time, index)| Delivery::accepted(Arc::clone(&completion), index, *time))
                .collect();
            assert_eq!(sent.iter().map(Delivery::timestamp).collect::<Vec<_>>(), times);
            assert_eq!(sent.iter().map(|sent| sent.mark.index()).collect::<Vec<_>>(), (0..9).collect::<Vec<_>>());
        }
        assert_eq!(size_of::<Delivery>(), 16);
    }
}
