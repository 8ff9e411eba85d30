//! How records get into open batches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::{Budget, Charge};
use super::callbacks::Callbacks;
use super::completion::BatchCompletion;
use super::draft::{Draft, RecordParts};
use super::partition::{OpenBatch, Partition, PartitionState, Placement, ensure_owner, unlock_and_notice};
use super::sticky::Binding;
use super::unfinished::UnfinishedBatches;
use super::wait_limit::WaitLimit;
use crate::error::{Error, Result};
use crate::obstacle::Obstacles;
use crate::producer::record_metadata::Callback;
use crate::time;

/// How a draft is handed over.
pub(crate) struct HandOver {
    /// The batch takes no further record.
    pub(crate) closed: bool,
    /// When the call began, if it had to wait: the batch's delivery deadline counts from then.
    pub(crate) started: Option<Instant>,
    /// As [`RecordParts::transaction`].
    pub(crate) transaction: u64,
}

/// Why an append did nothing.
pub(crate) enum NotAppended {
    /// The sticky partition has had its share of bytes: the caller is to ask for another partition.
    Elsewhere,
    Failed(Error),
}

impl From<Error> for NotAppended {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What application threads need to append.
pub(crate) struct Accumulator {
    pub(crate) batch_size: usize,
    pub(crate) batch_records: u32,
    pub(crate) linger: Duration,
    pub(crate) delivery_timeout: Duration,
    pub(crate) budget: Arc<Budget>,
    pub(crate) unfinished: Arc<UnfinishedBatches>,
    pub(crate) callbacks: Callbacks,
    pub(crate) obstacles: Arc<Obstacles>,
}

impl Accumulator {
    /// Encodes the record into the partition's open batch, and opens one if there is none. If `binding` says that the
    /// sticky partition has had its share, nothing is appended. `callback` is taken out when the record is in the
    /// batch. Returns the completion of the batch, and the record's index in the batch.
    ///
    /// *Blocks* while there is no buffer memory, at most as long as `wait_limit` says.
    pub(crate) fn append(
        &self,
        partition: &Arc<Partition>,
        record: &RecordParts<'_>,
        callback: &mut Option<Callback>,
        wait_limit: &mut WaitLimit,
        placement: &impl Placement,
        binding: impl Binding,
    ) -> Result<(Arc<BatchCompletion>, u32), NotAppended> {
        let mut spare: Option<Charge> = None;
        loop {
            let mut open = partition.open.lock();
            open.admit(record.transaction)?;
            let room = open.batch.as_mut().is_some_and(|batch| batch.draft.make_room(record, &self.budget));
            // When the sender is to look at the partition; `None`: it has nothing new to do.
            let mut due = None;
            if !room {
                // A record that no longer fits counts for the share: with it the share would be full.
                let mut more = 0;
                if self.seal(&mut open) {
                    due = Some(Instant::now());
                    more = record.bound();
                }
                if let Some(share) = binding.share().filter(|share| open.given.is_share(more, *share))
                    && binding.switch_partition()
                {
                    open.given.carry_over(share);
                    unlock_and_notice(open, partition, due);
                    return Err(NotAppended::Elsewhere);
                }
                let full = self.batch_size.min(partition.limit_of_new(&mut open));
                let bytes = Budget::buffer_size(open.usual.min(full).max(record.bound()), full);
                let Some(charge) = spare.take().or_else(|| self.budget.try_reserve(bytes)) else {
                    unlock_and_notice(open, partition, due);
                    spare = Some(wait_limit.reserve(bytes, record, &self.budget, &self.obstacles, placement)?);
                    continue;
                };
                ensure_owner(&mut open, partition, placement)?;
                let batch = self.open_batch(
                    partition,
                    wait_limit.started,
                    record.timestamp,
                    Draft::new(&self.budget, charge, full, self.batch_records),
                );
                due = due.or(Some(batch.due));
                open.batch = Some(batch);
            }
            let PartitionState { batch: Some(batch), given, .. } = &mut *open else {
                return Err(Error::bug("the batch that was just opened is gone").into());
            };
            let before = batch.draft.len();
            let index = match batch.draft.append(record) {
                Ok(index) => index,
                Err(error) => {
                    // If the batch was opened for this record, it is empty, and is dropped.
                    if batch.draft.count() == 0 {
                        open.batch = None;
                    }
                    return Err(error.into());
                }
            };
            if let Some(callback) = callback.take() {
                batch.callback_number.get_or_insert_with(|| partition.callbacks.enter());
                batch.callbacks.push((index, record.timestamp, callback));
            }
            let completion = Arc::clone(&batch.completion);
            if let Some(share) = binding.share()
                && given.count(batch.draft.len() - before, share)
                && binding.switch_partition()
            {
                given.carry_over(share);
            }
            if batch.draft.is_full() {
                self.seal(&mut open);
                due = Some(Instant::now());
            }
            unlock_and_notice(open, partition, due);
            return Ok((completion, index));
        }
    }

    /// Encodes the record into a draft that only the caller uses, and makes a draft if there is none. `None`: the draft
    /// has no room for the record, and is unchanged.
    ///
    /// *Blocks* while there is no buffer memory for a new draft, at most as long as `wait_limit` says.
    pub(crate) fn add(
        &self,
        draft: &mut Option<Draft>,
        record: &RecordParts<'_>,
        wait_limit: &mut WaitLimit,
        placement: &impl Placement,
    ) -> Result<Option<u32>> {
        if let Some(draft) = draft {
            let room = !draft.is_full() && draft.make_room(record, &self.budget);
            return if room { draft.append(record).map(Some) } else { Ok(None) };
        }
        let bytes = Budget::buffer_size(record.bound(), self.batch_size);
        let charge = wait_limit.reserve(bytes, record, &self.budget, &self.obstacles, placement)?;
        let mut new = Draft::new(&self.budget, charge, self.batch_size, self.batch_records);
        let index = new.append(record)?;
        *draft = Some(new);
        Ok(Some(index))
    }

    /// Puts a draft of at least one record into the partition's queue, behind all records that were sent there before.
    /// If it has room and is not `closed`, it becomes the partition's open batch, to which [`append`](Self::append)
    /// adds. With an error the draft is returned.
    pub(crate) fn hand_over(
        &self,
        partition: &Arc<Partition>,
        mut draft: Draft,
        HandOver { closed, started, transaction }: HandOver,
        placement: &impl Placement,
    ) -> Result<Arc<BatchCompletion>, (Draft, Error)> {
        let mut open = partition.open.lock();
        if let Err(error) = open.admit(transaction) {
            return Err((draft, error));
        }
        if let Err(error) = ensure_owner(&mut open, partition, placement) {
            return Err((draft, error));
        }
        draft.full = draft.full.min(partition.limit_of_new(&mut open));
        let closed = closed || draft.is_full();
        // The records that were sent before keep their place before this batch.
        let before = self.seal(&mut open);
        let first_timestamp = draft.base_timestamp().unwrap_or(-1);
        let batch = self.open_batch(partition, started, first_timestamp, draft);
        let (completion, mut due) = (Arc::clone(&batch.completion), batch.due);
        open.batch = Some(batch);
        if closed {
            self.seal(&mut open);
        }
        if closed || before {
            due = Instant::now();
        }
        unlock_and_notice(open, partition, Some(due));
        Ok(completion)
    }

    fn open_batch(
        &self,
        partition: &Arc<Partition>,
        started: Option<Instant>,
        first_timestamp: i64,
        draft: Draft,
    ) -> OpenBatch {
        let now = Instant::now();
        let created = started.unwrap_or(now);
        OpenBatch {
            completion: BatchCompletion::new(Arc::clone(partition), self.callbacks.clone(), first_timestamp),
            draft,
            created,
            deadline: time::deadline(created, self.delivery_timeout),
            due: time::deadline(now, self.linger),
            callbacks: Vec::new(),
            callback_number: None,
            unfinished: self.unfinished.add(),
        }
    }

    /// Seals the open batch, if there is one, and sends it into the queue's channel. True if there was one.
    fn seal(&self, open: &mut PartitionState) -> bool {
        let Some(batch) = open.take() else { return false };
        // The receiver lives in the queue for as long as the partition does; without it the batch fails by its drop.
        drop(open.sealed.send(batch.seal()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer::buffer::batch::Batch;
    use crate::producer::buffer::partition::Placed;
    use crate::producer::buffer::partition::{Due, PartitionId, QueueOwner};
    use crate::producer::buffer::sticky::FixedPartition;
    use crate::record::Headers;
    use crate::topic::TopicPartition;
    use crossbeam_channel::Receiver;
    use parking_lot::Mutex;

    /// Releases the memory that a thread waits for, after the partition's batches have become large.
    struct Grown {
        partition: Arc<Partition>,
        held: Mutex<Option<Charge>>,
    }

    /// Ignores every notice.
    struct Nobody;

    impl QueueOwner for Nobody {
        fn notice(&self, _: Arc<Partition>, _: Instant, _: bool) {}
        fn drive_or_notice(&self, _: &Arc<Partition>, _: Due, _: Option<Instant>) {}
    }

    impl Placement for Grown {
        fn place(&self, _: &Arc<Partition>, sealed: Receiver<Box<Batch>>) -> Placed {
            // The channel must stay connected until the test ends.
            Box::leak(Box::new(sealed));
            Ok(Arc::new(Nobody))
        }

        fn hurry_all(&self) {
            self.partition.open.lock().usual = 50_000;
            drop(self.held.lock().take());
        }
    }

    #[test]
    fn a_batch_takes_no_more_memory_than_was_set_aside_for_it() {
        let budget = Budget::new(100_000, 100_000);
        let partition = Partition::new(PartitionId(0), TopicPartition::new("t", 0));
        let accumulator = Accumulator {
            batch_size: 100_000,
            batch_records: u32::MAX,
            linger: Duration::from_secs(100),
            delivery_timeout: Duration::from_secs(100),
            budget: Arc::clone(&budget),
            unfinished: Arc::default(),
            callbacks: Callbacks::start().unwrap().0,
            obstacles: Arc::default(),
        };
        let placement =
            Grown { partition: Arc::clone(&partition), held: Mutex::new(Some(budget.try_reserve(100_000).unwrap())) };
        let headers = Headers::new();
        let record =
            RecordParts { timestamp: 0, key: None, value: None, headers: &headers, parts_size: 3, transaction: 0 };
        let mut wait_limit = WaitLimit { started: None, limit: Some(Duration::from_secs(60)) };
        let sent = accumulator.append(&partition, &record, &mut None, &mut wait_limit, &placement, FixedPartition);
        assert!(sent.is_ok());
        assert!(placement.held.lock().is_none(), "nobody waited");
        let batch = partition.open.lock().take().unwrap();
        assert_eq!((batch.draft.room, batch.draft.charge.bytes()), (1024, 1024));
        assert_eq!(batch.draft.writer.into_buffer().capacity(), 1024);
        assert_eq!(budget.used(), 1024);
    }
}
