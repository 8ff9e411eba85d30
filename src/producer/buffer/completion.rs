//! The one result that the records of a batch share.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::callbacks::{CallbackPosition, Callbacks, Job};
use super::partition::Partition;
use crate::error::{Error, Result};
use crate::producer::record_metadata::{Callback, RecordMetadata};
use crate::record::TimestampType;
use crate::topic::TopicPartition;

/// How a batch ended.
pub(crate) enum Outcome {
    /// The batch is in the log. `base_offset` -1: its offset is not known. `log_append_time` -1: the records keep their
    /// own timestamps. `acknowledged`: a broker has said so; false with `acks=0`.
    Acknowledged { base_offset: i64, log_append_time: i64, acknowledged: bool },
    /// All records of the batch failed. `records`: those that the broker named as the cause, with their own errors
    /// (KIP-467).
    Failed { error: Error, records: Vec<(u32, Error)> },
    /// The batch was too large, and was split. Each part is listed with the index of its first record.
    Split(Vec<(u32, Arc<BatchCompletion>)>),
}

/// Stands for a timestamp that is too far from the first one of its batch to be stored as a difference; the completion
/// has it.
pub(crate) const FAR: i32 = i32::MIN;

/// The result that the records of one batch share: one allocation and one wake-up for all of them.
pub(crate) struct BatchCompletion {
    /// `None`: the record was refused before it was in a batch.
    partition: Option<Arc<Partition>>,
    callbacks: Callbacks,
    /// The timestamp of the first record; the other records' timestamps are stored as differences from it.
    pub(crate) first_timestamp: i64,
    outcome: OnceLock<Outcome>,
    /// Guards the waiting threads, the callbacks that were added late, and the far timestamps.
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

    /// The completion of a single record that was refused before it was in a batch.
    pub(crate) fn refused(error: Error, callbacks: Callbacks) -> Arc<Self> {
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
    pub(crate) fn keep_far(&self, index: u32, timestamp: i64) -> i32 {
        self.waiting.lock().far.insert(index, timestamp);
        FAR
    }

    pub(crate) fn far(&self, index: u32) -> i64 {
        self.waiting.lock().far.get(&index).copied().unwrap_or(-1)
    }

    /// The batch was split: the callbacks of its parts take its position in the order of callbacks.
    pub(crate) fn divide(&self, position: CallbackPosition, firsts: impl Iterator<Item = u32>) {
        if let Some(partition) = &self.partition {
            partition.callbacks().divide(position, firsts);
        }
    }

    /// Sets the outcome, wakes the threads that wait and queues the callbacks of `registered`, which are in record
    /// order. Only the first outcome counts: false if there was one before. `position`: the batch's position in the
    /// order of the partition's callbacks, if it has callbacks.
    pub(crate) fn complete(
        &self,
        outcome: Outcome,
        registered: Vec<(u32, i64, Callback)>,
        position: Option<CallbackPosition>,
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
        match (position, &self.partition) {
            (Some(position), Some(partition)) => partition.callbacks().leave(position, jobs, &self.callbacks),
            _ => self.callbacks.post(jobs),
        }
        true
    }

    /// Adds a job to `jobs` if the record has a result; otherwise passes the callback on to the part of the batch that
    /// has the record.
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

    /// Keeps the callback until its record has a result. If the record has one already, the job is returned.
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

    /// Where the callbacks of this batch are queued.
    pub(crate) fn callbacks(&self) -> &Callbacks {
        &self.callbacks
    }

    /// How the batch ended, if it has.
    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        self.outcome.get()
    }

    pub(crate) fn is_done(&self, index: u32) -> bool {
        match self.outcome.get() {
            None => false,
            Some(Outcome::Split(parts)) => {
                part_of(parts, index).is_none_or(|(first, part)| part.is_done(index - first))
            }
            Some(_) => true,
        }
    }

    pub(crate) fn result(&self, index: u32, timestamp: i64) -> Option<Result<RecordMetadata>> {
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
                    // The broker only recognised the batch as written before: neither its offset nor its time is known.
                    _ if *base_offset < 0 && *acknowledged => (-1, TimestampType::CreateTime),
                    -1 => (timestamp, TimestampType::CreateTime),
                    time => (time, TimestampType::LogAppendTime),
                };
                let offset = if *base_offset < 0 { -1 } else { base_offset.saturating_add(i64::from(index)) };
                Ok(RecordMetadata::new(Arc::clone(&name.topic), name.index, offset, timestamp, timestamp_type))
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
